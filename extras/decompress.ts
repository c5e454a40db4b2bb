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

import { Buffer } from "node:buffer";
import * as zlib from "node:zlib";
import { type Handler, HttpError, HttpHeaders, type HttpRequest } from "../server.ts";

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
/** Frames of zstd in a piece: at the end of one, Deno's decoder ends, and the next takes 0.1 ms to make. */
const MAX_FRAMES = 32;
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
 * out; and what the server itself finds. Another coding, or a third one, is answered with 415 and with
 * those that there are in `Accept-Encoding` (9110 §15.5.16), before any content is read.
 * @throws {RangeError} if `maxSize` is no size.
 */
export function decompress(handler: Handler, options: DecompressOptions = {}): Handler {
  const { maxSize = 1048576 } = options;
  if (!(maxSize >= 0)) throw new RangeError("maxSize must be bytes from 0");
  return (request) => {
    const codings = codingsOf(request.headers.get("content-encoding") ?? "");
    if (codings === undefined) {
      const headers = { "Accept-Encoding": Object.keys(DECODERS).join(", ") };
      return { status: 415, headers, body: "415 Unsupported Media Type: unknown content coding" };
    }
    const { body } = request;
    if (codings.length === 0 || body === null) return handler(request);
    return handler(decodedRequest(request, decodedStream(body, codings, maxSize)));
  };
}

/** The codings in the order in which they were applied; undefined if one is not known. */
function codingsOf(field: string): Coding[] | undefined {
  const names = field.toLowerCase().split(",").map((name) =>
    name.trim().replace(/^x-(?=gzip$)/, "")
  )
    .filter((name) => name !== "" && name !== "identity");
  const known = names.every((name) => Object.hasOwn(DECODERS, name));
  return known && names.length <= MAX_CODINGS ? names as Coding[] : undefined;
}

type Content = ReadableStream<Uint8Array<ArrayBuffer>>;

function decodedRequest(request: HttpRequest, body: Content): HttpRequest {
  const lines = Array.from(request.headers, ([name, value]) => `${name}: ${value}\r\n`);
  const kept = lines.filter((line) => !/^content-(encoding|length):/.test(line));
  const headers = new HttpHeaders(kept.join(""));
  let isUsed = false;
  const bytes = async () => {
    if (isUsed || body.locked) throw new TypeError("The request's content can be read only once");
    isUsed = true;
    const pieces: Uint8Array[] = [];
    const reader = body.getReader();
    for (let read; !(read = await reader.read()).done;) pieces.push(read.value);
    return new Uint8Array(Buffer.concat(pieces));
  };
  const json = async () => parse(await bytes());
  const own: Partial<HttpRequest> = {
    headers,
    body,
    bytes,
    json,
    text: async () => new TextDecoder().decode(await bytes()),
    toFetch: () => fetchRequest(request.toFetch(), headers, body),
  };
  return new Proxy(request, {
    get(target, name) {
      if (Object.hasOwn(own, name)) return Reflect.get(own, name);
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new HttpError(400, "Invalid JSON", { cause });
  }
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
  const strictly = <T>(read: () => Promise<T>, message: string) => () =>
    read.call(own).catch((cause) => {
      const isForm = cause instanceof SyntaxError || cause instanceof TypeError;
      throw isForm ? new HttpError(400, message, { cause }) : cause;
    });
  return Object.assign(own, {
    json: strictly(own.json, "Invalid JSON"),
    formData: strictly(own.formData, "The content is not the form that its type says"),
  });
}

function decodedStream(body: Content, codings: Coding[], maxSize: number): Content {
  const reader = body.getReader();
  let pieces: AsyncGenerator<Uint8Array> = piecesOf(() => reader.read());
  for (const coding of codings.toReversed()) pieces = decode(pieces, coding, maxSize);
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await pieces.next();
      if (done) controller.close();
      else controller.enqueue(new Uint8Array(value));
    },
    async cancel(reason) {
      await reader.cancel(reason);
      await pieces.return(undefined);
    },
  }, { highWaterMark: 0 });
}
async function* piecesOf(read: () => Promise<{ value?: Uint8Array | undefined }>) {
  for (let next; (next = (await read()).value) !== undefined;) {
    for (let at = 0; at < next.length; at += PIECE) yield next.subarray(at, at + PIECE);
  }
}

/** What `pieces` are decoded to, but no more than `maxSize`. Neither runtime tells of every coding that
 * content is cut short or goes on behind its end: what a decoder leaves of what it is given tells it. */
async function* decode(
  pieces: AsyncIterable<Uint8Array>,
  coding: Coding,
  maxSize: number,
): AsyncGenerator<Uint8Array> {
  let decoder = new Decoder(coding);
  let size = 0, isEmpty = true;
  try {
    for await (const piece of pieces) {
      isEmpty = false;
      let rest = piece;
      for (let frames = 1; rest.length > 0; frames++) {
        const before = decoder.taken;
        for await (const output of decoder.give(rest)) {
          if ((size += output.length) > maxSize) {
            throw new HttpError(413, `Content of more than ${maxSize} bytes once it is decoded`);
          }
          yield output;
        }
        const taken = decoder.taken - before;
        rest = rest.subarray(taken);
        if (rest.length === 0) break;
        if (coding !== "zstd" || taken === 0 || frames === MAX_FRAMES) throw malformed(coding);
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
  #failure: unknown;
  #isEnded = false;
  #wake = () => {};

  constructor(coding: Coding) {
    this.#coding = coding;
    this.#stream = DECODERS[coding]();
    this.#stream.on("readable", () => this.#wake());
    this.#stream.on("end", () => {
      this.#isEnded = true;
      this.#wake();
    });
    this.#stream.on("error", (error) => {
      this.#failure = malformed(this.#coding, error);
      this.#wake();
    });
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
      else if (this.#failure !== undefined) throw this.#failure;
      else if (isDone || this.#isEnded) return;
      else await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }
  /** Whether nothing is missing: then it has no use for another byte, but zstd has for another frame. That
   * comes in two pieces, for in one, it may be taken for a frame whatever came before. */
  async isAtEnd(): Promise<boolean> {
    if (this.#isEnded) return true;
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
