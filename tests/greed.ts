/**
 * One greedy client and 20 polite ones: how long do these have to wait? The greedy one is a process
 * of its own, which sends and reads as fast as it can. Each polite one sends `GET /book`, waits for
 * the answer, pauses for 10 ms, and asks again. It runs on Bun.
 *
 * `bun tests/greed.ts --port 8080 --kind gets [--seconds 3] [--tls]` prints a line of JSON: the bytes
 * that the greedy client sent and received, how many answers the polite ones got, from the least to
 * the most, and the longest wait of any, in milliseconds. `gets` and `heads` can be tried on any
 * server that has a `/book`, and `count` and `pieces` on tests/app.ts alone.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect as connectTcp, type Socket } from "node:net";
import process from "node:process";
import { connect as connectTls } from "node:tls";
import { parseArgs } from "node:util";

const POLITE = 20;
/** Milliseconds between an answer and the next question. */
const PAUSE = 10;

const times = (text: string, bytes: number) => text.repeat(Math.ceil(bytes / text.length));
const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;
const post = (path: string) =>
  `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n`;
const CHUNK = "1\r\nx\r\n", LAST_CHUNK = "0\r\n\r\n";
const BLOCK = 65536, UPLOAD = 6_000_000;

/** What the greedy client sends, over and over, and without a wait for any answer. */
const GREED: Record<string, string> = {
  gets: times(get("/book"), BLOCK),
  heads: times(get("/book").replace("GET", "HEAD"), BLOCK),
  posts: times(post("/") + CHUNK.repeat(8) + LAST_CHUNK, BLOCK),
  count: post("/count") + times(CHUNK, UPLOAD) + LAST_CHUNK, // to a handler that streams it
  collect: post("/") + times(CHUNK, UPLOAD) + LAST_CHUNK, // to one that wants it as a whole
  pieces: get("/pieces"),
};

const text = { type: "string" } as const, flag = { type: "boolean" } as const;
const { values } = parseArgs({
  options: { port: text, kind: text, seconds: { ...text, default: "3" }, tls: flag, greedy: flag },
});
const port = Number(values.port), milliseconds = Number(values.seconds) * 1000;
const kind = values.kind ?? "gets";
if (!(kind in GREED)) throw new Error(`--kind must be one of ${Object.keys(GREED)}`);

const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function connect(): Promise<Socket> {
  const address = { host: "127.0.0.1", port };
  const socket = values.tls
    ? connectTls({ ...address, rejectUnauthorized: false })
    : connectTcp(address);
  await once(socket, values.tls ? "secureConnect" : "connect");
  socket.setNoDelay(true);
  socket.on("error", (error) => {
    throw error;
  });
  socket.on("close", () => {
    throw new Error("the server has closed a connection");
  });
  return socket;
}

/** Says "Greedy" once it is, and what it has got when its time is over. */
async function beGreedy(): Promise<never> {
  const socket = await connect();
  const bytes = new TextEncoder().encode(GREED[kind]);
  let sent = 0, received = 0;
  socket.on("data", (data: Uint8Array) => received += data.length);
  setTimeout(() => {
    console.log(JSON.stringify({ sent, received }));
    process.exit(0);
  }, milliseconds);
  console.log("Greedy");
  for (;;) {
    for (let at = 0; at < bytes.length; at += BLOCK) {
      const block = bytes.subarray(at, at + BLOCK);
      sent += block.length;
      if (!socket.write(block)) await once(socket, "drain");
    }
  }
}

/** One that asks, and waits, and pauses. */
class Polite {
  answers = 0;
  longest = 0;
  /** Since when it has waited; undefined while it pauses. */
  #since: number | undefined;

  async run(socket: Socket): Promise<void> {
    this.#ask(socket);
    let received = "";
    for await (const data of socket) {
      received += data.toString("latin1");
      if (!isAnswer(received)) continue;
      received = "";
      this.answers++;
      this.stop();
      await sleep(PAUSE);
      this.#ask(socket);
    }
  }
  #ask(socket: Socket): void {
    this.#since = performance.now();
    socket.write(get("/book"));
  }
  /** One that still waits has waited for so long. */
  stop(): void {
    if (this.#since === undefined) return;
    this.longest = Math.max(this.longest, performance.now() - this.#since);
    this.#since = undefined;
  }
}
/** Whether it is an answer as a whole; throws if it is another one. */
function isAnswer(text: string): boolean {
  const end = text.indexOf("\r\n\r\n") + 4;
  if (end < 4) return false;
  const length = /\r\ncontent-length: (\d+)/i.exec(text);
  if (!text.startsWith("HTTP/1.1 200 ") || length === null) throw new Error(`not one: ${text}`);
  return text.length >= end + Number(length[1]);
}

async function bePolite(): Promise<void> {
  const sockets = await Promise.all(Array.from({ length: POLITE }, connect));
  const greedy = spawn(process.execPath, [...process.argv.slice(1), "--greedy"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let printed = "";
  greedy.stdout.on("data", (data) => printed += data);
  const ended = once(greedy, "close");
  await once(greedy.stdout, "data");
  const polite = sockets.map((socket) => {
    const polite = new Polite();
    void polite.run(socket);
    return polite;
  });
  await sleep(milliseconds);
  for (const one of polite) one.stop();
  const [status] = await ended;
  if (status !== 0) throw new Error("the greedy client has failed");
  const answers = polite.map(({ answers }) => answers);
  console.log(JSON.stringify({
    kind,
    ...JSON.parse(printed.split("\n")[1]),
    least: Math.min(...answers),
    most: Math.max(...answers),
    longest: +Math.max(...polite.map(({ longest }) => longest)).toFixed(1),
  }));
  process.exit(0);
}

await (values.greedy ? beGreedy() : bePolite());
