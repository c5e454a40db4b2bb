/** What happens so seldom that no other test without permissions needs it: `deno task coverage` tells. */

import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { inspect } from "node:util";
import {
  type Connection,
  type Exchange,
  type FetchApplication,
  type FetchInfo,
  type Handler,
  HttpError,
  type Listener,
  requestOf,
  serve,
  serveOn,
  type ServeOptions,
} from "../server.ts";
import { FakeClock } from "./clock.ts";
import { bytesOf, MemoryListener } from "./memory.ts";
import { field } from "./responses.ts";
import { ask, generate, get, pause, post, recorder, start, stop } from "./tools.ts";

// ── The server ───────────────────────────────────────────────────────────────────────────────

Deno.test("options of a Unix socket that make no sense are refused before it is made", () => {
  const rows: [options: ServeOptions, message: string][] = [
    [{ unixMode: 0o660 }, "none is given"],
    [{ unix: "" }, "a file's path"],
    [{ unix: "/run/a\0b" }, "a file's path"],
    [{ unix: `/${"\u00e9".repeat(50)}` }, "a file's path of up to 94 bytes"],
    [{ unix: "/run/a", hostname: "localhost" }, "no hostname"],
    [{ unix: "/run/a", port: 0 }, "no port"],
    [{ unix: "/run/a", reusePort: true }, "can't be shared"],
    ...[-1, 0o1000, 1.5, NaN].map((unixMode): [ServeOptions, string] => [
      { unix: "/run/a", unixMode },
      "from 0 to 777",
    ]),
  ];
  for (const [options, message] of rows) {
    assertThrows(() => serve(() => ({}), options), RangeError, message);
  }
});

Deno.test("proxies that make no sense are refused before anything listens", () => {
  for (const address of [{ port: 0 }, { unix: "/run/a" }]) {
    const options = { ...address, proxy: { trusted: [], says: [] } };
    assertThrows(() => serve(() => ({}), options), TypeError, "proxy.says");
  }
});

Deno.test("the log tells where the server listens, as a browser would be given it", async () => {
  const rows: [addr: Listener["addr"], encrypted: boolean, place: string][] = [
    [{ hostname: "127.0.0.1", port: 80 }, false, "PORT 80... http://127.0.0.1:80/"],
    [{ hostname: "0.0.0.0", port: 80 }, false, "PORT 80... http://localhost:80/"],
    [{ hostname: "::", port: 443 }, true, "PORT 443... https://localhost:443/"],
    [{ hostname: "::1", port: 443 }, true, "PORT 443... https://[::1]:443/"],
    [{ hostname: "", port: 0, unix: "/run/a" }, false, "unix:/run/a..."],
  ];
  for (const [addr, encrypted, place] of rows) {
    const { info, log } = recorder();
    const listener = Object.assign(new MemoryListener(), { addr, encrypted });
    await serveOn(listener, () => ({}), { log }).shutdown(0);
    assertEquals(info[0], `Listening at ${place}`);
  }
});

Deno.test("a server stops at the end of its scope, and when its signal is aborted, or was", async () => {
  const scoped = recorder();
  {
    await using _server = serveOn(new MemoryListener(), () => ({}), { log: scoped.log });
  }
  assertEquals(scoped.info.at(-1), "Stopped");
  for (const early of [true, false]) {
    const { info, log } = recorder();
    const stopper = new AbortController();
    if (early) stopper.abort();
    const server = serveOn(new MemoryListener(), () => ({}), { log, signal: stopper.signal });
    stopper.abort();
    await server.finished;
    assertEquals(info.at(-1), "Stopped");
  }
});

Deno.test("a certificate is renewed by the listener that has it, or by none", async () => {
  const { info, log } = recorder();
  const pair = { cert: "a certificate", key: "its key" };
  const given: unknown[] = [];
  const renew = (tls: unknown) => void given.push(tls);
  await using server = serveOn(Object.assign(new MemoryListener(), { renew }), () => ({}), { log });
  server.renew(pair);
  assertEquals([given, info.at(-1)], [[pair], "Certificate renewed"]);
  await using other = serveOn(new MemoryListener(), () => ({}));
  assertThrows(() => other.renew(pair), TypeError, "the listener can't do that");
});

Deno.test("a connection that can't be accepted is a line in the log, without control characters", async () => {
  using clock = new FakeClock();
  const { error, log } = recorder();
  const listener = new MemoryListener();
  const server = serveOn(listener, () => ({}), { log });
  listener.fail(new Error("no\ndescriptors"));
  await clock.advance(1);
  assertEquals(error, ["Cannot accept a connection: Error: no\\x0adescriptors"]);
  void server.shutdown(0);
  await clock.advance(20);
  await server.finished;
});

// ── Requests ─────────────────────────────────────────────────────────────────────────────────

Deno.test("9110 §5.3, RFC 6265 §5.4: lines of a cookie are one list, as no other field's are", async () => {
  const handler: Handler = ({ headers }) => ({
    body: `${headers.get("cookie")} | ${headers.get("accept")}`,
  });
  const fields = "Cookie: a=1\r\nAccept: a/b\r\ncookie: b=2\r\nAccept: c/d\r\n";
  assertEquals((await ask(handler, get("/", fields)))[0].body, "a=1; b=2 | a/b, c/d");
});

Deno.test("requests over TLS or a Unix socket have the scheme and the address of these", async () => {
  const rows: [of: Partial<Connection>, url: string, address: FetchInfo["remoteAddr"]][] = [
    [
      { encrypted: true },
      "https://a/x",
      { transport: "tcp", hostname: "192.0.2.1", port: 50000 },
    ],
    [
      { remoteAddress: "", remotePort: 0, unix: "/run/a" },
      "http://a/x",
      { transport: "unix", path: "/run/a", hostname: "", port: 0 },
    ],
  ];
  for (const [of, url, address] of rows) {
    const seen: unknown[] = [];
    await using server = start({
      fetch(request, info) {
        seen.push(request.url, info.remoteAddr);
        return new Response("x");
      },
    });
    const client = server.connect();
    Object.assign(client.connection, of);
    client.send(get("/x"));
    await client.settled();
    assertEquals(seen, [url, address]);
  }
});

Deno.test("whoever asks only after the end is told that the request was completed, or is gone", async () => {
  for (const isCutOff of [false, true]) {
    const { promise: held, resolve: goOn } = Promise.withResolvers<void>();
    const { promise: asked, resolve: tell } = Promise.withResolvers<[Request, FetchInfo]>();
    const server = start({
      async fetch(request, info) {
        if (isCutOff) await held;
        tell([request, info]);
        return new Response("x");
      },
    });
    const client = server.connect();
    client.send(get());
    await client.settled();
    const finished = server.shutdown(0);
    await client.until(() => client.closed);
    goOn();
    const [{ signal }, info] = await asked;
    if (isCutOff) {
      await assertRejects(() => info.completed, DOMException, "The server is stopping");
      assertEquals([signal.aborted, signal.reason.name], [true, "AbortError"]);
    } else {
      await info.completed;
    }
    await finished;
  }
});

Deno.test("9110 §10.1.1: a client that leaves before it takes 100 (Continue) is nobody's mistake", async () => {
  const { error, log } = recorder();
  const told: Exchange[] = [];
  const outcomes: string[] = [];
  await using server = start(async (request) => {
    await pause(1);
    await request.text().catch((error) => outcomes.push(String(error)));
    return { body: "whatever" };
  }, { log, onExchange: (one) => told.push(one) });
  const client = server.connect();
  client.stalled = true;
  client.send(get("/", "Expect: 100-continue\r\nContent-Length: 5\r\n", "POST"));
  await pause(10);
  client.reset();
  await client.until(() => client.closed);
  assertEquals(outcomes, ["Error: connection reset"]);
  assertEquals(told.map(({ status, delivered }) => [status, delivered]), [[0, false]]);
  assertEquals([server.stats.losses, error], [1, []]);
});

Deno.test("a read that a handler has left behind is no second one's, and what it waits for comes", async () => {
  const pieces: unknown[] = [];
  await using server = start((request) => ({
    body: (async function* () {
      void request.body!.getReader().read().then(({ value }) => pieces.push(value));
      yield bytesOf("answer");
      await pause(1);
    })(),
  }));
  const client = server.connect();
  client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
  await client.until(() => client.text.endsWith("\r\n0\r\n\r\n"));
  await pause(5);
  client.send("abc");
  client.end();
  await client.until(() => client.closed);
  assertEquals(pieces, [bytesOf("abc")]);
});

Deno.test("a request of plain values may expect 100 (Continue), or be cut off", async () => {
  const post = { method: "POST", body: "hello" };
  assertEquals(await requestOf({ ...post, headers: { Expect: "100-continue" } }).text(), "hello");
  const chunked = requestOf({ method: "POST", headers: { "Transfer-Encoding": "chunked" } });
  await assertRejects(() => chunked.text(), HttpError, "early");
});

// ── Applications written for Fetch ───────────────────────────────────────────────────────────

/** What an application has seen of a request. */
async function seen(send: string, see: (request: Request) => unknown): Promise<unknown> {
  let result: unknown;
  const app: FetchApplication = {
    async fetch(request) {
      result = await see(request);
      return new Response("x");
    },
  };
  const [{ status }] = await ask(app, send);
  assertEquals(status, 200);
  return result;
}

Deno.test("fields of a request for Fetch are as Fetch has them", async () => {
  const fields = "X-A: b\r\nCookie: a=1\r\nCookie: b=2\r\n";
  const all = [["cookie", "a=1; b=2"], ["host", "a"], ["x-a", "b"]];
  for (const isReal of [false, true]) {
    const result = await seen(get("/", fields), (request) => {
      const { headers } = isReal ? request.clone() : request;
      const has = [headers.has("x-A"), headers.has("x-b")];
      assertThrows(() => headers.has("no name"), TypeError);
      const each: string[][] = [];
      const self = {};
      headers.forEach(function (this: unknown, value, name, of) {
        assert(this === self && of === headers);
        each.push([name, value]);
      }, self);
      return { has, each, list: [...headers] };
    });
    assertEquals(result, { has: [true, false], each: all, list: all });
  }
});

Deno.test("a request for Fetch and its fields are shown as the runtime's own are", async () => {
  const shown = await seen(get("/p", "X-A: b\r\n"), (request) => [
    inspect(request),
    inspect(request.headers),
  ]) as string[];
  assertMatch(shown[0], /^Request \{[^]*http:\/\/a\/p/);
  assertMatch(shown[1], /^Headers \{[^]*x-a/);
});

Deno.test("content that was used can't be used again by what Fetch makes of the request", async () => {
  const result = await seen(post("hello"), async (request) => {
    const before = request.bodyUsed;
    await request.text();
    const after = request.bodyUsed;
    assertThrows(() => request.clone(), TypeError);
    assertThrows(() => new Request(request), TypeError);
    return [before, after, request.bodyUsed];
  });
  assertEquals(result, [false, true, true]);
  assertEquals(await seen(get(), (request) => request.bodyUsed), false);
});

Deno.test("a request for Fetch keeps what the runtime notes on it, and nothing that can't be changed", async () => {
  await seen(get(), (request) => {
    const symbols = Object.getOwnPropertySymbols(new Request("http://a/"));
    for (const symbol of symbols) {
      Reflect.set(request, symbol, "noted");
      assertEquals(Reflect.get(request, symbol), "noted");
    }
    assertThrows(() => Object.assign(request, { method: "PUT" }), TypeError);
    assertThrows(() => Object.assign(request, { redirect: "error" }), TypeError);
  });
});

Deno.test("RFC 3986 §5.2.4: the URL of a request for Fetch has no segments of dots", async () => {
  for (const [path, url] of [["/a/../b", "http://a/b"], ["/%7ea/./b", "http://a/%7ea/b"]]) {
    assertEquals(await seen(get(path), ({ url }) => url), url);
  }
});

Deno.test("what a handler throws for a client can be had as a Response", async () => {
  const response = new HttpError(404, "No such book").getResponse();
  assertEquals([response.status, await response.text()], [404, "No such book"]);
  assertEquals([...response.headers], [
    ["content-type", "text/plain; charset=utf-8"],
    ["x-content-type-options", "nosniff"],
  ]);
});

// ── Responses ────────────────────────────────────────────────────────────────────────────────

Deno.test("what fetch has decoded is not sent as if it were coded", async () => {
  for (const [coding, isDecoded] of [["gzip", true], ["x-own", false]] as const) {
    const headers = { "Content-Encoding": coding, "Content-Length": "3", "X-A": "b" };
    const fetched = () => {
      const response = new Response(generate(["decoded"]) as unknown as BodyInit, { headers });
      return Object.defineProperty(response, "url", { value: "http://upstream/" });
    };
    const [answer] = await ask(() => fetched(), get("/", "", "HEAD"));
    assertEquals(field(answer, "content-encoding"), isDecoded ? undefined : coding);
    assertEquals(field(answer, "content-length"), isDecoded ? undefined : "3");
    assertEquals(field(answer, "x-a"), "b");
    if (isDecoded) assertEquals((await ask(() => fetched(), get()))[0].body, "decoded");
  }
});

Deno.test("9110 §5.6.7: a leap second is the one before it", async () => {
  const headers = { "Last-Modified": "Sat, 31 Dec 2016 23:59:59 GMT" };
  const rows = [["Sat, 31 Dec 2016 23:59:60 GMT", 304], ["Sat, 31 Dec 2016 23:59:61 GMT", 200]];
  for (const [date, status] of rows) {
    const send = get("/", `If-Modified-Since: ${date}\r\n`);
    assertEquals((await ask(() => ({ headers, body: "x" }), send))[0].status, status);
  }
});

Deno.test("what is left of a Blob is canceled when its client leaves", async () => {
  let canceled = 0;
  class Endless extends Blob {
    override get size() {
      return 1e9;
    }
    override stream() {
      return new ReadableStream({
        pull: (controller) => controller.enqueue(new Uint8Array(65536)),
        cancel: () => void canceled++,
      });
    }
  }
  await using server = start(() => ({ body: new Endless() }));
  const client = server.connect();
  client.stalled = true;
  client.send(get());
  await pause(1);
  assertEquals(canceled, 0);
  client.reset();
  await client.until(() => client.closed);
  await pause(1);
  assertEquals(canceled, 1);
});

// ── The connection ───────────────────────────────────────────────────────────────────────────

Deno.test("answers to pipelined requests leave whole and in order, however many", async () => {
  const frozen = [...Array(8).fill(15_000), 65_000].map((size, i) =>
    Object.freeze({ body: `${i}`.repeat(size) })
  );
  const short = Array.from({ length: 300 }, (_, i) => ({
    headers: { "X-A": "a".repeat(2000) },
    body: `${i}`.padEnd(500),
  }));
  for (const answers of [frozen, short]) {
    const send = answers.map((_, i) => get(`/${i}`)).join("");
    const received = await ask(({ path }) => answers[Number(path.slice(1))], send);
    assertEquals(received.map(({ body }) => body), answers.map(({ body }) => body));
  }
});

Deno.test("in a crowd, a client that took its answer late makes room at once", async () => {
  using clock = new FakeClock();
  const server = start(() => ({ body: "x" }), { maxConnections: 1 });
  const first = server.connect();
  first.stalled = true;
  first.send(get());
  await clock.settle();
  const second = server.connect();
  second.send(get());
  await clock.settle();
  assertEquals([first.closed, second.text], [false, ""]);
  first.resume();
  await clock.settle();
  assertEquals([first.closed, clock.seconds], [true, 0]);
  await clock.settle();
  assertMatch(second.text, /^HTTP\/1\.1 200 /);
  await stop(server, clock);
});

Deno.test("what a stream does about a client that has just left is no mistake of the handler's", async () => {
  for (const fails of [true, false]) {
    const { error, log } = recorder();
    const told: Exchange[] = [];
    await using server = start((request) => {
      void request.signal;
      return {
        body: (async function* () {
          client.reset();
          for (let turn = 0; turn < 5; turn++) await undefined;
          if (fails) throw new Error("its own");
          yield bytesOf("x");
        })(),
      };
    }, { log, onExchange: (one) => told.push(one) });
    const client = server.connect();
    client.send(get());
    await client.until(() => client.closed);
    await pause(1);
    assertEquals(told.map(({ status, delivered }) => [status, delivered]), [[0, false]]);
    assertEquals([error, client.text, server.stats.losses], [[], "", 1]);
  }
});

Deno.test("whoever took a connection over is told of the client's end, and of its own", async () => {
  const outcomes: unknown[] = [];
  await using server = start((request) => {
    void request.signal;
    return {
      headers: { Upgrade: "echo" },
      async upgrade(connection) {
        outcomes.push(await connection.read(new Uint8Array(9)));
        await connection.closeWrite();
        outcomes.push(await Promise.resolve(connection.write(bytesOf("x"))).catch(String));
      },
    };
  });
  const client = server.connect();
  client.send(get("/", "Connection: Upgrade\r\nUpgrade: echo\r\n"));
  await client.until(() => client.text.endsWith("\r\n\r\n"));
  client.end();
  await client.until(() => client.closed);
  assertEquals(outcomes, [null, "Error: this side has ended"]);
});

Deno.test("an error that refuses to tell where it was thrown is logged all the same", async () => {
  const { error, log } = recorder();
  const secretive = Object.defineProperty(new Error("on purpose"), "stack", {
    get() {
      throw new Error("no");
    },
  });
  const [{ status }] = await ask(() => Promise.reject(secretive), get(), { log });
  assertEquals(status, 500);
  assertMatch(error.join(), /GET \/ .*: Error: on purpose$/);
});

// ── The end of a connection ──────────────────────────────────────────────────────────────────

Deno.test("a client that goes on sending what is read after the answer lingers no longer", async () => {
  const rows: [framing: string, piece: string][] = [
    ["Content-Length: 50", "a"],
    ["Transfer-Encoding: chunked", "5"],
    ["Transfer-Encoding: chunked", "5\r\nab"],
  ];
  for (const [framing, piece] of rows) {
    using clock = new FakeClock();
    const statuses: number[] = [];
    const server = start((request) => {
      request.body?.getReader().read().catch(() => {});
      return { body: "early" };
    }, { maxConnections: 4, onExchange: ({ status }) => statuses.push(status) });
    const clients = Array.from({ length: 3 }, () => server.connect());
    for (const client of clients) client.send(`POST / HTTP/1.1\r\nHost: a\r\n${framing}\r\n\r\n`);
    await clock.settle();
    for (const client of clients) client.send(piece);
    await clock.settle();
    assertEquals([server.stats.connections.lingering, server.stats.freePermits], [3, 4], piece);
    await clock.advance(3);
    assertEquals(clients.map(({ closed }) => closed), [true, true, true], piece);
    assertEquals([server.stats.connections.lingering, server.stats.freePermits], [0, 4], piece);
    assertEquals(statuses, [200, 200, 200], piece);
    const stopped = server.shutdown(0);
    await clock.advance(1);
    await stopped;
  }
});

Deno.test("a client that resets after it was refused is no loss", async () => {
  using clock = new FakeClock();
  const server = start(({ path }) => {
    return path === "/slow"
      ? new Promise((resolve) => setTimeout(() => resolve({ body: "late" }), 800))
      : { body: "" };
  });
  const client = server.connect();
  client.send(get("/slow"));
  await clock.advance(0.5);
  client.send("GET / HTTP/1.1\r\n\r\n");
  await clock.advance(0.5);
  assertMatch(client.text, /late[^]* 400 /);
  client.reset();
  await clock.settle();
  assertEquals(server.stats.losses, 0);
  const stopped = server.shutdown(0);
  await clock.advance(1);
  await stopped;
});

Deno.test("what options have inherited counts", async () => {
  class Options implements ServeOptions {
    get limits(): ServeOptions["limits"] {
      return () => ({ maxBodySize: 3 });
    }
    onError(error: unknown) {
      return { status: error instanceof HttpError ? error.status : 500, body: "mine" };
    }
  }
  const server = start(async (request) => ({ body: await request.text() }), new Options());
  const client = server.connect();
  client.send(post("12345"));
  await client.until(() => client.ended || client.closed);
  assertMatch(client.text, /^HTTP\/1\.1 413 /);
  await server.shutdown(0);
});
