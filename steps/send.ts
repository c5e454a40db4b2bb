// A client that hides nothing: it sends each argument as a piece of its own, a tenth of a second after
// the one before, and shows both sides byte by byte.
//
//   deno run --allow-net steps/send.ts 'GET / HTTP/1.1\r\n' '\r\n'
//
// \r, \n, \t, \\ and \xc3 stand for bytes. `--times 5` sends the last piece so many times, `--leave`
// hangs up when all is sent, `--break` does so with a reset, `--patience 5` waits longer than 2 s for
// more to come, and `--port` is that of the server.
import { Buffer, isUtf8 } from "node:buffer";
import { once } from "node:events";
import { connect } from "node:net";
import process from "node:process";
import { parseArgs } from "node:util";

const { values, positionals: pieces } = parseArgs({
  args: process.argv.slice(2),
  allowPositionals: true,
  options: {
    port: { type: "string", default: "8080" },
    times: { type: "string", default: "1" },
    patience: { type: "string", default: "2" },
    leave: { type: "boolean", default: false },
    break: { type: "boolean", default: false },
  },
});

const BYTES: Record<string, string> = { r: "\r", n: "\n", t: "\t", "\\": "\\" };
function bytesOf(text: string): Buffer {
  const raw = Buffer.from(text).toString("latin1"); // one character a byte
  const unescaped = raw.replace(
    /\\(?:x([0-9a-f]{2})|([rnt\\]))/gi,
    (_, code, name) => name ? BYTES[name]! : String.fromCharCode(parseInt(code, 16)),
  );
  return Buffer.from(unescaped, "latin1");
}
/** Shows each line with its end; what is neither text nor a line end, as its bytes. */
function show(mark: string, bytes: Buffer): void {
  const isText = isUtf8(bytes);
  const text = bytes.toString(isText ? "utf8" : "latin1")
    .replaceAll("\r", "\\r").replaceAll("\n", "\\n\n")
    .replace(isText ? /[^\n\P{Cc}]/gu : /[^\n\x20-\x7e]/g, escape);
  const lines = text.replace(/\n$/, "").split("\n");
  for (const line of lines.slice(0, 20)) console.log(mark, line);
  if (lines.length > 20) console.log(mark, `... and ${lines.length - 20} lines more`);
}
function escape(char: string): string {
  return `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`;
}
const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const socket = connect(Number(values.port), "127.0.0.1");
const received: Buffer[] = [];
let end = "";
let last = performance.now();
socket.on("data", (bytes: Buffer) => {
  received.push(bytes);
  last = performance.now();
});
socket.on("end", () => end ||= "The server has closed the connection.");
socket.on("error", ({ message }) => end ||= `The connection is broken: ${message.split(",")[0]}`);
socket.on("close", () => end ||= "The connection is closed.");
await once(socket, "connect").catch(() => {});

for (const [i, piece] of pieces.entries()) {
  if (i > 0) await pause(100);
  const times = i === pieces.length - 1 ? Number(values.times) : 1;
  show(times > 1 ? `> ${times} times` : ">", bytesOf(piece));
  for (let sent = 0; sent < times && end === ""; sent++) {
    if (!socket.write(bytesOf(piece))) {
      await Promise.race([once(socket, "drain").catch(() => {}), pause(2000)]);
    }
  }
}
await pause(100);
if (values.leave || values.break) {
  end ||= values.leave ? "This client has hung up." : "This client has broken the connection.";
} else {
  last = performance.now();
  const patience = Number(values.patience) * 1000;
  while (end === "" && performance.now() - last < patience) await pause(20);
}
if (values.break) socket.resetAndDestroy();
else socket.destroy();
if (received.length > 0) show("<", Buffer.concat(received));
console.log(end || `Nothing more for ${values.patience} s: this client gives up.`);
process.exit();
