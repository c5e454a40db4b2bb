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
 * time. An answer must not hold both, unless it says `Cache-Control: no-transform`, or the secret is
 * masked with new random bytes each time.
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
   * "gzip"]`: zstd is fastest by far, br gives the smallest result. */
  codings?: readonly Coding[] | undefined;
  /** Bytes of content that are worth it. Default 1024: less fits into one packet either way. The size of
   * a stream that has more to come is not asked. */
  minSize?: number | undefined;
  /** Whether content of a media type, given in lower case without parameters, is worth it. Default:
   * text, JSON, XML, JavaScript and a few others that are not compressed already. */
  types?: ((type: string) => boolean) | undefined;
}

/** Bytes that are encoded at once, for which br takes 2 ms; others get a turn after so many. */
const PIECE = 32768;
/** Bytes of a stream that tells its length which are waited for, so that HEAD has the tag of GET. */
const WHOLE = 131072;
/** What a piece costs apart from its bytes, in bytes: there may be many, with nothing in them. */
const COST = 1024;
/** Microtasks after which what is there has come, of a stream and of what that is made of. */
const MICROTASKS = 20;
/** With these, an `ETag` is about what is answered; with PUT, about what is stored (9110 §9.3.4). */
const READING = /^(GET|HEAD)$/;
const COMPRESSIBLE =
  /^(text\/.+|.+\+(json|xml|text)|application\/(json|javascript|xml|x-ndjson|wasm)|font\/(ttf|otf))$/;
/** What has one of these is encoded, or has a digest (RFC 9530) that another coding would belie. */
const FIXED = ["Content-Encoding", "Content-Digest", "Repr-Digest", "Digest", "Content-MD5"];

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
/** TypeScript's own types do not have it yet. */
const Streams: { from(pieces: unknown): ReadableStream } = ReadableStream as never;
type Answer = HttpResponse | Response;
type Content = Uint8Array | ReadableStream<Uint8Array>; // there, or to come
type Accepted = Coding | undefined;
type Plan = { method: string; accepted: Accepted; minSize: number; types(type: string): boolean };

/**
 * Encodes what a handler answers, as its client accepts it (9110 §12.5.3). Mind BREACH, above.
 *
 * - Left as they are: content that is small, or has a type that does not get smaller, or none; that has
 *   a coding, a range or a digest; and what says `Cache-Control: no-transform`. Such content is sent even
 *   to a client that refuses it without a coding: the request has been carried out by then.
 * - `Vary` names `Accept-Encoding` wherever that makes a difference, so also in a 206 or a 304.
 * - What is encoded is another representation (9110 §8.8.3.3): for GET and HEAD it has an `ETag` of its
 *   own, `"x-gzip"` for `"x"`, which conditions and ranges are about. The bytes of a stream depend on
 *   when its pieces came, so its tag is weak. Elsewhere it is as strong as the handler's, which promises the
 *   same bytes: from all servers that stand for each other, if their runtimes are of one version.
 * - A handler that compares `If-Match` itself, as for a PUT, must take `"x-gzip"` for its `"x"`.
 * - A frozen response to GET or HEAD is encoded once, which is kept as long as the response itself.
 * - A stream is encoded as it comes: what is there is sent before more is waited for, so that events
 *   arrive. Each that is open takes 0.2 (zstd) to 0.6 MiB (br) of memory. One with a `Content-Length`
 *   of up to 128 KiB is read first, and encoded as bytes are.
 * @throws {RangeError} for an option that is out of its range.
 */
export function compress(handler: Handler, options: CompressOptions = {}): Handler {
  const { codings = ["zstd", "br", "gzip"], minSize = 1024 } = options;
  const { types = (type: string) => COMPRESSIBLE.test(type) } = options;
  const unknown = codings.find((coding) => !Object.hasOwn(ENCODERS, coding));
  if (unknown !== undefined) throw new RangeError(`There is no coding ${unknown}`);
  if (!(minSize >= 0)) throw new RangeError("minSize must be bytes from 0");
  const kept = new WeakMap<Answer, Map<Accepted, Promise<Answer>>>();
  return async (request) => {
    const accepted = negotiate(request.headers.get("accept-encoding"), codings);
    const response = await handler(request);
    if (typeof response !== "object" || response === null) return response; // The server tells why not.
    const encoded = () => encode(response, { method: request.method, accepted, minSize, types });
    const answers = kept.get(response) ?? (isFrozen(response) ? new Map() : undefined);
    if (answers === undefined || !READING.test(request.method)) return encoded();
    const answer: Promise<Answer> = answers.get(accepted) ?? encoded().then(freeze);
    kept.set(response, answers.set(accepted, answer));
    answer.catch(() => answers.delete(accepted));
    return answer;
  };
}

/** The coding that a client likes best, of those that there are; none if it likes that better. */
function negotiate(field: string | null, codings: readonly Coding[]): Accepted {
  const weights = new Map<string, number>();
  for (const member of (field ?? "").toLowerCase().split(",")) {
    const [, name, weight = "1"] = MEMBER.exec(member) ?? [];
    if (name !== undefined) weights.set(name === "x-gzip" ? "gzip" : name, Number(weight));
  }
  const weightOf = (name: string) => weights.get(name) ?? weights.get("*") ?? 0;
  const least = Math.max(weightOf("identity"), 0.001);
  return codings.filter((one) => weightOf(one) >= least)
    .sort((a, b) => weightOf(b) - weightOf(a))[0];
}
/** A member with an invalid weight (9110 §12.4.2) counts for nothing. */
const MEMBER =
  /^[ \t]*([!#$%&'*+\-.^`|~\w]+)[ \t]*(?:;[ \t]*q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)[ \t]*)?$/;

/** Whether nothing of it can change: server.ts encodes it once, too. */
function isFrozen(response: Answer): boolean {
  if (!Object.isFrozen(response) || !isPiece(response.body) || response.body === "") return false;
  const headers = response.headers ?? Object.freeze({});
  const names = Object.keys(headers).map((name) => name.toLowerCase());
  return Object.isFrozen(headers) && !(Symbol.iterator in headers) &&
    new Set(names).size === names.length && // two of Set-Cookie can't be made one
    Object.values(headers).every((value) => typeof value === "string");
}
function freeze(answer: Answer): Answer {
  if (Object.isFrozen(answer)) return answer;
  const headers = Object.freeze(Object.fromEntries(answer.headers as Headers));
  return Object.freeze({ ...answer, headers });
}
async function encode(response: Answer, { method, accepted, minSize, types }: Plan) {
  const headers = headersOf(response);
  if (headers === undefined || (response as HttpResponse).upgrade !== undefined) return response;
  const isFixed = FIXED.some((name) => headers.has(name)) ||
    /\bno-transform\b/i.test(headers.get("Cache-Control") ?? "");
  const type = headers.get("Content-Type")?.replace(/[ \t]*;.*/, "").toLowerCase();
  if (isFixed || type !== undefined && !types(type)) return response;
  const { status, body } = response; // That of a `Response` is a stream from now on.
  const coding = status === 206 ? undefined : accepted;
  const isStream = body instanceof Blob || Symbol.asyncIterator in Object(body);
  const hasType = type !== undefined || isFetch(response); // Bun's of text does not tell it.
  const hasContent = isPiece(body) ? body !== "" : isStream && hasType;
  const isLeftOut = method === "HEAD" && type !== undefined && (body ?? "") === "";
  if (!hasContent && !isLeftOut && status !== 304) return response;
  if (!/(^|,)[ \t]*(\*|accept-encoding)[ \t]*(,|$)/i.test(headers.get("Vary") ?? "")) {
    headers.append("Vary", "Accept-Encoding"); // A 206 and a 304 have that of a 200 (9110 §15).
  }
  const length = body instanceof Blob ? body.size : Number(headers.get("Content-Length") ?? NaN);
  const isSmall = type !== undefined && (isStream || isLeftOut) && length < minSize;
  const isReady = coding === undefined && type !== undefined && !isFetch(response);
  if (isReady || isSmall || status === 304) return { status, headers, body };
  const content = isLeftOut ? undefined : await contentOf(body!, length);
  const isText = () => content instanceof Uint8Array && isUtf8(content) && types("text/plain");
  if (type === undefined && !isText()) {
    return isPiece(body) ? response : { status, headers: response.headers, body: content };
  }
  const encoded = coding && content && await encodedContent(content, coding, minSize);
  const isSame = coding === undefined || encoded === content && !isLeftOut;
  if (isSame) return { status, headers, body: content };
  const tag = `${encoded instanceof Uint8Array ? "$1" : "W/"}"$2-${coding}"`;
  const etag = headers.get("ETag")?.replace(/^(W\/)?"([^"]*)"$/, tag);
  if (etag !== undefined && READING.test(method)) headers.set("ETag", etag);
  headers.delete("Content-Length");
  if (type === undefined) headers.set("Content-Type", "text/plain; charset=utf-8"); // as server.ts
  if (!isLeftOut) headers.set("Content-Encoding", coding); // What is left out may not get smaller.
  return { status, headers, body: encoded };
}
function isFetch(response: Answer): response is Response {
  return "bodyUsed" in response;
}
/** Its fields, and the type of a `Blob`; undefined if the server is to tell what is wrong with them. */
function headersOf(response: Answer): Headers | undefined {
  const headers = response.headers ?? {};
  const copy = Symbol.iterator in headers ? new Headers(headers) : new Headers();
  for (const [name, all] of Object.entries(headers)) {
    if ([all].flat().some((value) => typeof value !== "string")) return undefined;
    for (const value of [all].flat()) copy.append(name, value);
  }
  const type = !isFetch(response) && response.body instanceof Blob ? response.body.type : "";
  if (type !== "" && !copy.has("Content-Type")) copy.set("Content-Type", type);
  return copy;
}

function isPiece(body: unknown): body is Piece {
  return typeof body === "string" || body instanceof ArrayBuffer || ArrayBuffer.isView(body);
}
function bytesOf(piece: Piece): Uint8Array {
  if (typeof piece === "string") return Buffer.from(piece);
  if (piece instanceof ArrayBuffer) return new Uint8Array(piece);
  return new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength);
}
/** All of it if that is there or comes within `WHOLE`, else a stream of it. */
async function contentOf(body: NonNullable<Answer["body"]>, length: number): Promise<Content> {
  if (isPiece(body)) return bytesOf(body);
  const pieces = body instanceof Blob ? body.stream() : body;
  const reader = (pieces instanceof ReadableStream ? pieces : Streams.from(pieces)).getReader();
  let left = length;
  const next = async () => {
    if (left === 0) reader.cancel().catch(() => {}); // It has all that it told.
    const { done, value } = await reader.read();
    if (done && !(left > 0)) return undefined;
    if (done) throw new Error("A streamed body is not as long as its Content-Length");
    if (!isPiece(value)) {
      reader.cancel().catch(() => {});
      throw new TypeError("The pieces of a streamed body must be text or bytes");
    }
    const piece = new Uint8Array(bytesOf(value)); // Its own bytes may be written over.
    left -= piece.length;
    return piece;
  };
  const taken: Promise<Uint8Array | undefined>[] = [], there: Uint8Array[] = [];
  for (let size = 0, isWhole = length <= WHOLE;;) {
    const promise = next();
    taken.push(promise);
    if (!isWhole && !await isThere(promise)) break;
    const piece = await promise;
    if (piece === undefined) return Buffer.concat(there);
    if (size > (isWhole ? WHOLE : PIECE)) break;
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
  promise.then(() => isSettled = true, () => isSettled = true);
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
  const reader = (content instanceof Uint8Array ? Streams.from([content]) : content).getReader();
  const feed = async () => {
    for (let work = 0, isHeld = false;;) {
      const next = reader.read();
      if (isHeld && !await isThere(next)) {
        await new Promise<void>((resolve) => engine.flush(flush, resolve));
        isHeld = false;
      }
      const { done, value } = await next;
      if (done) return engine.end();
      for (let at = 0; at === 0 || at < value.length; at += PIECE) {
        const piece = value.subarray(at, at + PIECE);
        work += piece.length + COST;
        if (work > PIECE) work = await setImmediate(0); // Deno encodes in this very thread.
        if (piece.length > 0) await new Promise((resolve) => engine.write(piece, resolve));
        isHeld ||= piece.length > 0;
      }
    }
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
