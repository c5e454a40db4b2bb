/** Real applications from npm, each in tests/apps, and what tells on the wire that they are there. */

import { gunzipSync } from "node:zlib";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { bytesOf } from "./memory.ts";
import { field, parseResponses, type Received } from "./responses.ts";
import { Client, exchange, Process, type Runtime, type Scenario } from "./sockets.ts";
import { utf8 } from "./tools.ts";

/** An application that is started on a free port. On Deno, it gets these permissions besides. */
function app(
  name: string,
  permissions: string[],
  run: (app: Process, runtime: Runtime) => Promise<void>,
  aspect = "",
): Scenario {
  return [`tests/apps/${name}.ts${aspect}`, async (runtime) => {
    const args = runtime.name === "Deno" ? [...runtime.args, ...permissions] : runtime.args;
    await using app = Process.spawn({ ...runtime, args }, `tests/apps/${name}.ts`, ["0"]);
    app.port = Number(await app.printed(/Listening at PORT (\d+)/));
    await run(app, runtime);
    // This is how the server logs what it takes for a mistake of the application.
    assert(!/ \(from 127\.0\.0\.1:\d+\): /.test(app.log), app.log);
  }];
}

/** A request. Elysia looks for the path behind the first four characters of the host. */
function request(method: string, path: string, fields = "", content = ""): string {
  return `${method} ${path} HTTP/1.1\r\nHost: localhost\r\n${fields}\r\n${content}`;
}
function get(path: string, fields?: string): string {
  return request("GET", path, fields);
}
function head(path: string, fields?: string): string {
  return request("HEAD", path, fields);
}
/** Whether a browser may send JSON from another page. */
function preflight(path: string): string {
  const fields = ["Origin: https://example.com", "Access-Control-Request-Method: POST"];
  return request("OPTIONS", path, `${fields.join("\r\n")}\r\n`);
}
const JSON_TYPE = "Content-Type: application/json\r\n";
function post(path: string, text: string, fields = JSON_TYPE): string {
  const content = utf8(text);
  return request("POST", path, `${fields}Content-Length: ${content.length}\r\n`, content);
}
/** The same without a length, and in two pieces. */
function postChunks(path: string, text: string): string {
  const content = utf8(text), half = content.length >> 1;
  const chunks = [content.slice(0, half), content.slice(half), ""];
  return request(
    "POST",
    path,
    `${JSON_TYPE}Transfer-Encoding: chunked\r\n`,
    chunks.map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}\r\n`).join(""),
  );
}
/** A form of one field, as browsers send it. */
function postForm(path: string, description: string, text: string): string {
  const part = `--b\r\nContent-Disposition: form-data; ${description}\r\n\r\n${text}\r\n--b--\r\n`;
  return post(path, part, "Content-Type: multipart/form-data; boundary=b\r\n");
}
/** One character a byte, as what is sent and received here is. */
/** Sends all requests on one connection at once, so that an answer that is too long or too short is
 * taken for a part of the next. */
async function ask(port: number, ...requests: string[]): Promise<Received[]> {
  const methods = requests.map((text) => text.slice(0, text.indexOf(" ")));
  const last = requests.pop()!.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
  const received = parseResponses(await exchange(port, requests.join("") + last), methods, true);
  const closes = received.map((one) => field(one, "connection"));
  assertEquals(closes, [...requests.map(() => undefined), "close"]);
  return received;
}

/** What is expected of a field: its value, what it matches, or null if it must not be there. */
type Fields = Record<string, string | RegExp | null>;

/** Checks the status, the content as a whole or what it matches, and some fields. It has to have its
 * length before it, unless it is to come in chunks. */
function check(received: Received, status: number, body: string | RegExp, fields: Fields = {}) {
  const told = `${status} for: ${received.raw}`;
  assertEquals(received.status, status, told);
  if (typeof body === "string") assertEquals(received.body, utf8(body), told);
  else assertMatch(received.body, body);
  const isWhole = received.body !== "" && !("transfer-encoding" in fields);
  const framing: Fields = isWhole ? { "content-length": `${received.body.length}` } : {};
  for (const [name, expected] of Object.entries({ ...framing, ...fields })) {
    const value = field(received, name);
    if (expected instanceof RegExp) assertMatch(value ?? "", expected, `${name}: ${told}`);
    else assertEquals(value ?? null, expected, `${name}: ${told}`);
  }
}
const CHUNKED: Fields = { "transfer-encoding": "chunked" };
const EVENTS: Fields = { ...CHUNKED, "content-type": "text/event-stream" };

/** Content over the limit: with a length the server refuses it before the application is asked. In
 * chunks, the application finds out as it reads, and what it answers is the last on the connection. */
async function refuses(port: number, path: string, status: number, body: RegExp) {
  const large = JSON.stringify({ name: "x".repeat(2000) });
  const limit = "413 Content Too Large: Content of more than 1000 bytes";
  const last = async (text: string) => {
    const received = parseResponses(await exchange(port, text + get("/")), ["POST"], true);
    assertEquals(received.length, 1);
    return received[0];
  };
  check(await last(post(path, large)), 413, limit, { connection: "close" });
  check(await last(postChunks(path, large)), status, body, { connection: "close" });
}

/** Reads the start of an endless answer and leaves, of which the application is told. This comes first,
 * because some applications are told so at the end of any stream. */
async function leaves(app: Process, text: string, sign: RegExp): Promise<void> {
  {
    using client = await Client.connect(app.port);
    await client.send(text);
    assertMatch(await client.until(sign), sign);
  }
  await app.printed(/A reader has (left)/);
}

const ZOE = '{"name":"Zoë"}';
/** What is answered to that preflight. */
const ALLOWED: Fields = {
  "access-control-allow-origin": "https://example.com",
  "access-control-allow-methods": /\bPOST\b/,
};

export const APPS: Scenario[] = [
  app("hono", ["--allow-read"], async (app, runtime) => {
    const { port } = app;
    await leaves(app, get("/events/99999"), /data: event 1\n/);

    const secured = { "x-frame-options": "SAMEORIGIN" };
    const [root, none, unread, headOnly, again] = await ask(
      port,
      ...[get("/"), get("/none"), post("/none", ZOE), head("/"), get("/")],
    );
    for (const one of [root, again]) check(one, 200, "Hello from Hono\n", secured);
    for (const one of [none, unread]) check(one, 404, "Hono has no /none\n", secured);
    check(headOnly, 200, "", secured);
    await app.printed(/(--> GET \/none 404)/); // by its logger

    const [named, made, chunks, broken, allowed] = await ask(
      port,
      get("/api/users/Zo%C3%AB", "Origin: https://example.com\r\n"),
      post("/api/users", ZOE),
      postChunks("/api/users", ZOE),
      post("/api/users", '{"name":'),
      preflight("/api/users"),
    );
    check(named, 200, ZOE, {
      "content-type": "application/json",
      "access-control-allow-origin": "https://example.com",
    });
    for (const one of [made, chunks]) check(one, 201, ZOE);
    check(broken, 500, "Internal Server Error", secured);
    check(allowed, 204, "", { ...ALLOWED, ...secured });
    // Hono asks the error for its response.
    await refuses(port, "/api/users", 413, /^Content of more than 1000 bytes$/);

    const [form, encoded] = await ask(
      port,
      postForm("/form", 'name="name"', "Zoë"),
      post("/form", "name=Zo%C3%AB", "Content-Type: application/x-www-form-urlencoded\r\n"),
    );
    for (const one of [form, encoded]) check(one, 200, ZOE);

    const ten = "1234567890", eleven = "12345678901";
    const [few, fewChunks, many, manyChunks] = await ask(
      port,
      ...[post("/api/small", ten), postChunks("/api/small", ten)],
      ...[post("/api/small", eleven), postChunks("/api/small", eleven)],
    );
    for (const one of [few, fewChunks]) check(one, 200, ten);
    for (const one of [many, manyChunks]) check(one, 413, "Payload Too Large", secured);

    const [tagged] = await ask(port, get("/tagged"));
    check(tagged, 200, "Tagged by Hono\n", { etag: /^"[\da-f]{40}"$/ });
    const etag = field(tagged, "etag")!;
    const [same, sameHead, other] = await ask(
      port,
      get("/tagged", `If-None-Match: ${etag}\r\n`),
      head("/tagged", `If-None-Match: "x", ${etag}\r\n`),
      get("/tagged", 'If-None-Match: "x"\r\n'),
    );
    for (const one of [same, sameHead]) check(one, 304, "", { etag });
    check(other, 200, "Tagged by Hono\n", { etag });

    const page = "<p>Compressed by Hono\n".repeat(1000);
    const [zipped, plain, zippedHead] = await ask(
      port,
      get("/large", "Accept-Encoding: gzip\r\n"),
      get("/large"),
      head("/large", "Accept-Encoding: gzip\r\n"),
    );
    const vary = /\bAccept-Encoding\b/i;
    assertEquals(gunzipSync(bytesOf(zipped.body)).toString(), page);
    assert(zipped.body.length < 1000);
    check(zipped, 200, /^[^<]+$/, { "content-encoding": "gzip", vary });
    check(plain, 200, page, { "content-encoding": null, vary });
    check(zippedHead, 200, "", secured);

    const [locked, wrong, open] = await ask(
      port,
      get("/admin/name"),
      get("/admin/name", `Authorization: Basic ${btoa("ann:wrong")}\r\n`),
      get("/admin/name", `Authorization: Basic ${btoa("ann:secret")}\r\n`),
    );
    for (const one of [locked, wrong]) {
      check(one, 401, "Unauthorized", { "www-authenticate": 'Basic realm="Secure Area"' });
    }
    check(open, 200, "ann\n");

    const [note, noteHead, noNote, outside] = await ask(
      port,
      ...[get("/static/note.txt"), head("/static/note.txt")],
      ...[get("/static/none.txt"), get("/static/..%2fhono.ts")],
    );
    check(note, 200, "A file that Hono serves.\n", {
      "content-type": /^text\/plain\b/,
      "transfer-encoding": /^(chunked)?$/, // Hono gives it no length: it may come in time, or not.
    });
    check(noteHead, 200, "", { "content-type": /^text\/plain\b/ });
    for (const one of [noNote, outside]) check(one, 404, /^Hono has no \/static\//);

    const [visits, events, peer, samePeer] = await ask(
      port,
      get("/visits", "Cookie: a=b; visits=3\r\n"),
      ...[get("/events/3"), get("/peer"), get("/peer")],
    );
    check(visits, 200, "4\n");
    const cookies = ["visits=4; Path=/; HttpOnly", "flavour=oat; Path=/"];
    assertEquals(visits.fields.filter(([name]) => name === "set-cookie").map((f) => f[1]), cookies);
    const three = [1, 2, 3].map((i) => `data: event ${i}\nid: ${i}\n\n`).join("");
    check(events, 200, three, EVENTS);
    check(peer, 200, /^{"transport":"tcp","hostname":"127.0.0.1","port":\d+}$/);
    assertEquals(samePeer.body, peer.body);
    const [otherPeer, connected] = await ask(port, get("/peer"), get("/conn-info"));
    assert(otherPeer.body !== peer.body);
    if (runtime.name === "Bun") return check(connected, 404, "Hono has no /conn-info\n");
    const { address, transport, port: itsPort } = JSON.parse(connected.body);
    const { hostname, ...rest } = JSON.parse(otherPeer.body);
    assertEquals([address, { transport, port: itsPort }], [hostname, rest]);
  }),

  app("h3", [], async (app) => {
    const { port } = app;
    await leaves(app, get("/events/99999"), /data: event 1\n/);
    const [root, none, unread, headOnly, teapot, visits, events, again] = await ask(
      port,
      ...[get("/"), get("/none"), post("/none", ZOE), head("/"), get("/teapot")],
      get("/visits", "Cookie: a=b; visits=3\r\n"),
      ...[get("/events/3"), get("/")],
    );
    for (const one of [root, again]) check(one, 200, "Hello from h3\n");
    check(none, 404, /"Cannot find any route matching \[GET\] [^"]*\/none"/);
    check(unread, 404, /"Cannot find any route matching \[POST\] [^"]*\/none"/);
    check(headOnly, 200, "");
    check(teapot, 418, /"data":{"short":true}/, { "content-type": /^application\/json\b/ });
    check(visits, 200, "4\n");
    const cookies = ["visits=4; Path=/; HttpOnly", "flavour=oat; Path=/"];
    assertEquals(visits.fields.filter(([name]) => name === "set-cookie").map((f) => f[1]), cookies);
    const three = [1, 2, 3].map((i) => `id: ${i}\ndata: event ${i}\n\n`).join("");
    check(events, 200, three, EVENTS);
    const [named, made, chunks, broken, allowed] = await ask(
      port,
      get("/api/users/Zo%C3%AB"),
      post("/api/users", ZOE),
      postChunks("/api/users", ZOE),
      post("/api/users", '{"name":'),
      preflight("/api/users"),
    );
    check(named, 200, ZOE, { "content-type": /^application\/json\b/ });
    for (const one of [made, chunks]) check(one, 201, ZOE);
    check(broken, 400, /"Invalid JSON body"/);
    check(allowed, 204, "", ALLOWED);
    await refuses(port, "/api/users", 413, /^{"status":413,/);
  }),

  app("itty", [], async (app) => {
    const { port } = app;
    await leaves(app, get("/count/99999"), /\n1\n/);
    const [root, none, unread, named, peer, count, forbidden, again] = await ask(
      port,
      ...[get("/"), get("/none"), post("/none", ZOE), get("/users/Ann?a=1&a=2"), get("/peer")],
      ...[get("/count/3"), get("/forbidden"), get("/")],
    );
    const json = { "content-type": /^application\/json\b/ };
    for (const one of [root, again]) check(one, 200, "Hello from itty-router\n");
    for (const one of [none, unread]) {
      check(one, 404, '{"status":404,"error":"itty-router has no /none"}', json);
    }
    check(named, 200, '{"name":"Ann","query":{"a":["1","2"]}}', json);
    check(peer, 200, '{"hostname":"127.0.0.1"}');
    check(count, 200, "1\n2\n3\n", CHUNKED);
    check(forbidden, 403, '{"status":403,"error":"Not for you"}', json);
    const [made, chunks, broken, allowed, headOnly] = await ask(
      port,
      post("/users", ZOE),
      postChunks("/users", ZOE),
      post("/users", '{"name":'),
      preflight("/users"),
      head("/"), // for which it has no route
    );
    for (const one of [made, chunks]) check(one, 201, ZOE, json);
    check(broken, 400, /^{"status":400,"error":"Invalid JSON"/, json);
    check(allowed, 204, "", ALLOWED);
    check(headOnly, 404, "", json);
    await refuses(port, "/users", 413, /^{"status":413,"error":"Content of more than 1000 bytes"/);
  }),

  app("yoga", ["--allow-env"], async (app) => {
    const { port } = app;
    const query = (text: string) => JSON.stringify({ query: text });
    const count = (from: number) =>
      get(
        `/graphql?query=subscription%7Bcountdown(from:${from})%7D`,
        "Accept: text/event-stream\r\n",
      );
    await leaves(app, count(99_999), /data: {"data":{"countdown":99999}}\n/);
    const [hello, named, added, notes, unknown, broken, counted] = await ask(
      port,
      get("/graphql?query=%7Bhello%7D"),
      postChunks("/graphql", query('{ hello(name: "Zoë") }')),
      post("/graphql", query('mutation { addNote(text: "a") }')),
      ...["{ notes }", "{ nope }"].map((text) => post("/graphql", query(text))),
      post("/graphql", '{"query":'),
      count(2),
    );
    const json = { "content-type": /^application\/(graphql-response\+)?json\b/ };
    check(hello, 200, '{"data":{"hello":"Hello from Yoga, stranger"}}', json);
    check(named, 200, '{"data":{"hello":"Hello from Yoga, Zoë"}}', json);
    check(added, 200, '{"data":{"addNote":1}}', json);
    check(notes, 200, '{"data":{"notes":["a"]}}', json);
    check(unknown, 200, /Cannot query field \\"nope\\" on type \\"Query\\"/, json);
    check(broken, 400, /"POST body sent invalid JSON."/, json);
    const values = [2, 1, 0].map((i) => `event: next\ndata: {"data":{"countdown":${i}}}\n\n`);
    check(counted, 200, new RegExp(`${values.join("")}event: complete\n`), EVENTS);
    const [page, put, allowed, none] = await ask(
      port,
      get("/graphql", "Accept: text/html\r\n"),
      ...[request("PUT", "/graphql"), preflight("/graphql"), get("/none")],
    );
    check(page, 200, /<title>Yoga GraphiQL<\/title>/, { "content-type": /^text\/html\b/ });
    check(put, 405, /"GraphQL only supports GET and POST requests."/, { allow: "GET, POST" });
    check(allowed, 204, "", ALLOWED);
    check(none, 404, "");
    // Yoga takes any content that can't be read for bad JSON.
    await refuses(port, "/graphql", 400, /"Content of more than 1000 bytes"/);
  }),

  // Yoga makes objects that inherit from what the server hands it besides the request.
  app("yoga", ["--allow-env"], async ({ port }) => {
    const [peer] = await ask(port, post("/graphql", '{"query":"{ peer }"}'));
    check(peer, 200, '{"data":{"peer":"127.0.0.1"}}');
  }, ", who asks"),

  app("trpc", ["--allow-env"], async (app) => {
    const { port } = app;
    const count = (to: number) => get(`/trpc/count?input=${to}`, "Accept: text/event-stream\r\n");
    await leaves(app, count(99_999), /data: 1\n/);
    const json = { "content-type": "application/json" };
    const both = `/trpc/hello,peer?batch=1&input=${encodeURIComponent('{"0":"Zoë"}')}`;
    const [hello, untold, batch, lines, events, none, headOnly] = await ask(
      port,
      ...[get("/trpc/hello?input=%22Ann%22"), get("/trpc/hello?input=1"), get(both)],
      get(both, "trpc-accept: application/jsonl\r\n"),
      ...[count(3), get("/trpc/none"), head("/trpc/hello?input=%22Ann%22")],
    );
    check(hello, 200, '{"result":{"data":"Hello from tRPC, Ann"}}', json);
    check(untold, 400, /^{"error":{"message":"No text",.*"code":"BAD_REQUEST"/, json);
    const answers = ["Hello from tRPC, Zoë", "127.0.0.1"].map((data) => ({ result: { data } }));
    check(batch, 200, JSON.stringify(answers), json);
    check(lines, 200, new RegExp(utf8(`^[^]*\n.*"Hello from tRPC, Zoë"[^]*\n$`)), CHUNKED);
    check(events, 200, /^event: connected\n[^]*data: 1\n[^]*data: 3\n[^]*event: return\n/, EVENTS);
    check(none, 404, /"message":"No procedure found on path \\"none\\""/, json);
    check(headOnly, 204, ""); // so it answers any HEAD
    const [first, second, broken, mixed, notes] = await ask(
      port,
      post("/trpc/addNote", '"a"'),
      postChunks("/trpc/addNote", '"ë"'),
      post("/trpc/addNote", '"a'),
      get("/trpc/addNote?input=%22a%22"), // a mutation is not for GET
      get("/trpc/notes"),
    );
    check(first, 200, '{"result":{"data":1}}', json);
    check(second, 200, '{"result":{"data":2}}', json);
    check(broken, 400, /^{"error":.*"code":"(BAD_REQUEST|PARSE_ERROR)"/, json);
    check(mixed, 405, /"code":"METHOD_NOT_SUPPORTED"/, json);
    check(notes, 200, '{"result":{"data":["a","ë"]}}', json);
    // tRPC takes any input that can't be read for a bad request.
    await refuses(port, "/trpc/addNote", 400, /"message":"Content of more than 1000 bytes"/);
  }),

  app("elysia", ["--allow-env"], async (app) => {
    const { port } = app;
    await leaves(app, get("/events/99999"), /data: event 1\n/);
    const [root, none, headOnly, named, visits, events, again] = await ask(
      port,
      ...[get("/"), get("/none"), head("/"), get("/users/Zo%C3%AB")],
      get("/visits", "Cookie: a=b; visits=3\r\n"),
      ...[get("/events/3"), get("/")],
    );
    for (const one of [root, again]) check(one, 200, "Hello from Elysia\n");
    check(none, 404, "Elysia has no /none\n");
    check(headOnly, 200, "", { "content-length": "18" });
    check(named, 200, ZOE, { "content-type": /^application\/json\b/ });
    check(visits, 200, "4\n", { "set-cookie": "visits=4; Path=/" });
    const three = [1, 2, 3].map((i) => `id: ${i}\ndata: event ${i}\n\n`).join("");
    check(events, 200, three, EVENTS);
    const [made, chunks, wrong, broken, file, unread] = await ask(
      port,
      post("/users", ZOE),
      postChunks("/users", ZOE),
      post("/users", '{"name":1}'),
      post("/users", '{"name":'),
      postForm("/upload", 'name="file"; filename="a.txt"', "The text\r\nof Zoë's file"),
      post("/none", ZOE),
    );
    for (const one of [made, chunks]) check(one, 201, ZOE);
    check(file, 200, "The text\r\nof Zoë's file");
    check(unread, 404, "Elysia has no /none\n");
    check(wrong, 422, /"Expected string"/, { "content-type": /^application\/json\b/ });
    check(broken, 400, "Bad Request");
    // Elysia takes any content that can't be read for a bad request.
    await refuses(port, "/users", 400, /^Bad Request$/);
  }),
];
