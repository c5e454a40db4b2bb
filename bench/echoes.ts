/**
 * A crowd of WebSocket clients, each of which sends its next message as soon as it has the echo of the
 * last one. It runs on Bun's plain sockets, sends frames that were made before, and only counts the bytes
 * of the echoes, so that it costs less than any server.
 *
 * `bun bench/echoes.ts --port 8080 --connections 64 --seconds 3 [--size 64] [--binary] [--at-once 1]
 * [--deflated]` prints a line of JSON: how many messages were echoed in how many seconds. `--at-once`
 * messages are sent in one write.
 */

import { Buffer } from "node:buffer";
import process from "node:process";
import { parseArgs } from "node:util";
import { constants, deflateRawSync } from "node:zlib";

// What is used of Bun, so that this type-checks without Bun's types.
interface Socket {
  write(bytes: Uint8Array): number;
  end(): void;
}
declare const Bun: {
  connect(options: {
    hostname: string;
    port: number;
    socket: Record<string, (socket: Socket, data: Uint8Array & Error) => void>;
  }): Promise<Socket>;
};

const text = { type: "string" } as const, flag = { type: "boolean" } as const;
const { values } = parseArgs({
  options: {
    port: text,
    connections: { ...text, default: "64" },
    seconds: { ...text, default: "3" },
    size: { ...text, default: "64" },
    "at-once": { ...text, default: "1" },
    binary: flag,
    deflated: flag,
  },
});
const seconds = Number(values.seconds), atOnce = Number(values["at-once"]);

/** One message as a masked frame. */
function frame(): Buffer {
  const plain = Buffer.from(
    "A message, and more of it. ".repeat(1e5).slice(0, Number(values.size)),
  );
  const payload = values.deflated
    ? deflateRawSync(plain, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4)
    : plain;
  const { length } = payload, mask = Buffer.of(1, 2, 3, 4);
  const head = length < 126 ? [128 | length] : [254, length >> 8, length & 255];
  const first = 128 | (values.deflated ? 64 : 0) | (values.binary ? 2 : 1);
  return Buffer.concat([
    Buffer.of(first, ...head),
    mask,
    payload.map((byte, i) => byte ^ mask[i % 4]),
  ]);
}
const FRAMES = Buffer.concat(new Array(atOnce).fill(frame()));
/** What a Close of code 1000 looks like. */
const CLOSE = Buffer.of(0x88, 0x82, 0, 0, 0, 0, 3, 232);
const HANDSHAKE = `GET / HTTP/1.1\r
Host: 127.0.0.1\r
Connection: Upgrade\r
Upgrade: websocket\r
Sec-WebSocket-Version: 13\r
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
${values.deflated ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : ""}\r\n`;

let echoed = 0, running = false, wrong = "";
/** Connects, and learns from the first echo how long one is. */
async function connect(): Promise<Socket> {
  const ready = Promise.withResolvers<void>();
  let size = 0, head = "", left = 0;
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port: Number(values.port),
    socket: {
      data(socket, bytes) {
        if (size > 0) {
          left -= bytes.length;
          if (left > 0) return;
          echoed += atOnce;
          if (left < 0) wrong = "an echo is too long";
          left = size;
          if (running) socket.write(FRAMES);
          return;
        }
        head += Buffer.from(bytes).toString("latin1");
        const end = head.indexOf("\r\n\r\n") + 4;
        if (end === 3) return;
        if (!head.startsWith("HTTP/1.1 101 ")) return ready.reject(new Error(head));
        const [, one = 0] = Buffer.from(head.slice(end), "latin1");
        if (head.length === end) return void socket.write(frame());
        const length = one < 126
          ? one + 2
          : Buffer.from(head.slice(end), "latin1").readUInt16BE(2) + 4;
        if (head.length - end < length) return;
        left = size = length * atOnce;
        ready.resolve();
      },
      close: () => wrong ||= running ? "the server has closed a connection" : "",
      error: (_, error) => wrong ||= error.message,
    },
  });
  socket.write(Buffer.from(HANDSHAKE));
  await ready.promise;
  return socket;
}

const sockets: Socket[] = [];
for (let i = 0; i < Number(values.connections); i++) sockets.push(await connect());
running = true;
const start = performance.now();
for (const socket of sockets) socket.write(FRAMES);
await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const took = (performance.now() - start) / 1000, messages = echoed;
running = false;
await new Promise((resolve) => setTimeout(resolve, 50));
for (const socket of sockets) socket.write(CLOSE);
if (wrong !== "") throw new Error(wrong);
console.log(JSON.stringify({ messages, seconds: took }));
process.exit();
