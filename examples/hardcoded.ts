// The first step: whatever arrives gets the same answer, which is not even HTTP.
// Start it, and say something: `nc 127.0.0.1 8080`.
import process from "node:process";
import { type Connection, listen, writeAll } from "../server.ts";

const answer = new TextEncoder().encode("Data is received from the client");

async function talk(connection: Connection): Promise<void> {
  const buffer = new Uint8Array(1024);
  while (await connection.read(buffer) !== null) await writeAll(connection, answer);
}

const listener = listen({ port: Number(process.argv[2] ?? 8080) });
console.log(`Listening at PORT ${listener.addr.port}...`);
for (;;) {
  const connection = await listener.accept();
  if (connection === null) break;
  talk(connection).catch(console.error).finally(() => connection.close());
}
