// Step 1: whatever comes gets the same answer, and one client is served after the other.
// Start it with `deno run --allow-net steps/1.ts` or `bun steps/1.ts`; a port may follow.
import process from "node:process";
import { listen, writeAll } from "../server.ts";

const encoder = new TextEncoder();

const listener = listen({ port: Number(process.argv[2] ?? 8080) });
console.log(`Listening at PORT ${listener.addr.port}...`);
for (;;) {
  const connection = await listener.accept();
  if (connection === null) break;
  const buffer = new Uint8Array(1024);
  await connection.read(buffer);
  await writeAll(connection, encoder.encode("Data is received from the client"));
  connection.close();
}
