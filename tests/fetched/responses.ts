/** What an application returns, or throws. */

import type { Kit } from "./requests.ts";

// deno-lint-ignore no-explicit-any -- some of it is what the types forbid
type Any = any;
export type Make = (request: Request, kit: Kit) => Any;

const bytes = (...values: number[]) => new Uint8Array(values);
const encode = (text: string) => new TextEncoder().encode(text);
const pause = (milliseconds = 5) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** A stream of some pieces, each after a while. */
function slow(...pieces: Any[]): ReadableStream {
  return new ReadableStream({
    async pull(controller) {
      await pause();
      const piece = pieces.shift();
      if (piece === undefined) controller.close();
      else if (piece instanceof Error) controller.error(piece);
      else controller.enqueue(piece);
    },
  });
}
/** The same with all of them there. */
function quick(...pieces: Any[]): ReadableStream {
  return new ReadableStream({
    start(controller) {
      for (const piece of pieces) {
        if (piece instanceof Error) return controller.error(piece);
        controller.enqueue(piece);
      }
      controller.close();
    },
  });
}
async function* generator(...pieces: Any[]) {
  for (const piece of pieces) {
    if (piece instanceof Error) throw piece;
    await pause(1);
    yield piece;
  }
}
class Mine extends Response {
  extra = 1;
}
class Plain extends Response {}
const TAGGED = { headers: { "ETag": '"tag"' } };
const shared = new Response("once");
const sharedStream = new Response(quick(encode("once")));
const bun = (globalThis as Any).Bun;

/** Each under its name. */
export const RESPONSES: Record<string, Make> = {
  // Text
  "text": () => new Response("hello"),
  "text beyond ASCII": () => new Response("héllo €𝄞"),
  "Latin text": () => new Response("caf\xe9 \xff"),
  "halves of characters": () => new Response("a\ud834b\udd1ec\ud834"),
  "a BOM": () => new Response("\ufeffhello"),
  "U+FFFD": () => new Response("a\ufffdb"),
  "NUL": () => new Response("a\0b\r\n\r\nHTTP/1.1 200 OK\r\n"),
  "no text": () => new Response(""),
  "1 MiB": () => new Response("0123456789abcdef".repeat(65536)),
  "1 MiB beyond ASCII": () => new Response("é€𝄞0123456".repeat(65536)),
  // Wherever it is cut at an even place, that is within a pair.
  "pairs of halves": () => new Response("a" + "𝄞".repeat(100_000)),
  "text with a type": () => new Response("<p>", { headers: { "Content-Type": "text/html" } }),
  "text without a type": () => {
    const response = new Response("hello");
    response.headers.delete("content-type");
    return response;
  },
  "text of a promise": () => Promise.resolve(new Response("hello")),
  "a String object": () => new Response(new String("hello") as Any),
  "a number": () => new Response(123 as Any),
  "an object": () => new Response({} as Any),
  // Bytes
  "bytes": () => new Response(bytes(0, 255, 13, 10, 128)),
  "bytes of text": () => new Response(encode("héllo")),
  "bytes with a type": () =>
    new Response(encode("x"), { headers: { "Content-Type": "image/png" } }),
  "bytes not to be sniffed": () =>
    new Response(bytes(255), { headers: { "X-Content-Type-Options": "nosniff" } }),
  "no bytes": () => new Response(bytes()),
  "a view of a larger buffer": () => new Response(encode("xxhelloxx").subarray(2, 7)),
  "a view of words": () => new Response(new Uint16Array([1, 65535]).subarray(1)),
  "an ArrayBuffer": () => new Response(encode("hello").buffer),
  "a DataView": () => new Response(new DataView(encode("xxhelloxx").buffer, 2, 5)),
  "a node Buffer": async () => {
    const { Buffer } = await import("node:buffer");
    return new Response(Buffer.from("hello"));
  },
  "bytes that are changed afterwards": () => {
    const given = encode("hello");
    const response = new Response(given);
    given.fill(120);
    return response;
  },
  // Blobs and forms
  "a Blob": () => new Response(new Blob(["hel", "lo"])),
  "a Blob of bytes": () => new Response(new Blob([bytes(0, 255)])),
  "a typed Blob": () => new Response(new Blob(["hello"], { type: "Text/X; a=b" })),
  "a typed Blob with another type": () =>
    new Response(new Blob(["hello"], { type: "a/b" }), { headers: { "Content-Type": "c/d" } }),
  "an empty Blob": () => new Response(new Blob([])),
  "a slice of a Blob": () => new Response(new Blob(["xxhelloxx"]).slice(2, 7, "a/b")),
  "a large Blob": () => new Response(new Blob(["0123456789".repeat(20000)])),
  "a File": () => new Response(new File(["hello"], "x.txt", { type: "text/plain" })),
  "URLSearchParams": () => new Response(new URLSearchParams({ a: "b c", d: "é" })),
  "FormData": () => {
    const form = new FormData();
    form.append("a", "é");
    form.append("f", new File([bytes(0, 255)], "x.bin"));
    return new Response(form);
  },
  // Nothing
  "null": () => new Response(null),
  "undefined": () => new Response(undefined),
  "nothing": () => new Response(),
  "null with a type": () => new Response(null, { headers: { "Content-Type": "a/b" } }),
  "404 with nothing": () => new Response(null, { status: 404 }),
  // Streams
  "a quick stream": () => new Response(quick(encode("hel"), encode("lo"))),
  "a slow stream": () => new Response(slow(encode("hel"), encode("lo"))),
  "an empty stream": () => new Response(quick()),
  "a slow empty stream": () => new Response(slow()),
  "a stream with empty pieces": () => new Response(slow(bytes(), encode("hello"), bytes())),
  "a stream of text": () => new Response(quick("hel", "lo")),
  "a stream of ArrayBuffers": () => new Response(quick(encode("hello").buffer)),
  "a stream of numbers": () => new Response(quick(1, 2)),
  "a slow stream of numbers": () => new Response(slow(encode("a"), 2)),
  "a stream of views": () => new Response(quick(encode("xhellox").subarray(1, 6))),
  "a stream of one large piece": () => new Response(quick(new Uint8Array(200_000).fill(97))),
  "a stream of many pieces": () =>
    new Response(quick(...Array.from({ length: 1000 }, () => encode("piece ")))),
  "a stream of bytes": () =>
    new Response(
      new ReadableStream({
        type: "bytes",
        start(controller) {
          controller.enqueue(encode("hello"));
          controller.close();
        },
      }),
    ),
  "an asynchronous start": () =>
    new Response(
      new ReadableStream({
        async start(controller) {
          await pause();
          controller.enqueue(encode("hello"));
          controller.close();
        },
      }),
    ),
  "a stream with a length": () =>
    new Response(slow(encode("hello")), { headers: { "Content-Length": "5" } }),
  "a stream that is too long": () =>
    new Response(slow(encode("hello"), encode(" you")), { headers: { "Content-Length": "5" } }),
  "a stream that is too short": () =>
    new Response(slow(encode("hello")), { headers: { "Content-Length": "9" } }),
  "a generator": () => new Response(generator(encode("hel"), encode("lo")) as Any),
  "a generator of text": () => new Response(generator("hel", "lo") as Any),
  "ReadableStream.from": () => new Response((ReadableStream as Any).from([encode("hello")])),
  "a TransformStream": () => {
    const { readable, writable } = new TransformStream();
    const writer = writable.getWriter();
    const write = async () => {
      await writer.write(encode("hel"));
      await writer.write(encode("lo"));
      await writer.close();
    };
    write().catch(() => {}); // as after HEAD
    return new Response(readable);
  },
  "a TransformStream with a late writer": () => {
    const { readable, writable } = new TransformStream();
    const writer = writable.getWriter();
    const write = async () => {
      for (const piece of ["a", "b", "c"]) {
        await pause();
        await writer.write(encode(piece));
      }
      await writer.close();
    };
    write().catch(() => {});
    return new Response(readable);
  },
  "a pipeline": () => new Response(slow("hel", "lo").pipeThrough(new TextEncoderStream() as Any)),
  "one branch of a tee": () => {
    const [one, two] = slow(encode("hello")).tee();
    new Response(two).text().catch(() => {});
    return new Response(one);
  },
  "compressed": () =>
    new Response(
      slow(encode("hello")).pipeThrough(new CompressionStream("gzip") as Any).pipeThrough(
        new DecompressionStream("gzip") as Any,
      ),
    ),
  "gzip": () =>
    new Response(quick(encode("hello")).pipeThrough(new CompressionStream("deflate-raw")), {
      headers: { "Content-Encoding": "x-deflate-raw" },
    }),
  // Streams that fail
  "an error at the start": () => new Response(quick(new Error("at the start"))),
  "a late error at the start": () => new Response(slow(new Error("at the start"))),
  "an error after a piece": () => new Response(quick(encode("hello"), new Error("later"))),
  "a late error after a piece": () => new Response(slow(encode("hello"), new Error("later"))),
  "a generator that throws": () => new Response(generator(new Error("thrown")) as Any),
  "a generator that throws later": () =>
    new Response(generator(encode("hello"), new Error("thrown")) as Any),
  "an HttpError from a stream": () =>
    new Response(slow(encode("hello"), Object.assign(new Error("x"), { status: 418 }))),
  // Status and fields
  "201": () => new Response("made", { status: 201, headers: { "Location": "/x" } }),
  "204": () => new Response(null, { status: 204, headers: { "X-A": "b" } }),
  "204 with a length": () =>
    new Response(null, { status: 204, headers: { "Content-Length": "0" } }),
  "205": () => new Response(null, { status: 205 }),
  "304": () => new Response(null, { status: 304, headers: { "ETag": '"tag"' } }),
  "204 with a body": () => new Response("x", { status: 204 }),
  "304 with a body": () => new Response("x", { status: 304 }),
  "101": () => new Response(null, { status: 101 }),
  "199": () => new Response(null, { status: 199 }),
  "599": () => new Response("x", { status: 599 }),
  "600": () => new Response("x", { status: 600 }),
  "404 with text": () => new Response("none", { status: 404 }),
  "500 with text": () => new Response("mine", { status: 500 }),
  "status text": () => new Response("x", { status: 200, statusText: "Fine" }),
  "bytes with status text": () => new Response(bytes(255), { statusText: "Fine" }),
  "two cookies": () => {
    const response = new Response("x");
    response.headers.append("Set-Cookie", "a=1; Path=/; HttpOnly");
    response.headers.append("Set-Cookie", "b=2; Expires=Sun, 06 Nov 1994 08:49:37 GMT");
    return response;
  },
  "two lines of a list": () => {
    const response = new Response("x");
    response.headers.append("Vary", "a");
    response.headers.append("Vary", "b");
    return response;
  },
  "a Latin field": () => new Response("x", { headers: { "X-A": "caf\xe9" } }),
  "a control character in a field": () => new Response("x", { headers: { "X-A": "a\x01b" } }),
  "DEL in a field": () => new Response("x", { headers: { "X-A": "a\x7fb" } }),
  "a tab in a field": () => new Response("x", { headers: { "X-A": "a\tb" } }),
  "an odd field name": () => new Response("x", { headers: { "!#$%&'*+-.^_`|~": "b" } }),
  "an empty type": () => new Response("x", { headers: { "Content-Type": "" } }),
  "a Trailer": () => new Response("x", { headers: { "Trailer": "X-A" } }),
  "null with a length": () => new Response(null, { headers: { "Content-Length": "1234" } }),
  "an empty field": () => new Response("x", { headers: { "X-A": "" } }),
  "Content-Length that is right": () =>
    new Response("hello", { headers: { "Content-Length": "5" } }),
  "Content-Length that is wrong": () =>
    new Response("hello", { headers: { "Content-Length": "3" } }),
  "Content-Length that is none": () =>
    new Response("hello", { headers: { "Content-Length": "x" } }),
  "Transfer-Encoding": () => new Response("hello", { headers: { "Transfer-Encoding": "chunked" } }),
  "a Date": () => new Response("x", { headers: { "Date": "Sun, 06 Nov 1994 08:49:37 GMT" } }),
  "Connection: close": () => new Response("x", { headers: { "Connection": "close" } }),
  "Keep-Alive": () =>
    new Response("x", { headers: { "Keep-Alive": "timeout=5", "Connection": "keep-alive" } }),
  "Upgrade": () => new Response("x", { status: 426, headers: { "Upgrade": "TLS/1.0" } }),
  "a Server": () => new Response("x", { headers: { "Server": "mine" } }),
  "many fields": () => {
    const response = new Response("x");
    for (let i = 0; i < 200; i++) response.headers.set(`x-${i}`, "y".repeat(50));
    return response;
  },
  // Made by Fetch itself
  "Response.json": () => Response.json({ a: [1, "é"] }),
  "Response.json with a status": () =>
    Response.json(null, { status: 422, headers: { "Content-Type": "application/problem+json" } }),
  "Response.redirect": () => Response.redirect("http://b.example/x?y"),
  "Response.redirect 308": () => Response.redirect("http://b.example/é", 308),
  "Response.error": () => Response.error(),
  // Used before
  "a clone": () => new Response("hello").clone(),
  "one that was cloned": () => {
    const response = new Response("hello", { status: 201 });
    response.clone();
    return response;
  },
  "a clone of a stream": () => {
    const response = new Response(slow(encode("hel"), encode("lo")));
    const clone = response.clone();
    clone.text().catch(() => {});
    return response;
  },
  "the clone of one that was read": async () => {
    const response = new Response("hello");
    const clone = response.clone();
    await response.text();
    return clone;
  },
  "one whose body was looked at": () => {
    const response = new Response("hello");
    void response.body;
    return response;
  },
  "bytes whose body was looked at": () => {
    const response = new Response(bytes(1, 255));
    void response.body!.locked;
    return response;
  },
  "one that was read": async () => {
    const response = new Response("hello");
    await response.text();
    return response;
  },
  "a stream that was read": async () => {
    const response = new Response(quick(encode("hello")));
    await response.text();
    return response;
  },
  "one that is being read": () => {
    const response = new Response(slow(encode("hello")));
    void response.text().catch(() => {});
    return response;
  },
  "one that was read in part": async () => {
    const response = new Response(quick(encode("hel"), encode("lo")));
    const reader = response.body!.getReader();
    await reader.read();
    reader.releaseLock();
    return response;
  },
  "text that was read in part": async () => {
    const response = new Response("hello");
    const reader = response.body!.getReader();
    await reader.read();
    reader.releaseLock();
    return response;
  },
  "one that is locked": () => {
    const response = new Response(slow(encode("hello")));
    response.body!.getReader();
    return response;
  },
  "text that is locked": () => {
    const response = new Response("hello");
    response.body!.getReader();
    return response;
  },
  "one that was canceled": async () => {
    const response = new Response(slow(encode("hello")));
    await response.body!.cancel();
    return response;
  },
  "the same once more": () => shared,
  "the same stream once more": () => sharedStream,
  // Made of others
  "a subclass": () => new Mine("hello", { status: 201 }),
  "a subclass without properties": () => new Plain("hello"),
  "a subclass of a stream": () => new Mine(slow(encode("hello"))),
  "text with properties of one's own": () => Object.assign(new Response("hello"), { extra: 1 }),
  "a stream with properties of one's own": () =>
    Object.assign(new Response(slow(encode("hello"))), { extra: 1, more: 2 }),
  "a stream with status text": () => new Response(slow(encode("hello")), { statusText: "Fine" }),
  "a stream whose fields were looked at": () => {
    const response = new Response(slow(encode("hello")), { headers: { "X-A": "b".repeat(99) } });
    response.headers.append("X-C", "d");
    return response;
  },
  "the body of another": () => new Response(new Response("hello").body),
  "another's body and init": () => {
    const other = new Response("hello", { status: 201, headers: { "X-A": "b" } });
    return new Response(other.body, other);
  },
  "another's headers": () => {
    const other = new Response("hello", { headers: { "X-A": "b", "Content-Type": "a/b" } });
    return new Response("x", { headers: other.headers });
  },
  "fields set afterwards": () => {
    const response = new Response("hello");
    response.headers.set("X-A", "b");
    response.headers.set("Content-Type", "a/b");
    return response;
  },
  "what passes for a Response": () =>
    Object.assign(Object.create(Response.prototype), { status: 200 }),
  "the parts of a Response": () => {
    const parts = { status: 201, headers: new Headers({ "X-A": "b" }), bodyUsed: false };
    return { ...parts, body: slow(encode("hello")) };
  },
  "fields that were iterated over": () => {
    const response = new Response("hello", { headers: { "X-A": "b" } });
    void [...response.headers];
    return response;
  },
  // Fetched
  "fetched": (_request, { upstream }) => fetch(`${upstream}/text`),
  "fetched, empty": (_request, { upstream }) => fetch(`${upstream}/empty`),
  "fetched gzip": (_request, { upstream }) => fetch(`${upstream}/gzip`),
  "fetched and read again": async (_request, { upstream }) => {
    const fetched = await fetch(`${upstream}/text`);
    return new Response(await fetched.text(), { status: fetched.status });
  },
  "fetched, with new fields": async (_request, { upstream }) => {
    const fetched = await fetch(`${upstream}/text`);
    const response = new Response(fetched.body, fetched);
    response.headers.set("X-Through", "here");
    return response;
  },
  "fetched, 404": (_request, { upstream }) => fetch(`${upstream}/none`),
  "fetched, 204": (_request, { upstream }) => fetch(`${upstream}/204`),
  "fetched, in pieces": (_request, { upstream }) => fetch(`${upstream}/stream`),
  "fetched, cut off": (_request, { upstream }) => fetch(`${upstream}/cut`),
  "fetched, cookies": (_request, { upstream }) => fetch(`${upstream}/cookies`),
  "fetched, and a clone is read": async (_request, { upstream }) => {
    const fetched = await fetch(`${upstream}/text`);
    await fetched.clone().text();
    return fetched;
  },
  "fetched of the request": (request, { upstream }) =>
    fetch(new Request(`${upstream}/text`, request as Any)),
  // With a validator, and a type
  "tagged text": () => new Response("hello", TAGGED),
  "tagged bytes": () => new Response(encode("hello"), TAGGED),
  "tagged Blob": () => new Response(new Blob(["hello"]), TAGGED),
  "tagged stream": () => new Response(slow(encode("hel"), encode("lo")), TAGGED),
  "tagged quick stream": () => new Response(quick(encode("hello")), TAGGED),
  "tagged 404": () => new Response("hello", { ...TAGGED, status: 404 }),
  "tagged nothing": () => new Response(null, TAGGED),
  // Not a response
  "returns undefined": () => undefined,
  "returns null": () => null,
  "returns text": () => "hello",
  "returns a number": () => 1,
  "returns a function": () => () => new Response("x"),
  "returns a promise of undefined": () => Promise.resolve(),
  "throws": () => {
    throw new Error("thrown");
  },
  "rejects": () => Promise.reject(new Error("rejected")),
  "rejects later": async () => {
    await pause();
    throw new Error("rejected");
  },
  "throws text": () => {
    throw "text";
  },
  "throws undefined": () => {
    throw undefined;
  },
  "throws a Response": () => {
    throw new Response("mine", { status: 403 });
  },
  "throws what can't be shown": () => {
    throw Object.create(null);
  },
  // Of a request's content
  "an echo of text": async (request) => new Response(await request.text()),
  "an echo of the body": (request) => new Response(request.body),
  "an echo, piped": (request) =>
    new Response(request.body!.pipeThrough(new TransformStream() as Any)),
  "an echo of a Blob": async (request) => new Response(await request.blob()),
  "an echo of bytes": async (request) => new Response(await request.bytes()),
  "an echo of an ArrayBuffer": async (request) => new Response(await request.arrayBuffer()),
  "an echo of a clone's body": (request) => new Response(request.clone().body),
  "bad JSON": async (request) => Response.json(await request.json()),
  "a bad form": async (request) => {
    const form = await request.formData();
    return new Response([...form.keys()].join());
  },
};

/** Those that there are on Bun alone. */
export const BUNS: Record<string, Make> = {
  "Bun.file": () => new Response(bun.file("LICENSE")),
  "Bun.file, a slice": () => new Response(bun.file("LICENSE").slice(0, 10)),
  "Bun.file that is missing": () => new Response(bun.file("none")),
  "a direct stream": () =>
    new Response(
      new ReadableStream({
        type: "direct",
        pull(controller: Any) {
          controller.write("hello");
          controller.close();
        },
      } as Any),
    ),
  "HTMLRewriter": () =>
    new (globalThis as Any).HTMLRewriter().on("p", {
      element(element: Any) {
        element.setInnerContent("new");
      },
    }).transform(new Response("<p>old</p>", { headers: { "Content-Type": "text/html" } })),
  "output of a process": () => new Response(bun.spawn(["echo", "hello"]).stdout),
};
