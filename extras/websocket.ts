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

import { Buffer, isUtf8 } from "node:buffer";
import { createHash } from "node:crypto";
import { constants, deflateRawSync, inflateRawSync } from "node:zlib";
import type { Connection, HttpRequest, HttpResponse } from "../server.ts";

/** Text or bytes, as the client or the application has sent it. */
export type Message = string | Uint8Array;

/** What a {@linkcode webSocket} is to allow. Options may be undefined. */
export interface WebSocketOptions {
  /** Bytes of a message, decompressed; a longer one fails with 1009. Default 1 MiB. */
  maxMessageSize?: number | undefined;
  /** Bytes that may wait for a client to read them: if `send` is called when more wait, the client is
   * dropped. Whoever awaits each `send` never has so many. Default 1 MiB. */
  maxBufferedSize?: number | undefined;
  /** Seconds. A client that is silent for half of it is sent a ping, and one that is silent for all of it,
   * or takes nothing of what is sent, is dropped within a quarter more. Default 30. */
  idleTimeout?: number | undefined;
  /** Whether a page of this origin may connect; clients that are no browsers mostly have none, and are not
   * asked for it. Else 403. Default: pages of the host that was asked, since browsers let any page
   * connect, and send the cookies along (RFC 6455 §10.2). */
  allowOrigin?: ((origin: string) => boolean) | undefined;
  /** Chooses one of the subprotocols that the client offers, in its order, or none. Default none. */
  chooseProtocol?: ((offered: string[]) => string | undefined) | undefined;
  /** Bytes from which on a message is sent compressed to a client that can read it; each on its own, so
   * that a connection keeps no window: text of 1 KiB is a fifth so. A message must not hold both a secret
   * and what an attacker has chosen (RFC 7692 §8). Default: no compression, either way. */
  compressFrom?: number | undefined;
}

/** How a connection has ended, as a `CloseEvent` tells it. */
export interface Closed {
  /** The client's close code, 1005 if it gave none; or why the connection failed, 1006 if it was lost. */
  readonly code: number;
  /** The client's reason, or what went wrong. */
  readonly reason: string;
  /** Whether both sides have said Close. */
  readonly wasClean: boolean;
}

/** Why a connection did not end cleanly, or can't be sent to: its message is the reason. */
export class WebSocketError extends Error {
  /** The close code (RFC 6455 §7.4): 1006 is a connection that was lost or dropped. */
  readonly code: number;
  constructor(code: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "WebSocketError";
    this.code = code;
  }
}

/** The part of a request that the handshake needs, which can be made of a Fetch `Request` as well. */
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

/** Opcodes (RFC 6455 §5.2), and the bits beside them. */
const TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10, FIN = 128, RSV1 = 64, RESERVED = 48;
/** What a message that was flushed ends with, and is sent without (RFC 7692 §7.2.1). */
const TAIL = Buffer.of(0, 0, 255, 255);
const FLUSHED = { finishFlush: constants.Z_SYNC_FLUSH };
/** Bytes that are read of a client at once, but for long messages. */
const INPUT_SIZE = 4096;
/** Bytes that wait for a client before `send` does, too. */
const HIGH_WATER = 65536;
/** Reads that need no waiting until others get their turn. */
const READS_A_TURN = 16;
/** Milliseconds for the client to answer a Close. */
const CLOSE_TIME = 5000;
const NOTHING = Buffer.alloc(0);

/** The server's end of a WebSocket. Iterating it gives the messages, and ends after a clean close; if the
 * connection ends otherwise, it throws a {@linkcode WebSocketError}, which a session may let pass. */
class WebSocketConnection implements AsyncIterable<Message> {
  /** The subprotocol that was chosen, or "". */
  readonly protocol: string;
  /** Resolves once it has ended; it never rejects. */
  readonly closed: Promise<Closed>;
  #setClosed!: (closed: Closed) => void;
  #hasEnded = false;
  #failure: WebSocketError | undefined;
  #isClosing = false;
  #deadline: ReturnType<typeof setTimeout> | undefined;

  readonly #connection: Connection;
  readonly #limits: { message: number; buffered: number; idle: number; compressFrom: number };
  readonly #windowBits: number;

  // What has been read: `#left` bytes are missing of the frame at hand, whose header has been read.
  readonly #input = Buffer.allocUnsafe(INPUT_SIZE);
  #start = 0;
  #end = 0;
  #left = -1;
  #frame = 0;
  #mask = 0;
  #isReading = false;
  #silence = 0;
  #reads = 0;
  // The message that it is a part of: its first byte, and its content so far.
  #first = 0;
  #message = NOTHING;
  #size = 0;
  #utf8 = new Utf8();

  // What is to be written, in the order in which it was sent.
  #output = NOTHING;
  #gathered = 0;
  #unsent = 0;
  #writing: Promise<void> | undefined;
  #stalls = 0;
  #later: ReturnType<typeof setTimeout> | undefined;

  /** @ignore */
  constructor(connection: Connection, options: WebSocketOptions, protocol: string, bits: number) {
    this.#connection = connection;
    this.protocol = protocol;
    this.#windowBits = bits;
    this.#limits = {
      message: options.maxMessageSize ?? 1048576,
      buffered: options.maxBufferedSize ?? 1048576,
      idle: (options.idleTimeout ?? 30) * 1000,
      compressFrom: bits === 0 ? Infinity : options.compressFrom ?? Infinity,
    };
    this.closed = new Promise((resolve) => this.#setClosed = resolve);
  }

  /** Bytes that have been sent and not been taken. */
  get bufferedAmount(): number {
    return this.#gathered + this.#unsent;
  }
  [Symbol.asyncIterator](): this {
    return this;
  }
  /** The next message. One at a time. */
  async next(): Promise<IteratorResult<Message, undefined>> {
    if (this.#isReading) throw new Error("The socket is being iterated already");
    try {
      while (!this.#hasEnded) {
        const value = this.#parse();
        if (value !== undefined) return { done: false, value };
        if (!this.#hasEnded) await this.#read();
      }
    } catch (error) {
      const violation = error instanceof WebSocketError ? error : undefined;
      this.#fail(
        violation ?? new WebSocketError(1006, "The connection was lost", { cause: error }),
      );
      if (violation !== undefined) this.#sendClose(violation.code, violation.message);
    }
    if (this.#failure !== undefined) throw this.#failure;
    return { done: true, value: undefined };
  }
  /** Sends a message. Resolves when it has been taken: at once, unless many bytes wait already. It rejects
   * with a {@linkcode WebSocketError} if the connection has ended, which need not be heeded. */
  send(message: Message): void | Promise<void> {
    if (this.bufferedAmount > this.#limits.buffered) this.#drop("The client does not read");
    if (this.#isClosing || this.#hasEnded) return this.#taken();
    const opcode = typeof message === "string" ? TEXT : BINARY;
    const bytes = typeof message === "string" ? Buffer.from(message) : message;
    if (bytes.length >= this.#limits.compressFrom) {
      const deflated = deflateRawSync(bytes, { ...FLUSHED, windowBits: this.#windowBits });
      this.#put(FIN | RSV1 | opcode, deflated.subarray(0, -TAIL.length));
    } else this.#put(FIN | opcode, bytes);
    if (this.#start === this.#end || this.#gathered > HIGH_WATER) this.#flush();
    else this.#later ??= setTimeout(() => this.#flush(), 0); // Or sooner, after what came with it.
    return this.bufferedAmount > HIGH_WATER ? this.#taken() : undefined;
  }
  /** Begins the close handshake (§7.1.2): no more messages come, and the iteration ends when the client has
   * answered. A second time does nothing.
   * @throws {RangeError} for a code that can't be sent, or a reason of more than 123 bytes. */
  close(code = 1000, reason = ""): void {
    if (!isCloseCode(code)) throw new RangeError(`${code} is no close code`);
    if (Buffer.byteLength(reason) > 123) throw new RangeError("The reason is too long");
    if (!this.#hasEnded) this.#sendClose(code, reason);
  }

  /** @ignore */
  async run(session: (socket: this) => void | Promise<void>): Promise<void> {
    const timer = setInterval(() => this.#tick(), this.#limits.idle / 4);
    try {
      await session(this);
      this.close();
    } catch (error) {
      this.close(1011);
      if (error !== this.#failure) throw error;
    } finally {
      if (this.#isReading) await this.closed;
      else await this.next().catch(() => {}); // What comes before the client's Close is dropped.
      this.#flush();
      await this.#writing;
      clearInterval(timer);
      clearTimeout(this.#deadline);
      clearTimeout(this.#later);
    }
  }

  /** A message out of what has been read, if there is a whole one. */
  #parse(): Message | undefined {
    const input = this.#input;
    for (;;) {
      if (this.#left < 0 && !this.#parseHeader()) return undefined;
      const from = this.#start, count = Math.min(this.#left, this.#end - from);
      if ((this.#frame & CLOSE) !== 0) {
        if (count < this.#left) return undefined;
        this.#start += count;
        this.#left = -1;
        unmask(input, from, from + count, this.#mask);
        this.#control(this.#frame & 15, input.subarray(from, from + count));
        if (this.#hasEnded) return undefined;
        continue;
      }
      this.#start += count;
      const isWhole = count === this.#left && this.#size === 0 && (this.#frame & FIN) !== 0;
      if (!isWhole) {
        this.#makeRoom(count).set(input.subarray(from, from + count));
        this.#append(count);
        if (this.#left > 0) return undefined;
      } else unmask(input, from, from + count, this.#mask);
      this.#left = -1;
      if ((this.#frame & FIN) === 0) continue;
      const message = isWhole
        ? this.#finish(input, from, from + count, true)
        : this.#finish(this.#message, 0, this.#size, false);
      if (!this.#isClosing) return message;
    }
  }
  /** Reads the header of a frame (§5.2), if all of it is there. */
  #parseHeader(): boolean {
    const input = this.#input, at = this.#start, there = this.#end - at;
    if (there < 2) return false;
    const first = input[at]!, second = input[at + 1]!, opcode = first & 15;
    let length = second & 127;
    if ((first & RESERVED) !== 0) throw violation("A reserved bit is set");
    if (opcode > PONG || (opcode & 7) > BINARY) throw violation("An unknown opcode");
    if (second < 128) throw violation("A frame is not masked");
    if (opcode >= CLOSE) {
      if (length > 125 || first < FIN) throw violation("A control frame is long or fragmented");
    } else if ((opcode === 0) === (this.#first === 0)) {
      throw violation("A fragment is missing, or has no message");
    }
    if ((first & RSV1) !== 0 && (this.#windowBits === 0 || opcode === 0 || opcode >= CLOSE)) {
      throw violation("RSV1 is set");
    }
    const extra = length === 126 ? 2 : length === 127 ? 8 : 0;
    if (there < 6 + extra) return false;
    if (extra === 2) length = input.readUInt16BE(at + 2);
    if (extra === 8) length = input.readUInt32BE(at + 2) * 2 ** 32 + input.readUInt32BE(at + 6);
    const isMinimal = length >= (extra === 8 ? 65536 : extra === 2 ? 126 : 0);
    if (!isMinimal || length >= 2 ** 63) throw violation("A length is malformed");
    if (opcode < CLOSE && this.#size + length > this.#limits.message) throw tooLong();
    this.#mask = input.readInt32BE(at + 2 + extra);
    this.#start += 6 + extra;
    this.#left = length;
    this.#frame = first;
    if (opcode !== 0 && opcode < CLOSE) this.#first = first;
    return true;
  }
  #control(opcode: number, payload: Buffer): void {
    if (opcode === PING && !this.#isClosing) this.#put(FIN | PONG, payload);
    if (opcode !== CLOSE) return;
    const code = payload.length === 0 ? 1005 : payload.length === 1 ? 0 : payload.readUInt16BE();
    if (code !== 1005 && !isCloseCode(code)) throw violation("The code of a Close is malformed");
    const reason = textOf(payload, Math.min(2, payload.length), payload.length);
    this.#sendClose(code, "", payload);
    this.#finishWith({ code, reason, wasClean: true });
  }
  /** Where the rest of the frame may go. There is never room for much more than has come. */
  #makeRoom(count: number): Buffer {
    const size = this.#size, full = size + this.#left;
    if (size + Math.max(count, 1) > this.#message.length) {
      const larger = Buffer.allocUnsafe(Math.min(full, Math.max(INPUT_SIZE, 2 * (size + count))));
      larger.set(this.#message.subarray(0, size));
      this.#message = larger;
    }
    return this.#message.subarray(size, full);
  }
  /** So many more bytes of the frame are in the message. */
  #append(count: number): void {
    const from = this.#size;
    this.#size += count;
    this.#left -= count;
    this.#mask = unmask(this.#message, from, this.#size, this.#mask);
    if (this.#first === (FIN | TEXT) || this.#first === TEXT) {
      this.#utf8.check(this.#message, from, this.#size);
    }
  }
  #finish(bytes: Buffer, from: number, to: number, isShared: boolean): Message {
    const first = this.#first;
    this.#first = this.#size = 0;
    this.#message = NOTHING;
    if ((first & RSV1) !== 0) {
      bytes = inflate(Buffer.concat([bytes.subarray(from, to), TAIL]), this.#limits.message);
      from = 0;
      to = bytes.length;
    }
    if ((first & 15) === TEXT) return textOf(bytes, from, to);
    const { buffer, byteOffset } = isShared ? Buffer.copyBytesFrom(bytes, from, to - from) : bytes;
    return new Uint8Array(buffer, byteOffset, to - from);
  }

  async #read(): Promise<void> {
    this.#flush();
    if (this.bufferedAmount > HIGH_WATER) await this.#writing;
    if (this.#hasEnded) return;
    if (this.#start === this.#end) this.#start = this.#end = 0;
    else if (this.#start > 0) {
      this.#input.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    const isDirect = this.#end === 0 && this.#left > 0 && (this.#frame & CLOSE) === 0;
    const read = this.#connection.read(
      isDirect ? this.#makeRoom(0) : this.#input.subarray(this.#end),
    );
    this.#isReading = true;
    let count;
    try {
      count = typeof read === "object" ? await read : read;
    } finally {
      this.#isReading = false;
    }
    this.#silence = 0;
    this.#reads = typeof read === "object" ? 0 : this.#reads + 1;
    if (count === null) throw new Error("The client ended it without a Close");
    if (isDirect) this.#append(count);
    else this.#end += count;
    if (this.#reads > READS_A_TURN) {
      await new Promise((resolve) => setTimeout(resolve, this.#reads = 0));
    }
  }

  // Writing

  #put(first: number, payload: Uint8Array): void {
    const { length } = payload, size = this.#gathered + length + 10;
    if (size > this.#output.length) {
      const larger = Buffer.allocUnsafe(Math.max(size, 2 * this.#output.length, 1024));
      larger.set(this.#output.subarray(0, this.#gathered));
      this.#output = larger;
    }
    const output = this.#output;
    let at = this.#gathered;
    output[at++] = first;
    if (length < 126) output[at++] = length;
    else if (length < 65536) {
      output[at++] = 126;
      at = output.writeUInt16BE(length, at);
    } else {
      output[at++] = 127;
      at = output.writeUInt32BE(Math.floor(length / 2 ** 32), at);
      at = output.writeUInt32BE(length >>> 0, at);
    }
    output.set(payload, at);
    this.#gathered = at + length;
  }
  #sendClose(code: number, reason: string, payload?: Uint8Array): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    this.#deadline = setTimeout(() => this.#drop("No answer to a Close"), CLOSE_TIME);
    this.#put(FIN | CLOSE, payload ?? Buffer.from([code >> 8, code & 255, ...Buffer.from(reason)]));
    this.#flush();
  }
  /** Writes what has been gathered. What is sent meanwhile leaves in the next write. */
  #flush(): void {
    if (this.#writing !== undefined || this.#gathered === 0) return;
    const bytes = this.#output.subarray(0, this.#gathered);
    let count: number | Promise<number>;
    try {
      count = this.#connection.write(bytes);
    } catch (error) {
      count = Promise.reject(error);
    }
    if (count === bytes.length) {
      this.#gathered = 0;
      return;
    }
    this.#writing = this.#write(bytes, count);
  }
  async #write(bytes: Buffer<ArrayBuffer>, first: number | Promise<number>) {
    try {
      let count = first;
      for (;;) {
        this.#output = NOTHING;
        this.#gathered = 0;
        this.#unsent = bytes.length;
        for (;;) {
          this.#unsent -= typeof count === "object" ? await count : count;
          this.#stalls = 0;
          if (this.#unsent === 0) break;
          count = this.#connection.write(bytes.subarray(-this.#unsent));
        }
        if (this.#gathered === 0) break;
        bytes = this.#output.subarray(0, this.#gathered);
        count = this.#connection.write(bytes);
      }
    } catch {
      this.#drop("The connection was lost");
    }
    this.#writing = undefined;
    if (this.#output === NOTHING) this.#output = bytes;
  }
  #taken(): Promise<void> {
    const taken = (async () => {
      await this.#writing;
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#isClosing) throw new WebSocketError(1000, "The socket is closing");
    })();
    taken.catch(() => {});
    return taken;
  }

  // Ending

  #tick(): void {
    if (this.#writing !== undefined && ++this.#stalls > 4) this.#drop("The client does not read");
    if (!this.#isReading) return;
    if (++this.#silence > 4) this.#drop("The client is silent");
    else if (this.#silence === 2) {
      this.#put(FIN | PING, NOTHING);
      this.#flush();
    }
  }
  #drop(why: string): void {
    this.#fail(new WebSocketError(1006, why));
    this.#connection.close();
  }
  #fail(error: WebSocketError): void {
    if (this.#hasEnded) return;
    this.#failure = error;
    this.#finishWith({ code: error.code, reason: error.message, wasClean: false });
  }
  #finishWith(closed: Closed): void {
    this.#hasEnded = true;
    this.#setClosed(closed);
  }
}
export type { WebSocketConnection };

function violation(why: string, code = 1002): WebSocketError {
  return new WebSocketError(code, why);
}
function tooLong(): WebSocketError {
  return violation("The message is too long", 1009);
}
/** Those that may be sent (§7.4), the later additions in IANA's registry included. */
function isCloseCode(code: number): boolean {
  return code >= 1000 && code <= 1014 && (code < 1004 || code > 1006) ||
    code >= 3000 && code < 5000;
}
/** Unmasks in place (§5.3), and returns the mask for what follows. */
function unmask(bytes: Uint8Array, from: number, to: number, mask: number): number {
  const a = mask >>> 24, b = mask >>> 16 & 255, c = mask >>> 8 & 255, d = mask & 255;
  let at = from;
  for (; at + 3 < to; at += 4) {
    bytes[at]! ^= a;
    bytes[at + 1]! ^= b;
    bytes[at + 2]! ^= c;
    bytes[at + 3]! ^= d;
  }
  for (; at < to; at++) {
    bytes[at]! ^= mask >>> 24;
    mask = mask << 8 | mask >>> 24;
  }
  return mask;
}
/** @throws {WebSocketError} unless it is UTF-8 */
function textOf(bytes: Buffer, from: number, to: number): string {
  let at = from;
  while (at < to && bytes[at]! < 128) at++;
  if (at === to) return bytes.toString("latin1", from, to);
  if (!isUtf8(bytes.subarray(from, to))) throw violation("A text is not UTF-8", 1007);
  return bytes.toString("utf8", from, to);
}
function inflate(bytes: Buffer, maxOutputLength: number): Buffer {
  try {
    return inflateRawSync(bytes, { ...FLUSHED, maxOutputLength });
  } catch (error) {
    const isLong = (error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE";
    throw isLong ? tooLong() : violation("A message can't be inflated", 1007);
  }
}
/** Checks UTF-8 (RFC 3629) as it comes: how many bytes a character lacks, and the range of the next. */
class Utf8 {
  #missing = 0;
  #low = 0;
  #high = 0;
  check(bytes: Uint8Array, from: number, to: number): void {
    for (let at = from; at < to; at++) {
      const byte = bytes[at]!;
      if (this.#missing > 0) {
        if (byte < this.#low || byte > this.#high) throw violation("A text is not UTF-8", 1007);
        this.#missing--;
        this.#low = 0x80;
        this.#high = 0xbf;
      } else if (byte >= 0x80) {
        if (byte < 0xc2 || byte > 0xf4) throw violation("A text is not UTF-8", 1007);
        this.#missing = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
        this.#low = byte === 0xe0 ? 0xa0 : byte === 0xf0 ? 0x90 : 0x80;
        this.#high = byte === 0xed ? 0x9f : byte === 0xf4 ? 0x8f : 0xbf;
      }
    }
  }
}
