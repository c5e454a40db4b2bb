/** The companions for content codings: what they answer in memory, and beside programs that others wrote. */

import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import * as zlib from "node:zlib";
import { compress, type CompressOptions } from "../extras/compress.ts";
import { decompress } from "../extras/decompress.ts";
import {
  type Handler,
  HttpError,
  type HttpRequest,
  type HttpResponse,
  requestOf,
  type ServeOptions,
} from "../server.ts";
import { textOf } from "./memory.ts";
import { field, parseResponses, type Received } from "./responses.ts";
import { Client, Folder, output, Process, type Scenario, shell } from "./sockets.ts";
import { dice, get, pause, post, start } from "./tools.ts";

const bytes = (text: string) => Buffer.from(text, "latin1");
const DECODE: Record<string, (bytes: Uint8Array) => Buffer> = {
  zstd: zlib.zstdDecompressSync,
  br: zlib.brotliDecompressSync,
  gzip: zlib.gunzipSync,
};
const ENCODE: Record<string, (bytes: Uint8Array) => Buffer> = {
  zstd: zlib.zstdCompressSync,
  br: (bytes) =>
    zlib.brotliCompressSync(bytes, { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 3 } }),
  gzip: zlib.gzipSync,
  deflate: zlib.deflateSync,
};
const CODINGS = ["zstd", "br", "gzip"];
/** What a response of these tests says, decoded. */
function decoded(received: { fields: [string, string][]; body: string }): string {
  const coding = received.fields.find(([name]) => name === "content-encoding")?.[1];
  return textOf(coding === undefined ? bytes(received.body) : DECODE[coding](bytes(received.body)));
}
const lines = (count: number) =>
  Array.from({ length: count }, (_, i) => `line ${i}: ${i * i % 977}\n`).join("");
const TEXT = lines(500), LONG = lines(50_000);

/** Sends a request on a connection of its own, and reads until the server closes it. */
async function ask(
  handler: Handler,
  send: string,
  options: ServeOptions = {},
): Promise<Received[]> {
  await using server = start(handler, options);
  const client = server.connect();
  client.send(send.replace("\r\n", "\r\nConnection: close\r\n"));
  await client.until(() => client.ended || client.closed);
  return parseResponses(client.text, [send.slice(0, send.indexOf(" "))], true);
}
async function answer(handler: Handler, fields = "", options?: CompressOptions, method = "GET") {
  const [received, ...more] = await ask(compress(handler, options), get("/", fields, method));
  assertEquals(more.length, 0);
  return received;
}

// ── What is accepted ─────────────────────────────────────────────────────────────────────────

Deno.test("Accept-Encoding decides on the coding", async () => {
  const rows: [section: string, field: string | undefined, coding: string | undefined][] = [
    ["9110 §12.5.3, no field", undefined, undefined],
    ["9110 §12.5.3, an empty one", "", undefined],
    ["9110 §12.5.3, one", "gzip", "gzip"],
    ["9110 §12.5.3, the server's choice", "gzip, deflate, br, zstd", "zstd"],
    ["9110 §12.5.3, the server's choice", "gzip, br", "br"],
    ["9110 §12.5.3, weights", "zstd;q=0.1, br;q=0.2, gzip;q=0.3", "gzip"],
    ["9110 §12.5.3, weights", "gzip;q=0.5, br;q=0.501", "br"],
    ["9110 §12.4.2, three digits", "gzip;q=0.001", "gzip"],
    ["9110 §12.4.2, 0 is not acceptable", "gzip;q=0", undefined],
    ["9110 §12.4.2, 0 is not acceptable", "gzip;q=0.000, br;q=0.", undefined],
    ["9110 §12.4.2, 1 may have zeros", "gzip;q=1.000", "gzip"],
    ["9110 §12.4.2, four digits", "gzip;q=0.5000", undefined],
    ["9110 §12.4.2, more than 1", "gzip;q=1.1, br;q=2", undefined],
    ["9110 §12.4.2, no number", "gzip;q=x, br;q=-1, zstd;q=", undefined],
    ["9110 §12.4.2, Q and blanks", "gzip\t ; Q=0.5 ,\tbr ;q=0.2", "gzip"],
    ["9110 §8.4.1, any case", "GZip", "gzip"],
    ["9110 §8.4.1.3, x-gzip", "x-gzip", "gzip"],
    ["9110 §12.5.3, any", "*", "zstd"],
    ["9110 §12.5.3, any other", "zstd;q=0, *;q=0.5", "br"],
    ["9110 §12.5.3, any other", "gzip;q=0.6, *;q=0.5", "gzip"],
    ["9110 §12.5.3, identity", "identity", undefined],
    ["9110 §12.5.3, identity is liked better", "gzip;q=0.5, identity", undefined],
    ["9110 §12.5.3, identity is liked less", "gzip;q=0.5, identity;q=0.4", "gzip"],
    ["9110 §12.5.3, identity is liked as much", "identity, gzip", "gzip"],
    ["9110 §12.5.3, identity is refused", "identity;q=0, gzip", "gzip"],
    ["9110 §12.5.3, identity is refused", "*;q=0, br;q=0.1", "br"],
    ["9110 §12.5.3, all is refused", "*;q=0", undefined],
    ["9110 §12.5.3, all that there is is refused", "identity;q=0, compress", undefined],
    ["9110 §12.5.3, an unknown one", "compress, exi", undefined],
    ["9110 §5.6.1, empty members", ", ,gzip,,", "gzip"],
    ["9110 §5.6.2, no token", "gz ip, gzip/1, (gzip)", undefined],
    ["no prefix of one", "gzipped, brr", undefined],
  ];
  for (const [section, field_, coding] of rows) {
    const fields = field_ === undefined ? "" : `Accept-Encoding: ${field_}\r\n`;
    const received = await answer(() => ({ headers: { ETag: '"x"' }, body: TEXT }), fields);
    assertEquals(field(received, "content-encoding"), coding, `${section}: ${field_}`);
    assertEquals(field(received, "etag"), coding === undefined ? '"x"' : `"x-${coding}"`);
    assertEquals(field(received, "vary"), "Accept-Encoding");
    assertEquals(decoded(received), TEXT);
  }
  const first = await answer(() => ({ body: TEXT }), "Accept-Encoding: *\r\n", {
    codings: ["gzip"],
  });
  assertEquals(field(first, "content-encoding"), "gzip");
  const several = "Accept-Encoding: br;q=0.1\r\nAccept-Encoding: gzip;q=0.2\r\n"; // 9110 §5.3
  assertEquals(field(await answer(() => ({ body: TEXT }), several), "content-encoding"), "gzip");
});

/** 9110 §12.5.3 as it is written: is it acceptable, and how much is it liked? */
function oracle(members: [name: string, weight: number | undefined][], names: string[]) {
  const weightOf = (name: string): number | undefined => {
    for (const one of [name, "*"]) {
      const found = members.findLast(([listed]) => listed === one);
      if (found !== undefined) return found[1] ?? 1;
    }
    return undefined;
  };
  let chosen = "identity", best = weightOf("identity") ?? 0.0005; // rule 2
  for (const name of names.toReversed()) {
    const weight = weightOf(name);
    if (weight !== undefined && weight > 0 && weight >= best) [chosen, best] = [name, weight];
  }
  return chosen;
}

Deno.test("of generated fields, what is chosen is what the RFC says", async () => {
  const random = dice(14);
  const one = <T>(all: T[]) => all[random(all.length)];
  const counts: Record<string, number> = {};
  const response = frozen(TEXT); // so that it is quick
  const handler = compress(() => response);
  for (let i = 0; i < 1500; i++) {
    const members = Array.from({ length: random(5) }, (): [string, number | undefined] => [
      one([...CODINGS, "identity", "*", "deflate"]),
      one([undefined, 0, 0.2, 0.5, 0.5, 0.999, 1]),
    ]);
    const text = members.map(([name, weight]) =>
      one([name, name.toUpperCase()]) +
      (weight === undefined ? "" : `${one([";", " ; "])}q=${one([`${weight}`, weight.toFixed(3)])}`)
    ).join(one([",", ", ", " ,\t"]));
    const headers = { "Accept-Encoding": text };
    const response = await handler(requestOf({ headers })) as HttpResponse;
    const found = new Headers(response.headers as Headers).get("content-encoding") ?? "identity";
    const expected = oracle(members, CODINGS);
    assertEquals(found, expected, text);
    counts[expected] = (counts[expected] ?? 0) + 1;
  }
  for (const name of [...CODINGS, "identity"]) assert(counts[name] > 100, JSON.stringify(counts));
});

Deno.test("an option out of its range throws", () => {
  const handler = () => ({});
  assertThrows(() => compress(handler, { codings: ["deflate" as "gzip"] }), RangeError);
  assertThrows(() => compress(handler, { minSize: -1 }), RangeError);
  assertThrows(() => compress(handler, { minSize: NaN }), RangeError);
  assertThrows(() => decompress(handler, { maxSize: -1 }), RangeError);
});

// ── What is encoded ──────────────────────────────────────────────────────────────────────────

const ACCEPT = "Accept-Encoding: gzip\r\n";
async function* pieces(...all: (string | Uint8Array)[]) {
  yield* all;
}

Deno.test("what is encoded, and what is left as it is", async () => {
  const blob = (type: string) => new Blob([TEXT], { type });
  const noise = crypto.getRandomValues(new Uint8Array(5000));
  const typed = (type: string) => ({ headers: { "Content-Type": type }, body: TEXT });
  const yes: [name: string, response: HttpResponse | Response][] = [
    ["text without a type", { body: TEXT }],
    ["bytes that are UTF-8", { body: bytes(TEXT) }],
    ["an ArrayBuffer", { body: new Uint8Array(bytes(TEXT)).buffer }],
    ["a view", { body: new DataView(new Uint8Array(bytes(TEXT)).buffer) }],
    ["a Blob with a type", { body: blob("text/css") }],
    ["a Response of text", new Response(TEXT)],
    ["a Response of JSON", Response.json(Array(2000).fill(1))],
    ["a Response of a Blob", new Response(blob("application/json"))],
    ["a stream that has a type", { ...typed("text/csv"), body: pieces(TEXT, "", bytes(TEXT)) }],
    ["any case, and parameters", typed("Text/HTML ; charset=utf-8")],
    ["SVG", typed("image/svg+xml")],
    ["JSON of a kind", typed("application/problem+json")],
    ["an error's page", { status: 404, body: TEXT }],
    ["1024 bytes", { body: "x".repeat(1024) }],
    ["no-transform of something else", { headers: { "X-Cache": "no-transform" }, body: TEXT }],
  ];
  for (const [name, response] of yes) {
    const received = await answer(() => response, ACCEPT);
    assertEquals(field(received, "content-encoding"), "gzip", name);
    assertEquals(field(received, "vary"), "Accept-Encoding", name);
    assertMatch(field(received, "content-type") ?? "", /^[a-z]+\/[a-z]/i, name);
    assert(decoded(received).length >= 1024 && received.body.length < 4000, name);
  }
  const no: [name: string, response: () => HttpResponse | Response, vary?: string][] = [
    ["1023 bytes", () => ({ body: "x".repeat(1023) }), "Accept-Encoding"],
    [
      "a stream that tells that it is short",
      () => ({ headers: { "Content-Type": "text/a", "Content-Length": "3" }, body: pieces("abc") }),
      "Accept-Encoding",
    ],
    ["noise", () => ({ ...typed("text/plain"), body: noise }), "Accept-Encoding"],
    ["a short stream", () => ({ ...typed("text/a"), body: pieces("abc") }), "Accept-Encoding"],
    ["a short Response", () => new Response("abc"), "Accept-Encoding"],
    ["no content", () => ({}), undefined],
    ["an empty Response", () => new Response(null)],
    ["a Response whose fields can't be changed", () => Response.redirect("http://a/")],
    ["bytes without a type", () => ({ body: noise })],
    ["a stream without a type", () => ({ body: pieces(TEXT) })],
    ["an image", () => typed("image/png")],
    ["a font that is compressed already", () => typed("font/woff2")],
    ["video", () => typed("video/mp4")],
    ["an archive", () => typed("application/zip")],
    ["a coding", () => ({ headers: { "content-encoding": "br" }, body: TEXT })],
    ["a digest (RFC 9530)", () => ({ headers: { "Repr-Digest": "sha-256=:a:" }, body: TEXT })],
    ["Digest", () => ({ headers: { "Digest": "sha-256=a" }, body: TEXT })],
    ["Content-MD5", () => ({ headers: { "Content-MD5": "a" }, body: TEXT })],
    ["a part of an image", () => ({ ...typed("image/png"), status: 206 })],
    ["a part of text", () => ({ ...typed("text/a"), status: 206 }), "Accept-Encoding"], // 9110 §15.3.7
    ["one of Fetch", () => new Response(TEXT, { status: 206 }), "Accept-Encoding"],
    ["fields that are none", () => ({ headers: { "X-A": undefined } as never, body: TEXT })],
    ["one of several", () => ({ headers: { "X-A": ["a", 1] } as never, body: TEXT })],
    ["no-transform", () => ({ headers: { "Cache-Control": "no-transform" }, body: TEXT })],
    ["it among others", () => ({
      headers: { "cache-control": "max-age=1, No-Transform" },
      body: TEXT,
    })],
    ["204", () => ({ status: 204 })],
    [
      "what is no content",
      () => ({ ...typed("text/plain"), body: ["a", "b"] as unknown as string }),
    ],
    ["304", () => ({ status: 304 }), "Accept-Encoding"], // 9110 §15.4.5
  ];
  for (const [name, response, vary] of no) {
    const received = await answer(response, ACCEPT);
    const bare = await ask(response, get("/"));
    const without = (all: [string, string][]) =>
      Object.fromEntries(all.filter(([key]) => key !== "vary" && key !== "date"));
    assertEquals(received.body.length, bare[0].body.length, name);
    if (!name.includes("noise")) assertEquals(received.body, bare[0].body, name);
    assertEquals(without(received.fields), without(bare[0].fields), name);
    assertEquals(field(received, "vary"), vary, name);
  }
});

Deno.test("what is not worth a coding is sent even to who refuses it without", async () => {
  const fields = "Accept-Encoding: gzip, identity;q=0\r\n"; // 9110 §12.5.3 leaves it open.
  const coded = await answer(() => ({ body: TEXT }), fields);
  assertEquals([field(coded, "content-encoding"), decoded(coded)], ["gzip", TEXT]);
  const marked = { headers: { "Cache-Control": "no-transform" }, body: TEXT };
  for (const response of [{ body: "x" }, marked, {}]) {
    const received = await answer(() => response, fields);
    assertEquals([received.status, field(received, "content-encoding")], [200, undefined]);
    assertEquals(received.body, "body" in response ? response.body : "");
  }
});

Deno.test("Vary is added to what there is", async () => {
  const rows: [string | string[], string][] = [
    ["Origin", "Origin, Accept-Encoding"],
    [["Origin", "Accept"], "Origin, Accept, Accept-Encoding"],
    ["accept-encoding", "accept-encoding"],
    ["Origin,Accept-Encoding , X", "Origin,Accept-Encoding , X"],
    ["Accept-Encoding-2", "Accept-Encoding-2, Accept-Encoding"],
    ["*", "*"],
  ];
  for (const [vary, expected] of rows) {
    for (const fields of ["", ACCEPT]) {
      const received = await answer(() => ({ headers: { vary }, body: TEXT }), fields);
      const found = received.fields.filter(([name]) => name === "vary").map(([, value]) => value);
      assertEquals(found.join(", "), expected);
    }
  }
  const cookies = { "Set-Cookie": ["a=1", "b=2"] };
  const received = await answer(() => ({ headers: cookies, body: TEXT }), ACCEPT);
  const set = received.fields.filter(([name]) => name === "set-cookie");
  assertEquals(set.map(([, value]) => value), ["a=1", "b=2"]);
});

// ── Conditions and ranges ────────────────────────────────────────────────────────────────────

Deno.test("each coding has its own tag, for conditions and ranges", async () => {
  const kinds: [
    name: string,
    make: (etag: string) => HttpResponse | Response,
    isStream: boolean,
  ][] = [
    ["text", (ETag) => ({ headers: { ETag }, body: TEXT }), false],
    ["long text", (ETag) => ({ headers: { ETag }, body: lines(3000) }), false],
    ["a Response", (ETag) => new Response(TEXT, { headers: { ETag } }), false],
    ["a long Response", (ETag) => new Response(lines(3000), { headers: { ETag } }), false],
    ["a stream", (ETag) => ({
      headers: { ETag, "Content-Type": "text/plain" },
      body: new ReadableStream({
        async pull(controller) {
          await pause(1);
          controller.enqueue(bytes(TEXT));
          controller.close();
        },
      }),
    }), true],
  ];
  const asked = [undefined, ...CODINGS];
  const accept = (coding?: string) => coding === undefined ? "" : `Accept-Encoding: ${coding}\r\n`;
  for (const [name, make, isStream] of kinds) {
    for (const etag of ['"x"', 'W/"x"']) {
      const tags = new Map<string | undefined, string>();
      for (const coding of asked) {
        const received = await answer(() => make(etag), accept(coding));
        tags.set(coding, field(received, "etag")!);
        const isWeak = etag.startsWith("W") || isStream && coding !== undefined;
        const tag = coding === undefined ? '"x"' : `"x-${coding}"`;
        assertEquals(tags.get(coding), isWeak ? `W/${tag}` : tag, name);
      }
      for (const coding of asked) {
        const whole = await answer(() => make(etag), accept(coding));
        for (const [known, tag] of tags) {
          const isSame = known === coding;
          const what = `${name}, ${etag}, ${coding}, ${tag}`;
          const ask = (fields: string) => answer(() => make(etag), accept(coding) + fields);
          const fresh = await ask(`If-None-Match: "other", ${tag}\r\n`);
          assertEquals(fresh.status, isSame ? 304 : 200, what); // 9110 §13.1.2
          assertEquals(field(fresh, "etag"), tags.get(coding), what);
          assertEquals(field(fresh, "vary"), "Accept-Encoding", what);
          const isStrong = !tag.startsWith("W/");
          const match = await ask(`If-Match: ${tag}\r\n`);
          assertEquals(match.status, isSame && isStrong ? 200 : 412, what); // 9110 §13.1.1
          const part = await ask(`If-Range: ${tag}\r\nRange: bytes=5-14\r\n`);
          const isPart = isSame && isStrong && !isStream;
          assertEquals(part.status, isPart ? 206 : 200, what); // 9110 §13.1.5
          const body = part.status === 206 ? whole.body.slice(5, 15) : whole.body;
          assert(part.body === body, what);
          assertEquals(field(part, "content-encoding"), coding);
          if (part.status === 206) {
            assertEquals(field(part, "content-range"), `bytes 5-14/${whole.body.length}`);
          }
        }
      }
    }
  }
});

Deno.test("a stream that is shorter than it told is not taken for whole", async () => {
  const text = { "Content-Type": "text/plain" };
  for (const [told, status] of [[TEXT.length + 1, 500], [TEXT.length, 200]]) {
    const headers = { ...text, "Content-Length": `${told}` };
    assertEquals((await answer(() => ({ headers, body: pieces(TEXT) }), ACCEPT)).status, status);
  }
});

Deno.test("a stream that has all that it told is not waited for any longer", async () => {
  const headers = { "Content-Type": "text/plain", "Content-Length": `${TEXT.length}` };
  const body = async function* () {
    yield TEXT;
    await new Promise(() => {});
  };
  assertEquals(decoded(await answer(() => ({ headers, body: body() }), ACCEPT)), TEXT);
});

Deno.test("HEAD that is answered without content tells nothing of another representation", async () => {
  const rows: [type: string, length: string | undefined, isOther: boolean][] = [
    ["text/plain", "20000", true],
    ["text/plain", undefined, true],
    ["text/plain", "1023", false],
    ["image/png", "20000", false],
  ];
  for (const [type, length, isOther] of rows) {
    const headers: Record<string, string> = { "Content-Type": type, "ETag": '"x"' };
    if (length !== undefined) headers["Content-Length"] = length;
    const shapes: Handler[] = [
      () => ({ headers }),
      () => ({ headers, body: "" }),
      () => Object.freeze({ headers: Object.freeze({ ...headers }), body: "" }),
      () => new Response(null, { headers }),
    ];
    for (const make of shapes) {
      for (const fields of [ACCEPT, ""]) {
        const { fields: all, body } = await answer(make, fields, {}, "HEAD");
        const told = Object.fromEntries(all), isCoded = isOther && fields !== "";
        assertEquals(body, "");
        assertEquals(told["etag"], isCoded ? 'W/"x-gzip"' : '"x"', `${make}`);
        assertEquals(told["content-length"], isCoded ? undefined : length, `${make}`);
        assertEquals(told["vary"], type === "text/plain" ? "Accept-Encoding" : undefined);
      }
    }
  }
});

Deno.test("the tag in an answer to PUT is about what was stored", async () => { // 9110 §9.3.4
  const response = frozen(TEXT, { ETag: '"x"' });
  for (const make of [() => response, () => ({ headers: { ETag: '"x"' }, body: TEXT })]) {
    const handler = compress(make);
    for (const method of ["PUT", "GET", "PUT", "HEAD"]) {
      const [received] = await ask(handler, get("/", ACCEPT, method));
      assertEquals(field(received, "content-encoding"), "gzip");
      assertEquals(field(received, "etag"), method === "PUT" ? '"x"' : '"x-gzip"');
    }
  }
});

Deno.test("HEAD has the fields of GET", async () => {
  const made = (headers: Record<string, string>) => [
    () => ({ headers, body: TEXT }),
    () => ({ headers, body: LONG }),
    function stream() {
      return { headers, body: pieces(TEXT) };
    },
    function stream() {
      return { headers, body: pieces(LONG) };
    },
    () => ({ headers, body: new Blob([TEXT]) }),
    () => new Response(TEXT, { headers }),
    () => new Response(LONG, { headers }),
    () => ({ headers, body: "short" }),
  ];
  for (const handler of made({ "Content-Type": "text/html", "ETag": '"x"' })) {
    for (const fields of ["", ACCEPT, "Accept-Encoding: zstd\r\n"]) {
      const [got, head] = [
        await answer(handler, fields),
        await answer(handler, fields, {}, "HEAD"),
      ];
      // Of a stream without a coding, server.ts itself tells HEAD no length.
      const isBare = field(head, "content-encoding") === undefined && handler.name === "stream";
      const ignored = isBare ? /^(date|content-length|transfer-encoding)$/ : /^date$/;
      const dateless = ({ fields }: typeof got) => fields.filter(([name]) => !ignored.test(name));
      assertEquals(dateless(head), dateless(got), `${handler}, ${fields}`);
      assertEquals(head.body, "");
    }
  }
});

// ── Frozen responses ─────────────────────────────────────────────────────────────────────────

const frozen = (body: string | Uint8Array, headers: Record<string, string> = {}) =>
  Object.freeze({ headers: Object.freeze(headers), body });

Deno.test("frozen responses are encoded once, as long as somebody has them", async () => {
  const encoded = async (handler: Handler, coding: string) =>
    await handler(requestOf({ headers: { "Accept-Encoding": coding } })) as HttpResponse;
  for (const body of [TEXT, LONG, bytes(LONG)]) {
    const response = frozen(body, { ETag: '"x"' });
    const handler = compress(() => response);
    for (const coding of [...CODINGS, ""]) {
      const all = await Promise.all([encoded(handler, coding), encoded(handler, coding)]);
      const again = await encoded(handler, coding);
      assert(Object.isFrozen(again) && Object.isFrozen(again.headers));
      assert(again === await encoded(handler, coding));
      if (coding === "") continue;
      assertEquals(Buffer.compare(all[0].body as Uint8Array, again.body as Uint8Array), 0);
      assertEquals(textOf(DECODE[coding](again.body as Uint8Array)), textOf(Buffer.from(body)));
    }
  }
  // What is changed in between, or not frozen all through, is encoded each time.
  for (const response of [{ body: TEXT }, Object.freeze({ headers: { a: "b" }, body: TEXT })]) {
    const handler = compress(() => response);
    assert(await encoded(handler, "gzip") !== await encoded(handler, "gzip"));
  }
  const binary = Object.freeze({ body: new Uint8Array([255]) });
  for (const coding of [...CODINGS, ""]) {
    assert(await encoded(compress(() => binary), coding) === binary);
  }
  const cookies = { "Set-Cookie": "a=1", "set-cookie": "b=2" };
  for (let i = 0; i < 2; i++) {
    const received = await answer(() => frozen(TEXT, cookies), ACCEPT);
    const set = received.fields.filter(([name]) => name === "set-cookie");
    assertEquals(set.map(([, value]) => value), ["a=1", "b=2"]);
  }
  const html = frozen(TEXT, { "Content-Type": "text/html" });
  let asked = 0;
  const types = () => {
    if (asked++ === 0) throw new Error("not yet");
    return true;
  };
  const later = compress(() => html, { types });
  await assertRejects(() => encoded(later, "gzip"), Error, "not yet");
  assertEquals(textOf(DECODE.gzip((await encoded(later, "gzip")).body as Uint8Array)), TEXT);
  // Neither the response nor what was made of it is kept when nobody else has it.
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc");
  const handler = compress(() => frozen(LONG));
  const refs = await Promise.all(Array.from({ length: 5 }, async () => {
    return new WeakRef(await encoded(handler, "zstd"));
  }));
  await pause(10);
  collect();
  assertEquals(refs.filter((ref) => ref.deref() !== undefined).length, 0);
});

// ── Streams ──────────────────────────────────────────────────────────────────────────────────

Deno.test("of a stream, what has come arrives, in every coding", async () => {
  for (const coding of CODINGS) {
    let push = (_: string | undefined) => {};
    const body = new ReadableStream<string>({
      start(controller) {
        push = (text) => text === undefined ? controller.close() : controller.enqueue(text);
      },
    });
    await using server = start(
      compress(() => ({ headers: { "Content-Type": "text/event-stream" }, body })),
    );
    const client = server.connect();
    client.send(get("/", `Accept-Encoding: ${coding}\r\n`));
    let sent = "";
    const make: Record<string, () => zlib.Gunzip> = {
      gzip: zlib.createGunzip,
      br: zlib.createBrotliDecompress as () => zlib.Gunzip,
      zstd: zlib.createZstdDecompress as unknown as () => zlib.Gunzip,
    };
    const decoder = make[coding]();
    let arrived = "", taken = 0, offset = 0;
    decoder.on("data", (piece: Uint8Array) => arrived += textOf(piece));
    for (let i = 0; i < 20; i++) {
      push(`data: ${i} ${i % 7 === 0 ? TEXT : ""}\n\n`);
      sent += `data: ${i} ${i % 7 === 0 ? TEXT : ""}\n\n`;
      for (let wait = 0; wait < 400 && arrived !== sent; wait++) {
        await pause(5);
        const { text } = client;
        if (offset === 0 && text.includes("\r\n\r\n")) offset = text.indexOf("\r\n\r\n") + 4;
        for (let end; offset > 0 && (end = text.indexOf("\r\n", offset)) > 0;) { // 9112 §7.1
          const size = parseInt(text.slice(offset, end), 16);
          if (size === 0 || text.length < end + size + 4) break;
          decoder.write(bytes(text.slice(end + 2, end + 2 + size)));
          offset = end + size + 4;
          taken++;
        }
      }
      assertEquals(arrived, sent, coding);
    }
    assert(taken >= 20, coding);
    push(undefined);
    await client.settled();
    const [received] = parseResponses(client.text, ["GET"], false);
    assertEquals(decoded(received), sent);
    decoder.destroy();
  }
});

Deno.test("a stream in any pieces is the same when it is decoded", async () => {
  const random = dice(7);
  for (let i = 0; i < 60; i++) {
    const text = lines(random(3000) + 100), coding = CODINGS[i % 3];
    const cuts: string[] = [];
    for (let at = 0; at < text.length;) {
      const size = random(5) === 0 ? random(50_000) : random(2000);
      cuts.push(text.slice(at, at += size));
    }
    const body = async function* () {
      for (const piece of cuts) {
        if (random(4) === 0) await pause(0);
        yield random(2) === 0 ? piece : bytes(piece);
      }
    };
    const handler = () => ({ headers: { "Content-Type": "text/plain" }, body: body() });
    const received = await answer(handler, `Accept-Encoding: ${coding}\r\n`);
    assertEquals(field(received, "content-encoding"), coding);
    assert(decoded(received) === text);
  }
});

Deno.test("a source may use its buffer again once the next piece is wanted", async () => {
  const body = async function* () {
    const buffer = new Uint8Array(600);
    for (const letter of "abc") yield buffer.fill(letter.charCodeAt(0));
  };
  const handler = () => ({ headers: { "Content-Type": "text/plain" }, body: body() });
  const text = ["a", "b", "c"].map((letter) => letter.repeat(600)).join("");
  for (const fields of ["", ACCEPT]) assertEquals(decoded(await answer(handler, fields)), text);
});

Deno.test("the length of a stream that is encoded is not what the handler told", async () => {
  const body = async function* () {
    yield LONG;
    await pause(2);
    yield LONG;
  };
  const headers = { "Content-Type": "text/plain", "content-length": `${2 * LONG.length}` };
  const received = await answer(() => ({ headers, body: body() }), ACCEPT);
  assertEquals(field(received, "transfer-encoding"), "chunked");
  assert(decoded(received) === LONG + LONG);
});

Deno.test("a stream that fails breaks the answer off; early, it is a 500", async () => {
  for (const coding of CODINGS) {
    for (const wait of [false, true]) {
      let isEnded = false;
      const body = async function* () {
        try {
          yield TEXT;
          if (wait) await pause(5);
          throw new Error("broken");
        } finally {
          isEnded = true;
        }
      };
      await using server = start(
        compress(() => ({ headers: { "Content-Type": "text/plain" }, body: body() })),
      );
      const client = server.connect();
      client.send(get("/", `Accept-Encoding: ${coding}\r\n`));
      await client.until(() => client.closed || /^HTTP\/1.1 500/.test(client.text));
      assertMatch(client.text, wait ? /^HTTP\/1.1 200/ : /^HTTP\/1.1 500/);
      assertEquals(client.text.includes("0\r\n\r\n"), false);
      assert(isEnded);
    }
  }
});

Deno.test("a piece that is neither text nor bytes ends the stream and what makes it", async () => {
  for (const wait of [false, true]) {
    let isEnded = false;
    const body = async function* () {
      try {
        yield TEXT;
        if (wait) await pause(5);
        for (;;) yield 5 as unknown as string;
      } finally {
        isEnded = true;
      }
    };
    const handler = compress(() => ({ headers: { "Content-Type": "text/plain" }, body: body() }));
    const request = requestOf({ headers: { "Accept-Encoding": "gzip" } });
    await assertRejects(
      async () => await new Response((await handler(request)).body as ReadableStream).text(),
      TypeError,
      "must be text or bytes",
    );
    assert(isEnded);
  }
});

Deno.test("a client that leaves cancels the stream, also while nothing comes", async () => {
  for (const coding of CODINGS) {
    for (const isBusy of [true, false]) {
      const canceled = Promise.withResolvers<void>();
      let i = 0;
      const body = new ReadableStream<Uint8Array>({
        async pull(controller) {
          if (!isBusy && i++ > 0) return await new Promise(() => {});
          await pause(0);
          controller.enqueue(crypto.getRandomValues(new Uint8Array(20_000)));
        },
        cancel: () => canceled.resolve(),
      });
      await using server = start(
        compress(({ signal }) => {
          signal.onabort = () => {}; // so that the server looks whether the client leaves
          return { headers: { "Content-Type": "text/plain" }, body };
        }),
      );
      const client = server.connect();
      client.send(get("/", `Accept-Encoding: ${coding}\r\n`));
      await client.until(() => client.received.length > 10_000);
      client.reset();
      if (isBusy) await canceled.promise;
      else await server.shutdown(0).then(() => canceled.promise);
    }
  }
});

Deno.test("who does not read holds the stream up", async () => {
  let pulled = 0;
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      await pause(0);
      pulled += 65_536;
      controller.enqueue(crypto.getRandomValues(new Uint8Array(65_536)));
    },
  }, { highWaterMark: 0 });
  const response = { headers: { "Content-Type": "text/plain" }, body };
  await using server = start(compress(() => response));
  const client = server.connect();
  client.send(get("/", ACCEPT));
  await client.until(() => client.received.length > 200_000);
  client.stalled = true;
  await pause(50);
  const before = pulled;
  await pause(100);
  assertEquals(pulled, before);
  client.reset();
});

Deno.test("a stream of nothing lets others have their turn", async () => {
  for (const coding of CODINGS) {
    let isEnded = false;
    const body = async function* () {
      try {
        yield TEXT;
        for (;;) yield "";
      } finally {
        isEnded = true;
      }
    };
    const handler = compress(() => ({ headers: { "Content-Type": "text/plain" }, body: body() }));
    const request = requestOf({ headers: { "Accept-Encoding": coding } });
    const stream = (await handler(request)).body as ReadableStream<Uint8Array>;
    await pause(5);
    await stream.cancel();
    assert(isEnded);
  }
});

Deno.test("long content lets others have their turn", async () => {
  const handler = compress(() => ({ body: LONG.repeat(4) }));
  for (const coding of CODINGS) {
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await handler(requestOf({ headers: { "Accept-Encoding": coding } }));
    clearInterval(timer);
    assert(turns >= 3, `${coding}: ${turns}`);
  }
});

Deno.test("an application written for Fetch", async () => {
  const app = {
    fetch: (request: Request) =>
      new URL(request.url).pathname === "/"
        ? new Response(TEXT)
        : new Response("no", { status: 404 }),
  };
  const handler = compress((request) => app.fetch(request.toFetch()));
  const [received] = await ask(handler, get("/", ACCEPT));
  assertEquals([field(received, "content-encoding"), decoded(received)], ["gzip", TEXT]);
  const [none] = await ask(handler, get("/x", ACCEPT));
  assertEquals([none.status, field(none, "content-encoding"), none.body], [404, undefined, "no"]);
});

// ── Requests ─────────────────────────────────────────────────────────────────────────────────

/** What `decompress` answers to some content, in whole or in pieces. */
async function send(
  coding: string,
  content: Uint8Array,
  read: (request: HttpRequest) => Promise<unknown> = (request) => request.text(),
  maxSize?: number,
): Promise<[status: number, body: string, acceptEncoding?: string]> {
  const handler = decompress(async (request) => ({ body: `${await read(request)}` }), { maxSize });
  const text = post(textOf(content), `Content-Encoding: ${coding}\r\n`);
  const [received] = await ask(handler, text, { maxBodySize: 1e7 });
  return [received.status, received.body, field(received, "accept-encoding")];
}

Deno.test("Content-Encoding of requests", async () => {
  const content = bytes(TEXT);
  for (const [coding, encode] of Object.entries(ENCODE)) {
    const encoded = encode(content);
    const ok = (coding: string, content: Uint8Array) =>
      send(coding, content).then((found) => assertEquals(found, [200, TEXT, undefined], coding));
    await ok(coding, encoded);
    await ok(` ${coding.toUpperCase()} , identity`, encoded);
    await ok(`gzip, ${coding}`, encode(zlib.gzipSync(content)));
    await ok(`${coding}, x-gzip`, zlib.gzipSync(encoded));
    const malformed: [string, Uint8Array][] = [
      ["nothing like it", content],
      ["something behind", Buffer.concat([encoded, bytes("x")])],
      ["zeros behind", Buffer.concat([encoded, new Uint8Array(3)])],
      ["cut short twice", Buffer.concat([encoded.subarray(0, -1), encoded.subarray(0, -1)])],
    ];
    for (const [what, wrong] of malformed) {
      const [status, body] = await send(coding, wrong);
      const message = `400 Bad Request: Malformed ${coding} content`;
      assertEquals([status, body], [400, message], `${coding}: ${what}`);
    }
  }
  const twice = (name: string) => Buffer.concat([ENCODE[name](content), ENCODE[name](content)]);
  for (const name of ["gzip", "zstd"]) { // RFC 1952 §2.2, RFC 8878 §3: several members, or frames
    assertEquals(await send(name, twice(name)), [200, TEXT + TEXT, undefined]);
  }
  for (const name of ["br", "deflate"]) assertEquals((await send(name, twice(name)))[0], 400);
  // A header that is cut short, of a frame that tells its size (RFC 8878 §3.1.1.1).
  assertEquals((await send("zstd", Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x83)))[0], 400);
  const frames = (count: number) => Buffer.concat(Array(count).fill(zlib.zstdCompressSync("x")));
  assertEquals(await send("zstd", frames(30)), [200, "x".repeat(30), undefined]);
  assertEquals((await send("zstd", frames(1000)))[0], 413); // Each takes Deno a decoder.
  const long = zlib.zstdCompressSync(crypto.getRandomValues(new Uint8Array(5000)));
  const length = async (request: HttpRequest) => (await request.bytes()).length;
  const found = await send("zstd", Buffer.concat(Array(80).fill(long)), length);
  assertEquals(found, [200, "400000", undefined]); // They are not small.
  for (const unknown of ["compress", "gzip, compress", "gzip, gzip, gzip", "gz ip"]) {
    const [status, , accepted] = await send(unknown, content); // 9110 §15.5.16
    assertEquals([status, accepted], [415, "zstd, br, gzip, deflate"], unknown);
  }
  assertEquals(await send("", content), [200, TEXT, undefined]);
  const [plain] = await ask(
    decompress(() => ({ body: "x" })),
    get("/", "Content-Encoding: gzip\r\n"),
  );
  assertEquals(plain.body, "x"); // no content, so nothing to decode
});

Deno.test("content that is cut anywhere is refused, in any pieces", async () => {
  const content = bytes(lines(40));
  for (const [coding, encode] of Object.entries(ENCODE)) {
    const encoded = encode(content), random = dice(3);
    const handler = decompress(async (request) => ({ body: await request.text() }));
    for (let size = 0; size <= encoded.length; size++) {
      const part = encoded.subarray(0, size);
      const chunks: string[] = [];
      for (let at = 0; at < size;) {
        const piece = part.subarray(at, at += 1 + random(random(3) === 0 ? 3 : 300));
        chunks.push(`${piece.length.toString(16)}\r\n${textOf(piece)}\r\n`);
      }
      const [received] = await ask(
        handler,
        `POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: ${coding}\r\n` +
          `Transfer-Encoding: chunked\r\n\r\n${chunks.join("")}0\r\n\r\n`,
      );
      if (size === 0) { // It has no content.
        assertEquals([received.status, received.body], [200, ""]);
        continue;
      }
      const isWhole = size === encoded.length;
      assertEquals(received.status, isWhole ? 200 : 400, `${coding}, ${size} of ${encoded.length}`);
      if (isWhole) assertEquals(received.body, textOf(content));
    }
  }
});

Deno.test("a bomb is a 413 by what comes out", async () => {
  const zeros = Buffer.alloc(20_000_000);
  for (const [coding, encode] of Object.entries(ENCODE)) {
    let most = 0;
    const count = async (request: HttpRequest) => {
      for await (const piece of request.body!) most += piece.length;
      return most;
    };
    const bombs: [string, Uint8Array][] = [
      [coding, encode(zeros)],
      [`${coding}, gzip`, zlib.gzipSync(encode(zeros))],
      [`gzip, ${coding}`, encode(zlib.gzipSync(zeros))],
      // Nothing much comes of what is decoded in between, which is large.
      [`gzip, ${coding}`, encode(Buffer.concat(Array(100_000).fill(zlib.gzipSync(""))))],
    ];
    for (const [codings, bomb] of bombs) {
      most = 0;
      assertEquals((await send(codings, bomb, count, 300_000))[0], 413, codings);
      assert(most <= 300_000, `${codings}: ${most}`);
    }
    const exactly = encode(zeros.subarray(0, 300_000));
    assertEquals(await send(coding, exactly, count, 300_000).then(([status]) => status), 200);
    assertEquals((await send(coding, exactly, count, 299_999))[0], 413);
    assertEquals((await send(coding, encode(zeros.subarray(0, 1 << 20)), count))[0], 200);
    assertEquals((await send(coding, encode(zeros.subarray(0, (1 << 20) + 1)), count))[0], 413);
  }
  // RFC 9659: a frame that wants more memory than 8 MiB
  const far = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0, 0x70, 9, 0, 0, 120); // a window of 16 MiB
  assertEquals((await send("zstd", far))[0], 400);
  const near = far.with(5, 0x68); // a window of 8 MiB
  assertEquals(await send("zstd", near), [200, "x", undefined]);
});

Deno.test("a decoded request reads as any other", async () => {
  const json = zlib.gzipSync('{"a":"\u00fc"}');
  const read = (content: Uint8Array, how: (request: HttpRequest) => Promise<unknown>) =>
    send("gzip", content, how);
  const rows: [(request: HttpRequest) => Promise<unknown>, string][] = [
    [async (request) => (await request.json() as { a: string }).a, "\xc3\xbc"],
    [async (request) => (await request.bytes()).length, "10"],
    [async (request) => (await request.toFetch().json()).a, "\xc3\xbc"],
    [async (request) => (await request.toFetch().text()).length, "9"],
    [(request) => Promise.resolve(request.headers.get("content-encoding")), "null"],
    [(request) => Promise.resolve(request.headers.has("content-length")), "false"],
    [(request) => Promise.resolve(request.toFetch().headers.get("content-length")), "null"],
    [(request) => Promise.resolve(request.headers.get("host")), "a"],
    [
      (request) => Promise.resolve([request.method, request.path, request.url].join()),
      "POST,/,http://a/",
    ],
    [(request) => Promise.resolve(request.signal.aborted), "false"],
    [async (request) => {
      await request.text();
      return await request.text().catch((error) => error.name);
    }, "TypeError"],
    [async (request) => {
      request.body!.getReader();
      return await request.bytes().catch((error) => error.name);
    }, "TypeError"],
    [async (request) => { // left in the middle
      for await (const piece of request.body!) return piece.length;
    }, "10"],
  ];
  for (const [how, body] of rows) {
    assertEquals((await read(json, how)).slice(0, 2), [200, body], `${how}`);
  }
  for (const wrong of ["{", "\xff"]) {
    const content = zlib.gzipSync(bytes(wrong));
    assertEquals((await read(content, (request) => request.json()))[0], 400);
    assertEquals((await read(content, (request) => request.toFetch().json()))[0], 400);
  }
  assertEquals((await read(bytes("no gzip"), (request) => request.toFetch().text()))[0], 400);
  const form = post(
    textOf(zlib.gzipSync("a=1&b=2")),
    "Content-Encoding: gzip\r\n" +
      "Content-Type: application/x-www-form-urlencoded\r\n",
  );
  const [received] = await ask(
    decompress(async (request) => ({ body: `${(await request.toFetch().formData()).get("b")}` })),
    form,
  );
  assertEquals(received.body, "2");
});

Deno.test("content is looked at before its coding", async () => {
  const handler = decompress(() => ({ body: "x" }));
  assertEquals((await ask(handler, get("/", "Content-Encoding: foo\r\n")))[0].status, 200);
});

Deno.test("a large window of Brotli is refused at its first byte, also in another coding", async () => {
  for (const first of [0x11, 0x91]) { // RFC 7932 §9.1
    const large = Buffer.from([first, 30]);
    const rows: [codings: string, content: Uint8Array][] = [
      ["br", large.subarray(0, 1)],
      ["br, gzip", zlib.gzipSync(large)],
      ["br, br", ENCODE.br(large)],
    ];
    for (const [codings, content] of rows) {
      await using server = start(
        decompress(async (request) => ({ body: await request.text() })),
      );
      const client = server.connect();
      const size = content.length + 1; // So the rest may still come.
      client.send(
        `POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: ${codings}\r\n` +
          `Content-Length: ${size}\r\n\r\n${textOf(content)}`,
      );
      for (let i = 0; i < 100 && client.text === ""; i++) {
        await pause(5);
      }
      assertMatch(client.text, /^HTTP\/1\.1 400 /, codings);
    }
  }
  const params = { [zlib.constants.BROTLI_PARAM_LGWIN]: 24 }; // the largest that is valid
  const text = zlib.brotliCompressSync(TEXT, { params });
  assertEquals(await send("br", text), [200, TEXT, undefined]);
});

Deno.test("frames of zstd are counted over all content, in any pieces", async () => {
  const frame = zlib.zstdCompressSync("x");
  const chunk = `${frame.length.toString(16)}\r\n${textOf(frame)}\r\n`;
  for (const [count, status] of [[30, 200], [40, 413]]) {
    const [received] = await ask(
      decompress(async (request) => ({ body: await request.text() })),
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: zstd\r\nTransfer-Encoding: chunked\r\n\r\n" +
        `${chunk.repeat(count)}0\r\n\r\n`,
    );
    assertEquals(received.status, status);
  }
});

const READERS = ["text", "json", "bytes", "arrayBuffer", "blob", "formData"] as const;

Deno.test("what nobody waits for may fail", async () => {
  // It would be an unhandled rejection, which fails the test.
  for (
    const content of [bytes("no gzip"), zlib.gzipSync("{bad"), zlib.gzipSync(TEXT).subarray(0, 9)]
  ) {
    for (const name of READERS) {
      const read = async (request: HttpRequest) => {
        void request.toFetch()[name]();
        await pause(5);
        return "x";
      };
      assertEquals(await send("gzip", content, read), [200, "x", undefined]);
    }
    for (const name of ["text", "json", "bytes"] as const) {
      const read = async (request: HttpRequest) => {
        const promise = request[name]();
        await pause(5);
        return await promise.then(() => "x", (error) => error.status);
      };
      const [, body] = await send("gzip", content, read);
      assertEquals(
        body,
        content[0] === 0x1f && content.length > 9 && name !== "json" ? "x" : "400",
      );
    }
  }
});

Deno.test("a decoded request is read once, in Fetch's ways, too", async () => {
  const begin = [
    async (request: HttpRequest) => {
      const reader = request.body!.getReader();
      await reader.read();
      reader.releaseLock();
    },
    async (request: HttpRequest) => {
      for await (const _ of request.body!) { /* to its end */ }
    },
    (request: HttpRequest) => request.body!.cancel(),
    (request: HttpRequest) => request.text(),
    (request: HttpRequest) => request.toFetch().text(),
  ];
  for (const first of begin) {
    for (const name of ["text", "json", "bytes"] as const) {
      const read = async (request: HttpRequest) => {
        await first(request);
        return await request[name]().then(() => "read", (error) => error.name);
      };
      const [status, body] = await send("gzip", zlib.gzipSync("{}"), read);
      assertEquals([status, body], [200, "TypeError"], `${name} after ${first}`);
    }
  }
  for (const name of READERS) {
    const read = async (request: HttpRequest) => {
      const own = request.toFetch();
      await own.text();
      return await own[name]().then(() => "read", (error: Error) => error.name);
    };
    assertEquals((await send("gzip", zlib.gzipSync("{}"), read))[1], "TypeError", name);
  }
  const sizes = async (request: HttpRequest) => {
    const name = request.query.get("as") as "blob" | "arrayBuffer";
    const made = await request.toFetch()[name]();
    return "size" in made ? `${made.size} ${made.type}` : made.byteLength;
  };
  const handler = decompress(async (request) => ({ body: `${await sizes(request)}` }));
  for (const [name, told] of [["blob", "9000 a/b"], ["arrayBuffer", "9000"]]) {
    const fields = "Content-Encoding: gzip\r\nContent-Type: a/b\r\n";
    const text = lines(700).slice(0, 9000);
    const [{ body }] = await ask(
      handler,
      post(textOf(zlib.gzipSync(text)), fields, `/?as=${name}`),
    );
    assertEquals(body, told);
  }
});

Deno.test("a form that is malformed is a 400", async () => {
  const handler = decompress(async (request) => {
    await request.toFetch().formData();
    return {};
  });
  for (const type of ["multipart/form-data; boundary=x", "multipart/form-data", "text/plain"]) {
    const fields = `Content-Encoding: gzip\r\nContent-Type: ${type}\r\n`;
    const [received] = await ask(handler, post(textOf(zlib.gzipSync("junk")), fields));
    assertEquals(received.status, 400, type);
  }
});

Deno.test("content can be read until the handler has answered, or its stream has ended", async () => {
  const content = zlib.gzipSync(LONG);
  const request = () =>
    requestOf({ method: "POST", headers: { "Content-Encoding": "gzip" }, body: content });
  const begin = async ({ body }: HttpRequest) => {
    const reader = body!.getReader();
    await reader.read();
    return reader;
  };
  const answered = /^TypeError: The request was answered before its content was read$/;
  /** What a handler answers, and its reader of content that it has begun to read. */
  const run = async (answer: (request: HttpRequest) => ReturnType<Handler>) => {
    let reader!: ReadableStreamDefaultReader<Uint8Array>;
    const handler = decompress(async (request) => {
      reader = await begin(request);
      return await answer(request);
    });
    const response = await Promise.resolve(handler(request())).catch((error: Error) => error);
    return { reader, response };
  };
  const whole: (() => ReturnType<Handler>)[] = [
    () => ({ body: "x" }),
    () => ({}),
    () => new Response(null, { status: 204 }),
    () => {
      throw new HttpError(400, "enough");
    },
  ];
  for (const answer of whole) {
    const { reader } = await run(answer);
    assertMatch(await reader.read().then(() => "read", String), answered, `${answer}`);
  }
  const pieces = async function* () {
    yield "a";
    yield "b";
  };
  const streams: (() => HttpResponse | Response)[] = [
    () => ({ status: 201, body: pieces() }),
    () => ({ status: 201, body: new Blob(["ab"]).stream() }),
    () => new Response("ab", { status: 201 }),
  ];
  for (const answer of streams) {
    for (const isCanceled of [true, false]) {
      const { reader, response } = await run(answer);
      assert(!(response instanceof Error) && response.status === 201);
      assert((await reader.read()).value!.length > 0); // which the stream may be made of
      const body = response.body as ReadableStream;
      if (isCanceled) await body.cancel();
      else {assertEquals(
          (await Array.fromAsync(body)).map((piece) => textOf(bytes(piece))).join(""),
          "ab",
        );}
      await pause(0);
      assertMatch(await reader.read().then(() => "read", String), answered, `${answer}`);
    }
  }
  // An answer of which all is there is sent as if nothing had been wrapped.
  const text = post(textOf(content), "Content-Encoding: gzip\r\n");
  const [received] = await ask(decompress(() => new Response("ab")), text, { maxBodySize: 1e7 });
  const plain = await ask(() => new Response("ab"), text, { maxBodySize: 1e7 });
  assertEquals(received.raw.replace(/Date.*/, ""), plain[0].raw.replace(/Date.*/, ""));
  // What comes in comes out, as it comes.
  const [echo] = await ask(decompress(({ body }) => ({ body })), text, { maxBodySize: 1e7 });
  assertEquals(echo.body, LONG);
});

// ── From outside ─────────────────────────────────────────────────────────────────────────────

const APP = "tests/coded.ts";

/** Asks for a path, and tells the answer's fields and decoded content. */
async function fetched(port: number, path: string, fields = "", method = "GET", body = "") {
  using client = await Client.connect(port);
  const length = body === "" ? "" : `Content-Length: ${body.length}\r\n`;
  await client.send(
    `${method} ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${length}${fields}\r\n${body}`,
  );
  const [received] = parseResponses(await client.rest(), [method], true);
  return {
    ...received,
    text: received.status === 200 && method !== "HEAD" ? decoded(received) : "",
  };
}

export const CODED: Scenario[] = [
  ["content codings, with conditions and ranges", async (runtime) => {
    await using server = await Process.start(runtime, [], APP);
    const { port } = server;
    for (const path of ["/page", "/frozen", "/book", "/response"]) {
      const { text } = await fetched(port, path);
      assertEquals(text, path === "/book" ? LONG : TEXT);
      for (const coding of CODINGS) {
        const accept = `Accept-Encoding: ${coding}\r\n`;
        const all = await fetched(port, path, accept);
        const tag = `"x-${coding}"`;
        assertEquals([field(all, "content-encoding"), field(all, "etag")], [coding, tag]);
        assert(all.text === text);
        assertEquals(field(all, "content-length"), `${all.body.length}`);
        for (const [known, status] of [[tag, 304], ['"x"', 200], ['"x-other"', 200]] as const) {
          const again = await fetched(port, path, `${accept}If-None-Match: ${known}\r\n`);
          assertEquals(again.status, status);
        }
        const part = `${accept}Range: bytes=100-299\r\nIf-Range: ${tag}\r\n`;
        const { status, body } = await fetched(port, path, part);
        assertEquals([status, body], [206, all.body.slice(100, 300)]);
      }
    }
  }],

  ["content codings of files: GET, HEAD and conditions are about the same", async (runtime) => {
    await using folder = await Folder.create();
    const sizes = [600, 20_000, 100_000, 300_000];
    for (const size of sizes) {
      await shell(`seq 100000 | head -c ${size} > "$1/${size}.txt"`, folder.path);
    }
    const flags = runtime.name === "Deno" ? [`--allow-read=${folder.path}`] : [];
    const allowed = { ...runtime, args: [...runtime.args, ...flags] };
    await using server = await Process.start(allowed, ["--folder", folder.path], APP);
    const content = Array.from({ length: 100_000 }, (_, i) => `${i + 1}\n`).join("");
    for (const size of sizes) {
      for (const coding of ["", "zstd", "gzip"]) {
        const get = (fields = "", method = "GET") => {
          const accept = coding === "" ? "" : `Accept-Encoding: ${coding}\r\n`;
          return fetched(server.port, `/${size}.txt`, accept + fields, method);
        };
        const dateless = ({ fields }: Received) => fields.filter(([name]) => name !== "date");
        const got = await get(), head = await get("", "HEAD");
        const tag = field(got, "etag")!, what = `${size} ${coding}`;
        assert(got.text === content.slice(0, size), what);
        const isCoded = size >= 1024 && coding !== "";
        assertEquals(field(got, "content-encoding"), isCoded ? coding : undefined, what);
        const isWeak = isCoded && size === 300_000; // A large file is a stream.
        assertEquals(tag.startsWith("W/"), isWeak, what);
        assertEquals([head.status, dateless(head)], [200, dateless(got)], what);
        for (const method of ["GET", "HEAD"]) {
          const fresh = await get(`If-None-Match: ${tag}\r\n`, method);
          assertEquals([fresh.status, field(fresh, "etag")], [304, tag], what);
          const match = await get(`If-Match: ${tag}\r\n`, method);
          assertEquals(match.status, isWeak ? 412 : 200, what); // 9110 §13.1.1
          if (!isWeak) assertEquals(dateless(match), dateless(got), what);
          const other = await get('If-None-Match: "other"\r\n', method);
          assertEquals([other.status, dateless(other)], [200, dateless(got)], what);
        }
      }
    }
  }, { plain: true }],

  ["content codings: events arrive, and who leaves ends them", async (runtime) => {
    await using server = await Process.start(runtime, [], APP);
    const { port } = server;
    for (const [i, coding] of CODINGS.entries()) {
      {
        using client = await Client.connect(port);
        await client.send(`GET /events HTTP/1.1\r\nHost: a\r\nAccept-Encoding: ${coding}\r\n\r\n`);
        let before = 0;
        for (let event = 0; event < 5; event++) { // Each comes before the next one is there.
          while (client.received.length === before || !/\r\n\r\n[^]/.test(client.received)) {
            assert(await client.read(), client.received);
          }
          before = client.received.length;
          if (event < 4) await fetched(port, "/next");
        }
      }
      {
        using client = await Client.connect(port);
        await client.send(`GET /endless HTTP/1.1\r\nHost: a\r\nAccept-Encoding: ${coding}\r\n\r\n`);
        while (client.received.length < 300_000) assert(await client.read());
      }
      for (let wait = 0; wait < 100; wait++) {
        await fetched(port, "/next"); // The events end when one can't be sent.
        if (Number((await fetched(port, "/canceled")).body) === 2 * (i + 1)) break;
        await pause(20);
      }
      assertEquals((await fetched(port, "/canceled")).body, `${2 * (i + 1)}`);
    }
  }],

  ["content codings of requests, and bombs", async (runtime) => {
    await using server = await Process.start(runtime, [], APP);
    const { port } = server;
    const upload = async (codings: string, content: Uint8Array) => {
      const fields = `Content-Encoding: ${codings}\r\n`;
      const { status, body } = await fetched(port, "/length", fields, "POST", textOf(content));
      return status === 200 ? body : status;
    };
    const zeros = Buffer.alloc(50_000_000);
    const before = Number((await fetched(port, "/memory")).body);
    for (const [coding, encode] of Object.entries(ENCODE)) {
      const encoded = encode(bytes(TEXT));
      assertEquals(await upload(coding, encoded), `${TEXT.length}`);
      assertEquals(await upload(`${coding}, gzip`, zlib.gzipSync(encoded)), `${TEXT.length}`);
      for (const cut of [1, 5, 9, 20, encoded.length - 1]) {
        assertEquals(await upload(coding, encoded.subarray(0, cut)), 400, `${coding}: ${cut}`);
      }
      assertEquals(await upload(coding, Buffer.concat([encoded, bytes("x")])), 400);
      const bomb = encode(zeros);
      assertEquals(await upload(coding, bomb), 413);
      assertEquals(await upload(`${coding}, gzip`, zlib.gzipSync(bomb)), 413);
    }
    const grown = Number((await fetched(port, "/memory")).body) - before;
    assert(grown < 50, `${grown} MiB for eight bombs`);
    assertEquals(
      await upload("zstd", Buffer.concat(Array(10).fill(zlib.zstdCompressSync("x")))),
      "10",
    );
  }, { plain: true }],

  ["content of requests that is not read, or not to its end", async (runtime) => {
    await using server = await Process.start(runtime, [], APP);
    const { port } = server;
    const upload = (path: string, coding: string, content: Uint8Array, type = "text/plain") => {
      const fields = `Content-Encoding: ${coding}\r\nContent-Type: ${type}\r\n`;
      return fetched(port, path, fields, "POST", textOf(content));
    };
    const bad = zlib.gzipSync("{bad");
    for (const content of [bad, bad.subarray(0, 12)]) {
      assertEquals((await upload("/late", "gzip", content)).status, 400);
    }
    const form = await upload("/form", "gzip", bad, "multipart/form-data; boundary=x");
    assertEquals(form.status, 400);
    const begun = ENCODE.br(bytes(LONG));
    const memory = async () => Number((await fetched(port, "/memory")).body);
    for (let i = 0; i < 10; i++) await upload("/begun", "br", begun);
    const before = await memory();
    for (let i = 0; i < 40; i++) {
      assertEquals((await upload("/begun", "br", begun)).status, 200);
      assertEquals((await upload("/begun/stream", "br", begun)).text, "true!");
    }
    const grown = await memory() - before;
    assert(grown < 100, `${grown} MiB for 80 decoders`); // which have some MiB each
  }, { plain: true }],

  ["curl, Python and fetch understand what is encoded", async (runtime) => {
    await using server = await Process.start(runtime, [], APP);
    const base = `http://127.0.0.1:${server.port}`;
    for (const [path, text] of [["/page", TEXT], ["/frozen", TEXT], ["/book", LONG]]) {
      assertEquals(await output("curl", ["-sf", "--compressed", base + path]), text);
      const response = await fetch(base + path);
      assertEquals([response.status, await response.text()], [200, text]);
    }
    const script = `
import gzip, sys, urllib.request, zlib
base = sys.argv[1]
for path in ["/page", "/book"]:
    plain = urllib.request.urlopen(base + path).read()
    request = urllib.request.Request(base + path, headers={"Accept-Encoding": "gzip"})
    answer = urllib.request.urlopen(request)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer.read()) == plain
for coding, data in [("gzip", gzip.compress(b"x" * 5000)), ("deflate", zlib.compress(b"x" * 5000))]:
    request = urllib.request.Request(base + "/length", data, {"Content-Encoding": coding})
    assert urllib.request.urlopen(request).read() == b"5000"
print("good")`;
    assertEquals(await output("python3", ["-c", script, base]), "good\n");
    const run = `const { gzipSync } = require("node:zlib");
      (async () => {
        const text = await (await fetch("${base}/book")).text();
        const sent = await fetch("${base}/length", {
          method: "POST", body: gzipSync(text), headers: { "Content-Encoding": "gzip" },
        });
        console.log(text.length === Number(await sent.text()) && text.length);
      })()`;
    assertEquals(await output("node", ["-e", run]), `${LONG.length}\n`);
  }, { needs: "curl", plain: true }],
];
