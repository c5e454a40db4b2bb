/** What a hostile client, or an everyday one, must not bring about: lost descriptors, delays for
 * others, lines in the log that are nobody's business or not true. */

import { brotliCompressSync } from "node:zlib";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { bytesOf, textOf } from "./memory.ts";
import { field, parseResponses } from "./responses.ts";
import {
  Client,
  Folder,
  freePort,
  isSecured,
  output,
  overTls,
  peer,
  Process,
  reset,
  type Runtime,
  type Scenario,
} from "./sockets.ts";
import { get, pause } from "./tools.ts";

const APP = "tests/app.ts";
const CLOSE = "Connection: close\r\n";
/** Milliseconds for which a server may keep a connection open for its last answer to arrive. */
const LINGER_TIME = 2000;

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
/** One request on a connection of its own, and its answer, which has ten seconds to come. */
async function ask(port: number, path: string) {
  using client = await Client.connect(port);
  const timer = setTimeout(() => client.close(), 10_000);
  try {
    await client.send(get(path, CLOSE));
    const [received] = parseResponses(await client.rest(), ["GET"], true);
    assert(received !== undefined, `no answer for ${path}`);
    return received;
  } finally {
    clearTimeout(timer);
  }
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
    { name: "answered for the last time", count: 100, send: get("/three", CLOSE) },
    { name: "refused", count: 100, send: "hello\r\n\r\n" },
    { name: "refused, of HTTP/1.0", count: 24, send: "GET /[ HTTP/1.0\r\n\r\n" },
    { name: "silent", count: 24, send: "", plain: true },
    { name: "late in a head", count: 24, send: "GET / HTTP/1.1\r\nHos" },
    { name: "late in its content", count: 24, send: post },
    { name: "idle between requests", count: 24, send: get("/three") },
    { name: "one that does not read", count: 24, send: get("/big"), unread: true },
    { name: "one that does not read a stream", count: 24, send: get("/endless"), unread: true },
    { name: "cut off in a stream", count: 24, send: get("/broken") },
    { name: "finished in a head", count: 24, send: "GET / HTTP/1.1\r\n", ends: true },
    { name: "finished", count: 24, send: get("/three"), ends: true },
  ];
  if (!isSecured()) return all;
  const half = hello.subarray(0, hello.length / 2);
  return [
    ...all,
    { name: "half a ClientHello", count: 24, send: half, plain: true },
    { name: "a ClientHello and no more", count: 24, send: hello, plain: true },
    { name: "a ClientHello and no reading", count: 24, send: hello, plain: true, unread: true },
    {
      name: "a ClientHello and nonsense",
      count: 24,
      send: textOf(hello) + "x".repeat(99),
      plain: true,
    },
    { name: "no TLS", count: 24, send: get("/"), plain: true },
    { name: "finished before it began", count: 24, send: "", plain: true, ends: true },
  ];
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
  const held = await Promise.all(all.map((ending) => holdOpen(port, ending, 8)));
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
    const args = ["--max-connections", "160", "--backlog", "20", "--idle-timeout", "0.5"];
    await using server = await Process.start(runtime, args, APP);
    const all = endings(isSecured() ? await clientHello() : new Uint8Array());
    await Promise.all(Array.from({ length: 50 }, () => ask(server.port, "/")));
    await costNothing(server, 360, all);
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
      const told = ["retry-after", "date"].map((name) => field(received, name));
      assertEquals([received.status, ...told], [503, "1", undefined]);
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

// ── Clients that leave early ─────────────────────────────────────────────────────────────────

/** Has a hundred connections reset before the process, which is stopped meanwhile, can accept them. */
async function resetBeforeAccept(process: Process, port: number): Promise<void> {
  process.signal("SIGSTOP");
  await Promise.all(Array.from({ length: 100 }, () => reset(port, "", 0)));
}

const LEAVERS: Scenario[] = [
  ["2,000 connections reset before they are accepted delay nobody", async (runtime) => {
    await using server = await Process.start(runtime);
    const { port } = server;
    assertEquals((await ask(port, "/book")).status, 200);
    let slowest = 0;
    for (let round = 0; round < 20; round++) {
      await resetBeforeAccept(server, port);
      const asked = ask(port, "/book"); // behind the hundred
      await pause(5);
      const milliseconds = await millisecondsOf(async () => {
        server.signal("SIGCONT");
        assertEquals((await asked).status, 200);
      });
      slowest = Math.max(slowest, milliseconds);
    }
    assert(slowest < 500, `${slowest} ms`);
    assert(!server.log.includes("ERROR"), server.log);
  }],

  [
    "a program on listen alone outlives connections reset before they are accepted",
    async (runtime) => {
      await using program = Process.spawn(runtime, "steps/4.ts", ["0"]);
      const port = Number(await program.printed(/Listening at PORT (\d+)/));
      for (let round = 0; round < 3; round++) {
        await resetBeforeAccept(program, port);
        program.signal("SIGCONT");
        using client = await Client.plain(port);
        await client.send(get("/"));
        assertMatch(await client.until(/Hello/), /^HTTP\/1\.1 200 /);
      }
    },
    { plain: true },
  ],
];

// ── What is sent ─────────────────────────────────────────────────────────────────────────────

async function compressed(text: string, coding: string): Promise<Uint8Array> {
  if (coding === "br") return brotliCompressSync(text);
  if (coding !== "gzip" && coding !== "deflate") return bytesOf(text); // as if it were compressed
  const stream = new Blob([text]).stream().pipeThrough(new CompressionStream(coding));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** An HTTP server that gives one answer to whatever it is asked. */
function upstream(answer: Uint8Array): { port: number } & AsyncDisposable {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const serving = (async () => {
    for await (const connection of listener) {
      await connection.read(new Uint8Array(4096));
      await connection.write(answer);
      connection.close();
    }
  })().catch(() => {});
  return {
    port: listener.addr.port,
    async [Symbol.asyncDispose]() {
      listener.close();
      await serving;
    },
  };
}

const ANSWERS: Scenario[] = [
  ["a compressed response that was fetched is sent as it is then: decoded", async (runtime) => {
    await using server = await Process.start(runtime, [], APP);
    const page = "decoded ".repeat(5000);
    for (const coding of ["gzip", "br", ""]) {
      const content = coding === "" ? bytesOf(page) : await compressed(page, coding);
      const encoding = coding === "" ? "" : `Content-Encoding: ${coding}\r\n`;
      const size = content.length.toString(16);
      const framings: [string, string, string][] = [
        [`Content-Length: ${content.length}\r\n`, "", ""],
        ["Transfer-Encoding: chunked\r\n", `${size}\r\n`, "\r\n0\r\n\r\n"],
        ["", "", ""], // up to the end of the connection
      ];
      for (const [framing, before, after] of framings) {
        const head = `HTTP/1.1 200 OK\r\n${encoding}${framing}X-Up: stream\r\n${CLOSE}\r\n`;
        await using up = upstream(bytesOf(head + before + textOf(content) + after));
        const received = await ask(server.port, `/fetched?port=${up.port}&path=/`);
        const what = `${coding} ${framing}`;
        assertEquals(received.status, 200, what);
        assertEquals(field(received, "content-encoding"), undefined, what);
        assertEquals(field(received, "x-up"), "stream", what);
        assert(received.body === page, `${what}: ${received.body.length} bytes`);
      }
    }
  }],

  ["a response that was fetched in a coding that is not decoded keeps it", async (runtime) => {
    await using server = await Process.start(runtime, [], APP);
    const page = "as it was ".repeat(5000);
    for (const coding of ["deflate", "aes128gcm", "identity", "gzip, aes128gcm"]) {
      const content = await compressed(page, coding);
      const head = `HTTP/1.1 200 OK\r\nContent-Encoding: ${coding}\r\n${CLOSE}\r\n`;
      await using up = upstream(bytesOf(head + textOf(content)));
      const received = await ask(server.port, `/fetched?port=${up.port}&path=/`);
      const told = field(received, "content-encoding");
      const isDecoded = coding === "deflate" && received.body === page;
      assertEquals(told, isDecoded ? undefined : coding);
      assert(isDecoded || received.body === textOf(content), `${coding}: other content`);
    }
  }],

  ["streamed answers on a kept connection do not wait for acknowledgements", async (runtime) => {
    await using server = await Process.start(runtime, [], APP);
    using client = await Client.connect(server.port);
    let quickest = Infinity;
    for (let round = 0; round < 3; round++) { // of three rounds, one without disturbance
      const milliseconds = await millisecondsOf(async () => {
        for (let i = 0; i < 20; i++) {
          client.received = "";
          await client.send(get("/three"));
          await client.until(/\r\n0\r\n\r\n$/);
          const [received] = parseResponses(client.received, ["GET"], false);
          assertEquals(received.body, "onetwothree");
        }
      });
      quickest = Math.min(quickest, milliseconds);
    }
    assert(quickest < 20 * 20, `${quickest} ms`);
  }],

  ["--hostname takes an IPv6 address in brackets", async (runtime) => {
    try {
      Deno.listen({ hostname: "::1", port: 0 }).close();
    } catch {
      return; // This machine has no IPv6.
    }
    for (const hostname of ["[::1]", "::1"]) {
      await using server = await Process.start(runtime, ["--hostname", hostname]);
      using tcp = await Deno.connect({ hostname: "::1", port: server.port });
      await tcp.write(bytesOf(get("/none", CLOSE)));
      const buffer = new Uint8Array(4096);
      const count = await tcp.read(buffer);
      assertMatch(textOf(buffer.subarray(0, count ?? 0)), /^HTTP\/1\.1 404 /);
    }
  }, { plain: true }],

  ["bun --hot goes on after an edit, with what was edited", async (runtime) => {
    await using folder = await Folder.create();
    const { path } = folder;
    const files = ["server.ts", "handlers.ts", "index.html", "book.json"];
    await output("cp", [...files, path]);
    const port = freePort();
    const hot = { ...runtime, args: ["--hot"] };
    const [script, handlers] = [`${path}/server.ts`, `${path}/handlers.ts`];
    await using server = Process.spawn(hot, script, ["--port", `${port}`]);
    await server.logged(/Listening at PORT/);
    assertEquals((await ask(port, "/none")).body, "404 Not Found");
    // One edit, and then two in quick succession, as of editors that empty a file before.
    for (const [i, times] of [1, 1, 2, 2, 2, 2, 2, 2].entries()) {
      const edit = `edit number ${i}`.padEnd("404 Not Found".length);
      const text = (await output("cat", [handlers]))
        .replace(/404, TEXT, "[^"]*"/, `404, TEXT, "${edit}"`);
      for (let time = 0; time < times; time++) {
        await output("dd", [`of=${handlers}`, "conv=notrunc", "bs=1M"], text); // in one write
      }
      let body = "";
      for (let i = 0; i < 100 && body !== edit; i++) {
        body = await ask(port, "/none").then((received) => received.body, () => "");
        await pause(20);
      }
      assertEquals(body, edit, server.log);
      await pause(50);
    }
    server.signal("SIGTERM");
    assertEquals(await server.ended(), 0);
  }, { only: "Bun", plain: true }],
];

// ── The log ──────────────────────────────────────────────────────────────────────────────────

/** Lines that are about no connection. */
const GENERAL =
  /^INFO - (Listening at (PORT |unix:)|Shutting down|Stopped)|^DEBUG - Waiting for|: \d+ more$/;

/** Lets a client do its thing, and leave in one way after a while. */
async function leave(
  client: Client,
  send: string | Uint8Array,
  milliseconds: number,
  ends = false,
) {
  await client.send(send).catch(() => {});
  if (ends) await client.end().catch(() => {});
  const reading = send.length > 0 ? client.read() : undefined;
  await pause(milliseconds);
  client.close();
  await reading;
}

const LOG: Scenario[] = [
  ["everyday clients cause no error, and each of their lines names the peer", async (runtime) => {
    const args = ["--idle-timeout", "0.5", "--request-timeout", "0.5", "--log-level", "debug"];
    await using server = await Process.start(runtime, args, APP);
    const { port } = server;
    const hello = isSecured() ? textOf(await clientHello()) : "";
    const upload = "POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\nxxx";
    const texts = [
      ...["", "G", "GET / HT", "hello\r\n\r\n", get("/\x1b[m"), upload, get("/"), get("/big")],
      ...[get("/endless"), get("/three"), get("/signal"), get("/slow"), get("/mib", CLOSE)],
      ...[get("/refused?name=x%0Ay%1B"), upload.replace("/count", "/"), get("/") + "hello\r\n"],
    ];
    const raw = [hello, hello.slice(0, 99), "hello\r\n\r\n", "", "\x16\x03\x01", hello + "x"];
    const work: Promise<void>[] = [];
    for (const send of texts) {
      for (const milliseconds of [0, 30, 800]) {
        work.push((async () => leave(await Client.connect(port), send, milliseconds))());
      }
      work.push((async () => leave(await Client.connect(port), send, 30, true))());
      if (!isSecured()) work.push(reset(port, send, 0), reset(port, send, 30));
    }
    for (const send of isSecured() ? raw : []) {
      work.push((async () => leave(await Client.plain(port), send, 0))());
      work.push((async () => leave(await Client.plain(port), send, 800))());
      work.push((async () => leave(await Client.plain(port), send, 30, true))());
      work.push(reset(port, send, 0), reset(port, send, 30));
    }
    await Promise.all(work);
    await pause(700);
    assertEquals((await ask(port, "/")).status, 200);
    server.signal("SIGTERM");
    assertEquals(await server.ended(), 0);
    const lines = server.log.trimEnd().split("\n");
    assertEquals(lines.filter((line) => !/^(INFO|DEBUG) - /.test(line)), []);
    assertEquals(
      lines.filter((line) => !GENERAL.test(line) && !RegExp(peer()).test(line)),
      [],
    );
    assertEquals(lines.filter((line) => !/^[ -~]*$/.test(line)), []);
    assertEquals(lines.filter((line) => /" 500 /.test(line)), []);
    assert(lines.some((line) => /^INFO .*\/refused.* 404 .*No such thing: x\\x0ay/.test(line)));
  }],

  [
    "a client that has gone before it was accepted makes no line without its name",
    async (runtime) => {
      await using server = await Process.start(runtime, ["--log-level", "debug"], APP);
      const { port } = server;
      const blocked = ask(port, "/block");
      await pause(100);
      for (let i = 0; i < 5; i++) await reset(port, get("/"), 0);
      assertEquals((await blocked).status, 200);
      assertEquals((await ask(port, "/")).status, 200);
      const lines = server.log.trimEnd().split("\n");
      assertEquals(lines.filter((line) => /\(from :|- :/.test(line)), []);
    },
  ],

  [
    "whoever looks whether the TLS port is open makes no line, and nonsense few",
    async (runtime) => {
      await overTls(async () => {
        await using server = await Process.start(runtime);
        const { port } = server;
        for (let i = 0; i < 20; i++) {
          (await Client.plain(port)).close();
          await reset(port, "", i % 2 === 0 ? 0 : 10);
        }
        assertEquals((await ask(port, "/none")).status, 404);
        await server.logged(/GET \/none/);
        const lines = server.log.trimEnd().split("\n");
        assertEquals(lines.filter((line) => !/Listening at|GET \/none/.test(line)), []);
        // What is not TLS is told, but no more than a few times.
        for (let i = 0; i < 10; i++) {
          await Promise.all(Array.from({ length: 20 }, async () => {
            using client = await Client.plain(port);
            await client.send(get("/"));
            await client.rest();
          }));
        }
        server.signal("SIGTERM");
        assertEquals(await server.ended(), 0);
        const told = server.log.split("\n").filter((line) => line.includes("TLS handshake failed"));
        const counts = told.map((line) => / - INFO - .*: (\d+) more$/.exec(line)).filter((one) =>
          one
        );
        const counted = counts.reduce((sum, count) => sum + Number(count![1]), 0);
        assertEquals(told.length - counts.length + counted, 200, server.log);
        assert(told.length < 60, `${told.length} lines`);
        assert(!server.log.includes(" - ERROR - "), server.log);
      });
    },
    { needs: "openssl", plain: true },
  ],
];

export const HOSTILE: Scenario[] = [...DESCRIPTORS, ...LEAVERS, ...ANSWERS, ...LOG];
