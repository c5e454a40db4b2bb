/**
 * A crowd of clients that know each other apart: so many connections, each of which sends its next
 * request as soon as it has the answer. It tells how many answers the connections got, from the
 * least to the most, and how long they waited. It runs on Bun, which serves its sockets in turn, and
 * tells for what share of the time it was busy: with less than all of it, it was not what held
 * things up.
 *
 * `bun bench/busy.ts --port 8080 --connections 1000 --seconds 4 [--post 1024] [--path /book] [--tls]
 * [--slow 0.1] [--newcomers] [--sockets FOLDER]` says "Busy" on the standard error when the load
 * begins, and prints a line of JSON when it ends. Times are milliseconds. With a folder, the port is
 * the name of a Unix socket in it.
 */

import { readFileSync } from "node:fs";
import process from "node:process";
import { parseArgs } from "node:util";

// What is used of Bun, so that this type-checks without Bun's types.
interface Socket {
  write(bytes: Uint8Array): number;
  terminate(): void;
}
declare const Bun: {
  connect(
    options: ({ hostname: string; port: number } | { unix: string }) & {
      tls?: { rejectUnauthorized: boolean };
      socket: Record<string, (socket: Socket, data: Uint8Array & Error) => void>;
    },
  ): Promise<Socket>;
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
    sockets: text,
    newcomers: flag,
  },
});
const port = Number(values.port), count = Number(values.connections);
const seconds = Number(values.seconds), slow = Number(values.slow);
const content = "x".repeat(Number(values.post ?? 0));
const REQUEST = new TextEncoder().encode(
  values.post === undefined
    ? `GET ${values.path} HTTP/1.1\r\nHost: a\r\n\r\n`
    : "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n" +
      `Content-Length: ${content.length}\r\n\r\n${content}`,
);
/** A slow client thinks for so many milliseconds between an answer and its next request. */
const THINKING = 20;
/** Milliseconds from one newcomer to the next. */
const BETWEEN_NEWCOMERS = 50;
/** The engines compile what runs often, which takes them some two seconds. */
const WARM_UP = Math.min(2000, seconds * 500);
/** So many connections are opened side by side: less than any backlog. */
const AT_ONCE = 50;

const latin1 = new TextDecoder("latin1");
const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** The load is on. */
let running = false;
/** The answers and waits of now are those that count: the load is on, and warm. */
let counting = false;

/** How many waits there were in each range of microseconds; the ranges are 2 % apart. */
const waits = new Uint32Array(1200);
let longest = 0, longestNewcomer = 0;
function addWait(wait: number): void {
  longest = Math.max(longest, wait);
  waits[Math.min(waits.length - 1, Math.floor(Math.log(wait * 1000 + 1) / 0.02))]++;
}
/** The wait than which such a share of all waits was shorter. */
function percentile(share: number): number {
  const least = waits.reduce((sum, n) => sum + n) * share;
  let seen = 0;
  const range = waits.findIndex((n) => (seen += n) >= least);
  return Math.exp((range + 1) * 0.02) / 1000;
}

/** One connection. */
class Client {
  answers = 0;
  failure: string | undefined;
  /** Since when it has waited for an answer; undefined while it waits for none. */
  since: number | undefined;
  #socket!: Socket;
  #left = false;
  #head = "";
  #expected = 0;
  #received = 0;
  readonly #answered: (client: Client, wait: number) => void;

  /** `answered` is called with each answer, and how long that took. */
  constructor(answered: (client: Client, wait: number) => void) {
    this.#answered = answered;
  }
  /** Connects, and shakes hands. */
  async connect(): Promise<this> {
    const ready = Promise.withResolvers<void>();
    const failed = (reason: string) => {
      if (this.#left) return;
      this.failure ??= reason;
      ready.reject(new Error(reason));
    };
    this.#socket = await Bun.connect({
      ...(values.sockets === undefined
        ? { hostname: "127.0.0.1", port }
        : { unix: `${values.sockets}/${port}` }),
      ...(values.tls && { tls: { rejectUnauthorized: false } }),
      socket: {
        open: () => values.tls || ready.resolve(),
        handshake: () => ready.resolve(),
        data: (_, bytes) => this.#take(bytes),
        close: () => failed("the server has closed a connection"),
        error: (_, error) => failed(error.message), // also what `data` throws
      },
    });
    await ready.promise;
    return this;
  }
  /** Sends a request; the wait for its answer began at `since`. */
  ask(since = performance.now()): void {
    this.since = since;
    if (this.#socket.write(REQUEST) === REQUEST.length) return;
    this.failure ??= "a request was not taken as a whole";
  }
  leave(): void {
    this.#left = true;
    this.#socket.terminate();
  }
  #take(bytes: Uint8Array): void {
    if (this.#expected === 0) {
      this.#readHead(bytes);
    } else if (this.#received === 0 && bytes[9] !== 50) { // the 2 of "HTTP/1.1 200"
      throw new Error(`not an answer: ${latin1.decode(bytes)}`);
    }
    this.#received += bytes.length;
    if (this.#expected === 0 || this.#received < this.#expected) return;
    if (this.#received > this.#expected || this.since === undefined) {
      throw new Error("more has come than was asked for");
    }
    this.#received = 0;
    this.answers++;
    const wait = performance.now() - this.since;
    this.since = undefined;
    this.#answered(this, wait);
  }
  /** The first answer tells the length of each: they are all alike. */
  #readHead(bytes: Uint8Array): void {
    this.#head += latin1.decode(bytes);
    const end = this.#head.indexOf("\r\n\r\n") + 4;
    if (end < 4) return;
    const length = /\r\ncontent-length: (\d+)\r\n/i.exec(this.#head);
    if (!this.#head.startsWith("HTTP/1.1 200 ") || length === null) {
      throw new Error(`not an answer: ${this.#head}`);
    }
    this.#expected = end + Number(length[1]);
  }
}

/** New clients that come while the others are busy, whether the ones before them were answered or
 * not. Each asks once. */
const newcomers: Client[] = [];
function sendNewcomer(): void {
  const since = performance.now();
  const newcomer = new Client((client, wait) => {
    longestNewcomer = Math.max(longestNewcomer, wait);
    client.leave();
  });
  newcomer.since = since; // it waits from before it is connected
  newcomers.push(newcomer);
  newcomer.connect().then(() => newcomer.ask(since), (error) => newcomer.failure ??= error.message);
}

/** Nanoseconds for which this thread has run, or could have run if nobody else had had the core. */
function busyTime(): number {
  try {
    const [ran, waited] = readFileSync("/proc/self/schedstat", "utf8").split(" ").map(Number);
    return ran + waited;
  } catch { // not Linux
    const { user, system } = process.cpuUsage();
    return (user + system) * 1000;
  }
}

const ask = (client: Client) => running && client.ask();
const quick = (client: Client, wait: number) => {
  if (counting) addWait(wait);
  ask(client);
};
const thinking = (client: Client, wait: number) => {
  if (counting) addWait(wait);
  setTimeout(ask, THINKING, client);
};
const slowClients: Client[] = [], quickClients: Client[] = [];
for (let i = 0; i < count;) {
  const some: Promise<Client>[] = [];
  for (; i < count && some.length < AT_ONCE; i++) {
    // Spread evenly: each time the sum of the shares passes a whole number.
    const isSlow = Math.floor((i + 1) * slow) > Math.floor(i * slow);
    const client = new Client(isSlow ? thinking : quick);
    (isSlow ? slowClients : quickClients).push(client);
    some.push(client.connect());
  }
  await Promise.all(some);
}
const clients = [...quickClients, ...slowClients];

running = true;
for (const client of clients) client.ask();
console.error("Busy");
await sleep(WARM_UP);
counting = true;
for (const client of clients) client.answers = 0;
const start = performance.now(), busyBefore = busyTime();
const arrivals = values.newcomers ? setInterval(sendNewcomer, BETWEEN_NEWCOMERS) : undefined;
await sleep(seconds * 1000);
clearInterval(arrivals);
const end = performance.now(), took = end - start;
const busy = (busyTime() - busyBefore) / 1e6 / took;
running = counting = false;
// Who still waits has waited for so long, at least.
const soFar = ({ since = end }: Client) => end - since;
for (const client of clients) longest = Math.max(longest, soFar(client));
for (const client of newcomers) longestNewcomer = Math.max(longestNewcomer, soFar(client));

const answers = quickClients.map((client) => client.answers);
const total = clients.reduce((sum, client) => sum + client.answers, 0);
const failures = [...clients, ...newcomers].flatMap(({ failure }) => failure ?? []);
console.log(JSON.stringify({
  rate: Math.round(total / took * 1000),
  least: Math.min(...answers),
  most: Math.max(...answers),
  p50: +percentile(0.5).toFixed(2),
  p99: +percentile(0.99).toFixed(2),
  p999: +percentile(0.999).toFixed(2),
  longest: +longest.toFixed(1),
  ...(values.newcomers && {
    newcomers: newcomers.length,
    longestNewcomer: +longestNewcomer.toFixed(1),
  }),
  failed: failures.length,
  failure: failures[0],
  busy: +busy.toFixed(2),
}));
process.exit(0);
