/** What a hostile client, or an everyday one, must not bring about: lost descriptors, delays for
 * others, lines in the log that are nobody's business or not true. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { field, parseResponses } from "./responses.ts";
import {
  Client,
  isSecured,
  output,
  Process,
  reset,
  type Runtime,
  type Scenario,
} from "./sockets.ts";

const APP = "tests/app.ts";
const CLOSE = "Connection: close\r\n";
/** Milliseconds for which a server may keep a connection open for its last answer to arrive. */
const LINGER_TIME = 2000;

function get(path: string, fields = ""): string {
  return `GET ${path} HTTP/1.1\r\nHost: a\r\n${fields}\r\n`;
}
function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
/** Waits for something, but no longer than that. */
async function within(milliseconds: number, work: Promise<unknown>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  await Promise.race([work, promise]);
  clearTimeout(timer);
}
async function millisecondsOf(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}
/** One request on a connection of its own, and its answer. */
async function ask(port: number, path: string) {
  using client = await Client.connect(port);
  await client.send(get(path, CLOSE));
  const [received] = parseResponses(await client.rest(), ["GET"], true);
  return received;
}

// ── Descriptors ──────────────────────────────────────────────────────────────────────────────

/** What a TLS client says first, as Deno's says it. */
async function clientHello(): Promise<Uint8Array> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const client = Deno.connectTls({ hostname: "127.0.0.1", port: listener.addr.port });
  using accepted = await listener.accept();
  using tls = await client;
  const shaken = tls.handshake().catch(() => {});
  const buffer = new Uint8Array(4096);
  const count = await accepted.read(buffer);
  accepted.close();
  await shaken;
  return buffer.slice(0, count ?? 0);
}

/** A way for a connection to end while its client keeps its own end open. */
interface Ending {
  name: string;
  /** How many clients do so, one after the other in each of some rows. */
  count: number;
  /** What the client sends, and whether it does over TLS where others do. */
  send: string | Uint8Array;
  plain?: boolean;
  /** It takes nothing of what the server sends. */
  unread?: boolean;
  /** It sends nothing more. */
  ends?: boolean;
}
function endings(hello: Uint8Array): Ending[] {
  const post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx";
  const all: Ending[] = [
    { name: "answered for the last time", count: 100, send: get("/pieces", CLOSE) },
    { name: "refused", count: 100, send: "hello\r\n\r\n" },
    { name: "refused, of HTTP/1.0", count: 30, send: "GET /[ HTTP/1.0\r\n\r\n" },
    { name: "silent", count: 30, send: "", plain: true },
    { name: "late in a head", count: 30, send: "GET / HTTP/1.1\r\nHos" },
    { name: "late in its content", count: 30, send: post },
    { name: "idle between requests", count: 30, send: get("/pieces") },
    { name: "one that does not read", count: 30, send: get("/big"), unread: true },
    { name: "one that does not read a stream", count: 30, send: get("/endless"), unread: true },
    { name: "cut off in a stream", count: 30, send: get("/broken") },
    { name: "finished in a head", count: 30, send: "GET / HTTP/1.1\r\n", ends: true },
    { name: "finished", count: 30, send: get("/pieces"), ends: true },
  ];
  if (!isSecured()) return all;
  const half = hello.subarray(0, hello.length / 2);
  return [
    ...all,
    { name: "half a ClientHello", count: 30, send: half, plain: true },
    { name: "a ClientHello and no more", count: 30, send: hello, plain: true },
    { name: "a ClientHello and no reading", count: 30, send: hello, plain: true, unread: true },
    {
      name: "a ClientHello and nonsense",
      count: 30,
      send: text(hello) + "x".repeat(99),
      plain: true,
    },
    { name: "no TLS", count: 30, send: get("/"), plain: true },
    { name: "finished before it began", count: 30, send: "", plain: true, ends: true },
  ];
}
function text(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

/** Has one client after another end in this way, and returns them, each with its end open. */
async function holdOpen(port: number, ending: Ending, rows: number): Promise<Client[]> {
  const clients: Client[] = [];
  await Promise.all(Array.from({ length: rows }, async () => {
    while (clients.length < ending.count) {
      const client = ending.plain ? await Client.plain(port) : await Client.connect(port);
      clients.push(client);
      // The server may give it up at any time: that is what is tried.
      await client.send(ending.send).catch(() => {});
      if (ending.ends) await client.end().catch(() => {});
      if (ending.unread) await pause(700);
      else await within(2000, client.rest());
    }
  }));
  return clients;
}

/** The most descriptors that a process had at a time since this was made. */
class Peak {
  most = 0;
  #stopped = false;
  readonly #watching: Promise<void>;

  constructor(server: Process) {
    this.#watching = (async () => {
      while (!this.#stopped) {
        this.most = Math.max(this.most, await server.descriptors());
        await pause(100);
      }
    })();
  }
  async stop(): Promise<number> {
    this.#stopped = true;
    await this.#watching;
    return this.most;
  }
}

/** Waits until the process has no more than so many descriptors, or time is up; tells how many. */
async function descriptorsAfter(server: Process, most: number, milliseconds: number) {
  const end = performance.now() + milliseconds;
  let count = await server.descriptors();
  while (count > most && performance.now() < end) {
    await pause(100);
    count = await server.descriptors();
  }
  return count;
}

/** Sees that clients which hold their ends open cost the server no more descriptors than it may have
 * at a time, and none once it has given them up. */
async function costNothing(server: Process, most: number, all: Ending[]): Promise<void> {
  const { port } = server;
  const spare = 16; // what a runtime opens for itself
  const before = await server.descriptors();
  const peak = new Peak(server);
  const held = await Promise.all(all.map((ending) => holdOpen(port, ending, 6)));
  const after = await descriptorsAfter(server, before + 3, LINGER_TIME + 500 + 1000);
  const atOnce = await peak.stop() - before;
  // Whose they are is seen when these clients leave.
  const lost: string[] = [];
  for (const [i, clients] of held.entries()) {
    const count = after > before + 3 ? await server.descriptors() : 0;
    for (const client of clients) client.close();
    if (count === 0) continue;
    await pause(300);
    const gone = count - await server.descriptors();
    if (gone > 2) lost.push(`${all[i].name}: ${gone} of ${clients.length}`);
  }
  assert(after <= before + 3, `${before} descriptors before, ${after} after: ${lost.join(", ")}`);
  assert(atOnce <= most + spare, `${atOnce} descriptors at a time, not ${most}`);
}

/** Takes all permits and all places of the backlog, and keeps them. */
async function fill(port: number, count: number): Promise<Client[]> {
  const clients: Client[] = [];
  for (let i = 0; i < count; i++) {
    const client = await Client.connect(port);
    clients.push(client);
    // Over TLS this takes until the server has accepted the connection, which may be never.
    void client.send(get("/never")).catch(() => {});
    await pause(20);
  }
  return clients;
}

const DESCRIPTORS: Scenario[] = [
  ["however a connection ends, a client that stays costs no descriptor", async (runtime) => {
    const args = ["--max-connections", "120", "--backlog", "20", "--idle-timeout", "0.5"];
    await using server = await Process.start(runtime, args, APP);
    const all = endings(isSecured() ? await clientHello() : new Uint8Array());
    await Promise.all(Array.from({ length: 50 }, () => ask(server.port, "/")));
    await costNothing(server, 280, all);
    assertEquals((await ask(server.port, "/")).status, 200);
  }],

  ["clients beyond the backlog that stay cost no descriptor", async (runtime) => {
    const args = ["--max-connections", "2", "--backlog", "10", "--idle-timeout", "0.5"];
    await using server = await Process.start(runtime, args, APP);
    await Promise.all(Array.from({ length: 5 }, () => ask(server.port, "/")));
    const others = await fill(server.port, 13); // two served, one accepted, and ten that wait
    await costNothing(server, 24, [
      { name: "refused with 503", count: 60, send: get("/") },
      { name: "silent", count: 40, send: "", plain: true },
    ]);
    for (const client of others) client.close();
  }, { only: "Bun" }],

  ["20 silent clients beyond the backlog are gone soon, and others are told", async (runtime) => {
    const args = ["--max-connections", "1", "--backlog", "5"];
    await using server = await Process.start(runtime, args, APP);
    const others = await fill(server.port, 7);
    const silent = await Promise.all(Array.from({ length: 20 }, () => Client.plain(server.port)));
    const seconds = await millisecondsOf(() =>
      within(10_000, Promise.all(silent.map((one) => one.rest())))
    ) / 1000;
    assert(seconds < 4, `after ${seconds} s`);
    await pause(LINGER_TIME); // for as long, those that are told are counted
    // Each of several in a row, since what is lost may be one place of a few.
    for (let i = 0; i < 8; i++) {
      const received = await ask(server.port, "/");
      assertEquals([received.status, field(received, "retry-after")], [503, "1"]);
    }
    for (const client of [...silent, ...others]) client.close();
  }, { only: "Bun" }],

  ["clients that stay do not keep a stopped server's process alive", async (runtime) => {
    const args = ["--idle-timeout", "20", "--grace", "0.5", "--stay"];
    await using server = await Process.start(runtime, args, APP);
    const all = endings(isSecured() ? await clientHello() : new Uint8Array());
    all.push({ name: "in a handler", count: 1, send: get("/never") });
    const clients: Client[] = [];
    for (const { send, plain, unread, ends } of all) {
      for (let i = 0; i < 3; i++) {
        const client = plain ? await Client.plain(server.port) : await Client.connect(server.port);
        clients.push(client);
        await client.send(send).catch(() => {});
        if (ends) await client.end().catch(() => {});
        if (!unread) void client.rest();
      }
    }
    await pause(200);
    server.signal("SIGTERM");
    const seconds = await millisecondsOf(() => within(8000, server.ended())) / 1000;
    for (const client of clients) client.close();
    assert(seconds < 0.5 + LINGER_TIME / 1000 + 1, `the process ended after ${seconds} s`);
  }],

  ["with 256 descriptors, and as many silent clients, others are answered", async (runtime) => {
    const limited: Runtime = {
      ...runtime,
      command: "sh",
      args: ["-c", 'ulimit -n 256; exec "$@"', "sh", runtime.command, ...runtime.args],
    };
    await using server = await Process.start(limited, ["--idle-timeout", "1"], APP);
    const silent: Client[] = [];
    for (let i = 0; i < 244; i++) silent.push(await Client.plain(server.port));
    await pause(300);
    for (let i = 0; i < 3; i++) {
      const milliseconds = await millisecondsOf(async () => {
        assertEquals((await ask(server.port, "/")).status, 200);
      });
      assert(milliseconds < 5000, `after ${milliseconds} ms`);
    }
    for (const client of silent) client.close();
  }],
];

export const HOSTILE: Scenario[] = [...DESCRIPTORS];
