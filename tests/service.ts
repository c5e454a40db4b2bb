/** What a service in production asks of its server: limits for a route, what became of each request,
 * upgrades, a stop that handlers are told of. In memory; and, as `SERVICE`, from outside. */

import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { handler as application } from "../handlers.ts";
import {
  type Connection,
  type Exchange,
  type Handler,
  HttpError,
  type HttpRequest,
  type HttpResponse,
  LineLog,
  requestOf,
  type RequestValues,
  type ServerStats,
  writeAll,
} from "../server.ts";
import { FakeClock } from "./clock.ts";
import { bytesOf, type MemoryClient } from "./memory.ts";
import { field, parseResponses, type Received } from "./responses.ts";
import {
  Client,
  exchange,
  isSecured,
  output,
  pathOf,
  peer,
  Process,
  reset,
  type Scenario,
} from "./sockets.ts";
import { ask, dice, generate, get, pause, post, recorder, start, stop } from "./tools.ts";

// ── Limits for a route ───────────────────────────────────────────────────────────────────────

const bySize: Handler = async (request) => ({ body: `${(await request.bytes()).length}` });
const limits = ({ path }: HttpRequest) =>
  path === "/large" ? { maxBodySize: 3000 } : path === "/small" ? { maxBodySize: 10 } : undefined;

Deno.test("a route raises or lowers the limit of content, before any is read", async () => {
  const chunked = (size: number, path: string) =>
    get(path, "Transfer-Encoding: chunked\r\n", "POST") +
    `${size.toString(16)}\r\n${"x".repeat(size)}\r\n0\r\n\r\n`;
  const most = { "/large": 3000, "/small": 10, "/": 100 };
  for (const [path, limit] of Object.entries(most)) {
    for (const size of [1, limit - 1, limit, limit + 1, 2 * limit]) {
      for (const send of [post("x".repeat(size), "", path), chunked(size, path)]) {
        const [{ status, body }] = await ask(bySize, send, { limits, maxBodySize: 100 });
        assertEquals(status, size > limit ? 413 : 200, send);
        if (status === 200) assertEquals(body, `${size}`);
        else assertEquals(body, `413 Content Too Large: Content of more than ${limit} bytes`);
      }
    }
  }
});

Deno.test("what is too long for its route is refused before 100 (Continue), and unseen", async () => {
  let handled = 0;
  const head = (path: string) =>
    get(path, "Content-Length: 50\r\nExpect: 100-continue\r\n", "POST");
  const handler: Handler = (request) => (handled++, bySize(request));
  const options = { limits, maxBodySize: 100 };
  const statuses = async (path: string) =>
    (await ask(handler, head(path), options)).map((one) => one.status);
  assertEquals(await statuses("/small"), [413]);
  assertEquals(handled, 0);
  assertEquals(await statuses("/large"), [100]);
  assertEquals(await statuses("/"), [100]);
});

Deno.test("limits are asked for once, of requests with content alone", async () => {
  const asked: string[] = [];
  const options = { limits: ({ path }: HttpRequest) => (asked.push(path), undefined) };
  await ask(() => ({}), get("/a") + post("x", "", "/b") + post("", "", "/c") + get("/d"), options);
  assertEquals(asked, ["/b"]);
});

Deno.test("limits that throw, or make no sense, are answered as what a handler throws", async () => {
  const cases: [limits: () => unknown, status: number, logged: RegExp | undefined][] = [
    [
      () => {
        throw new HttpError(403, "Not you");
      },
      403,
      undefined,
    ],
    [
      () => {
        throw new Error("a secret");
      },
      500,
      /a secret/,
    ],
    [() => ({ maxBodySize: -1 }), 500, /maxBodySize must be bytes/],
    [() => ({ maxBodySize: "9" }), 500, /maxBodySize must be bytes/],
    [() => ({ requestTimeout: NaN }), 500, /requestTimeout must be seconds/],
    [() => Promise.reject(new Error("x")), 500, /promise/], // which ends no process
    [() => Promise.resolve({}), 500, /promise/],
  ];
  for (const [limits, status, logged] of cases) {
    const { error, log } = recorder();
    const send = post("x") + get();
    const received = await ask(() => ({}), send, { limits: limits as never, log });
    assertEquals(received.map((one) => one.status), [status, 200]);
    assertEquals(error.length, logged === undefined ? 0 : 1, error.join("\n"));
    if (logged !== undefined) assertMatch(error[0], logged);
    assert(!received[0].body.includes("secret"));
  }
});

Deno.test("what limits leave open is as the server has it, also without any limit of time", async () => {
  const own = () => ({ maxBodySize: undefined, requestTimeout: undefined });
  const [{ status }] = await ask(bySize, post("x".repeat(11)), { limits: own, maxBodySize: 10 });
  assertEquals(status, 413);
  using clock = new FakeClock();
  for (const requestTimeout of [undefined, 1, Infinity]) {
    const limits = () => ({ requestTimeout });
    for (const all of [60, Infinity]) {
      const server = start(bySize, { limits, requestTimeout: all, idleTimeout: 3 });
      const client = server.connect();
      client.send(post("hello").slice(0, -1));
      await clock.advance(4);
      assertMatch(client.text, /^HTTP\/1\.1 408 /, `${all} and then ${requestTimeout}`);
      await stop(server, clock);
    }
  }
});

Deno.test("an empty line before a request is no part of its time", async () => {
  using clock = new FakeClock();
  const told: Exchange[] = [];
  const server = start(() => ({}), { onExchange: (one) => told.push(one) });
  const client = server.connect();
  client.send("\r\n");
  await clock.advance(5);
  client.send(get());
  await clock.advance(1);
  assertEquals(told.map(({ headTime, time }) => [headTime, time]), [[0, 0]]);
  await stop(server, clock);
});

Deno.test("a route has a longer or a shorter time for its content", async () => {
  using clock = new FakeClock();
  const limits = ({ path }: HttpRequest) => ({ requestTimeout: path === "/slow" ? 20 : 2 });
  for (const [path, seconds] of [["/slow", 20], ["/fast", 2]] as const) {
    const server = start(bySize, { limits, requestTimeout: 5 });
    const client = server.connect();
    client.send(post("x".repeat(100), "", path).slice(0, -100));
    for (let at = 0; at < seconds - 1; at++) {
      client.send("x");
      await clock.advance(1);
    }
    assertEquals(client.text, "", `${path} was cut off early`);
    for (let at = 0; at < 3; at++) {
      client.send("x");
      await clock.advance(1);
    }
    assertMatch(client.text, /^HTTP\/1\.1 408 /, path);
    await stop(server, clock);
  }
});

// ── What became of each request ──────────────────────────────────────────────────────────────

/** Complete responses at the beginning of what a client has got; the rest was cut off. */
function complete(text: string, methods: string[]): Received[] {
  for (let end = text.length; end > 0; end--) {
    try {
      return parseResponses(text.slice(0, end), methods, false);
    } catch { /* One byte less, then. */ }
  }
  return [];
}

interface Part {
  text: string;
  status: number;
  /** Bytes of content, in and out. */
  received: number;
  sent: number;
  refused?: boolean;
}
const PARTS: Part[] = [
  { text: get("/text"), status: 200, received: 0, sent: 5 },
  { text: get("/text", "", "HEAD"), status: 200, received: 0, sent: 0 },
  { text: post("hello", "", "/echo"), status: 200, received: 5, sent: 5 },
  { text: post("unread", "", "/text"), status: 200, received: 0, sent: 5 },
  { text: get("/frozen"), status: 200, received: 0, sent: 6 },
  { text: get("/stream"), status: 200, received: 0, sent: 9 },
  { text: get("/long"), status: 200, received: 0, sent: 70_000 },
  { text: get("/none"), status: 404, received: 0, sent: -1 },
  { text: get("/mistake"), status: 500, received: 0, sent: -1 },
  {
    text: get("/echo", "Transfer-Encoding: chunked\r\n", "POST") +
      "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    status: 200,
    received: 5,
    sent: 5,
  },
];
const LAST: Part[] = [
  { text: "GET / HTTP/1.1\r\n\r\n", status: 400, received: 0, sent: -1, refused: true },
  { text: get("/", "Transfer-Encoding: x\r\n"), status: 400, received: 0, sent: -1, refused: true },
  { text: get("/").replace("1.1", "2.0"), status: 505, received: 0, sent: -1, refused: true },
  { text: post("", "Expect: x\r\n"), status: 417, received: 0, sent: -1, refused: true },
  { text: post("x".repeat(101), "", "/echo"), status: 413, received: 0, sent: -1, refused: true },
  { text: get(`/${"x".repeat(9000)}`), status: 414, received: 0, sent: -1, refused: true },
  {
    text: get("/", `X: ${"x".repeat(9000)}\r\n`),
    status: 431,
    received: 0,
    sent: -1,
    refused: true,
  },
];
const frozen = Object.freeze({ body: "frozen" });
const various: Handler = async (request) => {
  switch (request.path) {
    case "/text":
      return { body: "text\n" };
    case "/echo":
      return { body: await request.bytes() };
    case "/frozen":
      return frozen;
    case "/stream":
      return { body: generate(["one", "two", "end"], 1) };
    case "/long":
      return { body: "x".repeat(70_000) };
    case "/mistake":
      throw new Error("a mistake");
    default:
      throw new HttpError(404, "Not here");
  }
};

Deno.test("each request is told once, as its client has seen it, whatever happens", async () => {
  const random = dice(13);
  const sessions = Array.from({ length: 300 }, async (_, number) => {
    const told: Exchange[] = [];
    const { info, log } = recorder();
    const server = start(various, {
      maxBodySize: 100,
      maxHeaderSize: 8192,
      idleTimeout: 2, // some times as long as all of this takes
      requestTimeout: 2,
      onExchange: (exchange) => told.push(exchange),
      log: { info: log.info },
    });
    const parts = Array.from({ length: random(6) }, () => PARTS[random(PARTS.length)]);
    if (random(3) === 0) parts.push(LAST[random(LAST.length)]);
    const ending = ["end", "reset", "wait", "cut off", "stop"][random(5)];
    const client = server.connect(random(2) === 0 ? Infinity : 1 + random(9000));
    client.stalled = random(6) === 0;
    let text = parts.map((part) => part.text).join("");
    if (ending === "cut off") text = text.slice(0, -1 - random(40));
    for (let at = 0; at < text.length;) {
      const size = random(3) === 0 ? text.length : 1 + random(400);
      client.send(text.slice(at, at += size));
      if (random(2) === 0) await pause(random(3));
    }
    if (ending === "end" || ending === "cut off") client.end();
    if (ending === "reset") {
      await pause(random(8));
      client.reset();
    }
    if (ending === "stop") await server.shutdown(random(2) / 100);
    if (client.stalled) await pause(4500);
    await client.until(() => client.closed);
    await server.shutdown();
    const story = JSON.stringify(
      { number, ending, stalled: client.stalled, text, told, info },
      null,
      1,
    ).replace(/x{50,}/g, "XX").slice(0, 9000);

    // What was delivered is what the client has got whole, in order.
    let at = 0;
    const methods = parts.map((part) => {
      const seen = text.slice(at, at += part.text.length);
      return seen.includes(" ") ? seen.split(" ")[0] : "";
    });
    const got = complete(client.text, methods);
    const delivered = told.filter((exchange) => exchange.delivered);
    assertEquals(delivered.map((one) => one.status), got.map((one) => one.status), story);
    for (const [i, { status, sent, received, method, target, ...one }] of delivered.entries()) {
      const part = parts[i];
      const before = parts.slice(0, i + 1).map(({ text }) => text).join("");
      const isWhole = before.length <= text.length;
      if (isWhole) assertEquals(status, part.status, story);
      assertEquals(sent, method === "HEAD" ? 0 : got[i].body.length, story);
      if (isWhole && part.sent >= 0) assertEquals(sent, part.sent, story);
      if (isWhole) assertEquals(received, part.received, story);
      if (isWhole) assertEquals(one.refused, part.refused ?? false, story);
      if (!one.refused) assertEquals(`${method} ${target}`, /^\S+ \S+/.exec(part.text)![0], story);
      assertEquals(one.remoteAddress, "192.0.2.1");
    }
    // What was not delivered says why; there is no more of it than requests, and no half of one more.
    for (const { delivered, reason } of told) assert(delivered || reason !== "", story);
    assert(told.length <= parts.length, story);
    if (ending === "end" && !client.stalled) assertEquals(told.length, parts.length, story);
    for (const { headTime, answerTime, time, status } of told) {
      assert(headTime >= 0 && headTime <= time, story);
      assert(status === 0 ? answerTime === 0 : headTime <= answerTime && answerTime <= time, story);
    }
    // The log has a line for each, and the totals are theirs.
    const lines = info.filter((line) => line.includes('"'));
    assertEquals(lines.length, told.length, story);
    const { answers, refused, connections } = server.stats;
    assertEquals(Object.values(answers).reduce((a, b) => a + b), told.length, story);
    assertEquals(refused, told.filter((one) => one.refused).length, story);
    assertEquals(Object.values(connections).reduce((a, b) => a + b), 0, story);
    assertEquals(server.stats.freePermits, 1024);
  });
  await Promise.all(sessions);
});

Deno.test("a head that breaks off is told, as far as it was read", async () => {
  for (const [end, status] of [["reset", 0], ["end", 400], ["wait", 408]] as const) {
    using clock = new FakeClock();
    const told: Exchange[] = [];
    const server = start(() => ({}), { idleTimeout: 1, onExchange: (one) => told.push(one) });
    const clients = ["", "\r\n", "GET /a HT"].map((text) => {
      const client = server.connect();
      client.send(text);
      return client;
    });
    await clock.advance(0.5);
    for (const client of clients) if (end !== "wait") client[end]();
    await clock.advance(5);
    assertEquals(told.map((one) => [one.method, one.target, one.protocol, one.status]), [
      ["GET", "/a", "", status],
    ]);
    assertEquals(told[0].delivered, end !== "reset");
    await stop(server, clock);
  }
});

Deno.test("a request is delivered when the last of its answer has been taken, not before", async () => {
  using clock = new FakeClock();
  const told: Exchange[] = [];
  const server = start(() => ({ body: "x".repeat(500) }), { onExchange: (one) => told.push(one) });
  const client = server.connect(100);
  client.stalled = true;
  client.send(get("/1").slice(0, 9));
  await clock.advance(2);
  client.send(get("/1").slice(9) + get("/2"));
  await clock.advance(3);
  assertEquals(told, []);
  assertEquals(server.stats.connections.writing, 1);
  client.resume();
  await clock.advance(0);
  assertEquals(told.map((one) => one.target), ["/1", "/2"]);
  const [{ headTime, answerTime, time, delivered }] = told;
  assertEquals([headTime, answerTime, time, delivered], [2000, 5000, 5000, true]);
  await stop(server, clock);
});

Deno.test("a request that was refused behind an answer that nobody took is told", async () => {
  for (
    const second of ["x\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nA: ", get("/", "A\x00: b\r\n")]
  ) {
    const told: Exchange[] = [];
    await using server = start(() => ({ body: "x".repeat(500) }), {
      onExchange: (one) => told.push(one),
    });
    const client = server.connect();
    client.stalled = true;
    client.send(get("/1") + second);
    await pause(2);
    client.reset();
    await client.until(() => client.closed);
    assertEquals(told.map(({ delivered }) => delivered), [false, false], second);
    assertEquals(server.stats.losses, 1);
  }
});

Deno.test("an answer that its own server cuts off is nobody's loss", async () => {
  const bodies: (() => HttpResponse["body"])[] = [
    async function* () {
      yield "x";
      await pause(1);
      throw new Error("on purpose");
    },
    () => new ReadableStream({ pull: (controller) => controller.error(new Error("on purpose")) }),
    () => generate(["x"], 1) as AsyncIterable<Uint8Array>, // It is shorter than it said.
  ];
  for (const body of bodies) {
    const told: Exchange[] = [];
    const headers: Record<string, string> = body === bodies[2] ? { "Content-Length": "2" } : {};
    await using server = start(() => ({ body: body(), headers }), {
      onExchange: (one) => told.push(one),
    });
    const client = server.connect();
    client.send(get());
    const isStreamed = body !== bodies[1]; // The other fails before its answer begins.
    await client.until(() => isStreamed ? client.closed : client.text.includes("500"));
    const { status, delivered, reason } = told[0];
    if (isStreamed) assertEquals([status, delivered, reason], [200, false, "cut off"]);
    assertEquals(server.stats.losses, 0);
  }
});

Deno.test("what onExchange throws or rejects with is logged, and harms nobody", async () => {
  for (
    const onExchange of [() => {
      throw new Error("no metrics");
    }, () => Promise.reject(new Error("no metrics"))]
  ) {
    const { error, log } = recorder();
    const received = await ask(() => ({}), get() + get() + "x\r\n\r\n", { onExchange, log });
    await pause(1);
    assertEquals(received.map(({ status }) => status), [200, 200, 400]);
    assertEquals(error.length, 3);
    for (const line of error) assertMatch(line, /^onExchange: Error: no metrics/);
  }
});

Deno.test("whoever is told may end it all, and is told once of each all the same", async () => {
  const told: string[] = [];
  const server = start(() => ({}), {
    onExchange({ target, delivered }) {
      told.push(`${target} ${delivered}`);
      void server.shutdown(0);
      void server.stats;
    },
  });
  const clients = ["a", "b"].map((name) => {
    const client = server.connect();
    client.send(get(`/${name}1`) + get(`/${name}2`) + get(`/${name}3`));
    return client;
  });
  await server.finished;
  assertEquals(told.filter((line) => line.startsWith("/a")), ["/a1 true", "/a2 true", "/a3 true"]);
  assertEquals(new Set(told).size, told.length);
  for (const client of clients) assert(client.closed);
});

Deno.test("stats tell what each connection is doing, and what was done", async () => {
  using clock = new FakeClock();
  const { promise, resolve } = Promise.withResolvers<HttpResponse>();
  const server = start(({ path, stopping }) => {
    if (path === "/stuck") return promise;
    if (path === "/large") return { body: "x".repeat(99_999) };
    if (path === "/count") return { body: generate(["x"], 1e6) };
    return {
      headers: { Upgrade: "x" },
      upgrade: () => new Promise<void>((end) => stopping.addEventListener("abort", () => end())),
    };
  }, { maxConnections: 8, idleTimeout: 9 });
  const states: Record<string, string> = {
    idle: "",
    reading: "GET / HT",
    handling: get("/stuck"),
    writing: get("/large"),
    streaming: get("/count"),
    lingering: "x\r\n\r\n",
    upgraded: get("/", "Upgrade: x\r\nConnection: upgrade\r\n"),
    tooEarly: get("/"),
  };
  const clients: Record<string, MemoryClient> = {};
  for (const [state, send] of Object.entries(states)) {
    const client = clients[state] = server.connect();
    client.stalled = state === "writing";
    client.send(send);
    await clock.advance(0.1);
  }
  const { connections, freePermits } = server.stats;
  assertEquals(connections, {
    waiting: 0,
    idle: 2,
    reading: 1,
    handling: 1,
    writing: 2,
    lingering: 1,
    upgraded: 1,
  });
  assertEquals(freePermits, 1);
  server.connect();
  server.connect().send(get("/stuck"));
  await clock.advance(0.2); // One that was idle has made room.
  assertEquals(server.stats.connections.idle, 2);
  assertEquals(server.stats.freePermits, 0);
  clients.handling.reset();
  clients.streaming.reset();
  await clock.advance(30);
  resolve({});
  await clock.advance(1);
  const { answers, refused, timeouts, losses } = server.stats;
  assertEquals(answers, { none: 1, "1xx": 1, "2xx": 3, "3xx": 0, "4xx": 3, "5xx": 0 });
  assertEquals([refused, timeouts, losses], [2, 4, 2]);
  await stop(server, clock);
  assertEquals(Object.values(server.stats.connections), [0, 0, 0, 0, 0, 0, 0]);
});

// ── Upgrade ──────────────────────────────────────────────────────────────────────────────────

const ASKS = "Connection: keep-alive, Upgrade\r\nUpgrade: other/1, Echo\r\n";
const READER = new TextDecoder();

/** Sends back, in capitals, what comes. */
async function shout(connection: Connection): Promise<void> {
  const buffer = new Uint8Array(1000);
  for (let count; (count = await connection.read(buffer)) !== null;) {
    const text = READER.decode(buffer.subarray(0, count)).toUpperCase();
    await writeAll(connection, bytesOf(text));
  }
}
const upgrading: Handler = async (request) => {
  if (request.query.has("read")) await request.bytes();
  if (request.query.has("watch")) void request.signal;
  return { headers: { Upgrade: "echo", "X-A": "b" }, upgrade: shout };
};

Deno.test("a handler takes the connection over, with what has come already", async () => {
  for (const path of ["/", "/?watch"]) {
    const told: Exchange[] = [];
    const server = start(upgrading, { onExchange: (one) => told.push(one) });
    const client = server.connect();
    client.send(get(path, ASKS) + "abc");
    await client.settled();
    client.send("def");
    await client.settled();
    client.send("g");
    client.end();
    await client.until(() => client.closed);
    const end = client.text.indexOf("\r\n\r\n") + 4;
    const [{ status, fields }] = parseResponses(client.text.slice(0, end), ["GET"], false);
    assertEquals(status, 101);
    const names = fields.map(([name, value]) => `${name}: ${name === "date" ? "" : value}`);
    assertEquals(names, ["date: ", "upgrade: echo", "connection: Upgrade", "x-a: b"]);
    assertEquals(client.text.slice(end), "ABCDEFG", path);
    assertEquals(told.map(({ status, delivered }) => [status, delivered]), [[101, true]]);
    await server.shutdown();
  }
});

Deno.test("an upgrade that was not asked for is refused, and the connection goes on", async () => {
  const cases: [send: string, status: number][] = [
    [get("/"), 426],
    [get("/", "Upgrade: echo\r\n"), 426],
    [get("/", "Connection: upgrade\r\n"), 426],
    [get("/", "Connection: upgrade\r\nUpgrade: websocket\r\n"), 426],
    [get("/", "Connection: upgrade\r\nUpgrade: echoes, ec ho\r\n"), 426],
    [get("/", `${ASKS}Connection: keep-alive\r\n`, "GET", "1.0"), 426],
    [post("hello", ASKS), 400],
    [post("hello", `Expect: 100-continue\r\n${ASKS}`), 400],
    [get("/", `Transfer-Encoding: chunked\r\n${ASKS}`, "POST") + "0\r\n\r\n", 400],
  ];
  for (const [send, status] of cases) {
    const received = await ask(upgrading, send + get("/after"), {});
    assertEquals(received.map((one) => one.status), [status, 426], send);
    assertEquals(field(received[0], "upgrade"), status === 426 ? "echo" : undefined);
  }
  const other = () => ({ headers: { Upgrade: "x" }, upgrade: shout });
  assertEquals((await ask(other, get("/", "Connection: upgrade\r\n")))[0].status, 426);
  const [answer] = await ask(upgrading, post("hello", ASKS, "/?read"));
  assertMatch(answer.raw, /^HTTP\/1\.1 101 Switching Protocols\r\n/);
});

Deno.test("an upgrade that makes no sense is a 500", async () => {
  const responses: unknown[] = [
    { upgrade: shout },
    { upgrade: "echo", headers: { Upgrade: "echo" } },
    { upgrade: shout, headers: { Upgrade: "echo" }, status: 200 },
    { upgrade: shout, headers: { Upgrade: "echo" }, body: "x" },
    { upgrade: shout, headers: { Upgrade: ["other/1", "echo"] } },
    Object.freeze({ upgrade: shout }),
  ];
  for (const response of responses) {
    const { error, log } = recorder();
    const [{ status }] = await ask(() => response as HttpResponse, get("/", ASKS), { log });
    assertEquals([status, error.length], [500, 1]);
  }
});

Deno.test("the stream of a Response is canceled when its connection is taken over, or is not", async () => {
  for (const fields of [ASKS, ""]) {
    let canceled = 0;
    const body = new ReadableStream({ cancel: () => void canceled++ });
    const response = new Response(body, { headers: { Upgrade: "echo" } });
    const [{ status }] = await ask(
      () => Object.assign(response, { upgrade: () => {} }),
      get("/", fields),
    );
    assertEquals([status, canceled], [fields === "" ? 426 : 101, 1]);
  }
});

Deno.test("an owner that closes a connection gets nothing more of it, and its signal aborts", async () => {
  let aborted: unknown;
  const outcomes: unknown[] = [];
  await using server = start((request) => ({
    headers: { Upgrade: "echo" },
    upgrade: async (connection) => {
      request.signal.addEventListener("abort", () => aborted = request.signal.reason);
      connection.close();
      connection.close();
      for (const use of [connection.read(new Uint8Array(1)), connection.write(bytesOf("x"))]) {
        outcomes.push(await Promise.resolve(use).catch(String));
      }
      await connection.closeWrite();
    },
  }));
  const client = server.connect();
  client.send(get("/", ASKS) + "more");
  await client.until(() => client.closed);
  await pause(1);
  assertMatch(outcomes.join(), /^Error: .*closed,Error: .*closed$/);
  assertMatch(`${aborted}`, /closed/);
});

Deno.test("once a write has failed, reads fail as well, and the signal aborts", async () => {
  const outcomes: string[] = [];
  const { promise: broken, resolve: goOn } = Promise.withResolvers<void>();
  await using server = start((request) => ({
    headers: { Upgrade: "echo" },
    upgrade: async (connection) => {
      request.signal.addEventListener("abort", () => outcomes.push(`${request.signal.reason}`));
      const tell = (use: unknown) => Promise.resolve(use).then(String, String);
      await broken;
      outcomes.push(await tell(connection.write(bytesOf("x"))));
      outcomes.push(await tell(connection.read(new Uint8Array(1))));
    },
  }));
  const client = server.connect();
  client.send(get("/", ASKS));
  await client.until(() => client.text.endsWith("\r\n\r\n"));
  client.reset();
  client.connection.read = () => null; // as Deno has it: the kernel has told of the reset
  goOn();
  await client.until(() => client.closed);
  await pause(1);
  assertEquals(outcomes, Array(3).fill("Error: connection reset"));
  assertEquals(server.stats.losses, 1);
});

Deno.test("a response that leaves its upgrade undefined is as one without", async () => {
  const [{ status }] = await ask(() => ({ status: 204, upgrade: undefined }), get());
  assertEquals(status, 204);
});

Deno.test("a frozen response and one of Fetch can take the connection over", async () => {
  const headers = { Upgrade: "echo" };
  const fetched = Object.assign(new Response(null, { headers }), { upgrade: shout });
  const plain = Object.freeze({ headers: Object.freeze(headers), upgrade: shout });
  for (const response of [plain, plain, fetched]) {
    const server = start(() => response);
    const client = server.connect();
    client.send(get("/", ASKS) + "x");
    client.end();
    await client.until(() => client.closed);
    assertMatch(client.text, /^HTTP\/1\.1 101 [^]*\r\n\r\nX$/);
    await server.shutdown();
  }
});

Deno.test("who has taken a connection over has no deadline, but a permit, and is told of a stop", async () => {
  using clock = new FakeClock();
  const events: string[] = [];
  const handler: Handler = ({ stopping, signal }) => ({
    headers: { Upgrade: "echo" },
    upgrade: async (connection) => {
      stopping.addEventListener("abort", () => events.push("stopping"));
      signal.addEventListener("abort", () => events.push("gone"));
      await shout(connection);
    },
  });
  const { error, log } = recorder();
  const server = start(handler, { idleTimeout: 1, requestTimeout: 1, maxConnections: 1, log });
  const client = server.connect();
  client.send(get("/", ASKS));
  await clock.advance(100);
  client.send("x");
  await clock.advance(0);
  assertMatch(client.text, /X$/);
  const other = server.connect();
  other.send(get());
  await clock.advance(100);
  assertEquals(other.text, "");
  void server.shutdown(5);
  await clock.advance(1);
  assertEquals(events, ["stopping"]);
  assert(!client.closed);
  await clock.advance(5);
  assertEquals(events, ["stopping", "gone"]);
  assert(client.closed);
  assertEquals(error, ["Connections cut off: 2"]);
  await server.finished;
});

Deno.test("what an owner throws is logged, but not that its client has gone", async () => {
  const ends: [end: (client: MemoryClient) => void, errors: number][] = [
    [(client) => client.reset(), 0],
    [(client) => client.send("throw"), 1],
  ];
  for (const [end, errors] of ends) {
    const { error, log } = recorder();
    const server = start(() => ({
      headers: { Upgrade: "echo" },
      upgrade: async (connection) => {
        await connection.read(new Uint8Array(10));
        throw new Error("a mistake");
      },
    }), { log });
    const client = server.connect();
    client.send(get("/", ASKS));
    await client.settled();
    end(client);
    await client.until(() => client.closed);
    assertEquals(error.length, errors);
    await server.shutdown();
  }
});

// ── A stop that handlers are told of ─────────────────────────────────────────────────────────

Deno.test("a handler learns that the server stops when that begins, not at the cut-off", async () => {
  using clock = new FakeClock();
  let late: boolean | undefined;
  async function* ticks({ stopping }: HttpRequest) {
    while (!stopping.aborted) {
      yield "tick\n";
      await pause(500);
    }
    yield "bye\n";
  }
  const server = start(async (request) => {
    if (request.path === "/ticks") return { body: ticks(request) };
    await pause(3000);
    late = request.stopping.aborted; // asked for only now
    return {};
  });
  const client = server.connect(), slow = server.connect();
  client.send(get("/ticks"));
  slow.send(get("/slow"));
  await clock.advance(2);
  const { seconds } = clock;
  let finished: number | undefined;
  void server.shutdown().then(() => finished = clock.seconds);
  await clock.advance(1);
  assertMatch(client.text, /bye\n\r\n0\r\n\r\n$/);
  await clock.advance(8);
  assertEquals(late, true);
  assert(finished! - seconds < 4, `${finished}`); // with the time to linger
});

Deno.test("an application written for Fetch learns of it, too", async () => {
  let reason: unknown;
  const server = start({
    fetch: (_request, { stopping }) =>
      new Promise<Response>((resolve) =>
        stopping.addEventListener("abort", () => {
          reason = stopping.reason;
          resolve(new Response("bye"));
        })
      ),
  });
  const client = server.connect();
  client.send(get());
  await client.settled();
  await server.shutdown();
  assertMatch(client.text, /bye$/);
  assertEquals((reason as Error).name, "AbortError");
});

// ── Handlers without a server ────────────────────────────────────────────────────────────────

Deno.test("a handler is called with a request of plain values", async () => {
  const seen: string[] = [];
  const values: RequestValues = {
    method: "PUT",
    target: "/a/b?c=d",
    headers: { "X-A": "b", Accept: ["x", "y"] },
    body: "h\u00e9llo",
    remoteAddress: "2001:db8::1",
  };
  const request = requestOf(values);
  for (const [name, value] of request.headers) seen.push(`${name}: ${value}`);
  assertEquals(seen, ["x-a: b", "accept: x", "accept: y", "host: localhost", "content-length: 6"]);
  const { method, path, url, remoteAddress, signal, stopping } = request;
  assertEquals([method, path, remoteAddress], ["PUT", "/a/b", "2001:db8::1"]);
  assertEquals([url, request.query.get("c")], ["http://localhost/a/b?c=d", "d"]);
  assert(!signal.aborted && !stopping.aborted);
  assertEquals(await request.text(), "h\u00e9llo");
  await assertRejects(() => request.text(), TypeError, "only once");

  const large = new Uint8Array(3_000_000).fill(7);
  assertEquals(await requestOf({ method: "POST", body: large }).bytes(), large);
  const streamed = requestOf({ method: "POST", body: large }).body!;
  assertEquals((await new Response(streamed).bytes()).length, large.length);
  assertEquals(requestOf().body, null);
  assertEquals(await requestOf({ method: "POST", body: "[1]" }).toFetch().json(), [1]);

  const body = JSON.stringify({ title: "Emma" });
  const json = { method: "POST", headers: { "Content-Type": "application/json" }, body };
  assertEquals((await application(requestOf(json))).status ?? 200, 200);
  assertEquals((await application(requestOf({ target: "/nope" }))).status, 404);
});

Deno.test("values of which no request can be made are refused", () => {
  const refused: [RequestValues, status: number][] = [
    [{ method: "" }, 400],
    [{ method: "A B" }, 400],
    [{ target: "a b" }, 400],
    [{ target: "/ HTTP/1.1\r\n\r\nGET /" }, 400],
    [{ headers: { "A\r\nB": "c" } }, 400],
    [{ headers: { "a: b\r\nc": "d" } }, 400],
    [{ target: "/ HTTP/1.1\r\nA: b\r\nC:" }, 400],
    [{ method: "GET / HTTP/1.1\r\nA: b\r\nC:" }, 400],
    [{ target: "/\u0141" }, 400],
    [{ headers: { "A": "b\r\nC: d" } }, 400],
    [{ headers: { "A": "\u0142" } }, 400],
    [{ headers: { "Transfer-Encoding": "chunked" }, body: "x" }, 400],
    [{ headers: { Host: "a b" } }, 400],
    [{ headers: { Expect: "x" } }, 417],
  ];
  for (const [values, status] of refused) {
    let found: unknown;
    try {
      requestOf(values);
    } catch (error) {
      found = error instanceof HttpError ? error.status : error;
    }
    assertEquals(found, status, JSON.stringify(values));
  }
});

Deno.test("the line log has the methods of its level", () => {
  const methods = (log: LineLog) =>
    (["error", "info", "debug"] as const).filter((name) => log[name]);
  assertEquals(methods(new LineLog()), ["error", "info"]);
  assertEquals(methods(new LineLog("silent")), []);
  assertEquals(methods(new LineLog("error")), ["error"]);
  assertEquals(methods(new LineLog("debug")), ["error", "info", "debug"]);
  assertThrows(() => new LineLog("warn" as "info"), RangeError);
});

// ── From outside ─────────────────────────────────────────────────────────────────────────────

const APP = "tests/app.ts";
const CLOSE = "Connection: close\r\n";

/** What a server has to tell of itself. */
async function told(port: number): Promise<{ told: Exchange[]; stats: ServerStats }> {
  const text = await exchange(port, get("/told", CLOSE));
  return JSON.parse(parseResponses(text, ["GET"], true)[0].body);
}

export const SERVICE: Scenario[] = [
  ["a handler takes a connection over, and is told of a stop", async (runtime) => {
    await using server = await Process.start(runtime, ["--idle-timeout", "0.3"], APP);
    const clients = await Promise.all(Array.from({ length: 20 }, async (_, i) => {
      const client = await Client.connect(server.port);
      const send = get("/shout", "Connection: Upgrade\r\nUpgrade: shout\r\n");
      if (i % 2 === 0) {
        await client.send(`${send}abc`);
      } else { // byte by byte
        for (const char of send) await client.send(char);
        await client.until(/\r\n\r\n/);
        await client.send("abc");
      }
      await client.until(/\r\n\r\nABC$/);
      assertMatch(client.received, /^HTTP\/1\.1 101 Switching Protocols\r\n/);
      return client;
    }));
    await pause(1000);
    const large = "x".repeat(200_000);
    for (const client of clients) { // No deadline holds any more.
      client.received = "";
      await client.send("still here");
      await client.until(/STILL HERE/);
      client.received = "";
      const sent = client.send(large);
      while (client.received.length < large.length) await client.read();
      assertEquals(client.received, large.toUpperCase());
      await sent;
    }
    const { stats } = await told(server.port);
    assertEquals([stats.connections.upgraded, stats.answers["1xx"]], [20, 20]);
    await clients[0].end();
    await clients[0].rest();
    for (const client of clients.slice(1)) client.received = "";
    server.signal("SIGTERM");
    for (const client of clients.slice(1)) {
      await client.until(/bye/);
      await client.end();
      await client.rest();
    }
    for (const client of clients) client.close();
    assertEquals(await server.ended(), 0);
    assertEquals(server.log.match(/" 101 /g)?.length, 20);
    assert(!server.log.includes("ERROR"), server.log);
  }],

  ["an owner that ends its side first sees how its client ends", async (runtime) => {
    await using server = await Process.start(runtime, [], APP);
    const ask = get("/half", "Connection: Upgrade\r\nUpgrade: shout\r\n");
    {
      using client = await Client.connect(server.port);
      await client.send(`${ask}abc`);
      await client.rest();
      assertMatch(client.received, /bye$/);
      await client.send("defg");
      await pause(100);
      await client.send("hi");
      await client.end();
      await server.logged(/^Half: 9 and its end$/m);
    }
    if (isSecured() || peer() === "unix") return; // There a reset can't be brought about.
    await reset(server.port, ask, 300);
    await server.logged(/^Half: broken$/m);
    assert(!server.log.includes("ERROR"), server.log);
  }],

  [
    "clients that break connections which were taken over give their permits back",
    async (runtime) => {
      await using server = await Process.start(runtime, ["--max-connections", "20"], APP);
      // Python's sockets can be reset, over TLS as well.
      const program = `
import socket, ssl, struct, sys, time
def connect():
    if not sys.argv[1].isdigit():
        s = socket.socket(socket.AF_UNIX)
        s.connect(sys.argv[1])
        return s
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if sys.argv[2] == "tls":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        s = context.wrap_socket(s)
    return s
sockets = [connect() for _ in range(20)]
for s in sockets:
    s.sendall(b"GET /shout HTTP/1.1\\r\\nHost: a\\r\\nConnection: upgrade\\r\\nUpgrade: shout\\r\\n\\r\\nx")
    received = b""
    while not received.endswith(b"X"): received += s.recv(1000)
for i, s in enumerate(sockets):
    if i % 2: s.sendall(b"more")
    s.close()
`;
      const place = peer() === "unix" ? pathOf(server.port) : `${server.port}`;
      await output("python3", ["-c", program, place, isSecured() ? "tls" : "plain"]);
      const { stats } = await told(server.port);
      assertEquals([stats.connections.upgraded, stats.freePermits], [0, 19]);
    },
    { needs: "python3" },
  ],

  ["what an owner says last arrives, whatever its client has said", async (runtime) => {
    await using server = await Process.start(runtime, [], APP);
    using client = await Client.connect(server.port);
    await client.send(
      get("/last", "Connection: Upgrade\r\nUpgrade: shout\r\n") + "x".repeat(30_000),
    );
    const text = await client.rest();
    assertEquals([text.length - text.indexOf("\r\n\r\n") - 4, client.ended], [1 << 20, "closed"]);
  }],

  ["what became of each request is known, whether it was taken or not", async (runtime) => {
    await using server = await Process.start(runtime, [], APP);
    const { port } = server;
    await exchange(port, get("/mib", CLOSE));
    { // One that takes a little, and leaves.
      using client = await Client.connect(port);
      await client.send(get("/big"));
      await client.until(/200 OK/);
    }
    for (const path of isSecured() ? [] : ["/endless", "/signal"]) await reset(port, get(path), 50);
    await exchange(port, "GET / HTTP/1.1\r\n\r\n");
    await pause(100);
    const { told: all, stats } = await told(port);
    const seen = all.map(({ target, status, delivered, refused }) =>
      `${target} ${status} ${delivered ? "delivered" : "lost"}${refused ? ", refused" : ""}`
    );
    assertEquals(seen.sort(), [
      "/ 400 delivered, refused",
      "/big 200 lost",
      ...(isSecured() ? [] : ["/endless 200 lost"]),
      "/mib 200 delivered",
      ...(isSecured() ? [] : ["/signal 0 lost"]),
    ]);
    for (const { target, sent, delivered, reason, remoteAddress } of all) {
      if (target === "/mib") assertEquals([sent, reason], [1 << 20, ""]);
      if (!delivered) assertEquals(reason, "the client left");
      assertMatch(remoteAddress === "" ? "unix" : `${remoteAddress}:1`, new RegExp(`^${peer()}$`));
    }
    const { none, "2xx": good, "4xx": bad } = stats.answers;
    assertEquals([stats.losses, none, good, bad], isSecured() ? [1, 0, 2, 1] : [3, 1, 3, 1]);
    assertEquals(stats.connections.handling, 1); // of the one that asks
  }],

  ["Bun tells of those whom it refused because too many wait", async (runtime) => {
    const args = ["--max-connections", "1", "--backlog", "1"];
    await using server = await Process.start(runtime, args, APP);
    const { port } = server;
    const clients = await Promise.all(Array.from({ length: 6 }, () => Client.connect(port)));
    await clients[0].send(get("/slow", CLOSE));
    await pause(100);
    const statuses = [];
    for (const client of clients.slice(1)) {
      await client.send(get("/", CLOSE)).catch(() => {});
      statuses.push(/^HTTP\/1\.1 (\d+)/.exec(await client.rest())?.[1]);
      client.close();
    }
    clients[0].close();
    const refused = statuses.filter((status) => status === "503").length;
    assert(refused > 0, statuses.join());
    await pause(50);
    const { told: all, stats } = await told(port);
    const refusals = all.filter((one) => one.refused);
    assertEquals(refusals.filter((one) => one.status === 503 && one.delivered).length, refused);
    assertEquals(refusals.length, statuses.length - 2); // One waited, and one for it.
    assertEquals([stats.answers["5xx"], stats.refused], [refused, refusals.length]);
    assertEquals(server.log.match(/"" 503: Too many connections/g)?.length, refused);
  }, { only: "Bun", plain: true }],
];
