// Step 2: the same answer as HTTP has it, so that a browser and curl take it.
// Start it with `deno run --allow-net steps/2.ts` or `bun steps/2.ts`; a port may follow.
import process from "node:process";
import { listen, writeAll } from "../server.ts";

const encoder = new TextEncoder();
const ANSWER = "HTTP/1.1 200 OK\r\n" + // the status line
  "Content-Length: 32\r\n" + // how many bytes of content follow
  "\r\n" + // the end of the head
  "Data is received from the client";

const listener = listen({ port: Number(process.argv[2] ?? 8080) });
console.log(`Listening at PORT ${listener.addr.port}...`);
for (;;) {
  const connection = await listener.accept();
  if (connection === null) break;
  const buffer = new Uint8Array(1024);
  await connection.read(buffer);
  await writeAll(connection, encoder.encode(ANSWER));
  connection.close();
}
