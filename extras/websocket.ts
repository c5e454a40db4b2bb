/**
 * WebSocket (RFC 6455) with permessage-deflate (RFC 7692) for `server.ts`, to be copied with it.
 *
 *     serve((request) =>
 *       webSocket(request, async (socket) => {
 *         for await (const message of socket) await socket.send(message);
 *       }));
 *
 * Messages are an async iterator because that is backpressure: while the loop's body works, nothing is
 * read. So pings are answered, and a client's Close is noticed, only while somebody iterates.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { constants, deflateRawSync, inflateRawSync } from "node:zlib";
import type { Connection, HttpRequest, HttpResponse } from "../server.ts";

/** A message: text or bytes. */
export type Message = string | Uint8Array;

/** What a WebSocket may do. Sizes are bytes. */
export interface WebSocketOptions {
  /** The largest message, decompressed; a larger one fails with 1009. Default 1 MiB. */
  maxMessageSize?: number | undefined;
  /** A client for which more than this waits is dropped at the next `send`. Default 1 MiB. */
  maxBufferedSize?: number | undefined;
  /** Seconds. A client that is silent for half of it gets a ping; one that stays silent, does not answer a
   * Close, or does not read what was sent for all of it is dropped, a quarter later at most. Default 30. */
  idleTimeout?: number | undefined;
  /** Whether a page of this origin may connect, else 403. Default: pages of the host that was asked, as
   * browsers let any page connect, with that host's cookies (RFC 6455 §10.2). Who sends no origin may. */
  allowOrigin?: ((origin: string) => boolean) | undefined;
  /** Chooses one of the subprotocols that the client offers, or none. Default none. */
  chooseProtocol?: ((offered: string[]) => string | undefined) | undefined;
  /** The smallest message to be sent compressed, if the client offers permessage-deflate. Each message is
   * compressed on its own, so no connection keeps a window. Secrets and what others choose do not belong
   * in one message then (RFC 7692 §8). Default: no compression, in either direction. */
  compressFrom?: number | undefined;
}

/** How it ended, as in `CloseEvent`: what the client's Close said (code 1005: nothing), or, unless that was
 * clean, what failed: 1006 is a connection that was lost or dropped. */
export interface Closed {
  /** The close code (RFC 6455 §7.4). */
  readonly code: number;
  /** The client's reason, or what failed. */
  readonly reason: string;
  /** Whether the client has said Close. */
  readonly wasClean: boolean;
}

/** An end that was not clean. */
export class WebSocketError extends Error implements Closed {
  /** As in {@linkcode Closed}, and so are the two below. */
  readonly code: number;
  /** The same as the message. */
  readonly reason: string;
  /** Always false. */
  readonly wasClean = false;
  /** `options` may have the `cause`. */
  constructor(code: number, reason: string, options?: ErrorOptions) {
    super(reason, options);
    this.code = code;
    this.reason = reason;
  }
}

/** Answers a handshake (RFC 6455 §4.2): 101, or 400, 403, 405 or 426. A Fetch `Request` will do, with
 * `stopping`. `session` has the socket until it returns, which closes it with 1000, or throws: 1011. A stop
 * of the server closes it with 1001.
 * @throws {TypeError} if `chooseProtocol` returns what is not offered. */
export function webSocket(
  request: Pick<HttpRequest, "method" | "url" | "stopping"> & {
    headers: { get(name: string): string | null };
  },
  session: (socket: WebSocketConnection) => void | Promise<void>,
  options: WebSocketOptions = {},
): HttpResponse {
  const field = (name: string) => request.headers.get(name) ?? "";
  const list = (name: string) => field(name).split(",").map((item) => item.trim()).filter(Boolean);
  const has = (name: string, token: string) => list(name).some((it) => it.toLowerCase() === token);
  const refuse = (status: number, body: string, headers = {}) => ({ status, headers, body });
  const key = field("sec-websocket-key"), origin = request.headers.get("origin");
  const offered = list("sec-websocket-protocol"), extensions = list("sec-websocket-extensions");
  const isWanted = has("connection", "upgrade") && has("upgrade", "websocket");
  if (request.method !== "GET") return refuse(405, "A WebSocket needs GET\n", { Allow: "GET" });
  if (!isWanted || field("sec-websocket-version") !== "13") { // §4.4
    const headers = { "Upgrade": "websocket", "Sec-WebSocket-Version": "13" };
    return refuse(426, "Here is a WebSocket, version 13\n", headers);
  }
  const isWellFormed = KEY.test(key) && offered.every((name) => PROTOCOL.test(name)) &&
    new Set(offered).size === offered.length && extensions.every((it) => EXTENSION.test(it));
  if (!isWellFormed) return refuse(400, "Malformed Sec-WebSocket-Key, -Protocol or -Extensions\n");
  const isOwn = (origin: string) => URL.parse(origin)?.host === new URL(request.url).host;
  const isAllowed = origin === null || (options.allowOrigin ?? isOwn)(origin);
  if (!isAllowed) return refuse(403, "Not for pages of this origin\n");

  const protocol = options.chooseProtocol?.(offered);
  if (protocol !== undefined && !offered.includes(protocol)) {
    throw new TypeError(`No offer: ${protocol}`);
  }
  const bits = options.compressFrom === undefined ? 0 : acceptDeflate(extensions);
  const agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
  const window = bits < 15 ? `; server_max_window_bits=${bits}` : "";
  const headers = {
    "Upgrade": "websocket",
    "Sec-WebSocket-Accept": createHash("sha1").update(key + GUID).digest("base64"),
    ...(protocol !== undefined && { "Sec-WebSocket-Protocol": protocol }),
    ...(bits > 0 && { "Sec-WebSocket-Extensions": agreed + window }),
  };
  return {
    headers,
    async upgrade(connection) {
      const socket = new WebSocketConnection(connection, options, protocol ?? "", bits);
      const stop = () => socket.close(1001, "The server stops");
      request.stopping.addEventListener("abort", stop);
      if (request.stopping.aborted) stop();
      await socket.run(session).finally(() => request.stopping.removeEventListener("abort", stop));
    },
  };
}

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; // §1.3
const KEY = /^[A-Za-z0-9+/]{21}[AQgw]==$/; // 16 bytes in base64
const TOKEN = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]+";
const PROTOCOL = new RegExp(`^${TOKEN}$`);
const EXTENSION = new RegExp(`^${TOKEN}(\\s*;\\s*${TOKEN}(\\s*=\\s*(${TOKEN}|"${TOKEN}"))?)*$`); // §9.1
/** RFC 7692 §7.1. zlib has no window of 8 bits to compress with. */
const PARAMETERS = new Map([
  ["server_no_context_takeover", /^$/],
  ["client_no_context_takeover", /^$/],
  ["server_max_window_bits", /^(9|1[0-5])$/],
  ["client_max_window_bits", /^([89]|1[0-5])?$/],
]);

/** The window's bits for what is sent, from the first offer of permessage-deflate that can be met, or 0. */
function acceptDeflate(extensions: string[]): number {
  for (const extension of extensions) {
    const [name, ...parameters] = extension.replace(/[\s"]/g, "").split(";");
    const values = new Map<string, string>();
    for (const parameter of parameters) {
      const [name = "", value = ""] = parameter.split("=");
      values.set(name, value);
    }
    const isMet = [...values].every(([name, value]) => PARAMETERS.get(name)?.test(value));
    if (name !== "permessage-deflate" || !isMet || values.size < parameters.length) continue;
    return Number(values.get("server_max_window_bits") ?? 15);
  }
  return 0;
}

/** Of a frame's first byte (RFC 6455 §5.2): opcodes, and bits. */
const TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10, CONTROL = 8, RSV1 = 64, FIN = 128;
/** Bytes of a read, of one of a long message, and those that may wait before `send` does. */
const INPUT_SIZE = 4096, READ_SIZE = 65536, HIGH_WATER = 65536;
/** What a flushed message ends with, and is sent without (RFC 7692 §7.2.1). */
const TAIL = Buffer.of(0, 0, 255, 255), FLUSHED = { finishFlush: constants.Z_SYNC_FLUSH };
const NOTHING = Buffer.alloc(0), LARGE = "The message is too large";
const STRICT = { fatal: true, ignoreBOM: true }, UTF8 = new TextDecoder("utf-8", STRICT);
/** Reads that need no waiting before others get their turn. */
const READS_A_TURN = 16;

/** The server's end of a WebSocket. Iterated, it gives messages until both sides have said Close; it throws
 * a {@linkcode WebSocketError}, which a session may let pass, if it ends in any other way. */
class WebSocketConnection implements AsyncIterable<Message> {
  /** The subprotocol that was chosen, or "". */
  readonly protocol: string;
  #ended = Promise.withResolvers<Closed>();
  /** Resolves when it has ended; never rejects. */
  readonly closed: Promise<Closed> = this.#ended.promise;
  #isClosing = false; // Close was sent, or can't be.
  #hasEnded = false;
  #failure: WebSocketError | undefined;
  readonly #connection: Connection;
  readonly #windowBits: number;
  readonly #maxMessageSize: number;
  readonly #maxBufferedSize: number;
  readonly #compressFrom: number;
  readonly #timer: ReturnType<typeof setInterval>;

  #input = Buffer.allocUnsafeSlow(INPUT_SIZE);
  #start = 0;
  #end = 0;
  #reads = 0; // that did not have to wait
  #isReading = false;
  #silence = 0; // ticks since something was read
  #frame = 0; // the first byte of the frame at hand
  #mask = 0;
  #left = -1; // bytes of it that have not been read; -1 before its header
  #first = 0; // the first byte of the message at hand; 0 before it
  #message = NOTHING;
  #size = 0;
  #decoder: TextDecoder | undefined;
  #queue: Buffer[] = [];
  #buffered = 0;
  #isFlushDue = false;
  #writing: Promise<void> | undefined;
  #stalls = 0; // ticks since something was taken

  /** @ignore */
  constructor(connection: Connection, options: WebSocketOptions, protocol: string, bits: number) {
    this.protocol = protocol;
    this.#connection = connection;
    this.#windowBits = bits;
    this.#maxMessageSize = options.maxMessageSize ?? 1048576;
    this.#maxBufferedSize = options.maxBufferedSize ?? 1048576;
    this.#compressFrom = bits === 0 ? Infinity : options.compressFrom ?? Infinity;
    this.#timer = setInterval(() => this.#tick(), (options.idleTimeout ?? 30) * 250);
  }
  /** Bytes that were sent and are not yet taken. */
  get bufferedAmount(): number {
    return this.#buffered;
  }
  /** For `for await`. */
  [Symbol.asyncIterator](): this {
    return this;
  }
  /** The next message, to be asked for one at a time. */
  async next(): Promise<IteratorResult<Message, undefined>> {
    if (this.#isReading) throw new Error("A message is being waited for already");
    try {
      while (!this.#hasEnded) {
        const value = this.#parse();
        if (value !== undefined) return { done: false, value };
        if (this.#hasEnded) break;
        this.#flush();
        while (this.#buffered > HIGH_WATER) await this.#writing;
        // The content of a frame goes straight to its message, all else behind what is there.
        const isDirect = this.#left > 0 && this.#start === this.#end &&
          (this.#frame & CONTROL) === 0;
        const read = this.#connection.read(isDirect ? this.#room(this.#left) : this.#space());
        this.#isReading = true;
        const count = typeof read === "number" ? read : await read;
        this.#isReading = false;
        if (count === null) throw new Error("The client has not said Close");
        if (!this.#isClosing) this.#silence = 0;
        if (isDirect) this.#append(count);
        else this.#end += count;
        const isTurn = typeof read === "number" && ++this.#reads % READS_A_TURN === 0;
        if (isTurn) await new Promise((resolve) => setTimeout(resolve, 0)); // for the others
      }
    } catch (cause) {
      this.#isReading = false;
      const isOurs = cause instanceof WebSocketError;
      if (isOurs) this.#sendClose(cause.code, cause.message);
      this.#endWith(
        isOurs ? cause : new WebSocketError(1006, "The connection was lost", { cause }),
      );
    }
    if (this.#failure !== undefined) throw this.#failure;
    return { done: true, value: undefined };
  }
  /** Sends a message. What it returns settles once that was taken, at once if no more than 64 KiB wait; it
   * rejects with a {@linkcode WebSocketError} if the socket is closing, which need not be heeded. */
  send(message: Message): void | Promise<void> {
    if (this.#buffered > this.#maxBufferedSize) this.#drop("The client does not read");
    if (this.#isClosing) return this.#taken();
    const first = FIN | (typeof message === "string" ? TEXT : BINARY);
    if (Buffer.byteLength(message) < this.#compressFrom) this.#put(first, message);
    else {
      const deflated = deflateRawSync(message, { ...FLUSHED, windowBits: this.#windowBits });
      this.#put(first | RSV1, deflated.subarray(0, -TAIL.length));
    }
    if (this.#start === this.#end) this.#flush();
    else if (!this.#isFlushDue) { // Messages that came together are answered together.
      this.#isFlushDue = true;
      setTimeout(() => this.#flush(), 0);
    }
    return this.#buffered > HIGH_WATER ? this.#taken() : undefined;
  }
  /** Begins to close (§7.1.2): no more is sent or received, and the iteration ends when the client has
   * answered. Does nothing if it is closing already.
   * @throws {RangeError} for a code that can't be sent (§7.4), or a reason of more than 123 bytes. */
  close(code = 1000, reason = ""): void {
    if (!isCloseCode(code)) throw new RangeError(`${code} is not a close code`);
    if (Buffer.byteLength(reason) > 123) throw new RangeError("The reason is too long");
    this.#sendClose(code, reason);
  }
  /** @ignore */
  async run(session: (socket: this) => void | Promise<void>): Promise<void> {
    try {
      await session(this);
      this.close();
    } catch (error) {
      this.close(1011);
      if (!(error instanceof WebSocketError)) throw error;
    } finally {
      await (this.#isReading ? this.closed : this.next().catch(() => {})); // the client's Close
      this.#flush();
      while (this.#writing !== undefined) await this.#writing;
      clearInterval(this.#timer);
    }
  }

  /** The next message in what was read, if all of it is there. */
  #parse(): Message | undefined {
    const input = this.#input;
    while (!this.#hasEnded && (this.#left >= 0 || this.#parseHeader())) {
      const isControl = (this.#frame & CONTROL) !== 0, isLast = this.#frame >= FIN;
      const from = this.#start, count = Math.min(this.#left, this.#end - from), to = from + count;
      const isWhole = count === this.#left && isLast && (isControl || this.#size === 0);
      if (isControl && !isWhole) return undefined;
      this.#start = to;
      if (isWhole) unmask(input, from, to, this.#mask);
      else {
        this.#room(this.#left).set(input.subarray(from, to));
        this.#append(count);
        if (this.#left > 0) return undefined;
      }
      this.#left = -1;
      if (isControl) this.#control(input.subarray(from, to));
      else if (isLast) {
        const message = isWhole
          ? this.#content(input, from, to)
          : this.#content(this.#message, 0, this.#size);
        if (!this.#isClosing) return message;
      }
    }
    return undefined;
  }
  /** Reads the header of a frame (§5.2), if all of it is there. */
  #parseHeader(): boolean {
    const input = this.#input, at = this.#start, there = this.#end - at;
    if (there < 2) return false;
    const first = input[at]!, second = input[at + 1]!, opcode = first & 15;
    const isControl = opcode >= CONTROL, isStart = opcode === TEXT || opcode === BINARY;
    const allowed = isStart && this.#windowBits > 0 ? RSV1 : 0;
    must((first & 0x70 & ~allowed) === 0, "A reserved bit is set");
    must(opcode <= PONG && (opcode & 7) <= BINARY, "Unknown opcode");
    must(second >= 128, "A frame is not masked");
    let length = second & 127;
    must(!isControl || first >= FIN && length < 126, "A control frame is long or fragmented");
    must(isControl || isStart === (this.#first === 0), "A fragment is missing, or out of place");
    const extra = length === 126 ? 2 : length === 127 ? 8 : 0;
    if (there < 6 + extra) return false;
    if (extra === 2) length = input.readUInt16BE(at + 2);
    if (extra === 8) length = Number(input.readBigUInt64BE(at + 2));
    must(extra === 0 || length > (extra === 2 ? 125 : 65535), "A length is not minimal");
    must(extra < 8 || input[at + 2]! < 128, "A length is negative");
    must(
      isControl || this.#size + length <= this.#maxMessageSize,
      LARGE,
      1009,
    );
    this.#mask = input.readInt32BE(at + 2 + extra);
    this.#start += 6 + extra;
    this.#left = length;
    this.#frame = first;
    if (isStart) this.#first = first;
    return true;
  }
  #control(payload: Buffer): void {
    if (this.#frame === (FIN | PING) && !this.#isClosing) this.#put(FIN | PONG, payload);
    if (this.#frame !== (FIN | CLOSE)) return;
    const isEmpty = payload.length === 0, code = payload.length > 1 ? payload.readUInt16BE() : 1005;
    must(isEmpty || isCloseCode(code), "Malformed Close");
    const reason = textOf(payload, isEmpty ? 0 : 2, payload.length);
    this.#sendClose(code, "", payload);
    this.#endWith({ code, reason, wasClean: true });
  }
  /** Where the frame goes on. Whatever it announces, there is room for 64 KiB, or twice what has come. */
  #room(wanted: number): Buffer {
    const size = this.#size, most = Math.max(READ_SIZE, size), count = Math.min(wanted, most);
    if (this.#message.length < size + count) {
      const larger = Buffer.allocUnsafeSlow(size + (size === 0 ? count : most));
      larger.set(this.#message.subarray(0, size));
      this.#message = larger;
    }
    return this.#message.subarray(size, size + this.#left);
  }
  #append(count: number): void {
    const from = this.#size, to = this.#size = from + count;
    this.#left -= count;
    this.#mask = unmask(this.#message, from, to, this.#mask);
    if ((this.#first & (RSV1 | 15)) !== TEXT) return;
    this.#decoder ??= new TextDecoder("utf-8", STRICT); // only to fail as soon as can be
    decode(this.#message.subarray(from, to), this.#decoder, true);
  }
  #content(bytes: Buffer, from: number, to: number): Message {
    const isText = (this.#first & 15) === TEXT, isDeflated = (this.#first & RSV1) !== 0;
    this.#first = this.#size = 0;
    this.#message = NOTHING;
    this.#decoder = undefined;
    if (isDeflated) {
      bytes = inflate(bytes.subarray(from, to), this.#maxMessageSize);
      from = 0;
      to = bytes.length;
    }
    return isText ? textOf(bytes, from, to) : new Uint8Array(bytes.subarray(from, to));
  }
  #space(): Buffer {
    const isEmpty = this.#start === this.#end;
    if (!isEmpty) this.#input.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
    return isEmpty ? this.#input : this.#input.subarray(this.#end);
  }

  #put(first: number, payload: Message): void {
    const length = Buffer.byteLength(payload), start = length < 126 ? 2 : length < 65536 ? 4 : 10;
    const frame = Buffer.allocUnsafe(start + length);
    frame[0] = first;
    frame[1] = start === 2 ? length : start === 4 ? 126 : 127;
    if (start === 4) frame.writeUInt16BE(length, 2);
    if (start === 10) frame.writeBigUInt64BE(BigInt(length), 2);
    if (typeof payload === "string") frame.write(payload, start);
    else frame.set(payload, start);
    this.#queue.push(frame);
    this.#buffered += frame.length;
  }
  /** Writes what waits, all of it at once. What is sent meanwhile waits for the next write. */
  #flush(): void {
    this.#isFlushDue = false;
    if (this.#writing !== undefined || this.#queue.length === 0) return;
    const bytes = this.#queue.length === 1 ? this.#queue[0]! : Buffer.concat(this.#queue);
    this.#queue.length = 0;
    const count = this.#connection.write(bytes);
    if (count === bytes.length) this.#buffered -= count;
    else this.#writing = this.#write(bytes, count);
  }
  async #write(bytes: Buffer, count: number | Promise<number>): Promise<void> {
    try {
      for (;;) {
        const taken = await count;
        this.#stalls = 0;
        this.#buffered -= taken;
        if (taken === bytes.length) break;
        bytes = bytes.subarray(taken);
        count = this.#connection.write(bytes);
      }
    } catch {
      this.#queue.length = 0;
      this.#drop("The connection was lost");
    }
    this.#writing = undefined;
    this.#flush();
  }
  #taken(): Promise<void> {
    const taken = (async () => {
      while (this.#buffered > HIGH_WATER && this.#writing !== undefined) await this.#writing;
      if (this.#isClosing) throw this.#failure ?? new WebSocketError(1000, "The socket is closing");
    })();
    taken.catch(() => {});
    return taken;
  }
  #sendClose(code: number, reason: string, payload?: Uint8Array): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    this.#put(FIN | CLOSE, payload ?? Buffer.of(code >> 8, code & 255, ...Buffer.from(reason)));
    this.#flush();
  }
  /** Looks after the client, four times an `idleTimeout`. */
  #tick(): void {
    if (this.#writing !== undefined && ++this.#stalls > 4) this.#drop("The client does not read");
    if (this.#isReading && ++this.#silence > 4) this.#drop("The client is silent");
    if (!this.#isReading || this.#silence !== 2 || this.#isClosing) return;
    this.#put(FIN | PING, NOTHING);
    this.#flush();
  }
  #drop(why: string): void {
    this.#endWith(new WebSocketError(1006, why));
    this.#connection.close();
  }
  #endWith(end: Closed): void {
    if (this.#hasEnded) return;
    this.#hasEnded = this.#isClosing = true;
    if (end instanceof WebSocketError) this.#failure = end;
    this.#ended.resolve(end);
  }
}
export type { WebSocketConnection };

/** @throws {WebSocketError} if the client breaks a rule of the protocol. */
function must(isKept: boolean, why: string, code = 1002): void {
  if (!isKept) throw new WebSocketError(code, why);
}
/** Whether a code may be sent: those of §7.4 and IANA's registry, and those for libraries and applications. */
function isCloseCode(code: number): boolean {
  return code >= 1000 && code <= 1014 && (code < 1004 || code > 1006) ||
    code >= 3000 && code < 5000;
}
/** Unmasks in place (§5.3), and returns the mask for what follows. What is long goes by words. */
function unmask(bytes: Uint8Array, from: number, to: number, mask: number): number {
  let at = from;
  if (to - from > 256) {
    for (; (bytes.byteOffset + at) % 4 > 0; at++, mask = mask << 8 | mask >>> 24) {
      bytes[at]! ^= mask >>> 24;
    }
    const words = new Int32Array(bytes.buffer, bytes.byteOffset + at, to - at >> 2);
    const key = Buffer.of(mask >>> 24, mask >>> 16, mask >>> 8, mask).readInt32LE();
    for (let i = 0; i < words.length; i++) words[i]! ^= key;
    at += words.length * 4;
  }
  const a = mask >>> 24, b = mask >>> 16, c = mask >>> 8;
  for (; at + 3 < to; at += 4) {
    bytes[at]! ^= a;
    bytes[at + 1]! ^= b;
    bytes[at + 2]! ^= c;
    bytes[at + 3]! ^= mask;
  }
  for (; at < to; at++, mask = mask << 8 | mask >>> 24) bytes[at]! ^= mask >>> 24;
  return mask;
}
/** A short text is mostly ASCII, for which a decoder takes longer. */
function textOf(bytes: Buffer, from: number, to: number): string {
  let at = to - from > 256 ? to : from;
  while (at < to && bytes[at]! < 128) at++;
  const isAscii = at === to && to - from <= 256;
  return isAscii
    ? bytes.toString("latin1", from, to)
    : decode(bytes.subarray(from, to), UTF8, false);
}
function decode(bytes: Uint8Array, decoder: TextDecoder, stream: boolean): string {
  try {
    return decoder.decode(bytes, { stream });
  } catch {
    throw new WebSocketError(1007, "A text is not UTF-8");
  }
}
function inflate(bytes: Buffer, maxOutputLength: number): Buffer {
  try {
    const options = { ...FLUSHED, maxOutputLength, info: true };
    const { buffer, engine } = inflateRawSync(Buffer.concat([bytes, TAIL]), options) as Inflated;
    must(engine.bytesWritten >= bytes.length - 1, "Content behind the last block", 1007); // §7.2.3.4
    return buffer;
  } catch (error) {
    const isLarge = (error as { code?: unknown }).code === "ERR_BUFFER_TOO_LARGE";
    throw new WebSocketError(isLarge ? 1009 : 1007, isLarge ? LARGE : "Malformed DEFLATE");
  }
}
/** What zlib's functions return with `info`, of which their types don't know. */
type Inflated = { buffer: Buffer; engine: { bytesWritten: number } } & Buffer;
