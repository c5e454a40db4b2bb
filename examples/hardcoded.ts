// The first step: whatever arrives gets the same answer, which is not even HTTP.
// `deno run --allow-net examples/hardcoded.ts`, and in another terminal `nc 127.0.0.1 8080`.
import { type Connection, listen, writeAll } from "../server.ts";

const answer = new TextEncoder().encode("Data is received from the client");

async function talk(connection: Connection): Promise<void> {
  const buffer = new Uint8Array(1024);
  while (await connection.read(buffer) !== null) await writeAll(connection, answer);
}

const listener = listen({ port: 8080 });
console.log(`Listening at PORT ${listener.addr.port}...`);
for (let connection; (connection = await listener.accept()) !== null;) {
  const client = connection;
  talk(client).catch(console.error).finally(() => client.close());
}
