/**
 * The tests, as a ladder of permissions:
 *
 * - `deno test` runs whole connections in memory,
 * - `deno test --allow-net` adds real sockets in this process,
 * - `deno task test` adds the server as users start it, on Deno and on Bun.
 *
 * What a rung lacks the permission for is reported as ignored.
 */

import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { STATUS_CODES } from "node:http";
import { handler as application } from "./handlers.ts";
import {
  type Handler,
  HttpError,
  HttpHeaders,
  type HttpRequest,
  type HttpResponse,
  type Logger,
  serve,
  serveOn,
  type ServeOptions,
} from "./server.ts";
import { APPS } from "./tests/apps.ts";
import { SCENARIOS } from "./tests/blackbox.ts";
import { BUSY } from "./tests/busy.ts";
import { BROWSED } from "./tests/browser.ts";
import "./tests/chapters.ts";
import { FakeClock } from "./tests/clock.ts";
import { CODED } from "./tests/compress.ts";
import { CUT_OFF } from "./tests/cutoff.ts";
import { EXAMPLES } from "./tests/examples.ts";
import { FAULTS } from "./tests/faults.ts";
import { FETCHED } from "./tests/fetched.ts";
import { FILES } from "./tests/files.ts";
import { runCases, runHeads } from "./tests/fuzz.ts";
import { FRONTS } from "./tests/fronts.ts";
import { GREEDY } from "./tests/greedy.ts";
import { HOSTILE } from "./tests/hostile.ts";
import { LAB } from "./tests/lab.ts";
import { bytesOf, type MemoryClient, MemoryListener } from "./tests/memory.ts";
import "./tests/mended.ts";
import "./tests/seldom.ts";
import "./tests/trusted.ts";
import { NEAR } from "./tests/names.ts";
import { answersOf, PACKAGE } from "./tests/package.ts";
import { PROXIED } from "./tests/proxied.ts";
import { SERVICE } from "./tests/service.ts";
import { COMPARED } from "./tests/rivals.ts";
import { field, methodsOf, parseResponses, type Received } from "./tests/responses.ts";
import {
  Client,
  isInstalled,
  overTls,
  overUnix,
  Process,
  type Runtime,
  RUNTIMES,
} from "./tests/sockets.ts";
import { STEPS } from "./tests/steps.ts";
import { ask, get, pause, post, recorder, secondsOf, start, stop, utf8 } from "./tests/tools.ts";
import { TYPES } from "./tests/types.ts";
import { UNIX } from "./tests/unix.ts";
import { type Answer, type Vector, VECTORS } from "./tests/vectors.ts";
import { WEBSOCKETS } from "./tests/websocket.ts";

function isGranted(name: "net" | "run" | "write"): boolean {
  return Deno.permissions.querySync({ name }).state === "granted";
}

// ── Tools ────────────────────────────────────────────────────────────────────────────────────

/** Lets whatever can happen without more input happen. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await pause(1);
}

function checkAnswers(answers: Answer[], received: Received[]): void {
  assertEquals(
    received.map(({ status }) => status),
    answers.map((answer) => typeof answer === "number" ? answer : answer.status),
  );
  for (const [i, answer] of answers.entries()) {
    if (typeof answer === "number") continue;
    if (answer.body !== undefined) assertEquals(received[i].body, answer.body);
    for (const [name, value] of Object.entries(answer.fields ?? {})) {
      assertEquals(field(received[i], name) ?? null, value, `the field ${name}`);
    }
  }
}

/** Says of which row a failure is. */
async function row<T>({ section, name, send }: Vector, how: string, run: () => Promise<T>) {
  try {
    return await run();
  } catch (error) {
    const shown = send.length > 500 ? `${send.slice(0, 500)}…` : send;
    throw new Error(`${section}, ${name}, ${how}: ${JSON.stringify(shown)}`, { cause: error });
  }
}

/** Byte by byte, but for the few rows that would take too long. */
function piecesOf(send: string): string[] {
  return send.length > 50_000 ? send.match(/[^]{1,997}/g)! : [...send];
}

const FOLLOW_UP = get("/nothing-here");

/** Runs one row on a new connection in memory, in the pieces given. */
async function runVector(
  vector: Vector,
  pieces: string[],
  client: MemoryClient,
  followed: boolean,
) {
  for (const piece of pieces) client.send(piece);
  await client.settled();
  const methods = methodsOf(vector.send).concat("GET");
  const received = parseResponses(client.text, methods, client.ended);
  const answers = followed && !vector.closes ? [...vector.answers, 404] : vector.answers;
  checkAnswers(answers, received);
  assertEquals(client.ended || client.closed, vector.closes, "whether the server closes");
  client.end();
  await client.until(() => client.closed);
  return received;
}

// ── RFC 9110 and 9112, row by row ────────────────────────────────────────────────────────────

for (const section of new Set(VECTORS.map((vector) => vector.section))) {
  Deno.test(`${section}: ${VECTORS.filter((v) => v.section === section).length} rows`, async () => {
    await using server = start(application);
    for (const vector of VECTORS.filter((vector) => vector.section === section)) {
      const { send } = vector;
      const whole = await row(
        vector,
        "whole",
        () => runVector(vector, [send], server.connect(), false),
      );
      const bytewise = await row(
        vector,
        "byte by byte",
        () => runVector(vector, piecesOf(send), server.connect(), false),
      );
      assertEquals(bytewise.map((r) => r.raw), whole.map((r) => r.raw));
      await row(
        vector,
        "with more behind it",
        () => runVector(vector, [send + FOLLOW_UP], server.connect(), true),
      );
      await row(
        vector,
        "answered in small pieces",
        () => runVector(vector, [send], server.connect(send.length > 9999 ? 9999 : 7), false),
      );
    }
  });
}

Deno.test("the names of rows are unique", () => {
  const names = VECTORS.map(({ section, name }) => `${section} ${name}`);
  assertEquals(names.filter((name, i) => names.indexOf(name) !== i), []);
});

for (const [name, run] of NEAR) Deno.test(name, run);

Deno.test("twenty thousand fuzzed heads", () => runHeads(1, 20_000));

Deno.test("three thousand fuzzed cases", () => runCases(1, 3000));

// ── The request ──────────────────────────────────────────────────────────────────────────────

/** What a handler sees of a request. */
async function see(text: string, look: (request: HttpRequest) => unknown): Promise<unknown> {
  let seen: unknown;
  const [{ status }] = await ask(async (request) => {
    seen = await look(request);
    return {};
  }, text);
  assertEquals(status, 200);
  return seen;
}

Deno.test("method, target, path, query, url, version and address as they came", async () => {
  const text = "get /a%20b?x=1&y=%C3%BC HTTP/1.0\r\nHost: example.com:81\r\n\r\n";
  assertEquals(
    await see(text, (r) => [r.method, r.target, r.path, r.query.get("y"), r.url, r.version]),
    [
      "get",
      "/a%20b?x=1&y=%C3%BC",
      "/a%20b",
      "ü",
      "http://example.com:81/a%20b?x=1&y=%C3%BC",
      "1.0",
    ],
  );
  assertEquals(await see(get(), (r) => [r.remoteAddress, [...r.query]]), ["192.0.2.1", []]);
  assertEquals(
    await see("GET http://b/c?d HTTP/1.1\r\nHost: a\r\n\r\n", (r) => [r.target, r.path, r.url]),
    ["http://b/c?d", "/c", "http://b/c?d"],
  );
  assertEquals(
    await see("GET http://b?d HTTP/1.1\r\nHost: a\r\n\r\n", (r) => [r.path, r.url]),
    ["/", "http://b/?d"],
  );
});

Deno.test("header fields in any case, in lists, and one by one", async () => {
  const fields = "X-One:  a b\t\r\nx-two: 1\r\nX-TWO: 2\r\nX-Empty:\r\nX-Bytes: \xe9\r\n";
  const seen = await see(get("/", fields), ({ headers }) => [
    headers.get("x-ONE"),
    headers.get("X-Two"),
    headers.getAll("x-two"),
    headers.get("x-empty"),
    headers.get("x-bytes"),
    headers.get("x-none"),
    headers.has("x-two"),
    headers.has("x-on"),
    [...headers],
  ]);
  assertEquals(seen, [
    "a b",
    "1, 2",
    ["1", "2"],
    "",
    "\xe9",
    null,
    true,
    false,
    [["host", "a"], ["x-one", "a b"], ["x-two", "1"], ["x-two", "2"], ["x-empty", ""], [
      "x-bytes",
      "\xe9",
    ]],
  ]);
  assertEquals([...new HttpHeaders("")], []);
  const odd = new HttpHeaders("^: 1\r\n_: 2\r\nfoo: 3\r\nx"); // as a caller may get it wrong
  assertEquals(["~", "\x7f", "\x1f", "FO\x4f", "fo", "foo:", "", "x"].map((n) => odd.get(n)), [
    ...[null, null, null, "3", null, null, null, null],
  ]);
});

Deno.test("requests that differ by a little are not taken for each other", async () => {
  // The same first and last character, and the same length.
  const paths = ["/abc", "/acc", "/abc", "/bac", "/acc", "/" + "a".repeat(80), "/a/c", "/abc"];
  const hosts = ["a.b.c", "a-b.c", "a.b.c", "aabbc", "a.b.c:1", "a.b.c:2", "a.b.c", "A.b.c"];
  const methods = ["GET", "GOT", "GET", "PUT", "POT", "PUT", "get", "GET"];
  const requests = paths.map((path, i) =>
    `${methods[i]} ${path} HTTP/1.1\r\nHost: ${hosts[i]}\r\nX: ${i}\r\n\r\n`
  );
  const seen: string[] = [];
  await ask((request) => {
    seen.push(`${request.method} ${request.url} ${request.headers.get("X")}`);
    return {};
  }, [...requests, ...requests]);
  const expected = paths.map((path, i) => `${methods[i]} http://${hosts[i]}${path} ${i}`);
  assertEquals(seen, [...expected, ...expected]);
});

Deno.test("a request is still good when its connection has gone on to the next", async () => {
  const kept: HttpRequest[] = [];
  await ask((request) => {
    kept.push(request);
    return {};
  }, [get("/1", "X: 1\r\n"), get("/2", "X: 2\r\n")]);
  assertEquals(kept.map((request) => [request.path, request.headers.get("x")]), [["/1", "1"], [
    "/2",
    "2",
  ]]);
});

const CHUNKED = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" +
  '4;a=b\r\n{"a"\r\n2\r\n:1\r\n1\r\n}\r\n0\r\nX: y\r\n\r\n';
for (const [name, text] of [["with a length", post('{"a":1}')], ["in chunks", CHUNKED]]) {
  for (const pieces of [[text], [...text], [text.slice(0, -4), text.slice(-4)]]) {
    Deno.test(`content ${name}, in ${pieces.length} pieces, in every form`, async () => {
      const forms: [string, (request: HttpRequest) => unknown][] = [
        ["text", (r) => r.text()],
        ["bytes", async (r) => new TextDecoder().decode(await r.bytes())],
        ["json", async (r) => JSON.stringify(await r.json())],
        ["body", (r) => new Response(r.body).text()],
        ["toFetch", (r) => r.toFetch().text()],
      ];
      for (const [form, look] of forms) {
        let seen: unknown;
        const received = await ask(async (request) => {
          if (request.method === "POST") seen = await look(request);
          return { body: request.method };
        }, [...pieces, FOLLOW_UP]);
        assertEquals(seen, '{"a":1}', form);
        assertEquals(received.map((r) => r.body), ["POST", "GET"], form);
      }
    });
  }
}

Deno.test("content can be had once", async () => {
  for (const again of ["bytes", "text", "json"] as const) {
    for (const body of ["x", ""]) {
      await see(post(body), async (request) => {
        await request.text();
        await assertRejects(() => request[again](), TypeError, "only once");
      });
    }
  }
  assertEquals(await see(get(), (request) => request.body), null);
  assertEquals(await see(post(""), (request) => request.body), null);
  // To look at the stream is not to read it.
  assertEquals(await see(post("x"), (r) => r.body && r.text()), "x");
});

Deno.test("text that is not UTF-8, or has a byte-order mark", async () => {
  assertEquals(await see(post("\xef\xbb\xbfa\xffb"), (r) => r.text()), "a\ufffdb");
  assertEquals(await see(post("\xef\xbb\xbf[1]"), (r) => r.json()), [1]);
  const [received] = await ask(async (r) => ({ body: `${await r.json()}` }), post('"\xff"'));
  assertEquals([received.status, received.body], [400, "400 Bad Request: Invalid JSON"]);
});

Deno.test("what is wrong with the content is answered if the handler lets it through", async () => {
  const head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const look of ["bytes", "text", "json"] as const) {
    for (
      const [text, status] of [
        [`${head}5\r\nhelloX`, 400],
        [`${head}x\r\n`, 400],
        [`${head}b\r\n`, 413],
        [`${head}5\r\nhello\r\n6\r\n`, 413],
      ] as const
    ) {
      const received = await ask(
        async (request) => ({ body: `${await request[look]()}` }),
        text + FOLLOW_UP,
        { maxBodySize: 10 },
      );
      assertEquals(received.map((r) => r.status), [status]);
      assertEquals(field(received[0], "connection"), "close");
    }
  }
});

Deno.test("content that ends early is an error, never a short body", async () => {
  for (const text of [post("12345").slice(0, -1), CHUNKED.slice(0, -2), CHUNKED.slice(0, -12)]) {
    await using server = start(async (request) => ({ body: await request.text() }));
    const client = server.connect();
    client.send(text);
    client.end();
    await client.until(() => client.closed);
    const [received] = parseResponses(client.text, ["POST"], true);
    assertEquals(received.body, "400 Bad Request: The content ended early");
  }
});

Deno.test("content that nobody read is skipped, or ends the connection", async () => {
  const small = post("x".repeat(1000)), large = post("x".repeat(300_000));
  assertEquals((await ask(() => ({}), small + get())).length, 2);
  assertEquals((await ask(() => ({}), [small.slice(0, 500), small.slice(500), get()])).length, 2);
  const [received, ...more] = await ask(() => ({}), large + get());
  assertEquals([field(received, "connection"), more.length], ["close", 0]);
  const chunks = ("10000\r\n" + "x".repeat(65536) + "\r\n").repeat(5);
  const endless = CHUNKED.replace("0\r\nX: y\r\n\r\n", chunks + "0\r\n\r\n");
  assertEquals((await ask(() => ({}), endless + get())).length, 1);
});

Deno.test("100 (Continue) goes out when the content is asked for, and not otherwise", async () => {
  const [head, body] = post("hello", "Expect: 100-continue\r\n").split(/(?<=\r\n\r\n)/);
  const statuses = async (handler: Handler, send: string, then = "") => {
    await using server = start(handler);
    const client = server.connect();
    client.send(send);
    await client.settled();
    client.send(then);
    await client.settled();
    return parseResponses(client.text, methodsOf(send + then), client.ended)
      .map(({ status, body }) => body === "" ? status : body);
  };
  const echo: Handler = async (request) => ({ body: await request.text() });
  assertEquals(await statuses(echo, head, body), [100, "hello"]);
  assertEquals(await statuses(echo, head + body, ""), ["hello"]);
  assertEquals(await statuses(echo, head + body.slice(0, 1), body.slice(1)), ["hello"]);
  assertEquals(await statuses(() => ({ status: 403 }), head, ""), [403]);
  const late: Handler = async (request) => {
    await pause(1);
    return { body: await request.text() };
  };
  assertEquals(await statuses(late, head, body), [100, "hello"]);
  const old = head.replace("HTTP/1.1", "HTTP/1.0");
  assertEquals(await statuses(echo, old, body), ["hello"]);
});

// ── The response ─────────────────────────────────────────────────────────────────────────────

Deno.test("every kind of body, to GET and HEAD, in HTTP/1.1 and 1.0", async () => {
  const streamed = () =>
    new ReadableStream<Uint8Array>({
      start(controller) {
        for (const piece of ["str", "", "eam"]) controller.enqueue(bytesOf(piece));
        controller.close();
      },
    });
  async function* generated() {
    yield bytesOf("gen");
    await Promise.resolve();
    yield bytesOf("erated");
  }
  const slow = () => {
    const pieces = ["sl", "ow"];
    return new ReadableStream<Uint8Array>({
      async pull(controller) {
        await pause(2);
        const piece = pieces.shift();
        if (piece === undefined) controller.close();
        else controller.enqueue(bytesOf(piece));
      },
    });
  };
  const textual = () =>
    new ReadableStream<string | ArrayBuffer>({
      start(controller) {
        controller.enqueue("a");
        controller.enqueue(bytesOf("\xc3\xa9").buffer as ArrayBuffer);
        controller.enqueue("b");
        controller.close();
      },
    });
  const kinds: [string, Handler, string, string | undefined][] = [
    ["nothing", () => ({}), "", "0"],
    ["null", () => ({ body: null }), "", "0"],
    ["text", () => ({ body: "text" }), "text", "4"],
    ["text beyond ASCII", () => ({ body: "é€" }), "\xc3\xa9\xe2\x82\xac", "5"],
    ["bytes", () => ({ body: bytesOf("\xff\x00") }), "\xff\x00", "2"],
    ["a frozen response", () => Object.freeze({ body: "ice" }), "ice", "3"],
    ["long text", () => ({ body: "x".repeat(99_999) }), "x".repeat(99_999), "99999"],
    ["long bytes", () => ({ body: new Uint8Array(99_999) }), "\0".repeat(99_999), "99999"],
    [
      "long and frozen",
      () => Object.freeze({ body: "x".repeat(99_999) }),
      "x".repeat(99_999),
      "99999",
    ],
    ["a stream", () => ({ body: streamed() }), "stream", "at once"],
    ["a generator", () => ({ body: generated() }), "generated", "at once"],
    ["a generator that takes its time", () => ({ body: slow() }), "slow", undefined],
    ["text in pieces", () => ({ body: textual() as never }), "a\xc3\xa9b", "at once"],
    ["a Blob", () => ({ body: new Blob(["blob"]) }), "blob", "4"],
    ["an ArrayBuffer", () => ({ body: new Uint8Array(3).buffer }), "\0\0\0", "3"],
    ["a DataView", () => ({ body: new DataView(new ArrayBuffer(9), 2, 3) }), "\0\0\0", "3"],
    [
      "a stream of known length",
      () => ({ headers: { "content-length": "6" }, body: streamed() }),
      "stream",
      "6",
    ],
    ["Response with text", () => new Response("text"), "text", "4"],
    ["Response with bytes", () => new Response(new Uint8Array(3)), "\0\0\0", "3"],
    ["Response with null", () => new Response(null), "", "0"],
    ["Response with a stream", () => new Response(streamed()), "stream", "at once"],
    [
      "Response with text in pieces",
      () => new Response(textual() as never),
      "a\xc3\xa9b",
      "at once",
    ],
    ["Response with a stream that takes its time", () => new Response(slow()), "slow", undefined],
    ["Response.json", () => Response.json({ a: 1 }), '{"a":1}', "7"],
    ["a redirect", () => Response.redirect("http://a/b", 303), "", "0"],
  ];
  for (const [name, handler, body, length] of kinds) {
    for (const method of ["GET", "HEAD"]) {
      for (const version of ["1.1", "1.0"]) {
        const request = `${method} / HTTP/${version}\r\nHost: a\r\n\r\n`;
        const [received] = await ask(handler, request);
        const what = `${name}, ${method}, ${version}`;
        assertEquals(received.body, method === "HEAD" ? "" : body, what);
        const isUnknown = length === undefined || length === "at once" && method === "HEAD";
        const told = length === "at once" ? String(body.length) : length;
        const isUntold = isUnknown || method === "HEAD" && length === "0";
        assertEquals(field(received, "content-length"), isUntold ? undefined : told, what);
        const coding = isUnknown && version === "1.1" ? "chunked" : undefined;
        assertEquals(field(received, "transfer-encoding"), coding, what);
      }
    }
  }
  const form = new FormData();
  form.set("name", "value");
  const [received] = await ask(() => new Response(form), get());
  assertMatch(field(received, "content-type") ?? "", /^multipart\/form-data; *boundary=/);
  assertMatch(received.body, /name="name"\r\n\r\nvalue\r\n/);
});

Deno.test("statuses that have no content have none, and no length", async () => {
  for (const [status, length] of [[204, undefined], [304, undefined], [205, "0"]] as const) {
    for (const body of [() => undefined, () => "text", () => new Response("stream").body!]) {
      const received = await ask(() => ({ status, body: body() }), get() + get());
      assertEquals(received.map((r) => r.status), [status, status]);
      assertEquals(field(received[0], "content-length"), length);
      assertEquals(field(received[0], "transfer-encoding"), undefined);
    }
  }
});

Deno.test("fields as the handler gave them, but for those that frame the message", async () => {
  const headers = {
    "Set-Cookie": ["a=1", "b=2"],
    "X-Latin": "\xe9",
    "X-Date": "a",
    "Trailer-X": "b",
    "Content-Length": "99",
    "Transfer-Encoding": "gzip",
    "Date": "yesterday",
    "Keep-Alive": "timeout=5",
  };
  const fetched = new Headers([["Set-Cookie", "a=1"], ["Set-Cookie", "b=2"], ["X-Latin", "\xe9"]]);
  for (const response of [{ headers, body: "x" }, new Response("x", { headers: fetched })]) {
    const [received] = await ask(() => response, get());
    const lines = received.fields.filter(([name]) => /cookie|latin/.test(name));
    assertEquals(lines, [["set-cookie", "a=1"], ["set-cookie", "b=2"], ["x-latin", "\xe9"]]);
    assert(!/gzip|yesterday|99|timeout/.test(received.raw));
    const others = ["x-date", "trailer-x"].map((name) => field(received, name));
    assertEquals(others, "status" in response ? [undefined, undefined] : ["a", "b"]);
  }
  const longest = { "Content-Length": "123456789012345" };
  const [told] = await ask(() => ({ headers: longest }), "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
  assertEquals(field(told, "content-length"), "123456789012345");
  for (const connection of ["Close", "x, close", "x,\tclose", "close ,x", "close\t,x"]) {
    const [received, ...more] = await ask(() => ({ headers: { connection } }), get() + get());
    assertEquals([field(received, "connection"), more.length], ["close", 0], connection);
  }
  for (const connection of ["x-close", "closed", "keep-alive"]) {
    const received = await ask(() => ({ headers: { connection } }), get() + get());
    assertEquals(received.map((r) => field(r, "connection")), [undefined, undefined], connection);
  }
});

Deno.test("9110 §15: each status has its reason phrase, and another one none", async () => {
  const newer: Record<number, string> = { 413: "Content Too Large", 422: "Unprocessable Content" };
  const untold = [208, 226, 305, 418, 506, 508, 509, 510]; // not in 9110, or hardly in use
  const statuses = Array.from({ length: 400 }, (_, i) => 200 + i);
  const asked = statuses.map((status) => get(`/${status}`)).join("");
  const received = await ask(({ path }) => ({ status: Number(path.slice(1)) }), asked);
  for (const [i, status] of statuses.entries()) {
    const reason = untold.includes(status) ? "" : newer[status] ?? STATUS_CODES[status] ?? "";
    const { raw } = received[i];
    assertEquals(raw.slice(0, raw.indexOf("\r")), `HTTP/1.1 ${status} ${reason}`);
  }
});

Deno.test("an error that a handler throws is answered with its status, and as text", async () => {
  for (const [status, body] of [[404, "404 Not Found: x"], [418, "418 Error: x"]] as const) {
    const [received] = await ask(() => Promise.reject(new HttpError(status, "x")), get());
    assertEquals([received.status, received.body], [status, body]);
    assertEquals(received.fields.filter(([name]) => name !== "date"), [
      ["content-type", "text/plain; charset=utf-8"],
      ["x-content-type-options", "nosniff"],
      ["content-length", `${body.length}`],
    ]);
  }
});

Deno.test("what Fetch has decoded is not told as encoded, nor with the length it had", async () => {
  const rows: [url: string, coding: string, isTold: boolean][] = [
    ["http://a/", "gzip", false],
    ["http://a/", "x-own", true],
    ["", "gzip", true],
  ];
  async function* slow() {
    await new Promise((resolve) => setTimeout(resolve, 1));
    yield bytesOf("hello");
  }
  for (const [url, coding, isTold] of rows) {
    const headers = { "X-A": "1", "Content-Encoding": coding, "Content-Length": "5", "X-B": "2" };
    const response = new Response(ReadableStream.from(slow()), { headers });
    Object.defineProperty(response, "url", { value: url }); // as `fetch` sets it
    const [received] = await ask(() => response, get());
    const told = ["x-a", "content-encoding", "content-length", "x-b"]
      .map((name) => field(received, name));
    const [encoding, length] = isTold ? [coding, "5"] : [];
    assertEquals([received.body, ...told], ["hello", "1", encoding, length, "2"]);
  }
});

Deno.test("a stream is told with its length if all of it fits, and is whole if not", async () => {
  const most = 32768;
  const rows: [sizes: number[], isWhole: boolean][] = [
    [[10, most - 10], true],
    [[most - 9, 10], false],
    [[10, most], false],
    [[most + 1], false],
    [Array(100).fill(1), false], // more pieces than are asked for in one turn
  ];
  for (const [sizes, isWhole] of rows) {
    const pieces = sizes.map((size, i) => `${i % 10}`.repeat(size));
    const whole = pieces.join("");
    const [received] = await ask(() => ({ body: generated(pieces) }), get());
    assertEquals(received.body === whole, true, `${sizes}`);
    const length = isWhole ? `${whole.length}` : undefined;
    assertEquals(field(received, "content-length"), length, `${sizes}`);
  }
  async function* generated(pieces: string[]) {
    yield* pieces;
  }
});

Deno.test("a stream of nothing that is there at once lets others have their turn", async () => {
  let others = 0;
  async function* nothing() {
    setTimeout(() => others++);
    for (let i = 0; i < 10_000 && others === 0; i++) yield "";
  }
  await ask(() => ({ body: nothing() }), get());
  assertEquals(others, 1);
});

Deno.test("a response that can't be sent is 500, and never split", async () => {
  const bad: [string, unknown][] = [
    ["nothing", undefined],
    ["null", null],
    ["text", "hello"],
    ["status 99", { status: 99 }],
    ["status 101", { status: 101 }],
    ["status 600", { status: 600 }],
    ["status NaN", { status: NaN }],
    ["CR LF in a value", { headers: { "X-Bad": "a\r\nSet-Cookie: b" } }],
    ["LF in a value", { headers: { "X-Bad": "a\nb" } }],
    ["NUL in a value", { headers: { "X-Bad": "a\0b" } }],
    ["a character of two bytes in a value", { headers: { "X-Bad": "€" } }],
    ["a value that is no text", { headers: { "X-Bad": 1 } }],
    ["space in a name", { headers: { "X Bad": "a" } }],
    ["LF in a name", { headers: { "X\nBad": "a" } }],
    ["an empty name", { headers: { "": "a" } }],
    ["a body that is a number", { body: 5 }],
    ["a body that is an object", { body: {} }],
    ["Response.error", Response.error()],
    ["a length that is none", { headers: { "content-length": "x" }, body: new Response("a").body }],
    ...["x1", "1x", "", "1234567890123456"].map((length): [string, unknown] => [
      `a length of '${length}'`,
      { headers: { "content-length": length } },
    ]),
    ["what ends like a key", { mystatus: 200 }],
    ["what begins like a key", { statusText: "OK" }],
  ];
  for (const [name, response] of bad) {
    const { lines, log } = recorder();
    const received = await ask(() => response as Response, get() + get(), {
      log: { error: log.error },
    });
    assertEquals(received.map((r) => r.body), Array(2).fill("500 Internal Server Error"), name);
    assertEquals(lines.length, 2, name);
    assertMatch(lines[0], /TypeError: (The|A) /, name);
  }
});

Deno.test("a handler that throws is 500 without a word of it, and an entry in the log", async () => {
  for (
    const handler of [
      () => {
        throw new Error("secret\r\n01-Jan forged");
      },
      () => Promise.reject(new Error("secret\r\n01-Jan forged")),
    ]
  ) {
    const { lines, log } = recorder();
    const received = await ask(handler, get() + get(), { log: { error: log.error } });
    assertEquals(
      received.map((r) => [r.status, r.body]),
      Array(2).fill([500, "500 Internal Server Error"]),
    );
    assertMatch(
      lines[0],
      /^GET \/ \(from 192\.0\.2\.1:50000\): Error: secret\\x0d\n {4}01-Jan forged\n {4}.*server_test/,
    );
  }
  const { lines, log } = recorder();
  const teapot = () => Promise.reject(new HttpError(418, "short and stout"));
  const [received] = await ask(teapot, get(), { log });
  assertEquals([received.status, received.body], [418, "418 Error: short and stout"]);
  const line = '192.0.2.1:50000 "GET / HTTP/1.1" 418 26 n ms: short and stout';
  assertEquals(lines[1].replace(/\d+ ms/, "n ms"), line);
});

Deno.test("onError answers in place of the server", async () => {
  const throwing = () => {
    throw new Error("secret");
  };
  const onError = (error: unknown, request: HttpRequest) => ({
    status: 503,
    body: `${request.path} ${(error as Error).message.length}`,
  });
  const [received] = await ask(throwing, get("/x"), { onError });
  assertEquals([received.status, received.body], [503, "/x 6"]);
  const [second] = await ask(throwing, get("/x"), { onError: throwing });
  assertEquals(second.status, 500);
});

Deno.test("a stream that fails midway, or lies about its length, ends the connection", async () => {
  async function* failing() {
    yield bytesOf("12345");
    await pause(2);
    throw new Error("midway");
  }
  async function* honest() {
    yield bytesOf("12345");
    await pause(2);
  }
  async function* odd() {
    yield bytesOf("12345");
    await pause(2);
    yield 5;
  }
  const bodies: [string, Handler][] = [
    ["chunked", () => ({ body: failing() })],
    ["known length", () => ({ body: failing(), headers: { "Content-Length": "9" } })],
    ["too short", () => ({ body: honest(), headers: { "Content-Length": "9" } })],
    ["too long", () => ({ body: honest(), headers: { "Content-Length": "3" } })],
    ["neither text nor bytes", () => ({ body: odd() as never })],
  ];
  for (const [name, handler] of bodies) {
    const { lines, log } = recorder();
    await using server = start(handler, { log: { error: log.error } });
    const client = server.connect();
    client.send(get() + get());
    await client.until(() => client.closed);
    assertThrows(() => parseResponses(client.text, ["GET"], false), Error);
    assert(!client.text.includes("\r\n0\r\n"), name);
    assertMatch(lines[0], /midway|Content-Length|text or bytes/, name);
  }
});

Deno.test("a client that leaves aborts the signal and cancels the stream", async () => {
  const reasons: unknown[] = [];
  let canceled = false;
  const handler: Handler = (request) => {
    request.signal.addEventListener("abort", () => reasons.push(request.signal.reason));
    return {
      body: new ReadableStream({
        start: (controller) => controller.enqueue(bytesOf("x")),
        cancel: () => void (canceled = true),
      }),
    };
  };
  await using server = start(handler);
  const client = server.connect();
  client.send(get());
  await client.until(() => client.text.endsWith("x\r\n"));
  client.reset();
  await client.until(() => client.closed);
  assertEquals([reasons.length, canceled], [1, true]);

  // While the handler runs; and the answer is sent all the same to one that only ended its side.
  const second = start(async ({ signal }) => {
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    return { body: `${signal.reason.name}` };
  });
  const half = second.connect();
  half.send(get());
  half.end();
  await half.until(() => half.closed);
  assertMatch(half.text, /AbortError$/);
  await second.shutdown();
});

Deno.test("a stream that is not sent is canceled", async () => {
  let canceled = 0;
  const stream = () => new ReadableStream({ cancel: () => void canceled++ });
  const handler: Handler = ({ path }) => {
    const tags = new Map([["/", '"a"'], ["/split", "a\r\nb"]]);
    return { headers: { "ETag": tags.get(path)! }, body: stream() };
  };
  const rows: [string, number][] = [
    ["HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 200],
    [get("/", 'If-None-Match: "a"\r\n'), 304],
    [get("/", 'If-Match: "b"\r\n'), 412],
    [get("/split"), 500],
  ];
  for (const [message, status] of rows) {
    canceled = 0;
    const [received] = await ask(handler, message);
    assertEquals([received.status, canceled], [status, 1]);
  }
});

for (const [name, run] of CUT_OFF) Deno.test(name, run);

Deno.test("content that is waited for has its deadline, whatever else is being written", async () => {
  const echo: Handler = async (request) => ({ body: await request.text() });
  const expects = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
  for (const message of [expects, get() + post("hello").slice(0, -5)]) {
    using clock = new FakeClock();
    const server = start(echo, { requestTimeout: 2, idleTimeout: 5 });
    const client = server.connect();
    client.send(message);
    for (let i = 0; i < 100 && !client.ended; i++) await clock.advance(0.05);
    assertMatch(client.text, /HTTP\/1\.1 408 /);
    assert(clock.seconds >= 1.99 && clock.seconds <= 2.5, `after ${clock.seconds} s`);
    client.end();
    await stop(server, clock);
  }
});

Deno.test("a 408 is not put into an answer that is still being sent", async () => {
  using clock = new FakeClock();
  const { lines, log } = recorder();
  const server = start(async (request) => {
    if (request.path === "/long") return { body: "x".repeat(60_000) };
    return { body: await request.text() };
  }, { requestTimeout: 2, idleTimeout: 2, log });
  const client = server.connect(1000); // It takes a thousand bytes at a time,
  client.stalled = true; // and for now none at all.
  client.send(get("/long") + post("hello").slice(0, -5));
  await clock.advance(0.5);
  client.send("h");
  for (let i = 0; i < 100 && !client.closed; i++) await clock.advance(0.05);
  assert(client.closed);
  assert(!lines.some((line) => line.includes("too long")), lines.join("\n"));
  await stop(server, clock);
});

Deno.test("content that the handler began to read, and gave up, ends the connection", async () => {
  for (const after of ["", "x".repeat(5), "x".repeat(80_000)]) {
    await using server = start(async (request) => {
      if (request.path === "/ok") return { body: "ok" };
      await Promise.race([request.text(), pause(20)]);
      return { body: "given up" };
    });
    const client = server.connect();
    client.send(post("x".repeat(10)).slice(0, -10));
    await client.until(() => client.text.includes("given up"));
    client.send(`0123456789${get("/ok")}${after}`);
    client.end();
    await client.until(() => client.closed);
    const [received, ...more] = parseResponses(client.text, ["POST"], true);
    assertEquals([received.status, field(received, "connection"), more.length], [200, "close", 0]);
  }
});

Deno.test("100 (Continue) is never part of an answer", async () => {
  const message =
    "POST /# HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
  const late = (request: HttpRequest) => {
    setTimeout(() => void request.text().catch(() => {}), 5);
    return { body: "early" };
  };
  const rows: [Handler, string, RegExp][] = [
    [
      (request) => ({ body: request.body! }),
      "hello",
      /^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 /,
    ],
    [late, "", /^HTTP\/1.1 200 [^]*\r\n\r\nearly$/],
  ];
  for (const [handler, content, answer] of rows) {
    await using server = start(handler);
    const client = server.connect();
    client.send(message.replace("#", ""));
    await turns();
    await turns();
    client.send(content);
    client.end();
    await client.until(() => client.ended || client.closed);
    assertMatch(client.text, answer);
    assertEquals(client.text.split("100 Continue").length, content === "" ? 1 : 2);
  }
  // Not even when the answers before it leave no room.
  await using server = start(async (request) => {
    if (request.method === "GET") return { body: "x".repeat(Number(request.query.get("n"))) };
    return { body: await request.text() };
  });
  for (let size = 65_200; size < 65_536; size += 8) {
    const client = server.connect();
    client.send(get(`/?n=${size}`) + message.replace("#", ""));
    await client.until(() => client.text.includes("100 Continue"));
    client.send("hello");
    client.end();
    await client.until(() => client.ended || client.closed);
    assertMatch(
      client.text,
      /x\r\n\r\nHTTP|xHTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 [^]*hello$/,
    );
  }
});

Deno.test("a client that leaves is noticed, whatever it has sent before", async () => {
  const messages = [
    get("/wait"),
    `${get("/wait")}X`,
    post("hello", "", "/wait").slice(0, -5),
    post("hello", "", "/wait"),
    post("hello", "", "/late"),
    post("x".repeat(3000), "", "/wait"),
  ];
  for (const leave of ["end", "reset"] as const) {
    for (const message of messages) {
      const { promise, resolve } = Promise.withResolvers<void>();
      await using server = start(async (request) => {
        const { signal } = request;
        if (request.path === "/late") {
          await pause(250);
          await request.text();
        }
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        resolve();
        return {};
      });
      const client = server.connect();
      client.send(message);
      await pause(message.includes("late") ? 300 : 5);
      client[leave]();
      await promise;
    }
  }
});

Deno.test("whatever handlers, streams, onError and loggers throw harms nobody", async () => {
  const shy = Object.create(null); // can't be made text
  const odd = new Error("odd");
  Object.defineProperty(odd, "stack", { value: 5 });
  const iterable = (iterator: object) => ({ [Symbol.asyncIterator]: () => iterator });
  const bad = {
    [Symbol.asyncIterator]: () => {
      throw new Error("no iterator");
    },
  };
  const never = () => new Promise<never>(() => {});
  const results: Record<string, () => unknown> = {
    "/shy": () => {
      throw shy;
    },
    "/odd": () => {
      throw odd;
    },
    "/cause": () => {
      throw new HttpError(500, "Internal Server Error", { cause: shy });
    },
    "/undefined": () => {
      throw undefined;
    },
    "/array": () => [],
    "/iterator": () => ({ body: bad }),
  };
  const { lines, log } = recorder();
  const loud: Logger = {
    ...log,
    error: (line) => {
      log.error(line);
      throw new Error("full");
    },
  };
  const onErrors = [undefined, () => null, () => Promise.reject(new Error("late")), () => {
    throw shy;
  }];
  for (const onError of onErrors) {
    const options = { log: loud, onError: onError as unknown as ServeOptions["onError"] };
    for (const [path, result] of Object.entries(results)) {
      lines.length = 0;
      const [{ status }] = await ask(() => result() as HttpResponse, get(path), options);
      assertEquals([status, lines.length > 1], [500, true], path);
    }
  }
  // An iterator may say that it is done without a promise, or throw: nobody waits for it.
  const returns = [() => ({ done: true }), () => {
    throw new Error("no end");
  }, never];
  for (const end of returns) {
    let aborted = false;
    await using server = start(({ path, signal }) => {
      signal.addEventListener("abort", () => aborted = true);
      return path === "/" ? { body: iterable({ next: never, return: end }) as never } : {};
    }, { maxConnections: 1 });
    const client = server.connect();
    client.send(get());
    await client.until(() => client.text.endsWith("\r\n\r\n"));
    await pause(150);
    client.reset();
    const next = server.connect();
    next.send(get("/next"));
    await next.until(() => next.text.startsWith("HTTP/1.1 200"));
    assert(aborted);
  }
});

Deno.test("the log explains what a handler did wrong", async () => {
  const used = new Response("hello");
  await used.text();
  const spent = new Response(new Blob(["hello"]).stream());
  await spent.text();
  const begun = new Response(new Blob(["hello"]).stream());
  const reader = begun.body!.getReader();
  await reader.read();
  reader.releaseLock();
  const locked = new ReadableStream();
  locked.getReader();
  const rows: [unknown, string][] = [
    [undefined, "The handler returned undefined: return { body } or a Response"],
    ["hello", "The handler returned string: return { body } or a Response"],
    [[], "The handler returned an array: return { body } or a Response"],
    [{ status: "200" }, "A status must be a whole number from 200 to 599, not the string 200"],
    [{ body: 5 }, "A body must be text, bytes, a Blob or a stream, not a number"],
    [
      { body: {} },
      "A body must be text, bytes, a Blob or a stream, not an object: use JSON.stringify",
    ],
    [{ headers: { "X": "a\r\nb" } }, "The response's field X has a line break or NUL in it"],
    [{ headers: { "X": "a\nb" } }, "The response's field X has a line break or NUL in it"],
    [{ headers: { "X": "a\rb" } }, "The response's field X has a line break or NUL in it"],
    [{ headers: { "X": "a\0b" } }, "The response's field X has a line break or NUL in it"],
    [{ headers: { "X": "a\x7fb" } }, "The response's field X has a control character in it"],
    [{ headers: { "X": "€" } }, "The response's field X has a character beyond U+00FF"],
    [{ headers: { "X": 1 } }, "The response's field X must be a string, not a number"],
    [{ headers: { "X A": "b" } }, "A field name has letters, digits and hyphens, unlike 'X A'"],
    [used, "The body of the response has been read already"],
    [begun, "The body of the response has been read already"],
    [spent, "The body of the response has been read already"],
    [{ body: locked }, "The body of the response has been read already"],
  ];
  for (const [result, message] of rows) {
    const { lines, log } = recorder();
    const [{ status }] = await ask(() => result as HttpResponse, get("/x"), { log });
    const [entry] = lines[1].split("\n");
    assertEquals([status, entry], [500, `GET /x (from 192.0.2.1:50000): TypeError: ${message}`]);
  }
  assertThrows(
    () => serve({ port: 0 } as unknown as Handler),
    TypeError,
    "serve takes a handler, or an object with a method fetch, first",
  );
});

Deno.test("onListen that throws leaves no server behind", async () => {
  const listener = new MemoryListener();
  const onListen = () => {
    throw new Error("not now");
  };
  assertThrows(() => serveOn(listener, () => ({}), { onListen }), Error, "not now");
  assertEquals(await listener.accept(), null);
});

Deno.test("a stream is pulled no faster than the client takes it", async () => {
  let pulled = 0;
  const body = new ReadableStream({
    pull: (controller) => controller.enqueue(new Uint8Array(1000 + (pulled++))),
  }, { highWaterMark: 0 });
  await using server = start(() => ({ body }));
  const client = server.connect();
  client.stalled = true;
  client.send(get());
  await turns();
  assert(pulled <= 34, `${pulled} pieces of 1,000 bytes were pulled`); // 32 KiB, and the next
  client.reset();
});

Deno.test("request content is read no faster than the handler takes it", async () => {
  let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  const finished = Promise.withResolvers<void>();
  await using server = start(async (request) => {
    reader = request.body!.getReader();
    await finished.promise;
    return {};
  });
  const client = server.connect();
  client.send(post("x".repeat(500_000)).slice(0, -100_000));
  await turns();
  const first = await reader!.read();
  assert(first.value!.length <= 65536);
  finished.resolve();
});

Deno.test("the Date is that of the answer, however long the connection was silent", async () => {
  const response = Object.freeze({ body: "x" });
  await using server = start(({ path }) => path === "/frozen" ? response : { body: "y" });
  const client = server.connect();
  for (const silence of [0, 300, 1500, 2200]) {
    await pause(silence);
    for (const path of ["/frozen", "/"]) {
      client.received = new Uint8Array();
      client.send(get(path));
      await client.settled();
      const [received] = parseResponses(client.text, ["GET"], false);
      const late = Date.now() - Date.parse(field(received, "date")!);
      assert(late >= 0 && late < 1000 + 200, `${path} after ${silence} ms: ${late} ms`);
    }
  }
});

Deno.test("what Fetch can't express is refused for toFetch", async () => {
  const see = async (text: string) => {
    const [{ status, body }] = await ask(async (request) => {
      const { method, url, headers } = request.toFetch();
      return { body: [method, url, headers.get("x"), await request.toFetch().text()].join(" ") };
    }, text);
    return status === 200 ? body : status;
  };
  assertEquals(await see(get("/a", "X: y\r\n")), "GET http://a/a y ");
  assertEquals(
    await see("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"),
    "GET http://a/  ",
  );
  for (const method of ["TRACE", "TRACK"]) {
    assertEquals(await see(`${method} / HTTP/1.1\r\nHost: a\r\n\r\n`), 501, method);
  }
  for (const method of ["PURGE", "PROPFIND", "QUERY", "REPORT", "LINK"]) {
    assertEquals(await see(`${method} / HTTP/1.1\r\nHost: a\r\n\r\n`), `${method} http://a/  `);
  }
  assertEquals(await see("put / HTTP/1.1\r\nHost: a\r\n\r\n"), "PUT http://a/  ");
  assertEquals(await see("PATCH / HTTP/1.1\r\nHost: a\r\n\r\n"), "PATCH http://a/  ");
  assertEquals(await see("GET / HTTP/1.1\r\nHost: 999.1.1.1\r\n\r\n"), 400);
});

Deno.test("9110 §5.6.7: a date is read in three forms, and no other text is one", async () => {
  const imf = (milliseconds: number) => new Date(milliseconds).toUTCString();
  const year = new Date().getUTCFullYear();
  const yy = (year: number) => `${year % 100}`.padStart(2, "0");
  const rows: [text: string, date: number][] = [
    ["Sun, 06 Nov 1994 08:49:37 GMT", Date.UTC(1994, 10, 6, 8, 49, 37)],
    ["Sunday, 06-Nov-94 08:49:37 GMT", Date.UTC(1994, 10, 6, 8, 49, 37)],
    ["Sun Nov  6 08:49:37 1994", Date.UTC(1994, 10, 6, 8, 49, 37)],
    ["Wed Nov 16 08:49:37 1994", Date.UTC(1994, 10, 16, 8, 49, 37)],
    ["Wednesday, 16-Nov-94 08:49:37 GMT", Date.UTC(1994, 10, 16, 8, 49, 37)],
    // Of years with two digits, one more than 50 years ahead is past.
    [`Monday, 01-Jun-${yy(year + 50)} 00:00:00 GMT`, Date.UTC(year + 50, 5, 1)],
    [`Monday, 01-Jun-${yy(year - 49)} 00:00:00 GMT`, Date.UTC(year - 49, 5, 1)],
    [`Monday, 01-Jun-${yy(year)} 00:00:00 GMT`, Date.UTC(year, 5, 1)],
    ["Sat, 31 Dec 2016 23:59:60 GMT", Date.UTC(2017, 0, 1)],
    ["Thu, 30 Jun 2016 23:59:60 GMT", Date.UTC(2016, 6, 1)],
    ["Tue, 29 Feb 2000 00:00:00 GMT", Date.UTC(2000, 1, 29)],
    ...Array.from({ length: 12 }, (_, month): [string, number] => {
      const date = Date.UTC(2001, month, 1 + month, 23, 59, 59);
      return [imf(date), date];
    }),
    ...[
      "Mon, 29 Feb 2100 00:00:00 GMT",
      "Sun, 00 Nov 1994 08:49:37 GMT",
      "Sun, 31 Nov 1994 08:49:37 GMT",
      "Sun, 06 nov 1994 08:49:37 GMT",
      "Sun, 06 Nov 1994 24:00:00 GMT",
      "Sun, 06 Nov 1994 08:60:00 GMT",
      "Sun, 06 Nov 1994 08:49:61 GMT",
      "Sund, 06 Nov 1994 08:49:37 GMT",
      "Su, 06 Nov 1994 08:49:37 GMT",
      "xSun, 06 Nov 1994 08:49:37 GMT",
      "Sun, 06 Nov 1994 08:49:37 GMTx",
      "Sun, 6 Nov 1994 08:49:37 GMT",
      "Sun, 06 Nov 94 08:49:37 GMT",
      "Sun, 06-Nov-94 08:49:37 GMT",
      "Sunda, 06-Nov-94 08:49:37 GMT",
      "Wednesdays, 16-Nov-94 08:49:37 GMT",
      "-Sunday, 06-Nov-94 08:49:37 GMT",
      "Sunday, 06-Nov-94 08:49:37 GMTx",
      "Sunday, 06-Nov-1994 08:49:37 GMT",
      "Sunn Nov  6 08:49:37 1994",
      "Su Nov  6 08:49:37 1994",
      "Sun Nov 6 08:49:37 1994",
      "Sun Nov  6 08:49:37 19945",
      "Sun Nov  6 08:49:37 1994 GMT",
      "xSun Nov  6 08:49:37 1994",
      "",
    ].map((text): [string, number] => [text, NaN]),
  ];
  for (const [text, date] of rows) {
    // What was modified then has not changed since, and what was a second later has.
    for (const later of [0, 1000]) {
      const modified = imf((Number.isNaN(date) ? 0 : date) + later);
      const headers = { "Last-Modified": modified };
      const [{ status }] = await ask(
        () => ({ headers }),
        get("/", `If-Modified-Since: ${text}\r\n`),
      );
      assertEquals(status, later === 0 && !Number.isNaN(date) ? 304 : 200, `${text}: ${modified}`);
    }
  }
});

Deno.test("preconditions and ranges, for whatever has a validator", async () => {
  const strong = 'ETag: "a"',
    weak = 'ETag: W/"a"',
    dated = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT";
  const same = "Sun, 06 Nov 1994 08:49:37 GMT", earlier = "Sun, 06 Nov 1994 08:49:36 GMT";
  const rows: [has: string, asked: string, status: number][] = [
    // 9110 §13.1.1: strong comparison
    [strong, 'If-Match: "a"', 200],
    [strong, 'If-Match: "b", "a"', 200],
    [strong, 'If-Match: "b"', 412],
    [strong, 'If-Match: W/"a"', 412],
    [weak, 'If-Match: W/"a"', 412],
    [weak, "If-Match: *", 200],
    [dated, 'If-Match: "a"', 412],
    [dated, "If-Match: *", 200],
    ["X: y", 'If-Match: "a"', 200], // no validator, nothing to compare
    // 9110 §13.1.2: weak comparison
    [strong, 'If-None-Match: "a"', 304],
    [strong, 'If-None-Match: W/"a"', 304],
    [weak, 'If-None-Match: "a"', 304],
    [weak, 'If-None-Match: W/"a"', 304],
    [strong, 'If-None-Match: "b" , "a,b", "a"', 304],
    [strong, 'If-None-Match: "b", "a,b"', 200],
    [strong, 'If-None-Match: "A"', 200],
    [strong, "If-None-Match: a", 200],
    [strong, 'If-None-Match: x"a"', 200],
    [strong, 'If-None-Match: "a"x', 200],
    [strong, 'If-None-Match: "b",\t"a"\t, "c"', 304],
    [strong, 'If-None-Match: "b", "a" , "c"', 304],
    ['ETag: ""', 'If-None-Match: ""', 304],
    ['ETag: "!\xe9"', 'If-None-Match: "!\xe9"', 304],
    ['ETag: "W/a"', 'If-None-Match: "W/a"', 304],
    ['ETag: "W/a"', 'If-None-Match: "a"', 200],
    // 9110 §13.1.3 and §13.1.4, in the three forms of 9110 §5.6.7
    [dated, `If-Modified-Since: ${same}`, 304],
    [dated, "If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT", 304],
    [dated, "If-Modified-Since: Sun Nov  6 08:49:37 1994", 304],
    [dated, `If-Modified-Since: ${earlier}`, 200],
    [dated, "If-Modified-Since: Sun, 06 Nov 1994 08:49:37", 200],
    [dated, "If-Modified-Since: Sun, 31 Feb 2020 08:49:37 GMT", 200],
    [dated, "If-Modified-Since: Sun, 06 Nov 2020 24:49:37 GMT", 200],
    [dated, "If-Modified-Since: 0", 200],
    [dated, `If-Unmodified-Since: ${same}`, 200],
    [dated, `If-Unmodified-Since: ${earlier}`, 412],
    [dated, "If-Unmodified-Since: whenever", 200],
    [strong, `If-Unmodified-Since: ${earlier}`, 200],
    // 9110 §13.2.2: the order
    [`${strong}\r\n${dated}`, `If-None-Match: "b"\r\nIf-Modified-Since: ${same}`, 200],
    [`${strong}\r\n${dated}`, `If-Match: "a"\r\nIf-Unmodified-Since: ${earlier}`, 200],
    [`${strong}\r\n${dated}`, `If-None-Match: "a"\r\nIf-Modified-Since: ${earlier}`, 304],
    // 9110 §13.1.5
    [strong, 'Range: bytes=1-2\r\nIf-Range: "a"', 206],
    [strong, 'Range: bytes=1-2\r\nIf-Range: "b"', 200],
    [weak, 'Range: bytes=1-2\r\nIf-Range: W/"a"', 200],
    [dated, `Range: bytes=1-2\r\nIf-Range: ${same}`, 206],
    [dated, `Range: bytes=1-2\r\nIf-Range: ${earlier}`, 200],
    ["X: y", "Range: bytes=1-2", 206],
  ];
  for (const [has, asked, status] of rows) {
    const headers = Object.fromEntries(has.split("\r\n").map((line) => line.split(": ")));
    const [received] = await ask(() => ({ headers, body: "hello" }), get("/", `${asked}\r\n`));
    assertEquals(received.status, status, `${has} and ${asked}`);
    if (status === 206) {
      assertEquals([received.body, field(received, "content-range")], ["el", "bytes 1-2/5"]);
    }
    if (status === 200) assertEquals(received.body, "hello");
    if (status === 304) {
      assertEquals([received.body, field(received, "etag")], ["", headers["ETag"]]);
    }
  }
  // 9110 §13.1.5: what was modified just now may be so again within the second.
  const now = new Date(Math.ceil(Date.now() / 1000) * 1000).toUTCString();
  const fresh = () => ({ headers: { "Last-Modified": now }, body: "hello" });
  assertEquals(
    (await ask(fresh, get("/", `Range: bytes=1-2\r\nIf-Range: ${now}\r\n`)))[0].status,
    200,
  );
  // 9110 §14.1.2 and §14.4, of all that has parts
  const ranges: [range: string, from: number, to: number][] = [
    ["bytes=0-", 0, 5],
    ["bytes=1-", 1, 5],
    ["bytes=4-4", 4, 5],
    ["bytes=2-9", 2, 5],
    ["bytes=-2", 3, 5],
    ["bytes=-9", 0, 5],
    ["bytes= 1-2", 1, 3],
    ["bytes=\t1-2", 1, 3],
  ];
  for (const [range, from, to] of ranges) {
    for (const body of ["hello", bytesOf("hello"), new Blob(["hello"])]) {
      const [received] = await ask(() => ({ body }), get("/", `Range: ${range}\r\n`));
      const told = ["content-range", "content-length"].map((name) => field(received, name));
      const expected = [`bytes ${from}-${to - 1}/5`, `${to - from}`];
      assertEquals([received.status, received.body, ...told], [
        206,
        "hello".slice(from, to),
        ...expected,
      ]);
    }
  }
  // Only what is a 200 to GET or HEAD; and a stream that is not there at once is sent whole.
  const headers = { ETag: '"a"' };
  const asked = 'If-None-Match: "a"\r\nRange: bytes=0-0\r\n';
  assertEquals((await ask(() => ({ status: 201, headers }), get("/", asked)))[0].status, 201);
  assertEquals((await ask(() => ({ headers }), post("", asked)))[0].status, 200);
  const stream = () => ({ body: new Response("hello").body });
  assertEquals((await ask(stream, get("/", "Range: bytes=0-0\r\n")))[0].body, "h");
  async function* slow() {
    yield "he";
    await pause(2);
    yield "llo";
  }
  const late = () => ({ body: slow() as never });
  assertEquals((await ask(late, get("/", "Range: bytes=0-0\r\n")))[0].body, "hello");
  const blob = () => ({ body: new Blob(["hello"], { type: "text/x" }) });
  const [part] = await ask(blob, get("/", "Range: bytes=1-2\r\n"));
  assertEquals(
    [part.status, part.body, field(part, "content-range"), field(part, "content-type")],
    [206, "el", "bytes 1-2/5", "text/x"],
  );
  const [beyond] = await ask(() => ({ body: "hello" }), get("/", "Range: bytes=5-\r\n"));
  assertEquals([beyond.status, field(beyond, "content-range")], [416, "bytes */5"]);
});

// ── The application ──────────────────────────────────────────────────────────────────────────

const JSON_TYPE = "Content-Type: application/json\r\n";

Deno.test("the page and the book, as they are in their files", async () => {
  const [page, book, missing] = await ask(application, get("/") + get("/book?x") + get("/x"));
  assertEquals([page.status, field(page, "content-type")], [200, "text/html; charset=utf-8"]);
  assertMatch(page.body, /^<!doctype html>/i);
  const policy = field(page, "content-security-policy")!;
  assertMatch(policy, /^default-src 'none'; script-src 'sha256-[^ ]+'; style-src 'sha256-[^ ]+';/);
  assertEquals([book.status, field(book, "content-type")], [200, "application/json"]);
  assertEquals(typeof JSON.parse(book.body).title, "string");
  assertEquals([missing.status, missing.body], [404, "404 Not Found"]);
  for (const answer of [page, book, missing]) {
    assertEquals(field(answer, "x-content-type-options"), "nosniff");
  }
});

Deno.test("JSON objects come back with an id", async () => {
  const deep = (levels: number) => '{"a":' + "[".repeat(levels - 1) + "]".repeat(levels - 1) + "}";
  const rows: [string, string, number, string?][] = [
    ["an object", '{"a":1}', 200, '{\n  "a": 1,\n  "id": 1\n}'],
    ["an empty object", "{}", 200, '{\n  "id": 1\n}'],
    ["an id of its own", '{"id":7,"a":1}', 200, '{\n  "id": 1,\n  "a": 1\n}'],
    [
      "__proto__",
      '{"__proto__":{"x":1}}',
      200,
      '{\n  "__proto__": {\n    "x": 1\n  },\n  "id": 1\n}',
    ],
    ["a byte-order mark", '\xef\xbb\xbf{"a":1}', 200, '{\n  "a": 1,\n  "id": 1\n}'],
    ["beyond ASCII", utf8('{"ä":"€😀"}'), 200, utf8('{\n  "ä": "€😀",\n  "id": 1\n}')],
    ["escapes", '{"a":"\\u20ac\\ud800"}', 200, utf8('{\n  "a": "€\\ud800",\n  "id": 1\n}')],
    ["1000 levels", deep(1000), 200],
    ["1001 levels", deep(1001), 400],
    ["500,000 levels", deep(500_000), 400],
    ["500,000 brackets", '{"a":"' + "[".repeat(500_000) + '"}', 200],
    ["not JSON", "{", 400],
    ["white space", " ", 400],
    ["not UTF-8", '{"a":"\xff"}', 400],
    [
      "the replacement character",
      utf8('{"a":"\ufffd"}'),
      200,
      utf8('{\n  "a": "\ufffd",\n  "id": 1\n}'),
    ],
    ["both of these", utf8('{"a":"\ufffd') + '\xff"}', 400],
    ["1001 levels of objects", '{"a":'.repeat(1001) + "1" + "}".repeat(1001), 400],
    ["a number", "5", 400],
    ["a string", '"a"', 400],
    ["null", "null", 400],
    ["an array", "[]", 400],
    ["nothing", "", 200, ""],
  ];
  for (const [name, body, status, answer] of rows) {
    const [received] = await ask(application, post(body, JSON_TYPE));
    assertEquals(received.status, status, name);
    if (answer !== undefined) assertEquals(received.body, answer, name);
    if (status === 400) assertMatch(received.body, /^400 Bad Request: Invalid JSON/, name);
    if (status === 200) assertEquals(field(received, "content-type"), "application/json", name);
  }
  for (
    const type of ["APPLICATION/JSON", "application/json; charset=utf-8", "application/ld+json"]
  ) {
    const [received] = await ask(application, post("{}", `Content-Type: ${type}\r\n`));
    assertEquals([received.body, field(received, "content-type")], ['{\n  "id": 1\n}', type]);
  }
  const split = utf8('{"a":"€"}');
  for (let at = 1; at < split.length; at++) {
    const whole = post(split, JSON_TYPE), cut = whole.length - split.length + at;
    const [received] = await ask(application, [whole.slice(0, cut), whole.slice(cut)]);
    assertEquals(received.body, utf8('{\n  "a": "€",\n  "id": 1\n}'));
  }
});

Deno.test("anything else that is posted comes back as it is", async () => {
  const every = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte)).join("");
  for (const type of ["text/plain", "application/octet-stream", "text/json", "x\xe9y", undefined]) {
    const fields = type === undefined ? "" : `Content-Type: ${type}\r\n`;
    for (const body of [every, "", "{", "x".repeat(1_048_576)]) {
      const [received] = await ask(application, post(body, fields));
      assertEquals([received.status, received.body.length], [200, body.length]);
      assert(received.body === body);
      const isText = body !== "" && body !== every; // which is no UTF-8
      assertEquals(
        field(received, "content-type"),
        type ?? (isText ? "text/plain; charset=utf-8" : undefined),
      );
    }
  }
});

// ── The connection ───────────────────────────────────────────────────────────────────────────

Deno.test("answers to pipelined requests are in order, and leave in one write", async () => {
  let writes = 0;
  await using server = start(async ({ path }) => {
    if (path.endsWith("5")) await pause(5);
    return { body: path };
  });
  const count = (client: MemoryClient) => {
    const write = client.connection.write;
    client.connection.write = (bytes) => (writes++, write(bytes));
    return client;
  };
  const paths = Array.from({ length: 16 }, (_, i) => `/${i}`);
  const slow = count(server.connect());
  slow.send(paths.map((path) => get(path)).join(""));
  await slow.settled();
  assertEquals(parseResponses(slow.text, [], false).map((r) => r.body), paths);

  await using quick = start(({ path }) => ({ body: path }));
  const client = count(quick.connect());
  writes = 0;
  client.send(paths.map((path) => get(path)).join(""));
  await client.settled();
  assertEquals(parseResponses(client.text, [], false).map((r) => r.body), paths);
  assertEquals(writes, 1);

  // What is ready does not wait for a handler that is slow.
  const never = start(({ path }) => path === "/0" ? { body: "x" } : new Promise<never>(() => {}));
  const impatient = never.connect();
  impatient.send(get("/0") + get("/1"));
  await impatient.until(() => impatient.text.endsWith("x"));
  await never.shutdown(0);
});

Deno.test("a body that the handler changes afterwards is not what is sent", async () => {
  const scratch = new Uint8Array(4);
  const received = await ask(({ path }) => {
    scratch.set(bytesOf(path));
    return { body: scratch };
  }, get("/abc") + get("/def") + get("/ghi"));
  assertEquals(received.map((r) => r.body), ["/abc", "/def", "/ghi"]);
});

Deno.test("a client that ends its side gets its answers", async () => {
  await using server = start(async ({ path }) => {
    await Promise.resolve();
    return { body: path };
  });
  const client = server.connect();
  client.send(get("/1") + get("/2"));
  client.end();
  await client.until(() => client.closed);
  assertEquals(parseResponses(client.text, [], true).map((r) => r.body), ["/1", "/2"]);
});

Deno.test("a client that ends in the middle of a head is told", async () => {
  for (
    const [text, status] of [
      ["GET / HT", [400]],
      [`${get()}HEAD`, [200, 400]],
      ["\r\n", []],
      ["", []],
    ] as const
  ) {
    await using server = start(() => ({}));
    const client = server.connect();
    client.send(text);
    client.end();
    await client.until(() => client.closed);
    assertEquals(parseResponses(client.text, [], true).map((r) => r.status), [...status]);
  }
});

Deno.test("what a client has sent is not handled any more when it has left", async () => {
  const { lines, log } = recorder();
  let calls = 0;
  using clock = new FakeClock();
  const server = start(async () => {
    calls++;
    await pause(300);
    return { body: "x" };
  }, { log });
  const client = server.connect();
  client.send(get("/").repeat(20));
  await clock.advance(0.15);
  client.reset();
  await clock.advance(0.7);
  assertEquals([calls, lines.filter((line) => line.includes('"GET / HTTP/1.1"')).length], [1, 1]);
  await stop(server, clock);
});

Deno.test("content that turns out bad while it is streamed back is no error of the handler's", async () => {
  const chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
  for (const [then, why] of [["x\r\n", "Malformed chunk"], ["", "The content ended early"]]) {
    const { lines, log } = recorder();
    const errors: string[] = [];
    await using server = start((request) => ({ body: request.body! }), {
      log: { info: log.info, error: (line) => errors.push(line) },
    });
    const client = server.connect();
    client.send(chunked);
    await client.until(() => client.text.endsWith("hello\r\n"));
    client.send(then);
    client.end();
    await client.until(() => client.closed);
    assertEquals(errors, []);
    assert(lines.some((line) => line.includes(`: cut off: ${why}`)), lines.join("\n"));
  }
});

Deno.test("what a peer sent is escaped in the log", async () => {
  const { lines, log } = recorder();
  await ask(() => ({}), 'GET /"\x7f HTTP/1.1\r\nHost: a\r\n\r\n', { log });
  await ask(() => ({}), "G!T /%0a'{| HTTP/1.1\r\nHost: a\r\n\r\n", { log });
  await ask(() => ({}), "GET /a?b HTTP/1.1\r\n\r\n", { log });
  assertEquals(
    lines.filter((line) => /Malformed|G!T/.test(line)).map((line) =>
      line.replace(/[\d.]+ ms/, "n ms")
    ),
    [
      '192.0.2.1:50000 "GET" 400: Malformed request line: the target is not a URI followed by a space',
      '192.0.2.1:50000 "G!T /%0a\'{| HTTP/1.1" 200 0 n ms',
      '192.0.2.1:50000 "GET /a?b" 400: Malformed header: no Host',
    ],
  );
});

// ── Concurrency and time ─────────────────────────────────────────────────────────────────────

Deno.test("no more connections are served at a time than there are permits", async () => {
  let running = 0, most = 0;
  const order: string[] = [];
  await using server = start(async ({ path }) => {
    most = Math.max(most, ++running);
    await pause(2);
    running--;
    order.push(path);
    return {};
  }, { maxConnections: 3 });
  const clients = Array.from({ length: 30 }, () => server.connect());
  for (const [i, client] of clients.entries()) client.send(get(`/${i}`));
  for (const client of clients) await client.until(() => client.text.endsWith("\r\n\r\n"));
  assertEquals(most, 3);
  assertEquals(order, clients.map((_, i) => `/${i}`));
});

Deno.test("a client that does not close after its last answer holds no permit", async () => {
  await using server = start(() => ({}), { maxConnections: 1 });
  const clients = Array.from({ length: 5 }, () => server.connect());
  for (const client of clients) client.send(get() + get());
  const seconds = await secondsOf(async () => {
    for (const client of clients) await client.until(() => client.text !== "");
  });
  assert(seconds < 1, `${seconds} s`);
  for (const client of clients) client.end();
});

Deno.test("an idle connection makes room for one that waits", async () => {
  await using server = start(() => ({}), { maxConnections: 3 });
  const idle = [server.connect(), server.connect(), server.connect()];
  for (const client of idle) {
    client.send(get());
    await client.settled();
  }
  const client = server.connect();
  client.send(get());
  await client.settled();
  assertEquals(client.text.startsWith("HTTP/1.1 200"), true);
  assertEquals(idle.map((one) => one.closed), [true, false, false]);
});

Deno.test("an accept that fails does not end the server", async () => {
  await using server = start(() => ({}));
  server.fail(new Error("EMFILE"));
  server.fail(new Error("EMFILE"));
  const client = server.connect();
  client.send(get());
  await client.until(() => client.text.startsWith("HTTP/1.1 200"));
});

Deno.test("an idle connection is closed without an answer", async () => {
  const { lines, log } = recorder();
  using clock = new FakeClock();
  const server = start(() => ({}), { idleTimeout: 0.5, log });
  for (const text of ["", get(), "\r\n"]) {
    const client = server.connect();
    client.send(text);
    await clock.advance(0.49);
    assert(!client.closed);
    await clock.advance(0.5);
    assert(client.closed);
    assertEquals(parseResponses(client.text, [], true).length, text === get() ? 1 : 0);
  }
  await stop(server, clock);
  assertEquals(lines.filter((line) => line.includes("idle timeout")).length, 3);
});

Deno.test("a request that takes too long to arrive is 408", async () => {
  const echo: Handler = async (request) => ({ body: await request.text() });
  const head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  const starts = [
    "G",
    "GET / HTTP/1.1\r\nHos",
    post("x".repeat(50)).slice(0, -40),
    head,
    `${head}5;a`,
  ];
  await using server = start(echo, { requestTimeout: 0.5 });
  await Promise.all(starts.map(async (text) => {
    const client = server.connect();
    client.send(text);
    const trickle = setInterval(() => client.send("1"), 100);
    const seconds = await secondsOf(() => client.until(() => client.ended || client.closed));
    clearInterval(trickle);
    assert(seconds >= 0.49 && seconds < 1, `after ${seconds} s`);
    const [received, ...more] = parseResponses(client.text, [], true);
    assertEquals([received.status, field(received, "connection"), more.length], [408, "close", 0]);
    client.end();
    await client.until(() => client.closed);
  }));
});

for (const limit of [1, 300]) {
  const chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  const rows: [
    what: string,
    option: keyof ServeOptions,
    sent: string,
    drop: string,
    answer: RegExp,
  ][] = [
    ["no byte at all", "idleTimeout", "", "", /^$/],
    ["nothing after an answer", "idleTimeout", get(), "", /^HTTP\/1.1 200 [^]*hello$/],
    ["an answer that nobody reads", "idleTimeout", get("/unread"), "", /^$/],
    ["half a head", "idleTimeout", "GET / HT", "", /^HTTP\/1.1 408 /],
    ["half a body", "idleTimeout", post("x".repeat(9)).slice(0, -4), "", /^HTTP\/1.1 408 /],
    ["a line that trickles in", "requestTimeout", "G", "E", /^HTTP\/1.1 408 /],
    ["a field that trickles in", "requestTimeout", get().slice(0, -4), "x", /^HTTP\/1.1 408 /],
    ["a body that trickles in", "requestTimeout", post("x".repeat(999)).slice(0, -990), "x", /408/],
    ["a chunk size that trickles in", "requestTimeout", chunked, "0", /^HTTP\/1.1 408 /],
    ["chunks that trickle in", "requestTimeout", chunked, "1\r\nx\r\n", /^HTTP\/1.1 408 /],
  ];
  for (const [what, option, sent, drop, answer] of rows) {
    Deno.test(`${option} of ${limit} s: ${what}`, async () => {
      using clock = new FakeClock();
      const options = { idleTimeout: 1000, requestTimeout: 1000, [option]: limit };
      const server = start(async (request) => {
        await request.bytes();
        return { body: "hello" };
      }, options);
      const client = server.connect();
      client.stalled = sent.includes("unread");
      client.send(sent);
      const isOver = () => client.ended || client.closed;
      for (let tenth = 0; tenth < 9 && !isOver(); tenth++) {
        await clock.advance(limit / 10);
        client.send(drop);
      }
      if (!isOver()) await clock.advance(limit / 10 - 0.05);
      while (!isOver() && clock.seconds < limit + 5) await clock.advance(0.05);
      const { seconds } = clock;
      assert(seconds >= limit - 0.001 && seconds <= limit + 0.5, `after ${seconds} s`);
      assertMatch(client.text, answer);
      client.end();
      await stop(server, clock);
    });
  }
}

Deno.test("a handler's own time is not limited, nor counted", async () => {
  const slow: Handler = async (request) => {
    await pause(900);
    return { body: await request.text() };
  };
  using clock = new FakeClock();
  const server = start(slow, { requestTimeout: 0.5, idleTimeout: 0.5 });
  const client = server.connect();
  const [head, body] = post("x".repeat(5000)).split(/(?<=\r\n\r\n)/);
  client.send(head);
  setTimeout(() => client.send(body), 1000);
  await clock.advance(1.1);
  assertMatch(client.text, /^HTTP\/1.1 200 [^]*xxx$/);
  await stop(server, clock);
});

Deno.test("a client that does not read is dropped", async () => {
  using clock = new FakeClock();
  const server = start(() => ({ body: "x".repeat(99_999) }), { idleTimeout: 0.5 });
  const client = server.connect();
  client.stalled = true;
  client.send(get());
  await clock.advance(0.49);
  assert(!client.closed);
  await clock.advance(0.5);
  assert(client.closed);
  await stop(server, clock);
});

Deno.test("a handler that never returns does not hold its permit when the client resets", async () => {
  await using server = start(({ path }) => path === "/" ? new Promise<never>(() => {}) : {}, {
    maxConnections: 1,
  });
  const stuck = server.connect();
  stuck.send(get());
  const next = server.connect();
  next.send(get("/next"));
  setTimeout(() => stuck.reset(), 300);
  await next.until(() => next.text.startsWith("HTTP/1.1 200"));
});

Deno.test("shutdown finishes what runs, closes what is idle, and cuts off what is stuck", async () => {
  const { lines, log } = recorder();
  const server = start(async ({ path }) => {
    if (path === "/stuck") await new Promise(() => {});
    await pause(50);
    return { body: "done" };
  }, { log });
  const [idle, running, stuck, fresh] = Array.from({ length: 4 }, () => server.connect());
  idle.send(get());
  await idle.settled();
  running.send(get());
  stuck.send(get("/stuck"));
  await fresh.settled();
  await pause(10);
  const seconds = await secondsOf(() => server.shutdown(0.3));
  await server.finished;
  assert(seconds >= 0.29 && seconds < 0.8);
  assertEquals([idle.closed, fresh.closed, stuck.text], [true, true, ""]);
  const [received] = parseResponses(running.text, [], true);
  assertEquals([received.body, field(received, "connection")], ["done", "close"]);
  assert(lines.includes("Connections cut off: 1"));
});

Deno.test("what has arrived when the server stops is answered", async () => {
  const server = start(async ({ path }) => {
    await pause(100);
    return { body: path };
  }, { maxConnections: 2 });
  const clients = Array.from({ length: 10 }, () => server.connect());
  for (const [i, client] of clients.entries()) client.send(get(`/${i}`));
  await server.shutdown();
  for (const [i, client] of clients.entries()) {
    const [received] = parseResponses(client.text, ["GET"], true);
    assertEquals([received.body, field(received, "connection")], [`/${i}`, "close"]);
  }
  // What nobody closes is cut off, even what has not got a permit yet.
  const stuck = start(() => new Promise<never>(() => {}), { maxConnections: 1 });
  for (let i = 0; i < 3; i++) stuck.connect().send(get());
  await turns();
  await stuck.shutdown(0.2);
});

Deno.test("options out of range are refused by name", () => {
  const bad: ServeOptions[] = [
    { port: -1 },
    { port: 65536 },
    { port: 1.5 },
    { backlog: -1 },
    { maxConnections: 0 },
    { idleTimeout: 0 },
    { idleTimeout: NaN },
    { requestTimeout: -1 },
    { maxHeaderSize: 0 },
    { maxHeaderCount: 0 },
    { maxBodySize: -1 },
    { maxBodySize: "1" as unknown as number },
  ];
  for (const options of bad) {
    const [name] = Object.keys(options);
    assertThrows(() => serve(() => ({}), options), RangeError, `${name} must be `);
  }
});

// ── Real sockets in this process ─────────────────────────────────────────────────────────────

const NET = { ignore: !isGranted("net") };

Deno.test("serve: a free port, onListen, and a signal that stops it", NET, async () => {
  const controller = new AbortController();
  let listening = 0;
  const server = serve(() => ({ body: "hello" }), {
    port: 0,
    signal: controller.signal,
    onListen: ({ port }) => listening = port,
  });
  assertEquals(server.addr, { hostname: "127.0.0.1", port: listening });
  const response = await fetch(`http://127.0.0.1:${listening}/`);
  assertEquals([response.status, await response.text()], [200, "hello"]);
  controller.abort();
  await server.finished;
});

Deno.test("there is nothing to renew without TLS", NET, async () => {
  await using server = serve(() => ({ body: "hello" }), { port: 0 });
  const tls = { cert: "", key: "" };
  assertThrows(() => server.renew(tls), TypeError, "the server was started without tls");
  await using other = serveOn(new MemoryListener(), () => ({ body: "hello" }));
  assertThrows(() => other.renew(tls), TypeError, "the listener can't do that");
});

Deno.test("a client that resets at any point harms nobody", NET, async () => {
  await using server = serve(async (request) => {
    await pause(5);
    return { body: `${await request.text()}${"x".repeat(1_000_000)}` };
  }, { port: 0 });
  const { port } = server.addr;
  const text = post("hello");
  for (let at = 0; at <= text.length; at += 4) {
    const client = await Client.connect(port);
    await client.send(text.slice(0, at));
    client.close();
  }
  assertMatch(await exchangeOnce(port, text), /^HTTP\/1.1 200 /);
});

async function exchangeOnce(port: number, text: string): Promise<string> {
  using client = await Client.connect(port);
  await client.send(text.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
  return await client.rest();
}

// ── The server as users start it ─────────────────────────────────────────────────────────────

const RUN = isGranted("run") && isGranted("net");

/** What is tried with plain sockets, and over TLS. */
const CASES = [
  ...SCENARIOS,
  ...FAULTS,
  ...HOSTILE,
  ...BUSY,
  ...GREEDY,
  ...SERVICE,
  ...CODED,
  ...WEBSOCKETS,
];
const FROM_OUTSIDE = [
  EXAMPLES,
  FILES,
  APPS,
  FETCHED,
  FRONTS,
  PROXIED,
  UNIX,
  PACKAGE,
  TYPES,
  STEPS,
  LAB,
  BROWSED,
];
const OTHERS = [...FROM_OUTSIDE, COMPARED].flat();

for (const runtime of RUNTIMES) {
  for (const scenario of [...CASES, ...OTHERS]) {
    const [name, run, { only = runtime.name, needs = runtime.command, plain = false } = {}] =
      scenario;
    if (only !== runtime.name) continue;
    const ready = RUN && (isGranted("write") || !UNIX.includes(scenario)) &&
      await isInstalled(runtime.command) && await isInstalled(needs);
    Deno.test(`${runtime.name}: ${name}`, { ignore: !ready }, () => run(runtime));
    if (plain || !CASES.includes(scenario)) continue;
    const secure = ready && await isInstalled("openssl");
    Deno.test(
      `${runtime.name} over TLS: ${name}`,
      { ignore: !secure },
      () => overTls(() => run(runtime)),
    );
    if (GREEDY.includes(scenario) || WEBSOCKETS.includes(scenario)) continue;
    Deno.test(
      `${runtime.name} over a Unix socket: ${name}`,
      { ignore: !ready || !isGranted("write") },
      () => overUnix(() => run(runtime)),
    );
  }
}

Deno.test("the same bytes in give the same bytes out on both runtimes, and over Unix sockets", {
  ignore: !RUN ||
    !(await Promise.all(RUNTIMES.map((one) => isInstalled(one.command)))).every(Boolean),
}, async () => {
  const ask = async (runtime: Runtime) => {
    await using server = await Process.start(runtime);
    return await answersOf(server.port);
  };
  const [answers, ...others] = await Promise.all(RUNTIMES.map(ask));
  if (isGranted("write")) {
    await overUnix(async () => void others.push(...await Promise.all(RUNTIMES.map(ask))));
  }
  for (const other of others) {
    for (const [i, vector] of VECTORS.entries()) {
      assertEquals(other[i], answers[i], `${vector.section}, ${vector.name}`);
    }
  }
});
