/**
 * Requests with a content coding (9110 §8.4): a function around a handler of server.ts.
 *
 * ```ts
 * serve(decompress(handler, { maxSize: 10_000_000 }), { log: console });
 * ```
 *
 * "9110" in the comments is RFC 9110 (HTTP Semantics).
 *
 * @module
 */

import * as zlib from "node:zlib";
import {
  type Handler,
  HttpError,
  HttpHeaders,
  type HttpRequest,
  type HttpResponse,
} from "../server.ts";

/** What can be set for {@linkcode decompress}. */
export interface DecompressOptions {
  /** Bytes that content may have once it is decoded, and after each coding on the way there, else 413
   * (9110 §15.5.14). What is sent is bounded by the server's `maxBodySize`. Default 1048576, as there. */
  maxSize?: number | undefined;
}

/** Codings of one request's content: each takes memory. */
const MAX_CODINGS = 2;
/** Bytes that are given to a decoder at a time, so that it does not keep others waiting. */
const PIECE = 16384;
/** Frames of zstd: so many, and one more for so many bytes. At the end of one, Deno's decoder ends, and the
 * next takes 0.1 ms to make. Bun's goes on, and shows none. */
const MAX_FRAMES = 32, FRAME_SIZE = 4096;
/** RFC 9659: how far back zstd may look, as a power of two; by itself, a decoder would take 128 MiB. */
const WINDOW = { params: { [zlib.constants.ZSTD_d_windowLogMax]: 23 } };
const DECODERS = {
  zstd: () => zlib.createZstdDecompress(WINDOW),
  br: () => zlib.createBrotliDecompress(),
  gzip: () => zlib.createGunzip(),
  deflate: () => zlib.createInflate(), // which is what RFC 1950 calls zlib (9110 §8.4.1.2)
};
type Coding = keyof typeof DECODERS;

/**
 * Gives a handler what was encoded before it was sent: `Content-Encoding` lists gzip, deflate, br or zstd,
 * at most two of them. The request is then as if it had come without: it has neither that field nor
 * Content-Length, and what reads its content reads what was decoded, as it comes.
 *
 * Reading rejects with an `HttpError`, which answers so if left uncaught: 400 for content that is no such
 * coding, is cut short, or has something behind it; 413 for more than `maxSize`, as soon as that comes
 * out, and on Deno for many small frames of zstd; and what the server itself finds. Another coding,
 * or a third one, is answered with 415 and with those that there are in `Accept-Encoding` (9110
 * §15.5.16), before any content is read.
 *
 * Content can be read until the handler has answered or, if it answers with a stream, until that ends.
 * @throws {RangeError} if `maxSize` is no size.
 */
export function decompress(handler: Handler, options: DecompressOptions = {}): Handler {
  const { maxSize = 1048576 } = options;
  if (!(maxSize >= 0)) throw new RangeError("maxSize must be bytes from 0");
  return (request) => {
    const field = request.headers.get("content-encoding");
    const body = field === null ? null : request.body;
    if (field === null || body === null) return handler(request);
    const codings = codingsOf(field);
    if (codings === undefined) {
      const headers = { "Accept-Encoding": Object.keys(DECODERS).join(", ") };
      return { status: 415, headers, body: "415 Unsupported Media Type: unknown content coding" };
    }
    if (codings.length === 0) return handler(request);
    const reader = body.getReader();
    let pieces: Pieces = piecesOf(() => reader.read());
    for (const coding of codings.toReversed()) pieces = decode(pieces, coding, maxSize);
    return answer(handler, request, pieces, reader);
  };
}

/** The codings in the order in which they were applied; undefined if one is not known. */
function codingsOf(field: string): Coding[] | undefined {
  const names = field.toLowerCase().split(",").map((name) => name.trim())
    .map((name) => name === "x-gzip" ? "gzip" : name)
    .filter((name) => name !== "" && name !== "identity");
  const known = names.every((name) => Object.hasOwn(DECODERS, name));
  return known && names.length <= MAX_CODINGS ? names as Coding[] : undefined;
}

type Bytes = Uint8Array<ArrayBuffer>;
type Content = ReadableStream<Bytes>;
type Pieces = AsyncGenerator<Uint8Array>;
type Reader = Pick<ReadableStreamDefaultReader, "cancel">;
type Streamed = Extract<HttpResponse["body"], ReadableStream | AsyncIterable<unknown>>;

/** What a handler answers. A decoder that is left in the middle keeps its memory on Deno, so it is closed
 * when nobody can have a use for it any more. */
async function answer(handler: Handler, request: HttpRequest, pieces: Pieces, reader: Reader) {
  let isDone = false, isOver = false, isStreaming = false;
  const content: Content = new ReadableStream({
    async pull(controller) {
      const { done, value } = await pieces.next();
      if (isOver) throw new TypeError("The request was answered before its content was read");
      isDone = done === true;
      if (done) controller.close();
      else controller.enqueue(new Uint8Array(value));
    },
    async cancel(reason) {
      await reader.cancel(reason);
      await pieces.return(undefined);
    },
  }, { highWaterMark: 0 });
  const end = () => {
    isOver = true;
    pieces.return(undefined).catch(() => {});
  };
  try {
    const response = await handler(decodedRequest(request, content));
    if (isDone || !isStreamed(response.body)) return response;
    const body = streamUntil(response.body, end);
    isStreaming = true;
    // One of `fetch` must stay what it is, or its Content-Encoding would be taken for true.
    const own = { body: { value: body }, bodyUsed: { value: false } };
    if ("bodyUsed" in response) return Object.defineProperties(response, own);
    return { ...response, body };
  } finally {
    if (!isStreaming) end();
  }
}
const isStreamed = (body: unknown): body is Streamed =>
  typeof body === "object" && body !== null && Symbol.asyncIterator in body;

/** The same stream, which tells when it is over. */
function streamUntil(body: Streamed, end: () => void): ReadableStream {
  const streams = ReadableStream as unknown as { from(body: Streamed): ReadableStream };
  const reader = (body instanceof ReadableStream ? body : streams.from(body)).getReader();
  reader.closed.then(end, end);
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await reader.read();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  }, { highWaterMark: 0 });
}

function decodedRequest(request: HttpRequest, body: Content): HttpRequest {
  const kept = [...request.headers].filter(([name]) => !/^content-(encoding|length)$/.test(name));
  const headers = new HttpHeaders(kept.map(([name, value]) => `${name}: ${value}\r\n`).join(""));
  const { bytes, text, json } = readersOf(async () => await new Response(body).bytes() as Bytes);
  const toFetch = () => fetchRequest(request.toFetch(), headers, body);
  const own = { headers, body, bytes, text, json, toFetch };
  return new Proxy(request, {
    get(target, name) {
      if (Object.hasOwn(own, name)) return Reflect.get(own, name);
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
/** One that answers as that of server.ts does for content that can't be parsed. */
function fetchRequest(request: Request, headers: HttpHeaders, body: Content): Request {
  const { method, signal, url } = request;
  const hasContent = method !== "GET" && method !== "HEAD"; // as Fetch has it
  const own = new Request(url, {
    method,
    signal,
    headers: [...headers],
    ...hasContent && { body, duplex: "half" },
  });
  const bytes = own.bytes.bind(own) as () => Promise<Bytes>;
  return Object.assign(own, readersOf(bytes, headers.get("content-type") ?? ""));
}
/** What reads all content, in Fetch's ways. What nobody waits for may fail without ending the process. */
function readersOf(whole: () => Promise<Bytes>, type = "") {
  const as = <T>(make: (bytes: Bytes) => T | Promise<T>, failure = "") => () => {
    const made = whole().then(async (bytes) => {
      try {
        return await make(bytes);
      } catch (cause) {
        throw new HttpError(400, failure, { cause });
      }
    });
    made.catch(() => {});
    return made;
  };
  const utf8 = new TextDecoder(), strictUtf8 = new TextDecoder("utf-8", { fatal: true });
  const form = { headers: { "Content-Type": type } };
  return {
    bytes: as((bytes) => bytes),
    text: as((bytes) => utf8.decode(bytes)),
    json: as<unknown>((bytes) => JSON.parse(strictUtf8.decode(bytes)), "Invalid JSON"),
    arrayBuffer: as(({ buffer }) => buffer),
    blob: as((bytes) => new Blob([bytes], { type })),
    formData: as(
      (bytes) => new Response(bytes, form).formData(),
      "The content is not the form that its type says",
    ),
  };
}

async function* piecesOf(read: () => Promise<{ value?: Uint8Array | undefined }>) {
  for (let next; (next = (await read()).value) !== undefined;) {
    for (let at = 0; at < next.length; at += PIECE) yield next.subarray(at, at + PIECE);
  }
}

/** What `pieces` are decoded to, but no more than `maxSize`. Neither runtime tells of every coding that
 * content is cut short or goes on behind its end: what a decoder leaves of what it is given tells it. */
async function* decode(pieces: Pieces, coding: Coding, maxSize: number): Pieces {
  let decoder = new Decoder(coding);
  let size = 0, isEmpty = true, taken = 0, frames = 1;
  try {
    for await (const piece of pieces) {
      // RFC 7932 §9.1: no window size begins so. Deno takes it for a window of up to 1 GiB.
      if (isEmpty && coding === "br" && (piece[0]! & 0x7f) === 0x11) throw malformed(coding);
      isEmpty = false;
      for (let rest = piece;;) {
        const before = decoder.taken;
        for await (const output of decoder.give(rest)) {
          if ((size += output.length) > maxSize) {
            throw new HttpError(413, `Content of more than ${maxSize} bytes once it is decoded`);
          }
          yield output;
        }
        const used = decoder.taken - before;
        taken += used;
        rest = rest.subarray(used);
        if (rest.length === 0) break;
        if (coding !== "zstd" || used === 0) throw malformed(coding);
        if (++frames > MAX_FRAMES + taken / FRAME_SIZE) {
          throw new HttpError(413, "Content of too many frames of zstd");
        }
        decoder.close();
        decoder = new Decoder(coding);
      }
    }
    if (!isEmpty && !await decoder.isAtEnd()) throw malformed(coding);
  } finally {
    decoder.close();
  }
}
function malformed(coding: Coding, cause?: unknown): HttpError {
  return new HttpError(400, `Malformed ${coding} content`, { cause });
}

/** A whole frame of zstd, of which one byte comes: 120 (RFC 8878 §3.1.1). */
const FRAME = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x20, 1, 9, 0, 0, 120);

class Decoder {
  readonly #coding: Coding;
  readonly #stream: ReturnType<(typeof DECODERS)[Coding]>;
  #wake = () => {};

  constructor(coding: Coding) {
    this.#coding = coding;
    this.#stream = DECODERS[coding]();
    for (const event of ["readable", "end", "error"]) this.#stream.on(event, () => this.#wake());
  }
  /** Bytes that it has made use of. */
  get taken(): number {
    return this.#stream.bytesWritten;
  }
  /** What comes out for some bytes. It waits for each piece to be taken before it makes more. */
  async *give(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
    let isDone = false;
    this.#stream.write(bytes, () => {
      isDone = true;
      this.#wake();
    });
    for (;;) {
      const output: Uint8Array | null = this.#stream.read();
      if (output !== null) yield output;
      else if (this.#stream.errored) throw malformed(this.#coding, this.#stream.errored);
      else if (isDone || this.#stream.readableEnded) return;
      else await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }
  /** Whether nothing is missing: then it has no use for another byte, but zstd has for another frame. That
   * comes in two pieces, for in one, it may be taken for a frame whatever came before. */
  async isAtEnd(): Promise<boolean> {
    if (this.#stream.readableEnded) return true;
    const before = this.taken;
    const isZstd = this.#coding === "zstd";
    const probes = isZstd ? [FRAME.subarray(0, 5), FRAME.subarray(5)] : [Uint8Array.of(0)];
    let output = "";
    try {
      for (const probe of probes) {
        for await (const piece of this.give(probe)) output += piece.join();
      }
    } catch {
      return false;
    }
    return isZstd ? output === "120" : this.taken === before;
  }
  close(): void {
    this.#stream.destroy();
  }
}
