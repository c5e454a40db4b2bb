/** What was wrong once, in memory: each test fails on the server as it was. */

import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { handler as application } from "../handlers.ts";
import {
  type FetchApplication,
  type Handler,
  HttpError,
  type HttpRequest,
  type HttpResponse,
  type Logger,
  serve,
} from "../server.ts";
import { FakeClock } from "./clock.ts";
import { bytesOf, type MemoryClient } from "./memory.ts";
import { field, parseResponses } from "./responses.ts";
import { ask, generate, get, pause, post, recorder, start, stop } from "./tools.ts";

// ── Responses that can't be sent ─────────────────────────────────────────────────────────────

/** What no handler may return, made anew each time; frozen as deep as it goes, or not. */
function invalid(frozen: boolean): [string, () => unknown][] {
  const ice = <T extends object>(value: T): T => {
    if (!frozen) return value;
    for (const one of Object.values(value)) {
      if (typeof one === "object" && one !== null && !ArrayBuffer.isView(one)) ice(one);
    }
    return Object.freeze(value);
  };
  const fail = (): never => {
    throw new Error("a getter that throws");
  };
  const detached = () => {
    const bytes = new Uint8Array(9);
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
    return bytes;
  };
  // A getter makes a body that is found to be sound at first, and throws when it is used.
  const second = <T>(value: T) => {
    let times = 0;
    return () => times++ === 0 ? value : fail();
  };
  const responses: [string, () => object][] = [
    ...[99, 100, 101, 199, 600, 1000, 200.5, -1, NaN, Infinity, "200", true, [200], {}]
      .map((status): [string, () => object] => [`status ${status}`, () => ({ status })]),
    ...["a\r\nb: c", "a\nb", "a\rb", "a\0", "\x7f", "\x1b[m", "\u20ac", 1, true, {}, undefined]
      .flatMap((value): [string, () => object][] => [
        [`a value of ${JSON.stringify(value)}`, () => ({ headers: { "X-Bad": value } })],
        [`${JSON.stringify(value)} in a list`, () => ({ headers: { "X-Bad": ["a", value] } })],
      ]),
    ...["", " ", "a b", "a:", "a\r\n", "\u00e9", "(", "a\0"]
      .map((name): [string, () => object] => [
        `a name of ${JSON.stringify(name)}`,
        () => ({ headers: { [name]: "x" } }),
      ]),
    ...[5, true, {}, [], new Date(0), () => {}, Symbol("x"), [1, 2]]
      .map((body): [string, () => object] => [`a body: ${typeof body}`, () => ({ body })]),
    ["detached bytes", () => ({ body: detached() })],
    ["detached bytes with fields", () => ({ headers: { "X": "y" }, body: detached() })],
    ["a length that is none", () => ({ headers: { "Content-Length": "x" } })],
    ["status throws", () => Object.defineProperty({}, "status", { get: fail })],
    ["headers throw", () => Object.defineProperty({}, "headers", { get: fail })],
    ["the body throws", () => Object.defineProperty({}, "body", { get: fail })],
    [
      "the body throws the second time",
      () => Object.defineProperty({}, "body", { get: second("x"), enumerable: true }),
    ],
    [
      "a field throws",
      () => ({ headers: Object.defineProperty({}, "X", { get: fail, enumerable: true }) }),
    ],
    ["a proxy throws", () => new Proxy({}, { get: fail })],
    [
      "a proxy throws for all",
      () => new Proxy({}, { get: fail, has: fail, isExtensible: fail, ownKeys: fail }),
    ],
  ];
  return responses.map(([name, make]) => [name, () => ice(make())]);
}

for (const frozen of [true, false]) {
  Deno.test(`what can't be sent is 500, told and logged: ${frozen ? "frozen" : "unfrozen"}`, async () => {
    for (const [name, make] of invalid(frozen)) {
      for (
        const message of [
          get("/bad"),
          get("/bad", "", "HEAD"),
          get("/bad", 'If-Match: "x"\r\n'),
          get("/bad", "Connection: keep-alive\r\n", "GET", "1.0"),
        ]
      ) {
        const what = `${name}: ${JSON.stringify(message)}`;
        const { info, error, log } = recorder();
        const asked: unknown[] = [];
        const onError = (error: unknown) => {
          asked.push(error);
          return { status: 500, body: "told" };
        };
        let made: unknown;
        try {
          made = make();
        } catch {
          continue; // It can't even be made of this kind, as what a proxy forbids to be frozen.
        }
        const handler: Handler = ({ path }) =>
          path === "/bad" ? made as HttpResponse : { body: path };
        // One, the bad one twice, since the second time it may be known, and one more.
        const received = await ask(handler, get("/1") + message + message + get("/2"), {
          log,
          onError,
        });
        const body = message.startsWith("HEAD") ? "" : "told";
        // What throws the second time alone may have been of use the first time.
        const expected = name.includes("second")
          ? received.map(({ body }) => body)
          : ["/1", body, body, "/2"];
        assertEquals(received.map(({ body }) => body), expected, what);
        assertEquals(received.length, 4, what);
        assertEquals(info.filter((line) => / HTTP\/1\.\d" \d+ \d+ /.test(line)).length, 4, what);
        const failures = received.filter(({ status }) => status === 500).length;
        assertEquals([asked.length, error.length], [failures, failures], what);
        for (const line of error) assertMatch(line, /\/bad \(from 192\.0\.2\.1:50000\): /, what);
      }
    }
  });
}

Deno.test("a response that is valid is so when it is frozen, too", async () => {
  const valid: HttpResponse[] = [
    {},
    { headers: null as never },
    { headers: undefined, body: null },
    { headers: {}, body: "x" },
    { headers: { "X": ["a", "b"] }, body: bytesOf("x") },
    { status: 204 },
    { status: 304 },
    { headers: { "Connection": "close" }, body: "x" },
    { headers: { "Content-Length": "99" }, body: "x" },
  ];
  for (const response of valid) {
    for (const method of ["GET", "HEAD"]) {
      const plain = await ask(() => response, get("/", "", method).repeat(3));
      for (const value of Object.values(response.headers ?? {})) Object.freeze(value);
      if (response.headers) Object.freeze(response.headers);
      Object.freeze(response);
      const frozen = await ask(() => response, get("/", "", method).repeat(3));
      assertEquals(frozen.map(({ raw }) => raw), plain.map(({ raw }) => raw));
    }
  }
});

Deno.test("Headers of a response may be changed, frozen or not", async () => {
  // Bun's can be changed when they are frozen, as a Map can; those of Deno then throw.
  for (const headers of [new Headers(), new Map() as unknown as Headers]) {
    const response: HttpResponse = Object.freeze({ headers, body: "x" });
    if (headers instanceof Map) Object.freeze(headers);
    let count = 0;
    const received = await ask(() => {
      headers.set("x-count", `${++count}`);
      return response;
    }, get().repeat(3));
    assertEquals(received.map((one) => field(one, "x-count")), ["1", "2", "3"]);
  }
});

Deno.test("onError whose own answer can't be sent, frozen or not, gives the plain 500", async () => {
  for (const frozen of [true, false]) {
    for (const [name, make] of invalid(frozen)) {
      if (/proxy|second/.test(name)) continue;
      const { error, log } = recorder();
      const handler: Handler = ({ path }) => {
        if (path === "/1") return { body: path };
        throw new Error("a mistake");
      };
      const received = await ask(handler, get("/1") + get("/2"), { log, onError: make as never });
      assertEquals(received.map(({ body }) => body), ["/1", "500 Internal Server Error"], name);
      // The handler's mistake, and that of onError, which is asked about its own once.
      assert(error.length === 2 || error.length === 3, `${name}: ${error.length} lines`);
      for (const line of error) assertMatch(line, /GET \/2 \(from 192\.0\.2\.1:50000\): /, name);
    }
  }
});

// ── Fields ───────────────────────────────────────────────────────────────────────────────────

Deno.test("9110 §5.5: of all characters, those of a field value are sent and no others", async () => {
  const allowed = /^[\t\x20-\x7e\x80-\xff]*$/; // field-vchar, SP and HTAB
  const forms: [string, (value: string) => HttpResponse | Response][] = [
    ["text", (value) => ({ headers: { "X-Value": value } })],
    ["a list", (value) => ({ headers: { "X-Value": ["c", value] } })],
    ["frozen", (value) => Object.freeze({ headers: Object.freeze({ "X-Value": value }) })],
    ["a known name", (value) => ({ headers: { "ETag": value } })],
    ["Headers", (value) => new Response(null, { headers: { "X-Value": value } })],
  ];
  const values = Array.from({ length: 0x121 }, (_, code) => `a${String.fromCharCode(code)}b`);
  for (const [name, form] of forms) {
    let next = 0;
    // What Fetch does not let through is the handler's own mistake, and a 500 as well.
    const received = await ask(() => form(values[next++]), get().repeat(values.length));
    assertEquals(received.length, values.length, name);
    for (const [code, { status, fields }] of received.entries()) {
      const what = `U+${code.toString(16)} as ${name}`;
      const value = fields.filter(([name]) => /^(x-value|etag)$/.test(name)).at(-1)?.[1];
      if (allowed.test(values[code])) assertEquals([status, value], [200, values[code]], what);
      else assertEquals([status, value], [500, undefined], what);
    }
  }
});

Deno.test("what a condition makes of a response keeps its Connection: close", async () => {
  const headers = { "ETag": '"a"', "Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT" };
  const bodies = [() => "hello", () => bytesOf("hello"), () => generate(["hello"])];
  const rows: [string, number][] = [
    ['If-Match: "b"\r\n', 412],
    ["If-Unmodified-Since: Sun, 06 Nov 1993 08:49:37 GMT\r\n", 412],
    ["Range: bytes=9-\r\n", 416],
    ["Range: bytes=-0\r\n", 416],
    ["Range: bytes=1-2\r\n", 206],
    ['If-None-Match: "a"\r\n', 304],
    ["", 200],
  ];
  for (const [fields, status] of rows) {
    for (const method of ["GET", "HEAD"]) {
      for (const body of bodies) {
        for (const freeze of [<T>(value: T) => value, Object.freeze as <T>(value: T) => T]) {
          const response = () =>
            freeze({ headers: freeze({ ...headers, "Connection": "close" }), body: body() });
          const received = await ask(response as Handler, get("/", fields, method) + get("/2"));
          // A range that HEAD asks for is not served (9110 §14.2).
          const whole = fields.startsWith("Range") && method === "HEAD";
          assertEquals(
            received.map((one) => [one.status, field(one, "connection")]),
            [[whole ? 200 : status, "close"]],
            `${method} ${fields}`,
          );
        }
      }
    }
  }
});

// ── Time ─────────────────────────────────────────────────────────────────────────────────────

Deno.test("a streamed answer to a client that has ended its side is not cut", async () => {
  for (const appetite of [Infinity, 3]) { // taken at once, and in several writes
    for (const fields of ["", "Content-Length: 50\r\n"]) {
      using clock = new FakeClock();
      const pieces = Array.from({ length: 10 }, (_, i) => `piece`.slice(0, 4) + i);
      const headers: Record<string, string> = fields === "" ? {} : { "Content-Length": "50" };
      const server = start(() => ({ headers, body: generate(pieces, 1500) }), { idleTimeout: 2 });
      const client = server.connect(appetite);
      client.send(get());
      client.end();
      for (let i = 0; i < 100 && !client.closed; i++) await clock.advance(0.25);
      const [received] = parseResponses(client.text, ["GET"], client.ended || client.closed);
      assertEquals(received.body, pieces.join(""));
      await stop(server, clock);
    }
  }
});

Deno.test("a client that has ended its side gets its answer, however long the handler takes", async () => {
  const handlers: Record<string, Handler> = {
    "/text": () => ({ body: "text" }),
    "/stream": () => ({ body: generate(["te", "xt"], 100) }),
    "/frozen": () => Object.freeze({ body: "text" }),
    "/signal": (request) => ({ body: request.signal.aborted ? "text" : "not aborted" }),
    "/error": () => {
      throw new HttpError(418, "text");
    },
  };
  for (const [path, handler] of Object.entries(handlers)) {
    for (const message of [get(path), post("hello", "", path), get("/first") + get(path)]) {
      using clock = new FakeClock();
      const server = start(async (request) => {
        if (request.path === "/first") return { body: "first" };
        if (path === "/signal") request.signal.throwIfAborted();
        await pause(10_000);
        return await handler(request);
      }, { idleTimeout: 2, requestTimeout: 3 });
      const client = server.connect();
      client.send(message);
      client.end();
      for (let i = 0; i < 60 && !client.closed; i++) await clock.advance(0.25);
      const answers = parseResponses(client.text, ["GET"], client.ended || client.closed);
      assertMatch(answers.at(-1)?.body ?? "", /text$/, path);
      assertEquals(answers.length, message.includes("first") ? 2 : 1);
      await stop(server, clock);
    }
  }
});

Deno.test("clients that have left do not keep others waiting, whatever their handlers do", async () => {
  for (const leave of ["end", "reset"] as const) {
    using clock = new FakeClock();
    const server = start(({ path }) => path === "/stuck" ? new Promise<never>(() => {}) : {}, {
      maxConnections: 3,
    });
    const stuck = Array.from({ length: 3 }, () => server.connect());
    for (const client of stuck) client.send(get("/stuck"));
    await clock.advance(1);
    for (const client of stuck) client[leave]();
    await clock.advance(30);
    const others = Array.from({ length: 3 }, () => server.connect());
    for (const client of others) client.send(get("/", "Connection: close\r\n"));
    await clock.advance(0.5);
    for (const client of others) assertMatch(client.text, /^HTTP\/1\.1 200 /, leave);
    await stop(server, clock);
  }
});

Deno.test("a client that has just ended its side is not given up for others at once", async () => {
  using clock = new FakeClock();
  const server = start(async () => {
    await pause(1500);
    return { body: "text" };
  }, { maxConnections: 1 });
  const [half, stuck] = [server.connect(), server.connect()];
  half.send(get());
  half.end();
  await clock.advance(0.2);
  stuck.send(get("/", "Connection: close\r\n"));
  await clock.advance(4);
  for (const client of [half, stuck]) assertMatch(client.text, /\r\n\r\ntext$/);
  await stop(server, clock);
});

Deno.test("the Date is that of the answer, not of the request", async () => {
  const wait = 2300;
  const handlers: Record<string, Handler> = {
    "/text": () => ({ body: "x" }),
    "/bytes": () => ({ body: bytesOf("x") }),
    "/frozen": () => FROZEN,
    "/long": () => LONG,
    "/stream": () => ({ body: generate(["x"]) }),
    "/response": () => new Response("x"),
    "/empty": () => ({ status: 204 }),
    "/condition": () => ({ headers: { ETag: '"a"' } }),
    "/throw": () => {
      throw new Error("a mistake");
    },
    "/error": () => {
      throw new HttpError(404, "Not here");
    },
    "/invalid": () => ({ status: 99 }),
  };
  await using server = start(async (request) => {
    await pause(wait);
    return await handlers[request.path](request);
  });
  const check = async (client: MemoryClient) => {
    await client.until(() => client.text.includes("\r\n\r\n"));
    const date = Date.parse(/\r\nDate: ([^\r]*)\r\n/.exec(client.text)![1]);
    const late = Date.now() - date;
    // A date tells whole seconds, and may be as old as a tick of the clock.
    assert(late >= 0 && late < 1300, `${client.text}: ${late} ms`);
  };
  const answers = Promise.all(
    Object.keys(handlers).flatMap((path) =>
      ["GET", "HEAD"].map(async (method) => {
        const client = server.connect();
        client.send(get(path, 'If-None-Match: "a"\r\n', method));
        await check(client);
      })
    ),
  );
  // Those that the server itself gives, each alone: what others ask would bring the date up to date.
  await Promise.all(["hello\r\n\r\n", "GET /"].map(async (text) => {
    await using alone = start(() => ({}), { idleTimeout: 1.5 });
    const client = alone.connect();
    client.send(text.slice(0, 1));
    await pause(1200);
    client.send(text.slice(1));
    if (text === "GET /") await client.until(() => client.ended);
    await check(client);
    client.end();
  }));
  await answers;
});
const FROZEN = Object.freeze({ body: "x" });
const LONG = Object.freeze({ body: "x".repeat(70_000) });

Deno.test("a shorter grace counts, a longer one does not", async () => {
  const rows: [grace: (number | undefined)[], end: number][] = [
    [[3, 0], 1],
    [[0, 3], 0],
    [[10, 2], 3],
    [[2, 10], 2],
    [[undefined, 1], 2],
    [[5, 4, 1, 9], 3],
    [[Infinity, 1], 2],
  ];
  for (const [graces, end] of rows) { // one a second
    using clock = new FakeClock();
    const server = start(() => new Promise<never>(() => {}));
    const client = server.connect();
    client.send(get());
    await clock.settle();
    let finished = -1;
    const settled: number[] = [];
    void server.finished.then(() => finished = clock.seconds);
    for (const grace of graces) {
      void server.shutdown(grace).then(() => settled.push(clock.seconds));
      await clock.advance(1);
    }
    for (let i = 0; i < 300 && finished < 0; i++) await clock.advance(0.1);
    await clock.settle();
    assert(Math.abs(finished - end) < 0.5, `${graces}: ${finished} s`);
    assertEquals(settled.length, graces.length);
  }
});

Deno.test("a stream that has sent its length, and does not end, holds nothing up", async () => {
  const never = () => new Promise<never>(() => {});
  async function* stuck() {
    yield bytesOf("hello");
    await never();
  }
  const bodies: [string, () => NonNullable<HttpResponse["body"]>][] = [
    ["a generator", stuck],
    [
      "a stream",
      () => new ReadableStream({ start: (c) => c.enqueue(bytesOf("hello")), pull: never }),
    ],
    [
      "one of Fetch",
      () => new Response(new ReadableStream({ start: (c) => c.enqueue(bytesOf("hello")) })).body!,
    ],
  ];
  for (const [name, body] of bodies) {
    for (const end of [get("/2"), get("/2", "Connection: close\r\n")]) {
      using clock = new FakeClock();
      const handler: Handler = ({ path }) => {
        if (path === "/2") return { body: "second" };
        return { headers: { "Content-Length": "5" }, body: body() };
      };
      const server = start(handler, { idleTimeout: 2, maxConnections: 1 });
      const client = server.connect();
      client.send(get() + end);
      for (let i = 0; i < 100 && !client.text.includes("second") && !client.closed; i++) {
        await clock.advance(0.05);
      }
      assert(clock.seconds < 3, `${name}: ${clock.seconds} s`);
      client.end();
      const next = server.connect(); // There is one permit.
      next.send(get("/2", "Connection: close\r\n"));
      for (let i = 0; i < 100 && !next.text.includes("second"); i++) await clock.advance(0.05);
      assertMatch(next.text, /second$/, name);
      next.end();
      await stop(server, clock);
    }
  }
});

// ── Content ──────────────────────────────────────────────────────────────────────────────────

const READERS: [string, (request: HttpRequest) => Promise<unknown>][] = [
  ["text", (request) => request.text()],
  ["bytes", async (request) => new TextDecoder().decode(await request.bytes())],
  ["json", (request) => request.json()],
  ["body", (request) => new Response(request.body).text()],
  ["toFetch", (request) => request.toFetch().text()],
];
for (const [form, read] of READERS) {
  Deno.test(`content that is asked for after the answer is an error, never short: ${form}`, async () => {
    const whole = "0123456789".repeat(20);
    const chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" +
      `${whole.length.toString(16)}\r\n${whole}\r\n0\r\n\r\n`;
    for (const message of [post(whole), chunked, post(whole, "Connection: close\r\n")]) {
      for (const size of [0, 50, 150, whole.length]) { // what comes after the answer
        for (const wait of [0, 5, 20]) {
          const { promise, resolve } = Promise.withResolvers<string>();
          await using server = start((request) => {
            setTimeout(() => void read(request).then(String, () => "an error").then(resolve), wait);
            return { body: "early" };
          });
          const client = server.connect();
          client.send(message.slice(0, message.length - size));
          await client.until(() => client.text.includes("early"));
          client.send(message.slice(message.length - size));
          client.end();
          const timer = setTimeout(() => resolve("nothing"), 3000);
          const seen = await promise;
          clearTimeout(timer);
          const what = `${size} bytes late, asked for after ${wait} ms`;
          assert(seen === "an error" || seen === whole, `${what}: ${JSON.stringify(seen)}`);
        }
      }
    }
  });
}

Deno.test("a stream of content that is read on after the answer breaks, never ends early", async () => {
  for (const size of [100, 20_000, 100_000, 500_000]) {
    for (const first of [true, false]) {
      const { promise, resolve } = Promise.withResolvers<number | string>();
      await using server = start(async (request) => {
        const reader = request.body!.getReader();
        let count = first ? (await reader.read()).value!.length : 0;
        setTimeout(async () => {
          try {
            for (;;) {
              const { done, value } = await reader.read();
              if (done) break;
              count += value.length;
            }
            resolve(count);
          } catch {
            resolve("an error");
          }
        }, 10);
        return { body: "early" };
      });
      const client = server.connect();
      client.send(post("x".repeat(size)));
      client.end();
      const seen = await promise;
      assert(seen === "an error" || seen === size, `${seen} of ${size} bytes`);
    }
  }
});

// ── What is written ──────────────────────────────────────────────────────────────────────────

Deno.test("a long frozen body is encoded once, and not copied", async () => {
  const text = "é".repeat(40_000), bytes = new Uint8Array(100_000).fill(120);
  for (const body of [text, "x".repeat(100_000), bytes]) {
    const response = Object.freeze({ headers: Object.freeze({ "X": "y" }), body });
    const encode = TextEncoder.prototype.encode;
    let encoded = 0;
    TextEncoder.prototype.encode = function (text) {
      if ((text ?? "").length > 1000) encoded++;
      return encode.call(this, text);
    };
    try {
      await using server = start(() => response);
      const memories = new Set<ArrayBufferLike>();
      for (let i = 0; i < 3; i++) { // connections
        const client = server.connect();
        const write = client.connection.write;
        client.connection.write = (piece) => {
          if (piece.length > 65_536) memories.add(piece.buffer);
          return write(piece);
        };
        for (let time = 0; time < 5; time++) {
          client.received = new Uint8Array();
          client.send(get());
          await client.settled();
          const [received] = parseResponses(client.text, ["GET"], false);
          assert(received.body.length >= 80_000);
        }
      }
      assertEquals(memories.size, 1, typeof body);
      assert(encoded <= 1, `${encoded} times`);
    } finally {
      TextEncoder.prototype.encode = encode;
    }
  }
});

// ── The application ──────────────────────────────────────────────────────────────────────────

Deno.test("an echo of JSON is at most 13 times what came, and a kilobyte", async () => {
  let seed = 1;
  const random = (below: number) => (seed = (seed * 48271) % 2147483647) % below;
  const make = (depth: number): unknown => {
    const kind = random(depth > 0 ? 6 : 4);
    if (kind < 4) return [random(1000), `text ${random(10)}`, null, true][kind];
    const inner = Array.from({ length: random(4) }, () => make(depth - 1));
    return kind === 4 ? inner : Object.fromEntries(inner.map((one, i) => [`k${i}`, one]));
  };
  const values: object[] = Array.from({ length: 150 }, () => ({ a: make(random(12)) }));
  const nest = (levels: number, inner: unknown) => {
    for (let i = 0; i < levels; i++) inner = i % 3 === 0 ? { a: inner } : [inner];
    return { a: inner };
  };
  for (const levels of [1, 5, 10, 20, 50, 100, 300, 980]) {
    values.push(
      nest(levels, 1),
      nest(levels, Array(500).fill(0)),
      nest(levels, Array(50).fill([])),
    );
    values.push({ a: Array.from({ length: 20 }, () => nest(levels, {})) });
    values.push({ a: Array(10_000).fill([[]]), b: nest(levels, "x".repeat(5000)) });
  }
  for (const value of values) {
    const sent = JSON.stringify(value);
    if (sent.length > 1_000_000) continue;
    const message = post(sent, "Content-Type: application/json\r\n");
    const [received] = await ask(application, message);
    assertEquals(received.status, 200, sent.slice(0, 200));
    const { length } = received.body;
    assert(length <= 13 * sent.length + 1024, `${sent.slice(0, 100)}: ${sent.length} to ${length}`);
    assertEquals(JSON.stringify(JSON.parse(received.body)), JSON.stringify({ ...value, id: 1 }));
    // What people write is indented as ever.
    const indented = JSON.stringify({ ...value, id: 1 }, null, 2);
    if (indented.length <= 3 * sent.length + 100) assertEquals(received.body, indented);
  }
});

// ── The log ──────────────────────────────────────────────────────────────────────────────────

const PEER = "192.0.2.1:50000";
/** Lines that are about no connection. */
const GENERAL =
  /^(Waiting for connection\.\.\.|Listening at PORT 0\.\.\. http:\/\/memory:0\/|Shutting down\.\.\.|Stopped)$/;
const ACCESS = /^\S+ "\S+ \S+ HTTP\/1\.\d" (\d+|-) \d+ \d+ ms(: |$)/;

/** Waits for something that its own signal ends, as a handler that calls `fetch` with it does. */
function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}

/** What clients do that is no concern of the operator, and to which handler. */
const EVERYDAY: Record<string, [handler: Handler, act: (client: MemoryClient) => unknown]> = {
  "silent": [() => ({}), () => {}],
  "leaves at once": [() => ({}), (client) => client.end()],
  "resets at once": [() => ({}), (client) => client.reset()],
  "ages out": [() => ({ body: "x" }), (client) => client.send(get())],
  "malformed": [() => ({}), (client) => client.send("hello\r\n\r\n")],
  "malformed, and then reset": [() => ({}), (client) => {
    client.send("GET /[ HTTP/1.1\r\n\r\n");
    client.reset();
  }],
  "too slow": [() => ({}), (client) => client.send("GET / HT")],
  "ended in a head": [() => ({}), (client) => {
    client.send("GET / HT");
    client.end();
  }],
  "too slow with its content": [
    async (request) => ({ body: await request.text() }),
    (client) => client.send(post("hello").slice(0, -2)),
  ],
  "ended in its content": [async (request) => ({ body: await request.text() }), (client) => {
    client.send(post("hello").slice(0, -2));
    client.end();
  }],
  "bad chunks": [
    async (request) => ({ body: await request.text() }),
    (client) => client.send(get("/", "Transfer-Encoding: chunked\r\n", "POST") + "x\r\n"),
  ],
  "does not read": [() => ({ body: "x".repeat(99_999) }), (client) => {
    client.stalled = true;
    client.send(get());
  }],
  "not here": [
    () => Promise.reject(new HttpError(404, "Not here")),
    (client) => client.send(get()),
  ],
};
for (
  const [name, handler] of Object.entries<Handler>({
    "text": async (request) => ({ body: await request.text() }),
    "bytes": async (request) => ({ body: await request.bytes() }),
    "json": async (request) => ({ body: `${await request.json()}` }),
    "toFetch": async (request) => ({ body: await request.toFetch().text() }),
    "the stream": async (request) => ({ body: await new Response(request.body).text() }),
    "an echoed stream": (request) => ({ body: request.body }),
  })
) {
  EVERYDAY[`resets in the middle of an upload: ${name}`] = [handler, async (client) => {
    client.send(post("x".repeat(500)).slice(0, -200));
    await pause(3);
    client.reset();
  }];
}
for (
  const [name, handler] of Object.entries<Handler>({
    "its reason": ({ signal }) => untilAborted(signal),
    "its reason, late": async ({ signal }) => {
      await untilAborted(signal).catch(() => {});
      await pause(2);
      signal.throwIfAborted();
      return {};
    },
    "an AbortError of its own": ({ signal }) =>
      untilAborted(signal).catch(() => Promise.reject(new DOMException("aborted", "AbortError"))),
    "a stream that ends with it": ({ signal }) => ({
      body: (async function* () {
        yield bytesOf("x");
        yield await untilAborted(signal);
      })(),
    }),
    "a stream that is canceled": () => ({
      body: new ReadableStream({ pull: () => untilAborted(new AbortController().signal) }),
    }),
    "an endless stream": () => ({
      body: (async function* () {
        for (;;) {
          yield bytesOf("x");
          await pause(1);
        }
      })(),
    }),
  })
) {
  for (const leave of ["reset", "end"] as const) {
    EVERYDAY[`${leave}: ${name}`] = [handler, async (client) => {
      client.send(get());
      await pause(20);
      client[leave]();
      // One that has ended its side may read on: it goes for good somewhat later.
      await pause(250);
      client.reset();
    }];
  }
}

Deno.test("everyday events are no errors, and each line names the connection", async () => {
  const outcomes = await Promise.allSettled(
    Object.entries(EVERYDAY).map(async ([name, [handler, act]]) => {
      const { all, info, error, log } = recorder();
      const server = start(handler, { idleTimeout: 0.4, requestTimeout: 0.4, log });
      const client = server.connect();
      await act(client);
      await pause(900);
      client.end();
      await client.until(() => client.closed);
      await server.shutdown();
      const story = `${name}:\n${all.join("\n")}`;
      assertEquals(error, [], story);
      for (const line of all.map((line) => line.replace(/^\S+ /, ""))) {
        assert(GENERAL.test(line) || line.includes(PEER), `${line}\n${story}`);
        assertMatch(line, /^[ -~]*$/, story);
      }
      // What a client did is told once: that it ages out after its answer, beside the access line.
      const told = info.filter((line) => !GENERAL.test(line));
      const most = name === "ages out" || name === "not here" ? 2 : 1;
      assert(told.length <= most, story);
      // Nobody got a 500, and nobody was to blame for one.
      assert(!told.some((line) => /" 500 /.test(line)), story);
      // Of a request that has begun there is a line with its method and target, as far as known.
      if (/resets in|too slow|ended in|bad|does not|not here|^reset: |^end: /.test(name)) {
        assert(told.some((line) => /"(GET|POST) \/?/.test(line)), story);
      }
    }),
  );
  const failures = outcomes.filter((outcome) => outcome.status === "rejected");
  assertEquals(failures.map(({ reason }) => reason.message).join("\n\n"), "");
});

Deno.test("whoever left is in the access log, with what it got and why", async () => {
  for (const name of Object.keys(EVERYDAY).filter((name) => /^reset: |resets in/.test(name))) {
    const [handler, act] = EVERYDAY[name];
    const { info, log } = recorder();
    await using server = start(handler, { log: { info: log.info } });
    const client = server.connect();
    await act(client);
    await client.until(() => client.closed);
    await pause(5);
    const lines = info.filter((line) => ACCESS.test(line));
    assertEquals(lines.length, 1, `${name}: ${info.join("\n")}`);
    assertMatch(lines[0], / (200|-) \d+ \d+ ms: \S/, name);
  }
});

Deno.test("a request has one line in the access log, however its connection ends", async () => {
  const upload = post("x".repeat(500)).slice(0, -200);
  const close = "Connection: close\r\n";
  const wrapped: Handler = async (request) => {
    try {
      return { body: await request.text() };
    } catch (cause) {
      throw new Error("the upload failed", { cause });
    }
  };
  const caught: Handler = async (request) => {
    const text = await request.text().catch(() => "nothing");
    return { body: text };
  };
  const long: Handler = () => ({ body: "x".repeat(99_999) });
  const rows: [name: string, handler: Handler, send: string, lost: boolean][] = [
    ["an upload, and the handler wraps its failure", wrapped, upload, true],
    ["an upload, and the handler makes do without", caught, upload, true],
    ["a last answer that is not taken", () => ({ body: "x" }), get("/", close), true],
    [
      "a last answer that is not taken, of bytes",
      () => ({ body: bytesOf("x") }),
      get("/", close),
      true,
    ],
    ["a last frozen answer that is not taken", () => FROZEN, get("/", close), true],
    ["a long answer that is not taken", long, get(), true],
    ["a long last answer that is not taken", long, get("/", close), true],
    ["a long frozen answer that is not taken", () => LONG, get(), true],
    ["a stream that is not taken", () => ({ body: generate(["x".repeat(99_999)]) }), get(), true],
    ["an answer, and no other request", () => ({ body: "x" }), get(), false],
    ["an answer that is skipped to", () => ({ body: "x" }), upload, false],
  ];
  const problems: string[] = [];
  for (const leave of ["reset", "idle", "stop"]) {
    for (const [name, handler, send, lost] of rows) {
      const { info, log } = recorder();
      const server = start(handler, {
        idleTimeout: leave === "idle" ? 0.2 : 30,
        log: { info: log.info },
      });
      const client = server.connect();
      client.stalled = lost;
      client.send(send);
      await pause(5);
      if (leave === "reset") client.reset();
      if (leave === "stop") await server.shutdown(0);
      await client.until(() => client.ended || client.closed);
      client.end();
      await client.until(() => client.closed);
      await server.shutdown(0);
      const lines = info.filter((line) => line.startsWith(`${PEER} "`));
      const what = `${leave}, ${name}: ${JSON.stringify(lines)}`;
      if (lines.length !== 1) problems.push(what);
      if (lines.some((line) => /" 500 /.test(line))) problems.push(`${what}: nobody got it`);
    }
  }
  await pause(300); // A clock that was asked after the stop runs on for some ticks.
  assertEquals(problems.join("\n"), "");
});

Deno.test("what a handler did wrong is one error with its stack, its route and its peer", async () => {
  const mistakes: [string, Handler, RegExp][] = [
    ["a throw", () => fail(), /^GET \/a\?b .*: Error: a mistake\n {4}/],
    [
      "a rejection",
      async () => await Promise.reject(fail()),
      /^GET \/a\?b .*: Error: a mistake\n {4}/,
    ],
    ["a stream", () => ({
      body: (async function* () {
        yield bytesOf("x");
        await pause(1);
        fail();
      })(),
    }), /^GET \/a\?b .*: Error: a mistake\n {4}/],
    [
      "a ReadableStream",
      () => ({ body: new ReadableStream({ pull: fail }) }),
      /^GET \/a\?b .*: Error: a mistake\n {4}/,
    ],
    [
      "a stream that lies",
      () => ({ headers: { "Content-Length": "9" }, body: generate(["x"]) }),
      /^GET \/a\?b .*: TypeError: A streamed body /,
    ],
    [
      "a stream that lies after it",
      () => ({ headers: { "Content-Length": "1" }, body: generate(["x", "y"]) }),
      /^GET \/a\?b .*: TypeError: A streamed body /,
    ],
  ];
  function fail(): never {
    throw new Error("a mistake");
  }
  for (const [name, handler, expected] of mistakes) {
    const { info, error, log } = recorder();
    await using server = start(handler, { log });
    const client = server.connect();
    client.send(get("/a?b", "Connection: close\r\n"));
    client.end();
    await client.until(() => client.closed);
    await pause(5);
    assertEquals(error.length, 1, `${name}: ${error.join("\n")}`);
    assertMatch(error[0], expected, name);
    assert(error[0].includes(PEER), error[0]);
    assertEquals(info.filter((line) => ACCESS.test(line)).length, 1, `${name}: ${info.join("\n")}`);
  }
});

Deno.test("a stack is told only of what a handler threw", async () => {
  const responses: unknown[] = [
    undefined,
    { status: 99 },
    { body: 5 },
    { headers: { "X": "\n" } },
    { headers: { "Content-Length": "9" }, body: new Response("x").body },
    {
      body: (async function* () {
        yield await Promise.resolve(5);
      })(),
    },
  ];
  for (const response of responses) {
    const { all, error, log } = recorder();
    await ask(() => response as HttpResponse, get("/", "Connection: close\r\n"), { log }).catch(
      () => {},
    );
    assertEquals(error.length, 1);
    for (const line of all) assert(!/\n|\.ts:\d+/.test(line), line);
  }
});

Deno.test("what clients send can't forge lines of the log", async () => {
  const odd = Array.from({ length: 256 }, (_, code) => String.fromCharCode(code)).join("") +
    "\u2028\u2029\u202e\u0085\ufeff\ud800";
  const query = encodeURIComponent(odd.slice(0, -1)) + "%ED%A0%80";
  const handlers: Handler[] = [
    ({ query }) => {
      throw new HttpError(400, `No such thing: ${query.get("q")}`);
    },
    ({ query }) => {
      throw new HttpError(400, "No", { cause: query.get("q") });
    },
    ({ query }) => {
      throw new HttpError(400, "No", { cause: new Error(query.get("q")!) });
    },
    ({ query }) => {
      throw new HttpError(500, query.get("q")!, { cause: query.get("q") });
    },
    ({ query }) => {
      throw new Error(query.get("q")!);
    },
    ({ query }) => {
      throw query.get("q");
    },
    ({ query }) => {
      const error = new Error("x");
      error.name = query.get("q")!;
      throw error;
    },
    ({ query }) => ({ headers: { "X": query.get("q")! } }),
    ({ query }) => ({ headers: { [query.get("q")!]: "x" } }),
    ({ query }) => ({ status: query.get("q") as never }),
    ({ query }) => ({
      body: (async function* () {
        await pause(1);
        yield bytesOf("x");
        throw new Error(query.get("q")!);
      })(),
    }),
    async (request) => ({ body: `${await request.json()}` }),
  ];
  const check = (all: string[]) => {
    for (const line of all) {
      assertMatch(line, /^[ -~]*(\n {4}[ -~]*)*$/); // Only what is indented goes on.
      assert(!/\n/.test(line) || line.startsWith("ERROR"), line);
    }
  };
  for (const handler of handlers) {
    const { all, log } = recorder();
    await using server = start(handler, { log });
    const client = server.connect();
    client.send(post(`{"a":${bytesOf(odd).join()}\n`, "", `/?q=${query}`));
    client.end();
    await client.until(() => client.closed);
    check(all);
    assert(all.some((line) => ACCESS.test(line.replace(/^\S+ /, ""))), all.join("\n"));
  }
  // And in every place of a head, or of what frames the content.
  const { all, log } = recorder();
  for (const char of odd.slice(0, 256)) {
    const texts = [
      `G${char}T / HTTP/1.1\r\nHost: a\r\n\r\n`,
      `GET /${char} HTTP/1.1\r\nHost: a\r\n\r\n`,
      `GET / HTTP/1.${char}\r\nHost: a\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: ${char}\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: a\r\nX${char}: y\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: a\r\nExpect: ${char}\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: a\r\nContent-Length: ${char}\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ${char}\r\n\r\n`,
      `POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1${char}\r\nx\r\n0\r\n${char}: x\r\n\r\n`,
    ];
    await Promise.all(texts.map(async (text) => {
      await using server = start(async (request) => ({ body: await request.text() }), { log });
      const client = server.connect();
      client.send(text);
      client.end();
      await client.until(() => client.closed);
    }));
  }
  check(all);
});

Deno.test("lines of one kind that clients bring about are told some times, then counted", async () => {
  const never = () => new Promise<never>(() => {});
  const kinds: [name: string, handler: Handler, act: (client: MemoryClient) => unknown][] = [
    ["malformed", () => ({}), (client) => client.send("hello\r\n\r\n")],
    ["too large", () => ({}), (client) => client.send(`GET /${"x".repeat(17_000)}`)],
    ["ended in a head", () => ({}), (client) => client.send("GET / HT")],
    ["a mistake that clients can cause", () => {
      throw new Error("a mistake");
    }, (client) => client.send(get())],
    ["idle", () => ({}), () => {}],
    ["late", () => ({}), (client) => client.send("GET")],
    ["unread", () => ({ body: "x".repeat(70_000) }), (client) => {
      client.stalled = true;
      client.send(get());
    }],
    ["cut off", never, (client) => client.send(get())],
  ];
  await Promise.all(kinds.map(async ([name, handler, act]) => {
    const { all, log } = recorder();
    const waits = /idle|late|unread/.test(name);
    const server = start(handler, {
      idleTimeout: waits ? 0.3 : 30,
      maxConnections: 2000,
      log: { info: log.info, error: log.error },
    });
    const clients = Array.from({ length: 1000 }, () => server.connect());
    for (const client of clients) await act(client);
    await pause(waits ? 900 : 50);
    for (const client of clients) client.end();
    if (name !== "cut off") await Promise.all(clients.map((one) => one.until(() => one.closed)));
    await server.shutdown(0);
    // The access log is one line a request.
    const told = all.filter((line) =>
      !ACCESS.test(line.replace(/^\S+ /, "")) && !GENERAL.test(line.replace(/^\S+ /, ""))
    );
    if (name === "cut off" || name === "unread") { // Each request has its line.
      assertEquals(told, name === "unread" ? [] : ["ERROR Connections cut off: 1000"]);
      assertEquals(all.filter((line) => ACCESS.test(line.replace(/^\S+ /, ""))).length, 1000);
      return;
    }
    const counts = told.map((line) => /: (\d+) more$/.exec(line)).filter((match) => match !== null);
    const counted = counts.reduce((sum, [, count]) => sum + Number(count), 0);
    // In whatever seconds they fall into.
    assert(told.length <= 60, `${name}: ${told.length} lines`);
    assert(counts.length >= 1, `${name}: no count`);
    assertEquals(counted + told.length - counts.length, 1000, `${name}: ${told.join("\n")}`);
  }));
});

Deno.test("a logger whose methods reject, or throw, harms nobody", async () => {
  const lines: string[] = [];
  const reject = async (message: string) => {
    lines.push(message);
    await Promise.reject(new Error("the log is full"));
  };
  const thenable = (message: string) => {
    lines.push(message);
    return { then: (_: unknown, fail: (error: Error) => void) => fail(new Error("full")) };
  };
  const odd = (message: string) => {
    lines.push(message);
    return {
      get then(): never {
        throw new Error("no promise");
      },
    };
  };
  const late = (message: string) => {
    lines.push(message);
    return pause(1).then(() => Promise.reject(new Error("late")));
  };
  for (const method of [reject, thenable, odd, late] as Logger["info"][]) {
    lines.length = 0;
    const log = { debug: method, info: method, error: method };
    const handler: Handler = ({ path }) => {
      if (path === "/throw") throw new Error("a mistake");
      return { body: path };
    };
    const received = await ask(handler, get("/1") + get("/throw") + "hello\r\n\r\n", { log });
    assertEquals(received.map(({ status }) => status), [200, 500, 400]);
    assert(lines.length > 5);
    await pause(5); // An unhandled rejection would fail this test.
  }
});

// ── Applications written for Fetch ───────────────────────────────────────────────────────────

Deno.test("a stream that was told of its client's leaving never looks as if it was whole", async () => {
  for (const [name, told] of [["told", true], ["not told", false]] as const) {
    for (const leave of ["before", "midway"] as const) {
      const pieces = async function* (signal: AbortSignal | undefined) {
        if (leave === "midway") yield "piece;";
        await pause(50);
        if (!signal?.aborted) yield "last piece";
      };
      const client = await (async () => {
        const server = start((request) => ({ body: pieces(told ? request.signal : undefined) }));
        const client = server.connect();
        client.send(get());
        await pause(10);
        client.end();
        await client.until(() => client.closed);
        await server.shutdown(0);
        return client;
      })();
      const what = `${name}, ${leave}: ${client.text}`;
      assertEquals(client.text.endsWith("\r\n0\r\n\r\n"), !told, what);
      if (!told) assert(client.text.includes("last piece"), what);
    }
  }
});

Deno.test("what was wrong with the content is told whoever has read it, and wrapped the error", async () => {
  const ways: Record<string, Handler> = {
    wrapped: async (request) => {
      try {
        return { body: await request.text() };
      } catch {
        throw new TypeError("fetch failed");
      }
    },
    clone: async (request) => {
      const fetched = request.toFetch();
      fetched.clone().body?.cancel();
      return { body: JSON.stringify(await fetched.json()) };
    },
  };
  const head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const [way, handler] of Object.entries(ways)) {
    const { error, log } = recorder();
    const options = { maxBodySize: 10, log };
    for (const [content, status] of [["x\r\n", 400], ["ff\r\n", 413]] as const) {
      assertEquals((await ask(handler, head + content, options))[0].status, status, way);
    }
    if (way === "clone") {
      assertEquals((await ask(handler, `${head}1\r\n{\r\n0\r\n\r\n`, options))[0].status, 400);
    }
    assertEquals(error, [], way);
  }
});

Deno.test("content that is asked for and not waited for ends no process", async () => {
  const kinds = ["text", "bytes", "json", "arrayBuffer", "blob", "formData"] as const;
  const lost: unknown[] = [];
  const note = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    lost.push(event.reason);
  };
  globalThis.addEventListener("unhandledrejection", note);
  for (const kind of kinds) {
    const left = {
      fetch(request: Request) {
        void request[kind]();
        return new Response("early");
      },
    };
    assertEquals((await ask(left, get()))[0].body, "early"); // which has no content at all
    for (const content of ["x\r\n", "1\r\n"]) { // malformed, and never whole
      const server = start(left);
      const client = server.connect();
      client.send(`POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n${content}`);
      await client.until(() => client.text.includes("early"));
      client.reset();
      await client.until(() => client.closed);
      await server.shutdown(0);
    }
  }
  await pause(10);
  globalThis.removeEventListener("unhandledrejection", note);
  assertEquals(lost, []);
});

Deno.test("info.completed settles as the answer does", async () => {
  const outcomes: Record<string, string> = {};
  const app: FetchApplication = {
    fetch({ url }, { completed, remoteAddr }) {
      const { pathname } = new URL(url);
      completed.then(
        () => outcomes[pathname] = "written",
        (error) => outcomes[pathname] = String(error.name),
      );
      assertEquals(remoteAddr, { transport: "tcp", hostname: "192.0.2.1", port: 50000 });
      if (pathname === "/stuck") return new Promise<never>(() => {});
      if (pathname === "/wrong") return 5 as never;
      return new Response(pathname);
    },
  };
  const server = start(app);
  const client = server.connect();
  client.send(get("/1") + get("/wrong") + get("/2"));
  await client.settled();
  assertEquals(outcomes, { "/1": "written", "/wrong": "written", "/2": "written" });
  client.send(get("/stuck"));
  await client.settled();
  client.reset();
  await pause(250);
  assertEquals(Object.keys(outcomes).length, 4);
  assert(outcomes["/stuck"] !== "written");
  await server.shutdown(0);
});

Deno.test("serve takes an application with its options beside it, not in it", () => {
  const fetch = () => new Response();
  assertThrows(() => serve({ fetch, port: 0 } as never), TypeError, "the options second");
  assertThrows(() => serve({} as never), TypeError, "a method fetch, first");
});

Deno.test("9110 §15.5.22: a 426 tells what to upgrade to", async () => {
  const headers = { Upgrade: "TLS/1.0" };
  const [told] = await ask(() => ({ status: 426, headers }), get());
  assertEquals([field(told, "upgrade"), field(told, "connection")], ["TLS/1.0", "Upgrade"]);
  const [untold] = await ask(() => ({ headers }), get());
  assertEquals([field(untold, "upgrade"), field(untold, "connection")], [undefined, undefined]);
});

Deno.test("a response that was forgotten is an error, not an empty answer", async () => {
  for (const response of [{ a: 1 }, { id: 1, name: "x" }]) {
    const { error, log } = recorder();
    const [{ status }] = await ask(() => response as HttpResponse, get(), { log });
    assertEquals(status, 500);
    assertMatch(error[0], /no '(a|id)': for JSON, return Response\.json\(\.\.\.\)$/m);
  }
  assertEquals((await ask(() => ({}), get()))[0].status, 200);
  assertEquals((await ask(() => ({ a: 1, body: "x" } as HttpResponse), get()))[0].status, 200);
  const once = new Response("once");
  const received = await ask(() => once, get() + get());
  assertEquals(received.map(({ status }) => status), [200, 500]);
});

Deno.test("content without a type is never for browsers to guess", async () => {
  const text = "text/plain; charset=utf-8";
  const rows: [HttpResponse["body"], type: string | undefined, nosniff: string | undefined][] = [
    ["<script>", text, undefined],
    [bytesOf("<script>"), text, undefined],
    [bytesOf("\xff\xd8\xff"), undefined, "nosniff"],
    [generate(["<script>"]), undefined, "nosniff"],
    [new Blob(["<script>"]), undefined, "nosniff"],
    [new Blob(["<script>"], { type: "text/x" }), "text/x", undefined],
    ["<", text, undefined],
    [bytesOf("<"), text, undefined],
    ["", undefined, undefined],
    [new Uint8Array(), undefined, undefined],
    [null, undefined, undefined],
  ];
  for (const [body, type, nosniff] of rows) {
    const [received] = await ask(() => ({ body }), get());
    const told = ["content-type", "x-content-type-options"].map((name) => field(received, name));
    assertEquals(told, [type, nosniff], String(body));
  }
  const headers = { "Content-Type": "text/html" };
  const [page] = await ask(() => ({ headers, body: "<p>" }), get());
  assertEquals(field(page, "content-type"), "text/html");
  for (const name of ["X-Content-Type-Options", "X-Other"]) {
    const headers = { [name]: "nosniff" };
    const [{ fields }] = await ask(() => ({ headers, body: new Blob(["x"]) }), get());
    const told = fields.filter(([name]) => name === "x-content-type-options");
    assertEquals(told, [["x-content-type-options", "nosniff"]], name);
  }
});

Deno.test("a stream that fails while its client takes nothing ends no process", async () => {
  const lost: unknown[] = [];
  const note = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    lost.push(event.reason);
  };
  globalThis.addEventListener("unhandledrejection", note);
  const rows = [[10, 1], [40_000, 1], [40_000, 2], [20_000, 2], [70_000, 1]];
  for (const [size, count] of rows) {
    for (const leave of ["reset", "end"] as const) {
      const body = {
        async *[Symbol.asyncIterator]() {
          for (let i = 0; i < count; i++) yield new Uint8Array(size);
          await pause(20);
          throw new Error("upstream reset");
        },
      };
      const server = start(() => ({ body }));
      const client = server.connect();
      client.stalled = true;
      client.send(get());
      await pause(60);
      client[leave]();
      await pause(10);
      await server.shutdown(0);
    }
  }
  globalThis.removeEventListener("unhandledrejection", note);
  assertEquals(lost, []);
});

Deno.test("a piece is sent as it was when it came, though its memory is used again", async () => {
  for (const size of [4, 1000, 20_000, 40_000]) {
    for (const wait of [0, 1]) {
      const body = {
        async *[Symbol.asyncIterator]() {
          const buffer = new Uint8Array(size);
          for (const letter of "ABCDE") {
            buffer.fill(letter.charCodeAt(0));
            yield buffer;
            buffer.fill(120);
            if (wait > 0) await pause(wait);
          }
        },
      };
      const [received] = await ask(() => ({ body }), get());
      const whole = [..."ABCDE"].map((letter) => letter.repeat(size)).join("");
      assert(received.body === whole, `${size}, ${wait}: ${received.body.slice(0, 20)}`);
    }
  }
});

Deno.test("header fields that are changed are those of every request that is made of it", async () => {
  const changes: Record<string, (request: Request) => unknown> = {
    "before": () => {},
    "after its body": (request) => request.body,
    "after a clone": (request) => request.clone(),
    "after a copy": (request) => new Request(request.clone()),
  };
  for (const [when, before] of Object.entries(changes)) {
    const [{ body }] = await ask({
      async fetch(request) {
        before(request);
        request.headers.delete("authorization");
        request.headers.set("x-user", "admin");
        const copies = [request, request.clone(), new Request(request)];
        await request.body?.cancel().catch(() => {});
        const seen = copies.map(({ headers }) =>
          `${headers.get("authorization")} ${headers.get("x-user")}`
        );
        return Response.json(seen);
      },
    }, post("hello", "Authorization: secret\r\n"));
    assertEquals(JSON.parse(body), ["null admin", "null admin", "null admin"], when);
  }
});

Deno.test("a client that ends its side gets its answer, unless the application asked for that", async () => {
  const apps: Record<string, (request: Request) => Response | Promise<Response>> = {
    clone: async (request) => {
      request.clone();
      await pause(20);
      return new Response(new Blob(["whole"]));
    },
    stream: async (request) => {
      request.clone();
      await pause(20);
      return new Response(ReadableStream.from(generate(["who", "le"], 5)));
    },
  };
  for (const [name, fetch] of Object.entries(apps)) {
    const server = start({ fetch });
    const client = server.connect();
    client.send(get());
    client.end();
    await client.until(() => client.closed);
    const [{ body }] = parseResponses(client.text, ["GET"], true);
    assertEquals(body, "whole", name);
    await server.shutdown(0);
  }
});

Deno.test("a stream of nothing does not outlive its client", async () => {
  using clock = new FakeClock();
  let isCanceled = false;
  const server = start(() => ({
    body: {
      async *[Symbol.asyncIterator]() {
        try {
          yield "first";
          for (;;) {
            await pause(300);
            yield "";
          }
        } finally {
          isCanceled = true;
        }
      },
    },
  }), { idleTimeout: 2 });
  const client = server.connect();
  client.send(get());
  await clock.advance(1);
  client.end();
  await clock.advance(5);
  assert(isCanceled && client.closed);
  await stop(server, clock);
});

Deno.test("a client that hides behind what it sent ahead holds no permit for ever", async () => {
  using clock = new FakeClock();
  const server = start(({ path }) => path === "/stuck" ? new Promise<never>(() => {}) : {}, {
    maxConnections: 2,
    idleTimeout: 5,
  });
  for (let i = 0; i < 2; i++) {
    const stuck = server.connect();
    stuck.send(get("/stuck") + "x".repeat(20_000));
    stuck.end();
  }
  await clock.advance(1);
  const other = server.connect();
  other.send(get());
  await clock.advance(7);
  assertMatch(other.text, /^HTTP\/1\.1 200 /);
  await stop(server, clock);
});

Deno.test("an upload that is sent back in pieces keeps its connection", async () => {
  const server = start({ fetch: (request) => new Response(request.body) });
  const client = server.connect();
  client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n");
  for (const piece of ["abc", "def"]) {
    await client.settled();
    client.send(piece);
  }
  await client.settled();
  client.send(get());
  await client.settled();
  const received = parseResponses(client.text, ["POST", "GET"], false);
  assertEquals(received.map(({ body }) => body), ["abcdef", ""]);
  await server.shutdown(0);
});

Deno.test("whatever `for await` takes is a body, and is asked once for each piece", async () => {
  let asked = 0;
  const pieces = (wrap: (result: IteratorResult<string>) => unknown) => ({
    [Symbol.asyncIterator]() {
      let left = 3;
      return {
        next: () => wrap(left-- > 0 ? { value: `${left}` } : { done: true, value: undefined }),
      };
    },
  });
  const lazy = (result: IteratorResult<string>) => ({
    then(resolve: (result: unknown) => void) {
      asked++;
      resolve(result);
    },
  });
  for (const wrap of [lazy, (result: IteratorResult<string>) => result]) {
    const [{ body }] = await ask(() => ({ body: pieces(wrap) as never }), get());
    assertEquals(body, "210");
  }
  assertEquals(asked, 4);
});

Deno.test("a Response whose body somebody has replaced is sent with that", async () => {
  class Mine extends Response {
    override get body() {
      return new Response("other").body;
    }
  }
  const own = Object.defineProperty(new Response("first"), "body", { value: null });
  assertEquals((await ask(() => new Mine("first"), get()))[0].body, "other");
  assertEquals((await ask(() => own, get()))[0].body, "");
});

Deno.test("a backslash in a query does not end what the log quotes", async () => {
  const { info, log } = recorder();
  await ask(() => ({}), get("/?\\") + "GET /?\\ HTTP/2.0\r\nHost: a\r\n\r\n", { log });
  const lines = info.filter((line) => line.includes("GET"));
  assertEquals(lines.length, 2);
  for (const line of lines) assertMatch(line, /"GET \/\?\\x5c[^"\\]*" (200|505)/);
});

Deno.test("an empty piece behind the promised length is no mistake", async () => {
  const { error, log } = recorder();
  const headers = { "Content-Length": "3" };
  const [{ body }] = await ask(() => ({ headers, body: generate(["abc", ""]) }), get(), { log });
  assertEquals([body, error], ["abc", []]);
});

Deno.test("what a handler threw after its content had failed is in the log", async () => {
  const { info, log } = recorder();
  const handler: Handler = async (request) => {
    await request.text().catch(() => {});
    throw new Error("db down");
  };
  const send = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n";
  const [{ status }] = await ask(handler, send, { log, maxBodySize: 10 });
  assertEquals(status, 413);
  assert(info.some((line) => line.includes("db down")), info.join("\n"));
});

Deno.test("a handler's own 206 has preconditions, and no range is taken from it again", async () => {
  const part = (): HttpResponse => ({
    status: 206,
    headers: {
      "ETag": '"a"',
      "Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT",
      "Content-Range": "bytes 1-3/5",
    },
    body: "ell",
  });
  const rows: [section: string, fields: string, status: number, body: string][] = [
    ["9110 §14.2", "", 206, "ell"],
    ["9110 §13.1.1", 'If-Match: "b"\r\n', 412, "412 Precondition Failed"],
    ["9110 §13.1.2", 'If-None-Match: "a"\r\n', 304, ""],
    ["9110 §13.1.3", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 304, ""],
    ["9110 §13.1.4", "If-Unmodified-Since: Sun, 06 Nov 1993 08:49:37 GMT\r\n", 412, ""],
    ["9110 §13.2.1", 'If-None-Match: "b"\r\n', 206, "ell"],
  ];
  for (const [section, fields, status, body] of rows) {
    const [answer] = await ask(part, get("/", `Range: bytes=1-3\r\n${fields}`));
    assertEquals(answer.status, status, section);
    if (body !== "") assertEquals(answer.body, body, section);
    const range = status === 206 ? "bytes 1-3/5" : undefined;
    assertEquals(field(answer, "content-range"), range, section);
  }
});
