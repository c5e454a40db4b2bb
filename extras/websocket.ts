/**
 * WebSocket (RFC 6455) for `server.ts`, with permessage-deflate (RFC 7692). One file, to be copied into
 * a folder beside it.
 *
 * ```ts
 * serve((request) =>
 *   webSocket(request, async (socket) => {
 *     for await (const message of socket) await socket.send(message);
 *   })
 * );
 * ```
 *
 * Messages are an async iterator, since that is backpressure: while the body of the loop works, nothing
 * more is read of the client, and so nothing has to be kept. It also means that pings are answered, and
 * a client that closes is noticed, only while somebody iterates.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { constants, deflateRawSync, inflateRawSync } from "node:zlib";
import type { Connection, HttpRequest, HttpResponse } from "../server.ts";

/** A message: text or bytes. */
export type Message = string | Uint8Array;

/** What a WebSocket allows. Sizes are bytes, times seconds. */
export interface WebSocketOptions {
  /** The longest message, decompressed: a longer one fails with 1009. Default 1 MiB. */
  maxMessageSize?: number | undefined;
  /** How much may wait for the client to take it. Whoever awaits each `send` never has more than 64 KiB
   * and a message; a client for which more than this waits is dropped at the next one. Default 1 MiB. */
  maxBufferedSize?: number | undefined;
  /** A client that is silent for half of this gets a ping; one that stays silent, or takes nothing of
   * what is sent, is dropped, up to a quarter later. Default 30. */
  idleTimeout?: number | undefined;
  /** Whether a page of this origin may connect, else 403. Programs that are no browsers send none, and are
   * let in. Default: pages of the host that is asked, since browsers let any page connect, with the cookies
   * of that host (RFC 6455 §10.2). */
  allowOrigin?: ((origin: string) => boolean) | undefined;
  /** Chooses one of the subprotocols that the client offers, or none. Default none. */
  chooseProtocol?: ((offered: string[]) => string | undefined) | undefined;
  /** Messages of this size and more are compressed for clients that can read it, and theirs may be. Each
   * is compressed alone, so no window is kept. Don't put a secret and what others choose in one message
   * (RFC 7692 §8). Default: no compression. */
  compressFrom?: number | undefined;
}

/** How a WebSocket ended, as `CloseEvent` has it: the client's code, 1005 if it gave none, and reason; or,
 * unless it was clean, why it failed, with 1006 if the connection was lost or given up. */
export interface Closed {
  readonly code: number;
  readonly reason: string;
  readonly wasClean: boolean;
}

/** A WebSocket that did not end cleanly, or can't be sent to any more. */
export class WebSocketError extends Error {
  /** As in {@linkcode Closed}, as the message is its reason. */
  readonly code: number;
  constructor(code: number, reason: string, options?: ErrorOptions) {
    super(reason, options);
    this.name = "WebSocketError";
    this.code = code;
  }
}

/** What the handshake needs of a request: one of Fetch has it, too, but for `stopping`. */
export type Handshake = Pick<HttpRequest, "method" | "url" | "stopping"> & {
  headers: { get(name: string): string | null };
};

/** Answers a handshake (RFC 6455 §4.2) with 101, or says why it can't: 400, 403, 405 or 426. `session` has
 * the socket until it returns, which closes it with 1000, or throws, which closes it with 1011. It is
 * closed with 1001 when the server stops.
 * @throws {TypeError} if `chooseProtocol` returns what was not offered. */
export function webSocket(
  request: Handshake,
  session: (socket: WebSocketConnection) => void | Promise<void>,
  options: WebSocketOptions = {},
): HttpResponse {
  const field = (name: string) => request.headers.get(name) ?? "";
  const list = (name: string) => field(name).split(",").map((item) => item.trim()).filter(Boolean);
  const has = (name: string, token: string) =>
    list(name).some((item) => item.toLowerCase() === token);
  if (request.method !== "GET") return refusal(405, "A WebSocket needs GET", { Allow: "GET" });
  const isAsked = has("connection", "upgrade") && has("upgrade", "websocket");
  if (!isAsked || field("sec-websocket-version") !== "13") { // §4.4
    const headers = { "Upgrade": "websocket", "Sec-WebSocket-Version": "13" };
    return refusal(426, "Here is a WebSocket of version 13", headers);
  }
  const key = field("sec-websocket-key");
  if (!/^[A-Za-z0-9+/]{21}[AQgw]==$/.test(key)) { // 16 bytes
    return refusal(400, "Sec-WebSocket-Key is not 16 bytes in base64");
  }
  const protocols = list("sec-websocket-protocol"), extensions = list("sec-websocket-extensions");
  const isUnclear = !protocols.every((name) => TOKEN_FORM.test(name)) ||
    new Set(protocols).size < protocols.length;
  if (isUnclear) return refusal(400, "Sec-WebSocket-Protocol is not a list of different tokens");
  if (!extensions.every((offer) => EXTENSION_FORM.test(offer))) {
    return refusal(400, "Malformed Sec-WebSocket-Extensions"); // §9.1
  }
  const origin = request.headers.get("origin");
  const isAllowed = options.allowOrigin ??
    ((origin) => URL.canParse(origin) && new URL(origin).host === new URL(request.url).host);
  if (origin !== null && !isAllowed(origin)) return refusal(403, "Not for pages of this origin");

  const headers: Record<string, string> = {
    "Upgrade": "websocket",
    "Sec-WebSocket-Accept": createHash("sha1").update(key + GUID).digest("base64"),
  };
  const protocol = options.chooseProtocol?.(protocols);
  if (protocol !== undefined) {
    if (!protocols.includes(protocol)) throw new TypeError(`${protocol} was not offered`);
    headers["Sec-WebSocket-Protocol"] = protocol;
  }
  const windowBits = options.compressFrom === undefined ? undefined : acceptDeflate(extensions);
  if (windowBits !== undefined) {
    headers["Sec-WebSocket-Extensions"] = "permessage-deflate; server_no_context_takeover; " +
      `client_no_context_takeover${
        windowBits < 15 ? `; server_max_window_bits=${windowBits}` : ""
      }`;
  }
  const upgrade = async (connection: Connection) => {
    const socket = new WebSocketConnection(connection, options, protocol ?? "", windowBits ?? 0);
    const stop = () => void socket.close(1001, "The server stops");
    if (request.stopping.aborted) stop();
    request.stopping.addEventListener("abort", stop);
    try {
      await socket.run(session);
    } finally {
      request.stopping.removeEventListener("abort", stop);
    }
  };
  return { headers, upgrade };
}

function refusal(status: number, why: string, headers = {}): HttpResponse {
  return { status, headers, body: `${why}\n` };
}

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; // §1.3
const TOKEN = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]", SPACE = "[ \\t]*";
const TOKEN_FORM = new RegExp(`^${TOKEN}+$`);
const VALUE = `${SPACE}=${SPACE}(?:${TOKEN}+|"(?:\\\\?${TOKEN})+")`; // §9.1: a token, even if quoted
const EXTENSION_FORM = new RegExp(`^${TOKEN}+(?:${SPACE};${SPACE}${TOKEN}+(?:${VALUE})?)*$`);

/** The parameters of RFC 7692 §7.1 and their values. With a window of 8 bits zlib can't compress. */
const PARAMETERS = new Map([
  ["server_no_context_takeover", /^$/],
  ["client_no_context_takeover", /^$/],
  ["server_max_window_bits", /^(?:9|1[0-5])$/],
  ["client_max_window_bits", /^(?:|[89]|1[0-5])$/],
]);
/** The bits of the window for what is sent, of the first offer of permessage-deflate that can be met. */
function acceptDeflate(offers: string[]): number | undefined {
  for (const offer of offers) {
    const [name, ...parameters] = offer.split(";").map((part) => part.trim());
    const values = new Map<string, string>();
    const isMet = parameters.every((parameter) => {
      const [name = "", value = ""] = parameter.replace(/["\\]/g, "").split(/[ \t]*=[ \t]*/);
      const isNew = !values.has(name);
      values.set(name, value);
      return isNew && PARAMETERS.get(name)?.test(value);
    });
    if (name === "permessage-deflate" && isMet) {
      return Number(values.get("server_max_window_bits") ?? 15);
    }
  }
  return undefined;
}

/** The first byte of a frame (RFC 6455 §5.2): opcodes, and bits. */
const TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10, CONTROL = 8, RSV1 = 64, FIN = 128;
/** Bytes of a read, and bytes that wait before `send` does. */
const INPUT_SIZE = 4096, HIGH_WATER = 65536;
/** Reads without a wait after which others get a turn. */
const READS_A_TURN = 16;
/** Milliseconds for the client to answer a Close, and take all that was sent before. */
const CLOSE_TIME = 5000;
const FLUSHED = { finishFlush: constants.Z_SYNC_FLUSH };
/** What a message that was flushed ends with, and is sent without (RFC 7692 §7.2.1). */
const TAIL = Buffer.of(0, 0, 255, 255);
const NOTHING = Buffer.alloc(0);
const STRICT = { fatal: true, ignoreBOM: true };
const utf8 = new TextDecoder("utf-8", STRICT);

/** The server's end of a WebSocket. Iterated, it gives the messages. That ends when both sides have said
 * Close, and throws a {@linkcode WebSocketError} if it ends in another way; a session may let that pass. */
class WebSocketConnection implements AsyncIterable<Message> {
  /** The subprotocol that was chosen, or "". */
  readonly protocol: string;
  /** Resolves when it has ended; never rejects. */
  readonly closed: Promise<Closed>;
  #tellClosed!: (closed: Closed) => void;
  /** Close has been sent, or can't be: nothing is sent any more. */
  #isClosing = false;
  #hasEnded = false;
  #failure: WebSocketError | undefined;
  #deadline: ReturnType<typeof setTimeout> | undefined;

  readonly #connection: Connection;
  readonly #windowBits: number;
  readonly #compressFrom: number;
  readonly #maxMessage: number;
  readonly #maxBuffered: number;
  readonly #idleTimeout: number;

  #input = Buffer.allocUnsafeSlow(INPUT_SIZE);
  #start = 0;
  #end = 0;
  #isReading = false;
  #reads = 0;
  #silence = 0;
  // The frame whose header was read last: its first byte, and the bytes that are still to come.
  #frame = 0;
  #left = -1;
  #mask = 0;
  // The message it belongs to: its first byte, and the content so far.
  #first = 0;
  #message = NOTHING;
  #size = 0;
  #decoder: TextDecoder | undefined;

  #queue: Buffer[] = [];
  #buffered = 0;
  #writing: Promise<void> | undefined;
  #stalls = 0;
  #later: ReturnType<typeof setTimeout> | undefined;

  /** @ignore */
  constructor(connection: Connection, options: WebSocketOptions, protocol: string, bits: number) {
    this.protocol = protocol;
    this.closed = new Promise((resolve) => this.#tellClosed = resolve);
    this.#connection = connection;
    this.#windowBits = bits;
    this.#compressFrom = bits === 0 ? Infinity : options.compressFrom ?? Infinity;
    this.#maxMessage = options.maxMessageSize ?? 1048576;
    this.#maxBuffered = options.maxBufferedSize ?? 1048576;
    this.#idleTimeout = options.idleTimeout ?? 30;
  }
  /** Bytes that have been sent and not been taken. */
  get bufferedAmount(): number {
    return this.#buffered;
  }
  [Symbol.asyncIterator](): this {
    return this;
  }
  /** The next message; to be asked for one at a time. */
  async next(): Promise<IteratorResult<Message, undefined>> {
    if (this.#isReading) throw new Error("The next message is being waited for already");
    try {
      while (!this.#hasEnded) {
        const value = this.#parse();
        if (value !== undefined) return { done: false, value };
        if (this.#hasEnded) break;
        this.#flush();
        while (this.#buffered > HIGH_WATER) await this.#writing;
        const isDirect = this.#left > 0 && this.#start === this.#end &&
          (this.#frame & CONTROL) === 0;
        const read = this.#connection.read(isDirect ? this.#room(1) : this.#space());
        this.#isReading = true;
        const count = typeof read === "number" ? read : await read;
        this.#isReading = false;
        this.#silence = 0;
        if (count === null) throw new Error("The connection ended without a Close");
        if (isDirect) this.#append(count);
        else this.#end += count;
        this.#reads = typeof read === "number" ? this.#reads + 1 : 0;
        if (this.#reads > READS_A_TURN) await new Promise((resolve) => setTimeout(resolve, 0));
      }
    } catch (cause) {
      this.#isReading = false;
      const isOurs = cause instanceof WebSocketError;
      if (isOurs) this.#sendClose(cause.code, cause.message);
      this.#fail(isOurs ? cause : new WebSocketError(1006, "The connection was lost", { cause }));
    }
    if (this.#failure !== undefined) throw this.#failure;
    return { done: true, value: undefined };
  }
  /** Sends a message. What is returned settles when it was taken, which it is at once unless many bytes
   * wait already. It rejects with a {@linkcode WebSocketError} if the socket is closing or has ended, which
   * need not be heeded. */
  send(message: Message): void | Promise<void> {
    if (this.#buffered > this.#maxBuffered) this.#drop("The client does not read");
    if (this.#isClosing) return this.#taken();
    const first = FIN | (typeof message === "string" ? TEXT : BINARY);
    if (Buffer.byteLength(message) >= this.#compressFrom) {
      const deflated = deflateRawSync(message, { ...FLUSHED, windowBits: this.#windowBits });
      this.#put(first | RSV1, deflated.subarray(0, -TAIL.length));
    } else this.#put(first, message);
    // With messages that have come together, the answers leave together.
    if (this.#start === this.#end || this.#buffered > HIGH_WATER) this.#flush();
    else this.#later ??= setTimeout(() => this.#flushLate(), 0);
    return this.#buffered > HIGH_WATER ? this.#taken() : undefined;
  }
  /** Begins to close (§7.1.2): nothing is sent or received any more, and the iteration ends when the client
   * has answered, or 5 seconds later. A second time does nothing.
   * @throws {RangeError} for a code that can't be sent (§7.4), or a reason of more than 123 bytes. */
  close(code = 1000, reason = ""): void {
    if (!isCloseCode(code)) throw new RangeError(`${code} is not a close code`);
    if (Buffer.byteLength(reason) > 123) throw new RangeError("The reason is too long");
    this.#sendClose(code, reason);
  }
  /** @ignore */
  async run(session: (socket: this) => void | Promise<void>): Promise<void> {
    const timer = setInterval(() => this.#tick(), this.#idleTimeout * 250);
    try {
      await session(this);
      this.close();
    } catch (error) {
      this.close(1011);
      if (error !== this.#failure) throw error;
    } finally {
      await (this.#isReading ? this.closed : this.next().catch(() => {}));
      this.#flush();
      while (this.#writing !== undefined) await this.#writing;
      clearInterval(timer);
      clearTimeout(this.#deadline);
      clearTimeout(this.#later);
    }
  }

  /** The next message in what has been read, if all of it is there. */
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
        this.#room(count).set(input.subarray(from, to));
        this.#append(count);
        if (this.#left > 0) return undefined;
      }
      this.#left = -1;
      if (isControl) this.#takeControl(input.subarray(from, to));
      else if (isLast) {
        const message = isWhole
          ? this.#finish(input, from, to)
          : this.#finish(this.#message, 0, this.#size);
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
    if ((first & 0x70 & ~allowed) !== 0) throw new WebSocketError(1002, "A reserved bit is set");
    if (opcode > PONG || (opcode & 7) > BINARY) throw new WebSocketError(1002, "Unknown opcode");
    if (second < 128) throw new WebSocketError(1002, "A frame is not masked");
    let length = second & 127;
    if (isControl && (length > 125 || first < FIN)) {
      throw new WebSocketError(1002, "A control frame is long or fragmented");
    }
    if (!isControl && isStart !== (this.#first === 0)) {
      throw new WebSocketError(1002, "A fragment is missing, or belongs to no message");
    }
    const extra = length === 126 ? 2 : length === 127 ? 8 : 0;
    if (there < 6 + extra) return false;
    if (extra === 2) length = input.readUInt16BE(at + 2);
    if (extra === 8) length = input.readUInt32BE(at + 2) * 2 ** 32 + input.readUInt32BE(at + 6);
    const least = extra === 8 ? 65536 : extra === 2 ? 126 : 0;
    if (length < least || extra === 8 && input[at + 2]! > 127) {
      throw new WebSocketError(1002, "Malformed length");
    }
    if (!isControl && this.#size + length > this.#maxMessage) throw new WebSocketError(1009, LONG);
    this.#mask = input.readInt32BE(at + 2 + extra);
    this.#start += 6 + extra;
    this.#left = length;
    this.#frame = first;
    if (isStart) this.#first = first;
    return true;
  }
  #takeControl(payload: Buffer): void {
    if (this.#frame === (FIN | PING) && !this.#isClosing) this.#put(FIN | PONG, payload);
    if (this.#frame !== (FIN | CLOSE)) return;
    const code = payload.length === 0 ? 1005 : payload.length === 1 ? 0 : payload.readUInt16BE();
    if (payload.length > 0 && !isCloseCode(code)) throw new WebSocketError(1002, "Malformed Close");
    const reason = textOf(payload, Math.min(2, payload.length), payload.length);
    this.#sendClose(code, "", payload);
    this.#endWith({ code, reason, wasClean: true });
  }
  /** Where more of the frame goes: whatever it announces, there is room for little more than has come. */
  #room(count: number): Buffer {
    const size = this.#size, full = size + this.#left;
    if (this.#message.length < size + count) {
      const length = Math.min(full, Math.max(INPUT_SIZE, 2 * size + count));
      const larger = Buffer.allocUnsafeSlow(length);
      larger.set(this.#message.subarray(0, size));
      this.#message = larger;
    }
    return this.#message.subarray(size, full);
  }
  #append(count: number): void {
    const from = this.#size, to = this.#size = from + count;
    this.#left -= count;
    this.#mask = unmask(this.#message, from, to, this.#mask);
    if ((this.#first & (RSV1 | 15)) !== TEXT) return;
    this.#decoder ??= new TextDecoder("utf-8", STRICT);
    decode(this.#message.subarray(from, to), this.#decoder, true);
  }
  #finish(bytes: Buffer, from: number, to: number): Message {
    const first = this.#first;
    this.#first = this.#size = 0;
    this.#message = NOTHING;
    this.#decoder = undefined;
    if ((first & RSV1) !== 0) {
      bytes = inflate(bytes.subarray(from, to), this.#maxMessage);
      from = 0;
      to = bytes.length;
    }
    return (first & 15) === TEXT
      ? textOf(bytes, from, to)
      : new Uint8Array(bytes.subarray(from, to));
  }
  /** Where the next bytes go, behind the beginning of a header or of a control frame. */
  #space(): Buffer {
    if (this.#start > 0) this.#input.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
    return this.#end === 0 ? this.#input : this.#input.subarray(this.#end);
  }

  #put(first: number, payload: Message): void {
    const length = Buffer.byteLength(payload);
    const start = length < 126 ? 2 : length < 65536 ? 4 : 10;
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
  #flushLate(): void {
    this.#later = undefined;
    this.#flush();
  }
  /** Writes what waits, in one piece. What is sent meanwhile waits for the next write. */
  #flush(): void {
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
        this.#buffered -= taken;
        this.#stalls = 0;
        if (taken === bytes.length) break;
        bytes = bytes.subarray(taken);
        count = this.#connection.write(bytes);
      }
    } catch {
      this.#drop("The connection was lost");
    }
    this.#writing = undefined;
    if (this.#failure?.code !== 1006) this.#flush();
  }
  /** Settles when no more bytes wait than may. */
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
    this.#deadline = setTimeout(() => this.#drop("The client did not close"), CLOSE_TIME);
    this.#put(FIN | CLOSE, payload ?? Buffer.of(code >> 8, code & 255, ...Buffer.from(reason)));
    this.#flush();
  }
  /** Looks after the client four times an `idleTimeout`. */
  #tick(): void {
    if (this.#writing !== undefined && ++this.#stalls > 4) this.#drop("The client does not read");
    if (this.#isReading && ++this.#silence > 4) this.#drop("The client is silent");
    if (this.#silence !== 2 || !this.#isReading || this.#isClosing) return;
    this.#put(FIN | PING, NOTHING);
    this.#flush();
  }
  /** Gives the connection up. */
  #drop(why: string): void {
    this.#fail(new WebSocketError(1006, why));
    this.#connection.close();
  }
  #fail(error: WebSocketError): void {
    if (this.#hasEnded) return;
    this.#failure = error;
    this.#endWith({ code: error.code, reason: error.message, wasClean: false });
  }
  #endWith(closed: Closed): void {
    this.#hasEnded = this.#isClosing = true;
    this.#tellClosed(closed);
  }
}
export type { WebSocketConnection };

const LONG = "The message is too long";

/** Whether a code may be sent: those of §7.4 and of IANA's registry, libraries' and applications'. */
function isCloseCode(code: number): boolean {
  return code >= 1000 && code <= 1014 && (code < 1004 || code > 1006) ||
    code >= 3000 && code < 5000;
}
/** Unmasks in place (§5.3), and returns the mask of what follows. */
function unmask(bytes: Uint8Array, from: number, to: number, mask: number): number {
  const a = mask >>> 24, b = mask >>> 16 & 255, c = mask >>> 8 & 255, d = mask & 255;
  let at = from;
  for (; at + 3 < to; at += 4) {
    bytes[at]! ^= a;
    bytes[at + 1]! ^= b;
    bytes[at + 2]! ^= c;
    bytes[at + 3]! ^= d;
  }
  for (; at < to; at++, mask = mask << 8 | mask >>> 24) bytes[at]! ^= mask >>> 24;
  return mask;
}
function textOf(bytes: Buffer, from: number, to: number): string {
  let at = from;
  while (at < to && bytes[at]! < 128) at++;
  return at === to
    ? bytes.toString("latin1", from, to)
    : decode(bytes.subarray(from, to), utf8, false);
}
function decode(bytes: Uint8Array, decoder: TextDecoder, stream: boolean): string {
  try {
    return decoder.decode(bytes, { stream });
  } catch {
    throw new WebSocketError(1007, "A text is not UTF-8");
  }
}
/** @param most bytes that may come out */
function inflate(bytes: Buffer, most: number): Buffer {
  try {
    return inflateRawSync(Buffer.concat([bytes, TAIL]), { ...FLUSHED, maxOutputLength: most });
  } catch (error) {
    const isLong = (error as { code?: string }).code === "ERR_BUFFER_TOO_LARGE";
    throw isLong ? new WebSocketError(1009, LONG) : new WebSocketError(1007, "Malformed DEFLATE");
  }
}
