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
import { setImmediate } from "node:timers";
import * as zlib from "node:zlib";
import type { FetchApplication, Handler, HttpRequest, HttpResponse, Piece } from "../server.ts";
import { HttpHeaders } from "../server.ts";

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
  /** Bytes of frozen responses, as they were and encoded, that are kept so that they are encoded once;
   * when there are more, it begins anew. Default 16777216. */
  cacheSize?: number | undefined;
}

/** Bytes that are encoded at once, for which br takes 2 ms; others get a turn after so many. */
const PIECE = 32768;
/** Microtasks after which what is there has come, of a stream and of what that is made of. */
const MICROTASKS = 20;
const TEXT_TYPE = "text/plain; charset=utf-8";
const COMPRESSIBLE =
  /^(text\/.+|.+\+(json|xml|text)|application\/(json|javascript|xml|x-ndjson|wasm)|font\/(ttf|otf))$/;
/** What has one of these is encoded, a part, or has a digest that holds for it (RFC 9530). */
const FIXED = ["Content-Encoding", "Content-Range", "Content-Digest", "Repr-Digest"];

const { ZSTD_e_flush, BROTLI_OPERATION_FLUSH, Z_SYNC_FLUSH, ...PARAMS } = zlib.constants;
const BROTLI = { params: { [PARAMS.BROTLI_PARAM_QUALITY]: 5 } };
/** Each stream takes 0.2 MiB then instead of 0.8, as the others do, and its content 4 % more at most. */
const ZSTD = {
  params: {
    [PARAMS.ZSTD_c_windowLog]: 17,
    [PARAMS.ZSTD_c_hashLog]: 14,
    [PARAMS.ZSTD_c_chainLog]: 14,
  },
};
/** At once; as a stream, and what flushes that. At the next higher level, each takes much longer. */
const ENCODERS = {
  zstd: [zlib.zstdCompressSync, zlib.createZstdCompress, ZSTD_e_flush, ZSTD],
  br: [zlib.brotliCompressSync, zlib.createBrotliCompress, BROTLI_OPERATION_FLUSH, BROTLI],
  gzip: [zlib.gzipSync, zlib.createGzip, Z_SYNC_FLUSH, {}],
} as const;

type Answer = HttpResponse | Response;
type Body = HttpResponse["body"];

/**
 * Encodes what a handler, or an application written for Fetch, answers, as far as its client accepts that
 * (`Accept-Encoding`, 9110 §12.5.3). If nothing that can be had is acceptable, the content is sent as it
 * is: that section leaves it open, and the request has been carried out by then.
 *
 * - Left as they are: content that is small, or has a type that does not get smaller, or none; that has
 *   a coding, a range or a digest; and what says `Cache-Control: no-transform`.
 * - `Vary` names `Accept-Encoding` wherever that makes a difference.
 * - What is encoded is another representation (9110 §8.8.3.3) and has an `ETag` of its own, `"x-gzip"`
 *   for `"x"`, so that conditions and ranges are about that. In a stream, when its pieces came decides on
 *   the bytes, so there it is weak. Elsewhere it is as strong as the handler's, which promises the same
 *   bytes: from all servers that stand for each other, if their runtimes are of one version. In
 *   `If-Match`, the handler finds its own tag as well.
 * - A frozen response is encoded once. A stream is encoded as it comes: what is there is sent before
 *   more is waited for, so that events arrive; each that is open takes some 0.25 MiB of memory.
 *
 * Mind BREACH, above.
 * @throws {RangeError} for an option that is out of its range.
 */
export function compress(handler: Handler, options?: CompressOptions): Handler;
/** The same, for an application written for Fetch. */
export function compress(app: FetchApplication, options?: CompressOptions): FetchApplication;
export function compress(
  application: Handler | FetchApplication,
  { codings = ["zstd", "br", "gzip"], minSize = 1024, types, cacheSize = 1 << 24 }:
    CompressOptions = {},
): Handler | FetchApplication {
  const unknown = codings.find((coding) => !Object.hasOwn(ENCODERS, coding));
  if (unknown !== undefined) throw new RangeError(`There is no coding ${unknown}`);
  if (!(minSize >= 0 && cacheSize >= 0)) throw new RangeError("A size must be bytes from 0");
  const cache = new Cache(cacheSize);
  const isFit = types ?? ((type) => COMPRESSIBLE.test(type));
  const encoded = (accepted: string | null, response: Answer): Answer | Promise<Answer> => {
    const { coding, isForced } = negotiate(accepted, codings);
    const known = isForced ? undefined : cache.get(response, coding);
    if (known !== undefined) return known;
    if (typeof response !== "object" || response === null) return response; // The server tells why not.
    const headers = headersOf(response);
    const isStale = response.status === 304; // It has the Vary of a 200 (9110 §15.4.5).
    const type = headers.get("Content-Type")?.replace(/[ \t]*;.*/, "").toLowerCase();
    const isText = type === undefined || isForced || isFit(type);
    if (!isStale && !(isText && isWhole(response, headers))) return response;
    if (!/(^|,)[ \t]*(\*|accept-encoding)[ \t]*(,|$)/i.test(headers.get("Vary") ?? "")) {
      headers.append("Vary", "Accept-Encoding");
    }
    const plan = { response, headers, coding: coding ?? "gzip", isForced, minSize };
    const isKept = !isForced && cache.takes(response);
    const answer = coding === undefined || isStale ? answerOf(plan) : encodedBody(plan);
    return isKept ? cache.add(response, coding, answer) : answer;
  };
  if (typeof application !== "function") {
    return {
      async fetch(request, info) {
        const tags = request.headers.get("if-match");
        if (tags !== null) request.headers.set("if-match", ownTags(tags));
        const response = await application.fetch(request, info);
        const answer = await encoded(request.headers.get("accept-encoding"), response);
        if (isFetch(answer)) return answer;
        return new Response(answer.body as ReadableStream, answer as ResponseInit);
      },
    };
  }
  return (request) => {
    const accepted = request.headers.get("accept-encoding");
    const response = application(request.headers.has("if-match") ? withOwnTags(request) : request);
    if (!(response instanceof Promise)) return encoded(accepted, response);
    return response.then((answer) => encoded(accepted, answer));
  };
}

/** What has been made of frozen responses, by coding. */
class Cache {
  readonly #maxSize: number;
  readonly #kept = new Map<Answer, Map<Coding | undefined, Answer | Promise<Answer>>>();
  #size = 0;

  constructor(maxSize: number) {
    this.#maxSize = maxSize;
  }
  get(response: Answer, coding: Coding | undefined): Answer | Promise<Answer> | undefined {
    return this.#kept.get(response)?.get(coding);
  }
  /** Whether server.ts would encode it once, and it has a size that fits. */
  takes(response: Answer): boolean {
    if (!Object.isFrozen(response) || isFetch(response)) return false;
    const { headers = Object.freeze({}), body } = response;
    return Object.isFrozen(headers) && !(Symbol.iterator in headers) &&
      Object.values(headers).every((value) => typeof value === "string") &&
      bytesOf(body) !== undefined && sizeOf(response) <= this.#maxSize;
  }
  add(response: Answer, coding: Coding | undefined, answer: Answer | Promise<Answer>) {
    const answers = this.#kept.get(response) ?? new Map();
    if (answers.size === 0) this.#size += sizeOf(response);
    this.#kept.set(response, answers.set(coding, answer));
    if (answer instanceof Promise) {
      answer.then((made) => this.add(response, coding, made), () => this.#kept.delete(response));
      return answer;
    }
    if (answer.body !== response.body) this.#size += sizeOf(answer);
    if (this.#size > this.#maxSize) {
      this.#kept.clear();
      this.#size = 0;
    }
    const headers = Object.freeze(Object.fromEntries(answer.headers as Headers));
    const frozen = Object.freeze({ ...answer, headers });
    answers.set(coding, frozen);
    return frozen;
  }
}

/** The coding that a client likes best, of those that there are; none if it likes that better. `isForced`:
 * it refuses content without one (9110 §12.5.3). */
function negotiate(field: string | null, codings: readonly Coding[]) {
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
  return { coding, isForced: coding !== undefined && identity === 0 };
}
/** A member with a weight that there is not (9110 §12.4.2) counts for nothing. */
const MEMBER =
  /^[ \t]*([!#$%&'*+\-.^`|~\w]+)[ \t]*(?:;[ \t]*q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)[ \t]*)?$/;

/** Tags of `If-Match`, and those that were made from: what looks like one may be the handler's own. */
function ownTags(tags: string): string {
  const made = tags.match(/"[^"]*-(zstd|br|gzip)"/g) ?? [];
  return [tags, ...made.map((tag) => tag.replace(/-\w+"$/, '"'))].join(", ");
}
function withOwnTags(request: HttpRequest): HttpRequest {
  const lines = Array.from(request.headers, ([name, value]) => {
    return `${name}: ${name === "if-match" ? ownTags(value) : value}\r\n`;
  });
  const headers = new HttpHeaders(lines.join(""));
  return new Proxy(request, {
    get(target, name) {
      const value = name === "headers" ? headers : Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

function isFetch(response: Answer): response is Response {
  return "bodyUsed" in response;
}
function sizeOf({ body }: Answer): number {
  return typeof body === "string" ? 2 * body.length : bytesOf(body)!.length;
}
/** The content, if it is there. */
function bytesOf(body: unknown): Uint8Array | undefined {
  if (typeof body === "string") return Buffer.from(body);
  if (body instanceof ArrayBuffer) return new Uint8Array(body);
  if (!ArrayBuffer.isView(body)) return undefined;
  return new Uint8Array(body.buffer, body.byteOffset, body.byteLength);
}
/** Its fields, with the type that server.ts would give it, if that does not depend on its content. */
function headersOf(response: Answer): Headers {
  const { headers = {} } = response;
  const copy = new Headers();
  for (const [name, value] of Symbol.iterator in headers ? headers : Object.entries(headers)) {
    for (const one of [value].flat()) copy.append(name, one);
  }
  if (isFetch(response) || copy.has("Content-Type") || response.body == null) return copy;
  const { body } = response;
  const bytes = typeof body === "string" ? undefined : bytesOf(body);
  const isText = typeof body === "string" || bytes !== undefined && isUtf8(bytes);
  if (isText) copy.set("Content-Type", TEXT_TYPE);
  else copy.set("Content-Type", body instanceof Blob && body.type || "application/octet-stream");
  return copy;
}
/** Whether it has content that stands for itself, and may be changed. */
function isWhole(response: Answer, headers: Headers): boolean {
  const { status = 200, upgrade } = response as HttpResponse;
  const isEmpty = isFetch(response) ? response.bodyUsed : (response.body ?? "") === "";
  return !isEmpty && upgrade === undefined && status >= 200 && ![204, 205, 206].includes(status) &&
    !FIXED.some((name) => headers.has(name)) &&
    !/\bno-transform\b/i.test(headers.get("Cache-Control") ?? "");
}
function setCoding({ headers, coding }: Plan, isStable: boolean): void {
  const [, weak = "", tag] = /^(W\/)?"([^"]*)"$/.exec(headers.get("ETag") ?? "") ?? [];
  if (tag !== undefined) headers.set("ETag", `${isStable ? weak : "W/"}"${tag}-${coding}"`);
  headers.set("Content-Encoding", coding);
  headers.delete("Content-Length");
}
/** With other content, or with its own. */
function answerOf({ response, headers }: Plan, body?: Body): Answer {
  // Asked for its body, a `Response` makes a stream of what is there; but one of `fetch` can't be changed.
  if (body === undefined && isFetch(response) && response.url === "") {
    response.headers.set("Vary", headers.get("Vary")!);
    return response;
  }
  return { status: response.status, headers, body: body ?? response.body };
}

/** A response that may be encoded; `isForced`: its client refuses it without a coding. */
type Plan = {
  response: Answer;
  headers: Headers;
  coding: Coding;
  isForced: boolean;
  minSize: number;
};

function encodedBody(plan: Plan): Answer | Promise<Answer> {
  const { body } = plan.response;
  if (body === null) return answerOf(plan);
  const bytes = bytesOf(body);
  if (bytes !== undefined) return encodedBytes(plan, bytes, body);
  return encodedStream(plan, sourceOf(body as Streamed));
}
function encodedBytes(plan: Plan, bytes: Uint8Array, body: Body): Answer | Promise<Answer> {
  const { coding, isForced, minSize } = plan;
  if (bytes.length < (isForced ? 1 : minSize)) return answerOf(plan, body);
  const answer = (encoded: Uint8Array) => {
    if (encoded.length >= bytes.length && !isForced) return answerOf(plan, body);
    setCoding(plan, true);
    return answerOf(plan, encoded);
  };
  const [atOnce, , , settings] = ENCODERS[coding];
  if (bytes.length <= PIECE) return answer(atOnce(bytes, settings));
  const pieces = encode(sourceOf(only(bytes)), coding);
  return Array.fromAsync(pieces).then((all) => answer(Buffer.concat(all)));
}
async function* only(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
/** What is there to its end is encoded as a whole. */
async function encodedStream(plan: Plan, source: Source): Promise<Answer> {
  const taken: Promise<Taken>[] = [], pieces: Uint8Array[] = [];
  let whole: Uint8Array | undefined;
  for (let size = 0; whole === undefined;) {
    const next = source.next();
    taken.push(next);
    if (!await isThere(next) || size > PIECE) break;
    const { value } = await next;
    if (value === undefined) whole = Buffer.concat(pieces);
    else size += pieces.push(value) && value.length;
  }
  const rest = { ...source, next: () => taken.shift() ?? source.next() };
  if (!plan.headers.has("Content-Type")) { // Bun does not tell that of a text in a `Response`.
    if (whole === undefined || !isUtf8(whole)) {
      return answerOf(plan, whole ?? streamOf(rest, source));
    }
    plan.headers.set("Content-Type", TEXT_TYPE);
  }
  if (whole !== undefined) return encodedBytes(plan, whole, whole);
  setCoding(plan, false);
  return answerOf(plan, streamOf(encode(rest, plan.coding), source));
}

type Streamed = Blob | ReadableStream<Piece> | AsyncIterable<Piece>;
/** What a source has brought; its end is no value. */
type Taken = { value: Uint8Array | undefined };
interface Source {
  next(): Promise<Taken>;
  cancel(reason?: unknown): Promise<unknown>;
}
function sourceOf(body: Streamed): Source {
  const stream = body instanceof Blob ? body.stream() : body;
  const reader = stream instanceof ReadableStream ? stream.getReader() : undefined;
  const iterator = reader ?? (stream as AsyncIterable<Piece>)[Symbol.asyncIterator]();
  return {
    async next() {
      const { done, value } = await ("read" in iterator ? iterator.read() : iterator.next());
      const bytes = done ? undefined : bytesOf(value);
      if (!done && bytes === undefined) throw new TypeError("Pieces must be text or bytes");
      return { value: bytes };
    },
    cancel: async (reason) =>
      await ("read" in iterator ? iterator.cancel(reason) : iterator.return?.(undefined)),
  };
}
/** Whether it need not be waited for. */
async function isThere(promise: Promise<unknown>): Promise<boolean> {
  let isSettled = false;
  const settle = () => isSettled = true;
  promise.then(settle, settle);
  for (let i = 0; i < MICROTASKS && !isSettled; i++) await undefined;
  return isSettled;
}

/** What a source is encoded to: all of what has come, before more is waited for. */
async function* encode(source: Source, coding: Coding): AsyncGenerator<Uint8Array, undefined> {
  const [, create, flush, settings] = ENCODERS[coding];
  const engine = create(settings);
  let failure: unknown, wake = (_: void) => {};
  engine.on("readable", () => wake()).on("error", (error) => wake(void (failure = error)));
  /** What comes out until it has done what was begun. */
  async function* step(begin: (done: () => void) => void): AsyncGenerator<Uint8Array> {
    let isDone = false;
    begin(() => wake(void (isDone = true)));
    while (failure === undefined) {
      const piece: Uint8Array | null = engine.read();
      if (piece !== null) yield piece;
      else if (isDone) return;
      else await new Promise<void>((resolve) => wake = resolve);
    }
    throw failure;
  }
  try {
    for (let work = 0, isHeld = false;;) {
      const next = source.next();
      if (isHeld && !await isThere(next)) {
        yield* step((done) => engine.flush(flush, done));
        isHeld = false;
      }
      const { value } = await next;
      if (value === undefined) break;
      for (let at = 0; at < value.length; at += PIECE) {
        const piece = value.subarray(at, at + PIECE);
        work += piece.length + PIECE / 32;
        // Deno encodes in this thread, and goes on at once.
        if (work > PIECE) await new Promise((resolve) => setImmediate(resolve, work = 0));
        yield* step((done) => engine.write(piece, done));
        isHeld = true;
      }
    }
    yield* step((done) => engine.once("end", done).end());
  } catch (error) {
    source.cancel(error).catch(() => {});
    throw error;
  } finally {
    engine.destroy();
  }
}
/** A stream of pieces that come when they are asked for. */
function streamOf(pieces: Source | AsyncGenerator<Uint8Array, undefined>, source: Source) {
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { value } = await pieces.next();
      if (value === undefined) controller.close();
      else controller.enqueue(value);
    },
    async cancel(reason) {
      if ("return" in pieces) void pieces.return(undefined);
      await source.cancel(reason);
    },
  }, { highWaterMark: 0 });
}
