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

import { Buffer, isUtf8 } from "node:buffer";
import { createHash } from "node:crypto";
import { setInterval } from "node:timers";
import { setImmediate } from "node:timers/promises";
import { constants, deflateRawSync, inflateRawSync } from "node:zlib";
import type { Connection, HttpRequest, HttpResponse } from "../server.ts";

/** A message: text or bytes. */
export type Message = string | Uint8Array;

/** What a WebSocket may do. */
export interface WebSocketOptions {
  /** Bytes of the largest message, decompressed; a larger one fails with 1009. Default 1 MiB. */
  maxMessageSize?: number | undefined;
  /** Seconds. A client that is silent for half of it gets a ping; one that stays silent, does not answer a
   * Close, or lets the system take nothing more for it for all of it is dropped. Default 30. */
  idleTimeout?: number | undefined;
  /** Whether a page of this origin may connect, else 403. Default: pages of the host that was asked, as
   * browsers let any page connect, with that host's cookies (RFC 6455 §10.2). Who sends no `Origin` may. */
  allowOrigin?: ((origin: string) => boolean) | undefined;
  /** Subprotocols; the first of them that the client offers is chosen. Default none. */
  protocols?: string[] | undefined;
  /** Bytes of the smallest message to be compressed, if the client offers permessage-deflate. Secrets and
   * what others choose do not belong in one message then (RFC 7692 §8). Default: no compression. */
  compressFrom?: number | undefined;
}

/** How it ended, as in `CloseEvent`: `code` and `reason` are what the client's Close said (1005: nothing;
 * RFC 6455 §7.4), or, unless it `wasClean`, what failed (1006: the connection). */
export type Closed = { readonly code: number; readonly reason: string; readonly wasClean: boolean };

/** An end that was not clean. The message is the reason. */
export class WebSocketError extends Error {
  /** As in {@linkcode Closed}. */
  readonly code: number;
  /** `options` may have the `cause`. */
  constructor(code: number, reason: string, options?: ErrorOptions) {
    super(reason, options);
    this.code = code;
  }
}

/** Answers a handshake (RFC 6455 §4.2): 101, or 400, 403, 405 or 426. A Fetch `Request` will do, with
 * `stopping`. `session` has the socket until it returns, which closes it with 1000, or throws: 1011. A stop
 * of the server closes it with 1001. */
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
  const isWanted = has("connection", "upgrade") && has("upgrade", "websocket") &&
    field("sec-websocket-version") === "13";
  const isWellFormed = KEY.test(key) && offered.every((it) => PROTOCOL.test(it)) &&
    new Set(offered).size === offered.length && extensions.every((it) => EXTENSION.test(it));
  const isOwn = (origin: string) => {
    const url = URL.parse(origin);
    return url?.origin === origin && url.host === new URL(request.url).host;
  };
  const isAllowed = origin === null || (options.allowOrigin ?? isOwn)(origin);
  const wanted = { "Upgrade": "websocket", "Sec-WebSocket-Version": "13" }; // §4.4
  if (request.method !== "GET") return refuse(405, "A WebSocket needs GET\n", { Allow: "GET" });
  if (!isWanted) return refuse(426, "Here is a WebSocket, version 13\n", wanted);
  if (!isWellFormed) return refuse(400, "Malformed Sec-WebSocket-Key, -Protocol or -Extensions\n");
  if (!isAllowed) return refuse(403, "Not for pages of this origin\n");

  const protocol = options.protocols?.find((it) => offered.includes(it)) ?? "";
  const asked = options.compressFrom === undefined ? undefined : acceptDeflate(extensions);
  const bits = asked === undefined ? 0 : Number(asked || 15);
  const agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
  const window = asked ? `; server_max_window_bits=${asked}` : ""; // RFC 7692 §7.1.2.1
  const headers = {
    "Upgrade": "websocket",
    "Sec-WebSocket-Accept": createHash("sha1").update(key + GUID).digest("base64"),
    ...(protocol !== "" && { "Sec-WebSocket-Protocol": protocol }),
    ...(bits > 0 && { "Sec-WebSocket-Extensions": agreed + window }),
  };
  return {
    headers,
    upgrade: (connection) =>
      new WebSocketConnection(connection, options, protocol, bits).run(session, request.stopping),
  };
}

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; // §1.3
const KEY = /^[A-Za-z0-9+/]{21}[AQgw]==$/; // 16 bytes in base64
const TOKEN = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]+";
const PROTOCOL = new RegExp(`^${TOKEN}$`);
const EXTENSION = new RegExp(`^${TOKEN}(\\s*;\\s*${TOKEN}(\\s*=\\s*(${TOKEN}|"${TOKEN}"))?)*$`); // §9.1
/** What can be met (RFC 7692 §7.1). zlib has no window of 8 bits to compress with. */
const DEFLATE = new RegExp(
  "^permessage-deflate(;((server|client)_no_context_takeover|" +
    "server_max_window_bits=(9|1[0-5])|client_max_window_bits(=([89]|1[0-5]))?))*$",
);

/** The window's bits that the first offer of permessage-deflate which can be met asks for, perhaps none. */
function acceptDeflate(extensions: string[]): string | undefined {
  for (const extension of extensions) {
    const offer = extension.replace(/[\s"]/g, ""), names = offer.match(/;\w+/g) ?? [];
    const isMet = DEFLATE.test(offer) && new Set(names).size === names.length;
    if (isMet) return /server_max_window_bits=(\d+)/.exec(offer)?.[1] ?? "";
  }
  return undefined;
}

/** Of a frame's first byte (RFC 6455 §5.2): opcodes, and bits. */
const TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10, RSV1 = 64, FIN = 128;
/** Bytes to read short messages into, those that may wait before `send` does, and before a client is dropped. */
const INPUT_SIZE = 4096, HIGH_WATER = 65536, MAX_BUFFERED = 1048576;
/** Bytes of content after which others get their turn, and what a frame counts besides. */
const TURN = 65536, FRAME_COST = 512;
/** What a flushed message ends with, and is sent without (RFC 7692 §7.2.1). */
const TAIL = Buffer.of(0, 0, 255, 255), FLUSHED = { finishFlush: constants.Z_SYNC_FLUSH };
const LARGE = "The message is too large", NO_TEXT = "A text is not UTF-8";

/** The server's end of a WebSocket. Iterated, it gives messages until both sides have said Close; it throws
 * a {@linkcode WebSocketError}, which a session need not catch, if it ends in any other way. */
class WebSocketConnection implements AsyncIterable<Message> {
  // Bytes become messages in `#parse`, messages become bytes in `#put`; `#finish` is the end.

  /** The subprotocol that was chosen, or "". */
  readonly protocol: string;
  #ended = Promise.withResolvers<Closed>();
  /** Resolves when it has ended; never rejects. */
  readonly closed: Promise<Closed> = this.#ended.promise;
  #isClosing = false; // Close was sent, or can't be.
  #hasEnded = false;
  #failure: WebSocketError | undefined;
  readonly #connection: Connection;
  readonly #timer;
  readonly #maxMessageSize: number;
  readonly #windowBits: number;
  readonly #compressFrom: number;

  // The input begins with the fragments of a message. What was read and not yet parsed is behind them.
  #input = Buffer.allocUnsafeSlow(INPUT_SIZE);
  #view = new DataView(this.#input.buffer);
  #size = 0; // of the fragments
  #first = 0; // the first byte of the first of them; 0 if there is none
  #start = 0;
  #end = 0;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });
  #isAsked = false; // for the next message
  #isReading = false;
  #work = 0; // that was done since others got their turn
  #silence = 0; // ticks since something was read

  #queue: Buffer[] = [];
  #buffered = 0;
  #isWriting = false;
  #written = Promise.resolve();
  #stalls = 0; // ticks since something was taken

  /** @ignore */
  constructor(connection: Connection, options: WebSocketOptions, protocol: string, bits: number) {
    this.protocol = protocol;
    this.#connection = connection;
    const quarter = Math.min((options.idleTimeout ?? 30) * 250, 2 ** 31 - 1);
    this.#timer = setInterval(() => this.#tick(), quarter).unref();
    this.#maxMessageSize = options.maxMessageSize ?? 1048576;
    this.#windowBits = bits;
    this.#compressFrom = bits === 0 ? Infinity : options.compressFrom ?? Infinity;
  }
  /** Bytes that were sent and are not yet taken. */
  get bufferedAmount(): number {
    return this.#buffered;
  }
  /** For `for await`. */
  [Symbol.asyncIterator](): this {
    return this;
  }
  /** The next message. Rejects if the last call has not settled. */
  async next(): Promise<IteratorResult<Message, undefined>> {
    if (this.#isAsked) throw new Error("A message is being waited for already");
    this.#isAsked = true;
    try {
      while (!this.#hasEnded) {
        if (this.#work > TURN) this.#work = await setImmediate(0);
        const value = this.#parse();
        if (value !== undefined) {
          this.#isAsked = false;
          return { done: false, value };
        }
        if (this.#work > TURN) continue;
        this.#flush();
        if (this.#buffered > HIGH_WATER) await this.#written;
        if (this.#hasEnded) break;
        const read = this.#connection.read(this.#space());
        this.#isReading = true;
        if (typeof read === "number") await setImmediate(); // What is there already may be much.
        const count = await read;
        this.#isReading = false;
        if (count === null) throw new Error("The client has not said Close");
        this.#end += count;
        if (!this.#isClosing) this.#silence = 0;
      }
    } catch (cause) {
      this.#isReading = false;
      const isOurs = cause instanceof WebSocketError;
      const failure = isOurs
        ? cause
        : new WebSocketError(1006, "The connection was lost", { cause });
      if (isOurs) this.close(cause.code, cause.message);
      this.#finish(failure.code, failure.message, failure);
    }
    this.#isAsked = false;
    if (this.#failure !== undefined) throw this.#failure;
    return { done: true, value: undefined };
  }
  /** Sends a message. A client for which more than 1 MiB waits already is dropped. What it returns settles
   * once all was taken, at once if no more than 64 KiB wait; it rejects with a {@linkcode WebSocketError} if
   * the socket is closing, which need not be heeded. */
  send(message: Message): void | Promise<void> {
    if (this.#buffered > MAX_BUFFERED) this.#drop("The client does not read");
    if (!this.#isClosing) {
      const first = FIN | (typeof message === "string" ? TEXT : BINARY);
      if (Buffer.byteLength(message) < this.#compressFrom) this.#put(first, message);
      else this.#put(first | RSV1, deflate(message, this.#windowBits));
      if (this.#buffered <= HIGH_WATER) return;
      this.#flush();
    }
    const taken = this.#written.then(() => {
      if (this.#isClosing) throw this.#failure ?? new WebSocketError(1000, "It is closing");
    });
    taken.catch(() => {});
    return taken;
  }
  /** Begins to close (§7.1.2): no more is sent or received, and the iteration ends when the client has
   * answered. Does nothing if it is closing already.
   * @throws {RangeError} for a code that can't be sent (§7.4), or a reason of more than 123 bytes. */
  close(code = 1000, reason = ""): void {
    if (!isCloseCode(code)) throw new RangeError(`${code} is not a close code`);
    if (Buffer.byteLength(reason) > 123) throw new RangeError("The reason is too long");
    this.#sendClose(Buffer.of(code >> 8, code & 255, ...Buffer.from(reason)));
  }
  /** @ignore */
  async run(session: (socket: this) => void | Promise<void>, stopping: AbortSignal): Promise<void> {
    const stop = () => this.close(1001, "The server stops");
    stopping.addEventListener("abort", stop);
    if (stopping.aborted) stop();
    try {
      await session(this);
      this.close();
    } catch (error) {
      this.close(1011);
      if (!(error instanceof WebSocketError)) throw error;
    } finally {
      await (this.#isAsked ? this.closed : this.next().catch(() => {})); // the client's Close
      await this.#written;
      stopping.removeEventListener("abort", stop);
      clearInterval(this.#timer);
    }
  }

  /** The next message, if all of it was read. Of a frame (§5.2) of which more is to come, the header is
   * judged already. */
  #parse(): Message | undefined {
    const input = this.#input, view = this.#view;
    while (!this.#hasEnded && this.#work <= TURN) {
      const at = this.#start, there = this.#end - at;
      if (there < 2) return undefined;
      const first = input[at]!, second = input[at + 1]!, opcode = first & 15, isLast = first >= FIN;
      const isControl = opcode >= CLOSE, isStart = opcode === TEXT || opcode === BINARY;
      const allowed = isStart && this.#windowBits > 0 ? RSV1 : 0;
      let length = second & 127;
      must((first & 0x70 & ~allowed) === 0, "A reserved bit is set");
      must(opcode <= PONG && (opcode & 7) <= BINARY, "Unknown opcode");
      must(second >= 128, "A frame is not masked");
      must(!isControl || isLast && length < 126, "A control frame is long or fragmented");
      must(isControl || isStart === (this.#first === 0), "A fragment is missing, or out of place");
      const header = length < 126 ? 6 : length === 126 ? 8 : 14;
      if (there < header) return undefined;
      if (header === 8) length = view.getUint16(at + 2);
      if (header === 14) length = Number(view.getBigInt64(at + 2));
      const isMinimal = header === 6 || length > (header === 8 ? 125 : 65535);
      must(isMinimal, "A length is negative, or not minimal");
      must(isControl || this.#size + length <= this.#maxMessageSize, LARGE, 1009);
      if (there < header + length) return undefined;
      this.#work += FRAME_COST + length;
      const from = at + header, to = this.#start = from + length;
      unmask(view, from, to);
      const payload = input.subarray(from, to);
      if (isControl) {
        this.#control(opcode, payload);
        continue;
      }
      const kind = this.#first || first, isAlone = isLast && isStart;
      const content = isAlone ? payload : this.#append(payload, kind, isLast);
      this.#first = isLast ? 0 : kind;
      if (!isLast || this.#isClosing) continue;
      const bytes = (kind & RSV1) === 0 ? content : inflate(content, this.#maxMessageSize);
      this.#work += bytes.length;
      return (kind & 15) === TEXT ? textOf(bytes) : new Uint8Array(bytes);
    }
    return undefined;
  }
  #control(opcode: number, payload: Buffer): void {
    if (opcode === PING && !this.#isClosing) this.#put(FIN | PONG, payload);
    if (opcode !== CLOSE) return;
    const isEmpty = payload.length === 0, code = payload.length > 1 ? payload.readUInt16BE() : 1005;
    must(isEmpty || isCloseCode(code), "Malformed Close");
    const reason = textOf(payload.subarray(2));
    this.#sendClose(payload);
    this.#finish(code, reason);
  }
  /** The fragments up to this one. A text fails as soon as it can't be UTF-8. */
  #append(payload: Buffer, kind: number, isLast: boolean): Buffer {
    try {
      if ((kind & (RSV1 | TEXT)) === TEXT) this.#decoder.decode(payload, { stream: !isLast });
    } catch {
      must(false, NO_TEXT, 1007);
    }
    const size = this.#size + payload.length;
    this.#input.set(payload, this.#size);
    this.#size = isLast ? 0 : size;
    return this.#input.subarray(0, size);
  }
  /** Where to read on. Whatever a frame announces, the buffer grows only when it is full. */
  #space(): Buffer {
    const used = this.#size + this.#end - this.#start, { length } = this.#input;
    const isApart = this.#size < this.#start && this.#start < this.#end;
    if (isApart) this.#input.copyWithin(this.#size, this.#start, this.#end);
    this.#start = this.#size;
    this.#end = used;
    const size = used === 0 ? INPUT_SIZE : used < length ? length : Math.max(65536, 2 * length);
    if (size !== length) {
      const input = Buffer.allocUnsafeSlow(size);
      input.set(this.#input.subarray(0, used));
      this.#input = input;
      this.#view = new DataView(input.buffer);
    }
    return used === 0 ? this.#input : this.#input.subarray(used);
  }

  /** Lets a frame wait to be written: answers to messages that came together leave together. */
  #put(first: number, payload: Message): void {
    const length = Buffer.byteLength(payload), header = length < 126 ? 2 : length < 65536 ? 4 : 10;
    const frame = Buffer.allocUnsafe(header + length);
    frame[0] = first;
    frame[1] = header === 2 ? length : header === 4 ? 126 : 127;
    if (header === 4) frame.writeUInt16BE(length, 2);
    if (header === 10) frame.writeBigUInt64BE(BigInt(length), 2);
    if (typeof payload === "string") frame.write(payload, header);
    else frame.set(payload, header);
    this.#queue.push(frame);
    this.#buffered += frame.length;
    if (this.#start === this.#end) this.#flush();
    else if (this.#queue.length === 1) void setImmediate().then(() => this.#flush());
  }
  #flush(): void {
    if (!this.#isWriting && this.#queue.length > 0) this.#written = this.#write();
  }
  /** Writes what waits, all of it at once. What is sent meanwhile waits for the next write. */
  async #write(): Promise<void> {
    this.#isWriting = true;
    try {
      while (this.#queue.length > 0) {
        let bytes = this.#queue.length === 1 ? this.#queue[0]! : Buffer.concat(this.#queue);
        this.#queue.length = 0;
        for (;;) {
          const write = this.#connection.write(bytes);
          const count = typeof write === "number" ? write : await write;
          this.#stalls = 0;
          this.#buffered -= count;
          if (count === bytes.length) break;
          bytes = bytes.subarray(count);
        }
      }
    } catch {
      this.#queue.length = 0;
      this.#drop("The connection was lost");
    }
    this.#isWriting = false;
  }
  #sendClose(payload: Uint8Array): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    this.#silence = 0;
    this.#put(FIN | CLOSE, payload);
    this.#flush();
  }
  /** Checks on the client four times per `idleTimeout`. */
  #tick(): void {
    if (this.#isWriting && ++this.#stalls > 4) this.#drop("The client does not read");
    if (!this.#isReading && !this.#isClosing) return;
    if (++this.#silence > 4) this.#drop("The client is silent");
    if (this.#silence === 2 && !this.#isClosing) this.#put(FIN | PING, "");
  }
  #drop(why: string): void {
    this.#finish(1006, why, new WebSocketError(1006, why));
    this.#connection.close();
  }
  #finish(code: number, reason: string, failure?: WebSocketError): void {
    if (this.#hasEnded) return;
    this.#hasEnded = this.#isClosing = true;
    this.#failure = failure;
    this.#ended.resolve({ code, reason, wasClean: failure === undefined });
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
/** Unmasks in place (§5.3), by words. The mask is what comes before. */
function unmask(view: DataView, from: number, to: number): void {
  const mask = view.getInt32(from - 4);
  let at = from;
  for (; at + 4 <= to; at += 4) view.setInt32(at, view.getInt32(at) ^ mask);
  for (let i = from - 4; at < to; at++, i++) {
    view.setUint8(at, view.getUint8(at) ^ view.getUint8(i));
  }
}
function textOf(bytes: Buffer): string {
  must(isUtf8(bytes), NO_TEXT, 1007);
  return bytes.toString();
}
function deflate(message: Message, windowBits: number): Buffer {
  return deflateRawSync(message, { ...FLUSHED, windowBits }).subarray(0, -TAIL.length);
}
function inflate(bytes: Buffer, maxOutputLength: number): Buffer {
  try {
    const options = { ...FLUSHED, maxOutputLength, info: true };
    const { buffer, engine } = inflateRawSync(Buffer.concat([bytes, TAIL]), options) as Inflated;
    if (engine.bytesWritten >= bytes.length - 1) return buffer; // else there is more behind the last block
  } catch (error) {
    must((error as { code?: unknown }).code !== "ERR_BUFFER_TOO_LARGE", LARGE, 1009);
  }
  throw new WebSocketError(1007, "Malformed DEFLATE");
}
/** What zlib's functions return with `info`, of which their types don't know. */
type Inflated = { buffer: Buffer; engine: { bytesWritten: number } } & Buffer;
