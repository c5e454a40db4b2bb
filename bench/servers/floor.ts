// The least that a server can do: one answer for each read, without a look at what was read. What
// any server costs above this is the work that it does, and not its runtime's or the kernel's.
import { book, headers, port } from "./app.ts";

interface Socket {
  write(bytes: Uint8Array): number;
}
interface ListenOptions {
  hostname: string;
  port: number;
  socket: { data(socket: Socket): void };
}
declare const Bun: { listen(options: ListenOptions): void } | undefined;

const fields = Object.entries({ Date: new Date().toUTCString(), ...headers.book });
const answer = new TextEncoder().encode(
  "HTTP/1.1 200 OK\r\n" + fields.map(([name, value]) => `${name}: ${value}\r\n`).join("") +
    `Content-Length: ${new TextEncoder().encode(book).length}\r\n\r\n${book}`,
);

if (typeof Bun !== "undefined") {
  Bun.listen({ hostname: "127.0.0.1", port, socket: { data: (socket) => socket.write(answer) } });
} else {
  for await (const connection of Deno.listen({ hostname: "127.0.0.1", port })) talk(connection);
}

async function talk(connection: Deno.TcpConn): Promise<void> {
  connection.setNoDelay(true);
  const buffer = new Uint8Array(1024);
  try {
    while (await connection.read(buffer) !== null) await connection.write(answer);
  } catch { /* the client has gone */ }
  connection.close();
}
