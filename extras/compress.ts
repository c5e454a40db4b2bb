/**
 * Responses with a content coding (9110 §8.4): a function around a handler of server.ts.
 *
 * ```ts
 * serve(compress(handler), { log: console });
 * ```
 *
 * **BREACH.** TLS hides content, but not its length, and content that repeats itself gets shorter. So
 * whoever sees lengths, and can have a victim's browser ask for an answer that holds both a secret (a
 * token against CSRF, say) and some of the URL, guesses the secret in the URL, a few characters at a
 * time. An answer must not hold both, unless it says `Cache-Control: no-transform`, which leaves it as
 * it is, or the secret is masked with random bytes that are new each time.
 *
 * "9110" in the comments is RFC 9110 (HTTP Semantics).
 *
 * @module
 */

import { Buffer, isUtf8 } from "node:buffer";
import { setImmediate } from "node:timers/promises";
import * as zlib from "node:zlib";
import type { Handler, HttpResponse, Piece } from "../server.ts";

/** What answers can be encoded with: RFC 8878, RFC 7932, RFC 1952. */
export type Coding = "zstd" | "br" | "gzip";

/** What can be set for {@linkcode compress}. */
export interface CompressOptions {
  /** The codings to use; of those that a client likes equally, the first. Default `["zstd", "br",
   * "gzip"]`: zstd takes the least time by far, br makes the least of it. */
  codings?: readonly Coding[] | undefined;
  /** Bytes of content that are worth it. Default 1024: less fits into one packet either way. The size of
   * a stream that has more to come is not asked. */
  minSize?: number | undefined;
  /** Whether content of a media type, told in lower case and without parameters, gets smaller. Default:
   * text, JSON, XML, JavaScript and a few others that are not compressed already. */
  types?: ((type: string) => boolean) | undefined;
}

/** Bytes that are encoded at once, for which br takes 2 ms; others get a turn after so many. */
const PIECE = 32768;
/** What a piece costs apart from its bytes, in bytes: there may be many, with nothing in them. */
const COST = 1024;
/** Microtasks after which what is there has come, of a stream and of what that is made of. */
const MICROTASKS = 20;
const COMPRESSIBLE =
  /^(text\/.+|.+\+(json|xml|text)|application\/(json|javascript|xml|x-ndjson|wasm)|font\/(ttf|otf))$/;
/** What has one of these is encoded, a part, or has a digest that holds for it (RFC 9530). */
const FIXED = ["Content-Encoding", "Content-Range", "Content-Digest", "Repr-Digest"];

const { BROTLI_PARAM_QUALITY, ZSTD_c_windowLog, ZSTD_c_hashLog, ZSTD_c_chainLog } = zlib.constants;
const { ZSTD_e_flush, BROTLI_OPERATION_FLUSH, Z_SYNC_FLUSH } = zlib.constants;
const BROTLI = { params: { [BROTLI_PARAM_QUALITY]: 5 } };
/** Each stream takes 0.2 MiB then instead of 0.8, and its content 4 % more at most. */
const ZSTD = { params: { [ZSTD_c_windowLog]: 17, [ZSTD_c_hashLog]: 14, [ZSTD_c_chainLog]: 14 } };
/** At once; as a stream, and what flushes that. At the next higher level, each takes much longer. */
const ENCODERS = {
  zstd: [zlib.zstdCompressSync, zlib.createZstdCompress, ZSTD_e_flush, ZSTD],
  br: [zlib.brotliCompressSync, zlib.createBrotliCompress, BROTLI_OPERATION_FLUSH, BROTLI],
  gzip: [zlib.gzipSync, zlib.createGzip, Z_SYNC_FLUSH, {}],
} as const;

/** With what the types of others do not have yet. */
const Streams = ReadableStream as typeof ReadableStream & {
  from<T>(pieces: Iterable<T> | AsyncIterable<T>): ReadableStream<T>;
};
type Answer = HttpResponse | Response;
/** Bytes that are there, or come. */
type Content = Uint8Array | ReadableStream<Uint8Array>;

/**
 * Encodes what a handler answers, as far as its client accepts that (`Accept-Encoding`, 9110 §12.5.3).
 *
 * - Left as they are: content that is small, or has a type that does not get smaller, or none; that has
 *   a coding, a range or a digest; and what says `Cache-Control: no-transform`. Such content is sent even
 *   to a client that refuses it without a coding: the request has been carried out by then.
 * - `Vary` names `Accept-Encoding` wherever that makes a difference.
 * - What is encoded is another representation (9110 §8.8.3.3) and has an `ETag` of its own, `"x-gzip"`
 *   for `"x"`, so that conditions and ranges are about that. In a stream, when its pieces came decides on
 *   the bytes, so there it is weak. Elsewhere it is as strong as the handler's, which promises the same
 *   bytes: from all servers that stand for each other, if their runtimes are of one version.
 * - A handler that compares `If-Match` itself, as for a PUT, must take `"x-gzip"` for its `"x"`.
 * - A frozen response is encoded once, and that is kept as long as the response itself.
 * - A stream is encoded as it comes: what is there is sent before more is waited for, so that events
 *   arrive. Each that is open takes 0.2 (zstd) to 0.6 MiB (br) of memory.
 *
 * For an application written for Fetch: `compress((request) => app.fetch(request.toFetch()))`. Mind
 * BREACH, above.
 * @throws {RangeError} for an option that is out of its range.
 */
export function compress(handler: Handler, options: CompressOptions = {}): Handler {
  const { codings = ["zstd", "br", "gzip"], minSize = 1024 } = options;
  const { types = (type: string) => COMPRESSIBLE.test(type) } = options;
  const unknown = codings.find((coding) => !Object.hasOwn(ENCODERS, coding));
  if (unknown !== undefined) throw new RangeError(`There is no coding ${unknown}`);
  if (!(minSize >= 0)) throw new RangeError("minSize must be bytes from 0");
  const kept = new WeakMap<Answer, Map<Coding | undefined, Promise<Answer>>>();
  return async (request) => {
    const coding = negotiate(request.headers.get("accept-encoding"), codings);
    const response = await handler(request);
    if (typeof response !== "object" || response === null) return response; // The server tells why not.
    const known = kept.get(response)?.get(coding);
    if (known !== undefined) return known;
    const answer = encode(response, { coding, minSize, types });
    if (!isFrozen(response)) return answer;
    const answers = kept.get(response) ?? new Map<Coding | undefined, Promise<Answer>>();
    kept.set(response, answers.set(coding, answer.then(freeze)));
    return answers.get(coding)!;
  };
}

/** The coding that a client likes best, of those that there are; none if it likes that better. */
function negotiate(field: string | null, codings: readonly Coding[]): Coding | undefined {
  const weights = new Map<string, number>();
  for (const member of (field ?? "").toLowerCase().split(",")) {
    const [, name, weight = "1"] = MEMBER.exec(member) ?? [];
    if (name !== undefined) weights.set(name === "x-gzip" ? "gzip" : name, Number(weight));
  }
  const others = weights.get("*");
  const identity = weights.get("identity") ?? others ?? 0.0001; // less than what is listed
  let coding: Coding | undefined, best = 0;
  for (const one of codings) {
    const weight = weights.get(one) ?? others ?? 0;
    if (weight > best && weight >= identity) [coding, best] = [one, weight];
  }
  return coding;
}
/** A member with a weight that there is not (9110 §12.4.2) counts for nothing. */
const MEMBER =
  /^[ \t]*([!#$%&'*+\-.^`|~\w]+)[ \t]*(?:;[ \t]*q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)[ \t]*)?$/;

/** Whether nothing of it can change: server.ts encodes it once, too. */
function isFrozen(response: Answer): boolean {
  if (!Object.isFrozen(response) || !isPiece(response.body)) return false;
  const headers = response.headers ?? Object.freeze({});
  return Object.isFrozen(headers) && !(Symbol.iterator in headers) &&
    Object.values(headers).every((value) => typeof value === "string");
}
function freeze(answer: Answer): Answer {
  if (Object.isFrozen(answer)) return answer;
  const headers = Object.freeze(Object.fromEntries(answer.headers as Headers));
  return Object.freeze({ ...answer, headers });
}

type Plan = { coding: Coding | undefined; minSize: number; types: (type: string) => boolean };

async function encode(response: Answer, { coding, minSize, types }: Plan): Promise<Answer> {
  const headers = headersOf(response);
  const type = headers.get("Content-Type")?.replace(/[ \t]*;.*/, "").toLowerCase();
  if (!mayChange(response, headers) || type !== undefined && !types(type)) return response;
  const { status, body } = response; // That of a `Response` is a stream from now on.
  const isStream = body instanceof Blob || Symbol.asyncIterator in Object(body);
  const hasType = type !== undefined || isFetch(response); // Bun's of text does not tell it.
  const hasContent = isPiece(body) ? body !== "" : isStream && hasType;
  if (!hasContent && status !== 304) return response;
  if (!/(^|,)[ \t]*(\*|accept-encoding)[ \t]*(,|$)/i.test(headers.get("Vary") ?? "")) {
    headers.append("Vary", "Accept-Encoding"); // A 304 has that of a 200 (9110 §15.4.5).
  }
  const isReady = coding === undefined && type !== undefined && !isFetch(response);
  if (isReady || status === 304) return { status, headers, body };
  const content = await contentOf(body!);
  const isText = () => content instanceof Uint8Array && isUtf8(content) && types("text/plain");
  if (type === undefined && !isText()) return { status, headers: response.headers, body: content };
  const encoded = coding === undefined ? content : await encodedContent(content, coding, minSize);
  if (coding === undefined || encoded === content) return { status, headers, body: content };
  const tag = `${encoded instanceof Uint8Array ? "$1" : "W/"}"$2-${coding}"`;
  const etag = headers.get("ETag")?.replace(/^(W\/)?"([^"]*)"$/, tag);
  if (etag !== undefined) headers.set("ETag", etag);
  if (type === undefined) headers.set("Content-Type", "text/plain; charset=utf-8"); // as server.ts
  headers.set("Content-Encoding", coding);
  headers.delete("Content-Length");
  return { status, headers, body: encoded };
}
function isFetch(response: Answer): response is Response {
  return "bodyUsed" in response;
}
/** Its fields, and the type of a `Blob`. */
function headersOf(response: Answer): Headers {
  const { headers = {} } = response;
  const copy = new Headers();
  for (const [name, value] of Symbol.iterator in headers ? headers : Object.entries(headers)) {
    for (const one of [value].flat()) copy.append(name, one);
  }
  const type = !isFetch(response) && response.body instanceof Blob ? response.body.type : "";
  if (type !== "" && !copy.has("Content-Type")) copy.set("Content-Type", type);
  return copy;
}
/** Whether it is a representation as a whole, and nobody forbids to encode it. */
function mayChange(response: Answer, headers: Headers): boolean {
  const { status = 200, upgrade } = response as HttpResponse;
  return upgrade === undefined && ![204, 205, 206].includes(status) &&
    !FIXED.some((name) => headers.has(name)) &&
    !/\bno-transform\b/i.test(headers.get("Cache-Control") ?? "");
}

function isPiece(body: unknown): body is Piece {
  return typeof body === "string" || body instanceof ArrayBuffer || ArrayBuffer.isView(body);
}
function bytesOf(piece: Piece): Uint8Array {
  if (typeof piece === "string") return Buffer.from(piece);
  if (piece instanceof ArrayBuffer) return new Uint8Array(piece);
  return new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength);
}
/** All of it if that is there, or a stream of it. */
async function contentOf(body: NonNullable<Answer["body"]>): Promise<Content> {
  if (isPiece(body)) return bytesOf(body);
  const pieces = body instanceof Blob ? body.stream() : body;
  const stream = pieces instanceof ReadableStream ? pieces : Streams.from(pieces);
  const reader = stream.getReader();
  const next = async () => {
    const { done, value } = await reader.read();
    if (done || isPiece(value)) return done ? undefined : bytesOf(value);
    reader.cancel().catch(() => {});
    throw new TypeError("The pieces of a streamed body must be text or bytes");
  };
  const taken: Promise<Uint8Array | undefined>[] = [], there: Uint8Array[] = [];
  for (let size = 0;;) {
    const promise = next();
    taken.push(promise);
    if (!await isThere(promise)) break;
    const piece = await promise;
    if (piece === undefined) return Buffer.concat(there);
    if (size > PIECE) break;
    there.push(piece);
    size += piece.length + COST;
  }
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const piece = await (taken.shift() ?? next());
      if (piece === undefined) controller.close();
      else controller.enqueue(piece);
    },
    cancel: (reason) => reader.cancel(reason),
  }, { highWaterMark: 0 });
}
/** Whether it need not be waited for. */
async function isThere(promise: Promise<unknown>): Promise<boolean> {
  let isSettled = false;
  const settle = () => isSettled = true;
  promise.then(settle, settle);
  for (let i = 0; i < MICROTASKS && !isSettled; i++) await undefined;
  return isSettled;
}

/** The same content if it is not worth it. */
async function encodedContent(content: Content, coding: Coding, minSize: number): Promise<Content> {
  if (!(content instanceof Uint8Array)) return encodedStream(content, coding);
  if (content.length < minSize) return content;
  const [atOnce, , , settings] = ENCODERS[coding];
  const encoded = content.length <= PIECE
    ? atOnce(content, settings)
    : Buffer.from(await new Response(encodedStream(content, coding)).arrayBuffer());
  return encoded.length < content.length ? encoded : content;
}
/** What comes out for all that has come, before more is waited for. */
function encodedStream(content: Content, coding: Coding): ReadableStream<Uint8Array<ArrayBuffer>> {
  const [, create, flush, settings] = ENCODERS[coding];
  const engine = create(settings);
  const stream = content instanceof Uint8Array ? Streams.from([content]) : content;
  const reader = stream.getReader();
  const feed = async () => {
    for (let work = 0, isHeld = false;;) {
      const next = reader.read();
      if (isHeld && !await isThere(next)) {
        await new Promise<void>((resolve) => engine.flush(flush, resolve));
        isHeld = false;
      }
      const { done, value } = await next;
      if (done) break;
      for (let at = 0; at === 0 || at < value.length; at += PIECE) {
        const piece = value.subarray(at, at + PIECE);
        work += piece.length + COST;
        // Deno encodes in this thread, and goes on at once.
        if (work > PIECE) work = await setImmediate(0);
        if (piece.length > 0) await new Promise((resolve) => engine.write(piece, resolve));
        isHeld ||= piece.length > 0;
      }
    }
    engine.end();
  };
  return new ReadableStream({
    start(controller) {
      feed().catch((error) => {
        controller.error(error);
        engine.destroy();
      });
      engine.pause().on("data", (piece) => {
        engine.pause(); // until it is asked for more
        if (!engine.destroyed) controller.enqueue(piece);
      });
      engine.on("end", () => controller.close()).on("error", (error) => controller.error(error));
    },
    pull: () => void engine.resume(),
    async cancel(reason) {
      engine.destroy();
      await reader.cancel(reason);
    },
  }, { highWaterMark: 0 });
}
