/**
 * A crowd of clients that know each other apart: so many connections, each of which sends its next
 * request as soon as it has the answer. It tells how many answers the connections got, from the
 * least to the most, and how long they waited. It runs on Bun, which serves its sockets in turn, and
 * tells how much of its core it used: with less than all of it, it was not what held things up.
 *
 * `bun bench/busy.ts --port 8080 --connections 1000 --seconds 4 [--post 1024] [--tls]
 * [--slow 0.1] [--newcomers]` prints a line of JSON.
 */

import process from "node:process";
import { parseArgs } from "node:util";

// What is used of Bun, so that this type-checks without Bun's types.
interface Socket {
  data: Client;
  write(text: string): number;
  terminate(): void;
}
declare const Bun: {
  connect(options: {
    hostname: string;
    port: number;
    tls?: { rejectUnauthorized: boolean };
    data: Client;
    socket: Record<string, (socket: Socket, data: Uint8Array & Error) => void>;
  }): Promise<Socket>;
};

const text = { type: "string" } as const, flag = { type: "boolean" } as const;
const { values } = parseArgs({
  options: {
    port: text,
    connections: { ...text, default: "64" },
    seconds: { ...text, default: "4" },
    post: text,
    path: { ...text, default: "/book" },
    slow: { ...text, default: "0" },
    tls: flag,
    newcomers: flag,
  },
});
const port = Number(values.port), count = Number(values.connections);
const seconds = Number(values.seconds), slow = Number(values.slow);
const body = "x".repeat(Number(values.post ?? 0));
const REQUEST = values.post === undefined
  ? `GET ${values.path} HTTP/1.1\r\nHost: a\r\n\r\n`
  : `POST / HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
/** A slow client thinks for so many milliseconds between an answer and its next request. */
const THINKING = 20;
/** Milliseconds from one newcomer to the next. */
const BETWEEN_NEWCOMERS = 50;

let running = false, counting = false;
/** Waits, in microseconds, in buckets that are 2 % apart. */
const buckets = new Uint32Array(1200);
let longest = 0;
const bucketOf = (micros: number) => Math.min(1199, Math.floor(Math.log(micros + 1) / 0.02));

/** One connection. */
class Client {
  answers = 0;
  socket!: Socket;
  readonly thinks: boolean;
  #sentAt = 0;
  #expected = 0;
  #received = 0;

  constructor(thinks: boolean) {
    this.thinks = thinks;
  }
  ask = () => {
    this.#sentAt = performance.now();
    if (this.socket.write(REQUEST) !== REQUEST.length) throw new Error("a write that is cut short");
  };
  /** All answers are alike: the length of the first is that of all. */
  took(bytes: Uint8Array): void {
    this.#received += bytes.length;
    if (this.#expected === 0) {
      const head = new TextDecoder("latin1").decode(bytes);
      const length = /\r\ncontent-length: (\d+)\r\n/i.exec(head);
      if (!/^HTTP\/1\.1 200 /.test(head) || length === null) {
        throw new Error(`not an answer: ${head}`);
      }
      this.#expected = head.indexOf("\r\n\r\n") + 4 + Number(length[1]);
    }
    if (this.#received < this.#expected) return;
    if (this.#received > this.#expected) throw new Error("more than was asked for");
    this.#received = 0;
    if (counting) {
      this.answers++;
      this.waited();
    }
    if (!running) return;
    if (this.thinks) setTimeout(this.ask, THINKING);
    else this.ask();
  }
  waited(): void {
    const wait = performance.now() - this.#sentAt;
    longest = Math.max(longest, wait);
    buckets[bucketOf(wait * 1000)]++;
  }
}

let failed = 0;
/** Connects, and shakes hands; `took` gets what comes. */
async function connect(client: Client, took: (bytes: Uint8Array) => void): Promise<Client> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  client.socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    ...(values.tls && { tls: { rejectUnauthorized: false } }),
    data: client,
    socket: {
      open: () => values.tls || resolve(),
      handshake: () => resolve(),
      data: (_, bytes) => took(bytes),
      close: () => {
        if (running) failed++;
        reject(new Error("the server has closed a connection"));
      },
      error: () => void failed++,
    },
  });
  await promise;
  return client;
}
const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** New clients that come while the others are busy: how long from the first packet to the answer. */
let longestNewcomer = 0, newcomers = 0;
async function sendNewcomers(): Promise<void> {
  while (counting) {
    await sleep(BETWEEN_NEWCOMERS);
    const start = performance.now();
    const { promise, resolve } = Promise.withResolvers<void>();
    const { socket } = await connect(new Client(false), () => resolve());
    socket.write(REQUEST);
    await promise;
    longestNewcomer = Math.max(longestNewcomer, performance.now() - start);
    newcomers++;
    running = false; // This one may go.
    socket.terminate();
    running = true;
  }
}

const clients: Client[] = [];
while (clients.length < count) {
  const some = Array.from({ length: Math.min(50, count - clients.length) }, (_, i) => {
    const client = new Client((clients.length + i) % 10 < slow * 10);
    return connect(client, (bytes) => client.took(bytes));
  });
  clients.push(...await Promise.all(some));
}
running = true;
for (const client of clients) client.ask();
await sleep(Math.min(2000, seconds * 500)); // The engines compile what runs often.
counting = true;
const before = process.cpuUsage(), start = performance.now();
const arrivals = values.newcomers ? sendNewcomers() : undefined;
await sleep(seconds * 1000);
const took = (performance.now() - start) / 1000;
const { user, system } = process.cpuUsage(before);
// Who still waits has waited for so long.
for (const client of clients) if (!client.thinks) client.waited();
counting = false;
running = false;
await Promise.race([arrivals, sleep(5000)]);

const quick = clients.filter((client) => !client.thinks).map((client) => client.answers);
const total = clients.reduce((sum, client) => sum + client.answers, 0);
const waits = buckets.reduce((sum, n) => sum + n, 0);
const percentile = (share: number) => {
  let seen = 0;
  const bucket = buckets.findIndex((n) => (seen += n) >= waits * share);
  return Math.exp((bucket + 1) * 0.02) / 1000;
};
console.log(JSON.stringify({
  rate: Math.round(total / took),
  least: Math.min(...quick),
  most: Math.max(...quick),
  p50: +percentile(0.5).toFixed(2),
  p99: +percentile(0.99).toFixed(2),
  p999: +percentile(0.999).toFixed(2),
  longest: +longest.toFixed(1),
  ...(values.newcomers && { newcomers, longestNewcomer: +longestNewcomer.toFixed(1) }),
  failed,
  busy: +((user + system) / 1e6 / took).toFixed(2),
}));
process.exit(0);
