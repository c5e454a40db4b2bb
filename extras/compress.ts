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
import {
  type FetchApplication,
  type Handler,
  HttpHeaders,
  type HttpRequest,
  type HttpResponse,
  type Piece,
} from "../server.ts";

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

/** Bytes that are encoded at once, which takes br 2 ms. What is longer is encoded in pieces of this size,
 * between which others get their turn. */
const PIECE = 32768;
/** Microtasks that it takes at most until a piece has come that is there. */
const MICROTASKS = 20;
const TEXT_TYPE = "text/plain; charset=utf-8";
const COMPRESSIBLE =
  /^(text\/.+|.+\+(json|xml|text)|application\/(json|javascript|xml|x-ndjson|wasm)|font\/(ttf|otf)|image\/(bmp|x-icon))$/;
/** What has one of these is encoded, a part, or has a digest that holds for it (RFC 9530). */
const FIXED = ["content-encoding", "content-range", "content-digest", "repr-digest", "digest"];

const BROTLI = { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 5 } };
/** At the next higher level, each takes much longer for little. */
const ENCODERS = {
  zstd: {
    whole: (bytes: Uint8Array) => zlib.zstdCompressSync(bytes),
    stream: () => zlib.createZstdCompress(),
    flush: zlib.constants.ZSTD_e_flush,
  },
  br: {
    whole: (bytes: Uint8Array) => zlib.brotliCompressSync(bytes, BROTLI),
    stream: () => zlib.createBrotliCompress(BROTLI),
    flush: zlib.constants.BROTLI_OPERATION_FLUSH,
  },
  gzip: {
    whole: (bytes: Uint8Array) => zlib.gzipSync(bytes),
    stream: () => zlib.createGzip(),
    flush: zlib.constants.Z_SYNC_FLUSH,
  },
};

type Answer = HttpResponse | Response;
/** What of a request decides which representation it gets. */
type Asked = { readonly method: string; readonly headers: { get(name: string): string | null } };
/** Fields by name in lower case: the name as it was spelled, and the values. */
type Fields = Map<string, [name: string, values: string[]]>;

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
 *   bytes: from all servers that stand for each other, if their runtimes are of one version. In `If-Match`,
 *   the handler finds its own tag as well.
 * - A frozen response is encoded once. A stream is encoded as it comes: what is there is sent before
 *   more is waited for, so that events arrive.
 *
 * Mind BREACH, above.
 * @throws {RangeError} for an option that is out of its range.
 */
export function compress(handler: Handler, options?: CompressOptions): Handler;
/** The same, for an application written for Fetch. */
export function compress(app: FetchApplication, options?: CompressOptions): FetchApplication;
export function compress(
  application: Handler | FetchApplication,
  options: CompressOptions = {},
): Handler | FetchApplication {
  const compressor = new Compressor(options);
  if (typeof application === "function") {
    return (request) => {
      const response = application(
        request.headers.has("if-match") ? withOwnTags(request) : request,
      );
      return response instanceof Promise
        ? response.then((answer) => compressor.answer(request, answer))
        : compressor.answer(request, response);
    };
  }
  return {
    async fetch(request, info) {
      const tags = request.headers.get("if-match");
      const own = tags === null ? request : new Request(request);
      if (tags !== null) own.headers.set("If-Match", ownTags(tags));
      const answer = await compressor.answer(request, await application.fetch(own, info));
      if (isFetch(answer)) return answer;
      return new Response(answer.body as BodyInit, answer as ResponseInit);
    },
  };
}

/** A response that may be encoded. */
interface Plan {
  readonly response: Answer;
  readonly fields: Fields;
  readonly coding: Coding;
  /** The client refuses content without a coding. */
  readonly isForced: boolean;
}

class Compressor {
  readonly #codings: readonly Coding[];
  readonly #minSize: number;
  readonly #types: (type: string) => boolean;
  readonly #cacheSize: number;
  /** What has been made of frozen responses, by coding. */
  readonly #kept = new Map<Answer, Map<Coding | undefined, Answer | Promise<Answer>>>();
  #keptSize = 0;

  constructor({ codings, minSize, types, cacheSize }: CompressOptions) {
    this.#codings = codings ?? ["zstd", "br", "gzip"];
    this.#minSize = minSize ?? 1024;
    this.#types = types ?? ((type) => COMPRESSIBLE.test(type));
    this.#cacheSize = cacheSize ?? 1 << 24;
    for (const coding of this.#codings) {
      if (!Object.hasOwn(ENCODERS, coding)) throw new RangeError(`There is no coding ${coding}`);
    }
    if (!(this.#minSize >= 0 && this.#cacheSize >= 0)) {
      throw new RangeError("A size is bytes from 0");
    }
  }
  answer(request: Asked, response: Answer): Answer | Promise<Answer> {
    const { coding, isForced } = negotiate(request.headers.get("accept-encoding"), this.#codings);
    const isUsual = !isForced && request.headers.get("if-none-match") === null;
    const known = isUsual ? this.#kept.get(response)?.get(coding) : undefined;
    if (known !== undefined) return known;
    if (typeof response !== "object" || response === null) return response; // The server tells why not.
    const fields = fieldsOf(response.headers ?? {});
    const isStale = response.status === 304; // It has the Vary of a 200 (9110 §15.4.5).
    if (!isStale && !this.#isFor(response, fields, isForced)) return response;
    addVary(fields);
    const isKept = isUsual && isFrozen(response) && sizeOf(response) <= this.#cacheSize;
    if (coding === undefined || isStale) {
      const answer = unencoded(response, fields);
      return isKept ? this.#keep(response, coding, answer) : answer;
    }
    const plan = { response, fields, coding, isForced };
    if (isKnown(request, plan)) return notModified(plan);
    const answer = this.#encoded(plan, isKept);
    return isKept ? this.#keep(response, coding, answer) : answer;
  }
  /** Whether it has content that stands for itself, may be changed, and gets smaller. */
  #isFor(response: Answer, fields: Fields, isForced: boolean): boolean {
    const { status = 200, upgrade, body } = response as HttpResponse;
    if (status < 200 || [204, 205, 206].includes(status) || upgrade !== undefined) return false;
    if (FIXED.some((name) => fields.has(name))) return false;
    if (/\bno-transform\b/i.test(textOf(fields, "cache-control") ?? "")) return false;
    if ((body ?? "") === "" || isFetch(response) && response.bodyUsed) return false;
    if (!fields.has("content-type") && !isFetch(response)) {
      const type = typeOf(body);
      if (type === "") return isForced;
      set(fields, "Content-Type", type);
    }
    const type = textOf(fields, "content-type") ?? "";
    return isForced || type === "" || this.#types(type.split(";")[0]!.trim().toLowerCase());
  }
  #keep(response: Answer, coding: Coding | undefined, answer: Answer | Promise<Answer>) {
    let answers = this.#kept.get(response);
    if (answers === undefined) {
      this.#keptSize += sizeOf(response);
      this.#kept.set(response, answers = new Map());
    }
    answers.set(coding, answer);
    if (answer instanceof Promise) {
      void answer.then((made) => this.#keep(response, coding, made));
      return answer;
    }
    Object.values(Object.freeze(answer.headers)!).forEach(Object.freeze);
    if (answer.body !== response.body) this.#keptSize += sizeOf(answer);
    if (this.#keptSize > this.#cacheSize) {
      this.#kept.clear();
      this.#keptSize = 0;
    }
    return Object.freeze(answer);
  }
  #encoded(plan: Plan, isKept: boolean): Answer | Promise<Answer> {
    const { body } = plan.response;
    const bytes = bytesOf(body);
    if (bytes === undefined) return this.#encodedStream(plan, new Source(body as Streamed));
    if (bytes.length <= PIECE) return this.#encodedBytes(plan, bytes);
    setCoding(plan, true);
    const source = new Source(only(bytes));
    if (!isKept) return answerOf(plan, streamOf(encode(source, plan.coding), source));
    return collect(encode(source, plan.coding)).then((all) => answerOf(plan, all));
  }
  #encodedBytes(plan: Plan, bytes: Uint8Array, isRead = false): Answer {
    const { response, coding, isForced } = plan;
    const isWorthIt = bytes.length >= (isForced ? 1 : this.#minSize);
    const encoded = isWorthIt ? ENCODERS[coding].whole(bytes) : bytes;
    if (!isWorthIt || encoded.length >= bytes.length && !isForced) {
      return answerOf(plan, isRead ? bytes : response.body);
    }
    setCoding(plan, true);
    return answerOf(plan, encoded);
  }
  async #encodedStream(plan: Plan, source: Source): Promise<Answer> {
    const { fields, coding, isForced } = plan;
    const all = await source.whole(PIECE);
    if (!fields.has("content-type") && all !== undefined && isUtf8(all)) {
      set(fields, "Content-Type", TEXT_TYPE); // Bun does not tell that of a Response made of text.
    }
    if (!fields.has("content-type") && !isForced) {
      return answerOf(plan, all ?? streamOf(source.rest(), source));
    }
    if (all !== undefined) return this.#encodedBytes(plan, all, true);
    setCoding(plan, false);
    return answerOf(plan, streamOf(encode(source, coding), source));
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
  const identity = weights.get("identity") ?? others ?? LEAST;
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
/** What is not listed is acceptable, but less than what is. */
const LEAST = 0.0001;

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
/** Whether server.ts encodes it once, and its content is there. */
function isFrozen(response: Answer): boolean {
  const { headers = Object.freeze({}), body } = response;
  return Object.isFrozen(response) && Object.isFrozen(headers) && !(Symbol.iterator in headers) &&
    Object.values(headers).every(Object.isFrozen) && bytesOf(body) !== undefined;
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
/** The type that server.ts gives to what has none; "" if that is none. */
function typeOf(body: HttpResponse["body"]): string {
  const bytes = typeof body === "string" ? undefined : bytesOf(body);
  if (typeof body === "string" || bytes !== undefined && isUtf8(bytes)) return TEXT_TYPE;
  return body instanceof Blob ? body.type : "";
}

function fieldsOf(headers: NonNullable<Answer["headers"]>): Fields {
  const fields: Fields = new Map();
  for (const [name, value] of Symbol.iterator in headers ? headers : Object.entries(headers)) {
    const known = fields.get(name.toLowerCase())?.[1] ?? [];
    fields.set(name.toLowerCase(), [name, known.concat(value)]);
  }
  return fields;
}
function textOf(fields: Fields, name: string): string | undefined {
  return fields.get(name)?.[1].join(", ");
}
function set(fields: Fields, name: string, value: string): void {
  fields.set(name.toLowerCase(), [name, [value]]);
}
function addVary(fields: Fields): void {
  const vary = textOf(fields, "vary");
  if (vary !== undefined && /(^|,)[ \t]*(\*|accept-encoding)[ \t]*(,|$)/i.test(vary)) return;
  set(fields, "Vary", vary === undefined ? "Accept-Encoding" : `${vary}, Accept-Encoding`);
}
/** The tag that an encoded response has, but for whether it is weak. */
function tagOf({ fields, coding }: Plan): string | undefined {
  return /^(W\/)?"[^"]*(?="$)/.exec(textOf(fields, "etag") ?? "")?.[0].concat(`-${coding}"`);
}
function setCoding(plan: Plan, isStable: boolean): void {
  const { fields, coding } = plan;
  const tag = tagOf(plan);
  if (tag !== undefined) set(fields, "ETag", isStable ? tag : tag.replace(/^(W\/)?/, "W/"));
  set(fields, "Content-Encoding", coding);
  fields.delete("content-length");
}
/** Whether server.ts would find that the client has it already: then it need not be encoded. */
function isKnown({ method, headers }: Asked, plan: Plan): boolean {
  const isAsked = (plan.response.status ?? 200) === 200 && /^(GET|HEAD)$/.test(method) &&
    headers.get("if-match") === null;
  const tags: string[] = headers.get("if-none-match")?.match(/"[^"]*"/g) ?? [];
  return isAsked && tags.includes(tagOf(plan)?.replace("W/", "") ?? "");
}
/** 9110 §15.4.5: without what describes the content. */
function notModified(plan: Plan): HttpResponse {
  setCoding(plan, true);
  for (const name of plan.fields.keys()) {
    if (/^content-(?!location|security)/.test(name)) plan.fields.delete(name);
  }
  return { ...answerOf(plan, null), status: 304 };
}
function answerOf(
  plan: Pick<Plan, "response" | "fields">,
  body: HttpResponse["body"],
): HttpResponse {
  const headers: Record<string, string | string[]> = {};
  for (const [name, values] of plan.fields.values()) {
    headers[name] = values.length === 1 ? values[0]! : values;
  }
  return { status: plan.response.status, headers, body };
}
/** The response, of which only Vary has changed. */
function unencoded(response: Answer, fields: Fields): Answer {
  try {
    if (isFetch(response)) {
      response.headers.set("Vary", textOf(fields, "vary")!); // Its content is best left where it is.
      return response;
    }
  } catch { /* It is one that `fetch` has got. */ }
  return answerOf({ response, fields }, response.body);
}

type Streamed = Blob | ReadableStream<Piece> | AsyncIterable<Piece>;

/** The pieces of a stream. */
class Source {
  readonly #next: () => Promise<{ done?: boolean | undefined; value?: Piece | undefined }>;
  readonly #stop: (reason?: unknown) => unknown;
  /** What was taken too early, and what has been asked for. */
  #taken: Uint8Array[] = [];
  #asked: Promise<Uint8Array | undefined> | undefined;

  constructor(body: Streamed) {
    const stream = body instanceof Blob ? body.stream() : body;
    if (stream instanceof ReadableStream) {
      const reader = stream.getReader();
      this.#next = () => reader.read();
      this.#stop = (reason) => reader.cancel(reason);
    } else {
      const iterator = stream[Symbol.asyncIterator]();
      this.#next = async () => await iterator.next();
      this.#stop = () => iterator.return?.();
    }
  }
  /** The next piece, if there is one. */
  async next(): Promise<Uint8Array | undefined> {
    const taken = this.#taken.shift();
    if (taken !== undefined) return taken;
    const piece = await (this.#asked ??= this.#ask());
    this.#asked = undefined;
    return piece;
  }
  async #ask(): Promise<Uint8Array | undefined> {
    const { done, value } = await this.#next();
    if (done) return undefined;
    const bytes = bytesOf(value);
    if (bytes === undefined) throw new TypeError("The pieces of a stream must be text or bytes");
    return bytes;
  }
  /** Whether the next piece, or the end, need not be waited for. */
  async isThere(): Promise<boolean> {
    let isSettled = this.#taken.length > 0;
    const settle = () => isSettled = true;
    if (!isSettled) (this.#asked ??= this.#ask()).then(settle, settle);
    for (let i = 0; i < MICROTASKS && !isSettled; i++) await undefined;
    return isSettled;
  }
  /** All of it, if it is there and no longer than that. */
  async whole(maxSize: number): Promise<Uint8Array | undefined> {
    const pieces: Uint8Array[] = [];
    for (let size = 0; size <= maxSize && await this.isThere();) {
      const piece = await this.next();
      if (piece === undefined) return Buffer.concat(pieces);
      size += piece.length;
      pieces.push(piece);
    }
    this.#taken = pieces;
    return undefined;
  }
  async *rest(): AsyncGenerator<Uint8Array> {
    for (let piece; (piece = await this.next()) !== undefined;) yield piece;
  }
  async cancel(reason?: unknown): Promise<void> {
    try {
      await this.#stop(reason);
    } catch { /* Nobody wants to know. */ }
  }
}

/** What a source is encoded to: all of what has come, before more is waited for. */
async function* encode(source: Source, coding: Coding): AsyncGenerator<Uint8Array> {
  const { stream, flush } = ENCODERS[coding];
  const engine = stream();
  let failure: unknown, wake = () => {};
  engine.on("readable", () => wake()).on("end", () => wake());
  engine.on("error", (error) => {
    failure = error;
    wake();
  });
  /** What comes out until what was begun is done. */
  async function* step(begin: (done: () => void) => void): AsyncGenerator<Uint8Array> {
    let isDone = false;
    begin(() => {
      isDone = true;
      wake();
    });
    while (failure === undefined) {
      const piece: Uint8Array | null = engine.read();
      if (piece !== null) yield piece;
      else if (isDone) return;
      else await new Promise<void>((resolve) => wake = resolve);
    }
    throw failure;
  }
  let work = 0, isHeld = false;
  try {
    for (;;) {
      if (isHeld && !await source.isThere()) yield* step((done) => engine.flush(flush, done));
      isHeld = false;
      const piece = await source.next();
      if (piece === undefined) break;
      for (let at = 0; at < piece.length; at += PIECE) {
        const part = piece.subarray(at, at + PIECE);
        if ((work += part.length + PIECE / 32) > PIECE) {
          await new Promise((resolve) => setImmediate(resolve)); // Deno does not give others a turn.
          work = 0;
        }
        yield* step((done) => engine.write(part, done));
        isHeld = true;
      }
    }
    yield* step((done) => engine.once("end", done).end());
  } catch (error) {
    void source.cancel(error);
    throw error;
  } finally {
    engine.destroy();
  }
}
async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all);
}
async function* only(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
/** A stream of pieces that are made of a source when they are asked for. */
function streamOf(pieces: AsyncGenerator<Uint8Array>, source: Source): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await pieces.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    async cancel(reason) {
      await source.cancel(reason);
      await pieces.return(undefined);
    },
  }, { highWaterMark: 0 });
}
