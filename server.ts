/**
 * An HTTP/1.1 server in one file, on raw TCP, the same on Deno and on Bun.
 *
 * ```ts
 * import { serve } from "./server.ts";
 * serve((request) => ({ body: `Hello, ${request.path}\n` }), { log: console });
 * ```
 *
 * The file reads from top to bottom. Each chapter uses only the ones before it, apart from types:
 *
 * 1. Limits and options: every tunable, its unit, its default and the reason for it.
 * 2. Transport: bytes in and out of a socket; the only place that names Deno or Bun.
 * 3. Parsing: from bytes to a request head, or to the error that answers it.
 * 4. Bodies: where a request's content ends, and the request that hands it out; Fetch's, too.
 * 5. Responses: from what a handler returned to bytes.
 * 6. The connection: read a head, call the handler, write, again or close.
 * 7. Concurrency: permits, the accept loop, deadlines, shutdown: {@linkcode serve}.
 * 8. Command line: flags, signals and the log, when this file is the main module.
 *
 * "9110" and "9112" in the comments are RFC 9110 (HTTP Semantics) and RFC 9112 (HTTP/1.1).
 *
 * @module
 */

import { Buffer, isUtf8 } from "node:buffer";
import type { BlockList, Socket } from "node:net";
import process from "node:process";
import type { Duplex } from "node:stream";
import { setImmediate } from "node:timers";
import type { SecureContext, TLSSocket } from "node:tls";
import { parseArgs } from "node:util";

// ─────────────────────────────────────────────────────────────────────────────────────────────
// 1. Limits and options
// ─────────────────────────────────────────────────────────────────────────────────────────────

/** Answers one request. It may throw: an {@linkcode HttpError} is answered with its status, anything
 * else with 500 and a log entry. What takes a `Request` is a {@linkcode FetchApplication}. */
export type Handler = (
  request: HttpRequest,
) => HttpResponse | Response | Promise<HttpResponse | Response>;

/** An application written for Fetch, as it is: of Hono, h3 or Elysia, or any object with such a method. */
export interface FetchApplication {
  /** Answers one request. What it throws is treated as what a {@linkcode Handler} throws. */
  fetch(request: Request, info: FetchInfo): Response | Promise<Response>;
}

/** What an application written for Fetch is told besides the request, as `Deno.serve` does it. */
export interface FetchInfo {
  /** The client, as {@linkcode HttpRequest.remoteAddress} and `remotePort` tell it. That of a Unix socket
   * has no address: `path` is the server's own, and the others are "" and 0. */
  readonly remoteAddr:
    | { transport: "tcp"; hostname: string; port: number }
    | { transport: "unix"; path: string; hostname: string; port: number };
  /** Settles when the answer has been written; rejects when the client has not got all of it. */
  readonly completed: Promise<void>;
  /** Aborts when the server begins to stop, as {@linkcode HttpRequest.stopping}. */
  readonly stopping: AbortSignal;
}

/** Where log lines go, one call a line; `console` fits. A method that is left out is a level that
 * is off, and costs nothing. What clients sent is escaped. Every line about a connection names its
 * peer. Lines of one kind that many clients can bring about, the access log aside, are bounded: those
 * beyond ten a second are counted, and told as a count. */
export interface Logger {
  /** The story of each connection. */
  debug?: ((message: string) => void) | undefined;
  /** What happened, a line each. Start and stop; each request that a handler got: peer, request line,
   * status, bytes of content, milliseconds, and why, if it failed; each that was refused before that:
   * peer, as much of method and target as was read, status, why; connections that were given up. */
  info?: ((message: string) => void) | undefined;
  /** What the operator or the programmer must mend: a handler that threw, with its stack, a response
   * that can't be sent, a lack of descriptors, requests that were cut off by a stop. */
  error?: ((message: string) => void) | undefined;
  /** How many lines it has lost, if it counts them, for {@linkcode Server.stats}. */
  readonly lost?: number | undefined;
}

/** What became of one request, told to {@linkcode ServeOptions.onExchange}. */
export interface Exchange {
  /** The method as sent. Of a request that was refused, this and the two below it are what had been
   * read of them, perhaps nothing. */
  readonly method: string;
  /** The target as sent (9112 §3.2). */
  readonly target: string;
  /** The version as sent. */
  readonly protocol: string;
  /** The client, as in {@linkcode HttpRequest}. */
  readonly remoteAddress: string;
  /** The client's port. */
  readonly remotePort: number;
  /** The status of the answer; 0 if there was none. */
  readonly status: number;
  /** Bytes of the request's content that had been read when it was answered, without what frames it. */
  readonly received: number;
  /** Bytes of the answer's content that were sent, likewise; of one that was not delivered, about. */
  readonly sent: number;
  /** Milliseconds from the request's first byte until its head was there; 0 if it never was. */
  readonly headTime: number;
  /** Milliseconds from the same moment until its answer began to leave; 0 if there was none. One that
   * leaves in one write begins and ends with that. */
  readonly answerTime: number;
  /** Milliseconds from the same moment until the end of all this. */
  readonly time: number;
  /** Whether the system has taken the whole answer to send it. A client that never reads is not seen
   * behind what the system itself keeps, which may be some MiB. A stream without an end never is. */
  readonly delivered: boolean;
  /** Whether the server itself has refused it (408, 413, 414, 431, 503 and the like), not a handler,
   * not even for what was wrong with the content that it was reading. */
  readonly refused: boolean;
  /** Why it was refused, failed or was not delivered, in one line; mostly empty. */
  readonly reason: string;
}

/** What {@linkcode ServeOptions.limits} may set for one request; the server's own holds for the rest. */
export interface RequestLimits {
  /** Bytes of its content. */
  maxBodySize?: number | undefined;
  /** Seconds from its first byte to its last. */
  requestTimeout?: number | undefined;
}

/** Everything that can be set, and the bound of every resource that a client can make use of. */
export interface ServeOptions {
  /** The address or name to listen on; IPv6 may stand in brackets. Default `"127.0.0.1"`: reachable from
   * this machine only. */
  hostname?: string | undefined;
  /** The TCP port, 0 to 65535; 0 takes a free one, which {@linkcode Server.addr} tells. Default 8080. */
  port?: number | undefined;
  /** How many connections may wait for a permit. Default 511. Deno leaves them in the kernel's
   * queue; on Bun, which can't stop accepting, those beyond it are answered 503 at once. */
  backlog?: number | undefined;
  /** Lets several processes listen on the same port. Default false. Deno needs `"unstable": ["net"]`
   * in your own deno.json, or `--unstable-net`, for this: without it, it ends the process. */
  reusePort?: boolean | undefined;
  /** The path of a Unix socket to listen at instead of a port: at most 94 bytes, in a folder that
   * may be written. A socket file that a server has left behind is replaced; one at which
   * somebody listens is not, nor any other file. Default: none. */
  unix?: string | undefined;
  /** The mode of the socket file, as 0o660: who may write to it may connect. It has no other before
   * that. Default: 0o777 without the bits of the process's umask. */
  unixMode?: number | undefined;
  /** The certificate chain and the private key for HTTPS, as PEM text. Default: plain HTTP. For newer
   * ones later on there is {@linkcode Server.renew}. */
  tls?: { cert: string; key: string } | undefined;
  /** How many connections are served at the same time; the next ones wait. Default 1024. */
  maxConnections?: number | undefined;
  /** Seconds that a client is waited for at a time: for its next bytes, or for it to take some that
   * are sent. Then the connection is closed, after 408 if a request had begun (9110 §15.5.9). A slow
   * handler or a stream that has nothing to say is not cut off, but for a stream to a client that has
   * ended its side, which looks the same as one that left. Default 30. */
  idleTimeout?: number | undefined;
  /** Seconds from the first byte of a request to its last, else 408 (9110 §15.5.9). What a handler
   * takes to ask for the body does not count. Default 60. */
  requestTimeout?: number | undefined;
  /** Bytes of a request line and its fields together, else 414 or 431. Default 16384. */
  maxHeaderSize?: number | undefined;
  /** Header fields of one request, else 431 (RFC 6585 §5). Default 100. */
  maxHeaderCount?: number | undefined;
  /** Bytes of a request body, else 413 (9110 §15.5.14). Default 1048576. */
  maxBodySize?: number | undefined;
  /** Raises or lowers two limits for a request that has content: called when its head is known, and
   * before any content is read, so that what is too long for it is refused before it is sent. It must
   * answer at once, and leave the content alone. What it throws is treated as what a handler throws.
   * Default: the same limits for all. */
  limits?: ((request: HttpRequest) => RequestLimits | undefined) | undefined;
  /** Which proxies are believed about whom a request is from and what it is for. Default: none. */
  proxy?: ProxyOptions | undefined;
  /** Stops the server gracefully, as {@linkcode Server.shutdown} does. */
  signal?: AbortSignal | undefined;
  /** Called once, when the server listens. */
  onListen?: ((address: Server["addr"]) => void) | undefined;
  /** Answers for a handler that threw, in place of the default answer. */
  onError?: ((error: unknown, request: HttpRequest) => HttpResponse | Response) | undefined;
  /** Told of each request, when the last of its answer has been taken by the system, or is lost. It is
   * called in between the server's own work, so it should be short; what it throws is logged. */
  onExchange?: ((exchange: Exchange) => void) | undefined;
  /** Silent by default: then a handler's mistakes are not told to anybody. */
  log?: Logger | undefined;
}

/** Whom to believe, and what. What these say gives a request's `remoteAddress`, `remotePort` (0 if it is
 * not told), the scheme and host of its `url`, and the peer in the log. */
export interface ProxyOptions {
  /** The proxies: IP addresses, prefixes (`"10.0.0.0/8"`, `"2001:db8::/32"`) and `"unix"`, which is
   * whoever connects by a Unix socket. Or how many stand in front, 1 to 100, at whatever addresses: for
   * that, nobody else may be able to connect, neither here nor to any but the first of them. */
  trusted: string[] | number;
  /** What they write: nothing else is looked at, since a proxy passes on what it does not know, and so
   * what a client has made up. `Forwarded` and `PROXY` stand alone. */
  says: ProxyField[];
}

/** What proxies write: the header fields of RFC 7239 and those in use before it, which they must set or
 * add to; and the PROXY protocol, a header in front of all else on a connection, TLS included (with
 * which Bun can't read it). A connection of a trusted proxy that does not begin with it is closed. */
export type ProxyField =
  | "Forwarded"
  | "X-Forwarded-For"
  | "X-Forwarded-Proto"
  | "X-Forwarded-Host"
  | "PROXY";

/** The numbers among the options: each with its default, its bounds and its unit. What has no other bound
 * must be a number that is exact; so only seconds can be `Infinity`. A new one also needs its line in
 * {@linkcode ServeOptions}, and in chapter 8 in `USAGE` and `readArguments`. */
const SETTINGS = {
  port: { value: 8080, least: 0, most: 65535, unit: "a whole number" },
  backlog: { value: 511, least: 0, most: 65535, unit: "a whole number" }, // as nginx asks for
  // With as many that linger, it fits the 4,096 descriptors that a service is often allowed.
  maxConnections: { value: 1024, least: 1, most: Infinity, unit: "a whole number" },
  // Longer than people take from one click to the next, mostly.
  idleTimeout: { value: 30, least: 0, most: Infinity, unit: "seconds" },
  // A body of maxBodySize over a link of 150 kbit/s.
  requestTimeout: { value: 60, least: 0, most: Infinity, unit: "seconds" },
  maxHeaderSize: { value: 16384, least: 64, most: 1048576, unit: "bytes" }, // as node:http has it
  maxHeaderCount: { value: 100, least: 1, most: 10000, unit: "a whole number" }, // as Apache has it
  maxBodySize: { value: 1048576, least: 0, most: Infinity, unit: "bytes" }, // as nginx has it
};
type Settings = Record<keyof typeof SETTINGS, number>;

function checkSettings(options: ServeOptions): Settings {
  const settings = {} as Settings;
  for (const name of Object.keys(SETTINGS) as (keyof Settings)[]) {
    settings[name] = checkSetting(name, options[name]);
  }
  return settings;
}
function checkSetting(name: keyof Settings, given: number | undefined, label: string = name) {
  const { value, least, most, unit } = SETTINGS[name];
  const number = given ?? value;
  const valid = unit === "seconds"
    ? typeof number === "number" && number > least
    : Number.isSafeInteger(number) && number >= least && number <= most;
  if (valid) return number;
  const range = unit === "seconds" ? `above ${least}` : `from ${least}`;
  throw new RangeError(`${label} must be ${unit} ${range}${most < Infinity ? ` to ${most}` : ""}`);
}

/** A socket file takes the place of a port. */
function checkUnix({ unix, unixMode, hostname, port, reusePort }: ListenOptions): void {
  if (unix === undefined) {
    if (unixMode === undefined) return;
    throw new RangeError("A mode is for a Unix socket, and none is given");
  }
  if (unix === "" || unix.includes("\0") || Buffer.byteLength(unix) > MAX_UNIX_PATH) {
    throw new RangeError(`A Unix socket must be a file's path of up to ${MAX_UNIX_PATH} bytes`);
  }
  if (hostname !== undefined || port !== undefined || reusePort) {
    throw new RangeError("A Unix socket has no hostname, no port, and can't be shared");
  }
  const mode = unixMode ?? 0;
  if (!Number.isSafeInteger(mode) || mode < 0 || mode > 0o777) {
    throw new RangeError("A Unix socket's mode must be octal, from 0 to 777");
  }
}

/** Reads that may begin in a turn of Deno's event loop. Each can lead to more reads and a write in the
 * same turn, which has room for 128 of them all ... */
const READS_A_TURN = 8;
/** ... if there is nothing else to be done ... */
const READS_AT_REST = 64;
/** ... once more connections than this are open: fewer get by without, and each costs 5 % less. */
const FEW_CONNECTIONS = 64;
/** Bytes that are encrypted at a time on Deno: what TLS calls a record holds as many. */
const TLS_PIECE = 16384;
/** Bytes that a connection's read buffer starts with: a browser's request fits, and ten thousand
 * idle connections hold 10 MiB. */
const INPUT_SIZE = 1024;
/** A read buffer that was filled gets as large as this, so that a request mostly comes in one read. One
 * that grew beyond it for a long head is given up afterwards. */
const INPUT_KEPT = 4096;
/** Bytes of answers to pipelined requests that are gathered before they are written. */
const OUTPUT_SIZE = 65536;
/** Bytes of the buffers in which smaller answers are gathered: most fit into the first. */
const SMALL_OUTPUT_SIZE = 2048;
const MEDIUM_OUTPUT_SIZE = 16384;
/** Names of response fields that are remembered as sound. */
const MAX_KNOWN_NAMES = 256;
/** Texts of requests that are remembered, by the bytes that they were read from ... */
const MAX_KNOWN_TEXTS = 256;
/** ... if they have no more characters than this. */
const MAX_KNOWN_TEXT = 128;
/** Bytes of buffers of one size that are kept for their next use. */
const MAX_SPARE = 8388608;
/** Bytes that are asked of the socket at a time while a body is read. */
const BODY_PIECE = 65536;
/** When its memory is full, a body that is collected gets so many times as much: a client that sends
 * 64 KiB is trusted with 1 MiB. */
const BODY_GROWTH = 16;
/** Bytes of a piece of `request.body`. Pieces of 64 KiB pile up to 100 MiB on Deno before they are
 * collected as garbage, these to 20. */
const STREAM_PIECE = 8192;
/** Bytes of a body that no handler has read, which are skipped to keep the connection: more would take
 * longer than a new connection. */
const MAX_SKIPPED = 262144;
/** Chunk extensions of one message, in bytes: hardly anybody sends any (9112 §7.1.1). */
const MAX_EXTENSIONS = 4096;
/** A whole line with a chunk's size: up to 16 digits, extensions, CRLF. */
const MAX_CHUNK_LINE = 16 + MAX_EXTENSIONS + 2;
/** Empty lines that may precede a request line (9112 §2.2). */
const MAX_EMPTY_LINES = 2;
/** After an early answer, what a client goes on sending is read for so many milliseconds ... */
const LINGER_TIME = 2000;
/** ... and up to so many bytes, so that the answer is not lost to a reset (9112 §9.6). */
const LINGER_BYTES = 16777216;
/** ... so many at a time. */
const LINGER_PIECE = 16384;
/** What may be done for one connection before others get their turn: a request, a piece of content. */
const STEPS_A_TURN = 32;
/** Microtasks after which what a read of Deno's or a stream has at once is there, with some to spare. */
const MICROTASKS_AT_ONCE = 12;
/** Steps that a KiB of chunk sizes counts as, since it may hold 200 of them. */
const STEPS_FOR_CHUNKS = 4;
/** Milliseconds from one look at all sockets to the next that Deno is made to take while clients are
 * giving way. */
const MANY_TURNS = 20;
/** Bytes of a streamed answer that are gathered if they are there: they may be all of it. */
const GATHERED = 32768;
/** Characters of a text that is put to its head in the hope that all is ASCII. */
const SHORT_TEXT = 512;
/** Bytes of a long text that are encoded at a time. */
const TEXT_SIZE = 131072;
/** Bytes of an answer's text that count as a step, since they may have to be encoded. */
const TEXT_A_STEP = 16384;
/** Proxies that may stand in front: more are a mistake. */
const MAX_PROXIES = 100;
/** Bytes of a PROXY header of version 1, by its specification ... */
const MAX_PROXY_LINE = 107;
/** ... and of version 2, most of them for what is skipped: a certificate's name, a cloud's marks. */
const MAX_PROXY_HEADER = 2048;
/** Log lines of one kind in a second, if clients can bring them about; more are counted. */
const LINES_A_SECOND = 10;
/** Seconds that running requests get to finish when the server stops: Docker kills after so many. */
const GRACE = 10;
/** The clock's precision in milliseconds: a timeout may be late by three of these, never early. */
const TICK = 100;
/** Milliseconds to wait after a failed accept: the first time, doubled up to the longest. */
const ACCEPT_PAUSE = { first: 5, longest: 1000 };
/** Bytes of a Unix socket's path: 103 that macOS takes, less those of the private folder's name. */
const MAX_UNIX_PATH = 103 - ".XXXXXX/s".length;
/** Milliseconds in which a thread must have told whether somebody listens at a Unix socket: it takes
 * a tenth of a second. */
const PROBE_TIME = 5000;
/** The longest time that `setTimeout` takes, in milliseconds. */
const LONGEST_TIMER = 2 ** 31 - 1;
/** Characters of the log that may wait for whoever reads it; further lines are lost, and counted. */
const MAX_LOG = 1048576;
/** Milliseconds between one write of log lines and the next: a write costs as much as some requests. */
const LOG_PAUSE = 20;
/** Milliseconds that a server which has stopped waits for the last of its log to be taken. */
const LOG_TIME = 1000;

// ─────────────────────────────────────────────────────────────────────────────────────────────
// 2. Transport
// ─────────────────────────────────────────────────────────────────────────────────────────────

/** One connection, as much of it as a server needs. A value that is there at once is returned
 * as it is; only what has to be waited for is a promise. */
export interface Connection {
  /** The peer's IP address, also once the connection is closed. */
  readonly remoteAddress: string;
  /** The peer's port, likewise. */
  readonly remotePort: number;
  /** The path of the Unix socket that the peer has connected to: then address and port are "" and 0.
   * Default: none. */
  readonly unix?: string | undefined;
  /** Whether it is encrypted with TLS. Default false. */
  readonly encrypted?: boolean;
  /** Reads some bytes to the front of `buffer` and tells how many; null at the end of the stream.
   * Rejects when the connection breaks or is closed. One read at a time. */
  read(buffer: Uint8Array): number | null | Promise<number | null>;
  /** Writes some of `bytes`, at least one, and tells how many were taken. Rejects when the
   * connection breaks or is closed. One write at a time. */
  write(bytes: Uint8Array): number | Promise<number>;
  /** Says to the peer that no more bytes will come; reading goes on. Does nothing if the connection is
   * broken or closed, as reads tell. */
  closeWrite(): void | Promise<void>;
  /** Gives the connection up, both ways; a second time does nothing. */
  close(): void;
}

/** A listening socket. */
export interface Listener {
  /** The address that was bound; for a Unix socket `unix` is its path, the others are "" and 0. */
  readonly addr: { hostname: string; port: number; unix?: string };
  /** The next connection, in the order of arrival; null once the listener is closed. May reject,
   * for lack of descriptors for example, and can be called again then. */
  accept(): Promise<Connection | null>;
  /** Frees the port. Connections that are open stay open. */
  close(): void;
  /** Whether its connections are encrypted with TLS. Default false. */
  readonly encrypted?: boolean;
  /** How many connections wait to be accepted, if that is known. */
  readonly waiting?: number;
  /** Whether it has read the PROXY header of each connection that begins with one. Default false. */
  readonly readsProxyHeader?: boolean;
  /** Uses another certificate and key for connections that come from now on. Throws if that can't be,
   * and goes on with those before. */
  renew?(tls: { cert: string; key: string }): void;
}

/** What {@linkcode listen} needs to know: of `backlog`, those are counted that wait to be accepted, and
 * `proxy` is heeded if it says `PROXY`. */
export interface ListenOptions extends
  Pick<
    ServeOptions,
    "hostname" | "port" | "backlog" | "reusePort" | "unix" | "unixMode" | "tls" | "proxy"
  > {
  /** What a connection beyond `backlog` is sent before it is closed; Bun alone needs it. */
  refusal?: Uint8Array | undefined;
  /** Called for each of those; if too many are being told so already, it gets no answer. */
  refused?: ((connection: Connection, isAnswered: boolean) => void) | undefined;
}

/** Listens on a TCP port or a Unix socket with whichever runtime this is. Throws when it can't be had,
 * or the certificate can't be used. */
export function listen(options: ListenOptions = {}): Listener {
  checkUnix(options);
  const hostname = (options.hostname ?? "127.0.0.1").replace(/^\[(.*)\]$/, "$1"); // as in a URL
  const proxies = options.proxy && new Proxies(options.proxy);
  const bind = (path?: string) =>
    typeof Bun === "undefined"
      ? new DenoListener({ ...options, hostname, path, proxies })
      : new BunListener(Bun, { ...options, hostname, path, proxies });
  const { unix, unixMode } = options;
  return unix === undefined ? bind() : new UnixListener(unix, unixMode, bind);
}
/** What is bound: at `path`, if it is a Unix socket. */
type BindOptions = ListenOptions & {
  hostname: string;
  path: string | undefined;
  proxies: Proxies | undefined;
};

/** Writes all of `bytes`, however many writes that takes. */
export async function writeAll(connection: Connection, bytes: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes.length;) {
    sent += await connection.write(sent === 0 ? bytes : bytes.subarray(sent));
  }
}

/** The other end, as the log has it. */
function peerOf(peer: Pick<Connection, "remoteAddress" | "remotePort">) {
  const { remoteAddress: address, remotePort: port } = peer;
  if (address === "") return "unix";
  const host = address.includes(":") ? `[${address}]` : address;
  return port === 0 ? host : `${host}:${port}`; // A proxy need not tell the port.
}

const CLOSED = "the connection is closed";
const NOT_SECURE = "there is no certificate to renew: the server was started without tls";

/** What a read or a write rejects with when a client and this side found no way to speak TLS. */
class TlsError extends Error {
  /** Whether the client has just gone, as those that look whether the port is open do. */
  readonly isGone: boolean;

  constructor(reason = "") {
    const isGone = /^$|hang up|ECONNRESET|disconnected before/.test(reason);
    const isPlain = /InvalidContentType|HTTP_REQUEST|WRONG_VERSION_NUMBER/.test(reason);
    const told = reason.replace(/^error:\w+:SSL routines:OPENSSL_internal:/, "");
    const why = isGone ? "the client left" : isPlain ? "the client does not speak TLS" : told;
    super(`TLS handshake failed: ${why}`);
    this.isGone = isGone;
  }
}

/** What a read rejects with when a proxy's connection does not begin as it should. */
class ProxyError extends Error {
  constructor(why: string) {
    super(`PROXY header refused: ${why}`);
  }
}

/** An IP address in the one form in which it is told: of IPv6 the shortest, and IPv4 within IPv6 (RFC 4291
 * §2.5.5.2) as IPv4; undefined if it is none. */
function readAddress(text: string): string | undefined {
  const { isIPv4, isIPv6 } = process.getBuiltinModule("node:net");
  if (isIPv4(text)) return text;
  if (!isIPv6(text) || text.includes("%")) return undefined;
  // Bun's URL does not take all those that end as IPv4 does.
  const groups = text.replace(
    /[\d.]+\.\d+$/,
    (end) => Buffer.from(end.split(".").map(Number)).toString("hex").replace(/(?=....$)/, ":"),
  );
  const shortest = new URL(`http://[${groups}]`).hostname.slice(1, -1);
  const [, high, low] = /^::ffff:([\da-f]+):([\da-f]+)$/.exec(shortest) ?? [];
  if (high === undefined || low === undefined) return shortest;
  return Buffer.from(high.padStart(4, "0") + low.padStart(4, "0"), "hex").join(".");
}
function familyOf(address: string): "ipv4" | "ipv6" {
  return address.includes(":") ? "ipv6" : "ipv4";
}

const PROXY_FIELDS: ProxyField[] = [
  "Forwarded",
  "X-Forwarded-For",
  "X-Forwarded-Proto",
  "X-Forwarded-Host",
  "PROXY",
];

/** Who is believed. */
class Proxies {
  readonly says: ProxyField[];
  /** How many there are, if that is all that is known of them. */
  readonly #count: number | undefined;
  /** Addresses and prefixes, IPv4 apart: on Bun, it would be part of prefixes of IPv6 as well. */
  readonly #lists: Record<"ipv4" | "ipv6", BlockList>;
  readonly #isUnixTrusted: boolean = false;
  /** What was found out lately: to look at the list costs as much as half a request. */
  readonly #known = new Map<string, boolean>();

  constructor({ trusted, says }: ProxyOptions) {
    if (!Array.isArray(says) || says.length === 0) {
      throw new TypeError(`proxy.says must be a list of some of ${PROXY_FIELDS.join(", ")}`);
    }
    for (const one of says) {
      if (!PROXY_FIELDS.includes(one)) {
        throw new TypeError(`proxy.says: ${one} is none of ${PROXY_FIELDS.join(", ")}`);
      }
      if ((one === "Forwarded" || one === "PROXY") && says.some((other) => other !== one)) {
        throw new TypeError(`proxy.says: ${one} stands alone`);
      }
    }
    this.says = [...says];
    const { BlockList } = process.getBuiltinModule("node:net");
    this.#lists = { ipv4: new BlockList(), ipv6: new BlockList() };
    if (typeof trusted === "number") {
      if (!Number.isInteger(trusted) || trusted < 1 || trusted > MAX_PROXIES) {
        throw new RangeError(
          `proxy.trusted must be from 1 to ${MAX_PROXIES}, or a list of addresses`,
        );
      }
      this.#count = trusted;
      return;
    }
    if (!Array.isArray(trusted) || trusted.length === 0) {
      throw new TypeError(
        "proxy.trusted must be a list of addresses, or how many proxies there are",
      );
    }
    this.#isUnixTrusted = trusted.includes("unix");
    for (const one of trusted) {
      if (one !== "unix" && !this.#add(String(one))) {
        throw new TypeError(`proxy.trusted: ${one} is no IP address, no prefix, and not "unix"`);
      }
    }
  }
  /** Adds an address or a prefix; false if it is neither. */
  #add(text: string): boolean {
    const [, written, size] = /^([^/]+)(?:\/(0|[1-9]\d{0,2}))?$/.exec(text) ?? [];
    const address = readAddress(written ?? "");
    if (written === undefined || address === undefined) return false;
    const family = familyOf(address);
    const bits = family === familyOf(written) ? Number(size) : Number(size) - 96; // IPv4 within IPv6
    try {
      if (size === undefined) this.#lists[family].addAddress(address, family);
      else this.#lists[family].addSubnet(address, bits, family);
    } catch { // It has not so many bits.
      return false;
    }
    return true;
  }
  /** Whether the one that is so many steps away is a proxy: the peer is 0 steps away, the one that has
   * connected to it is 1. */
  includes(address: string, steps: number): boolean {
    if (this.#count !== undefined) return steps < this.#count;
    if (address === "") return this.#isUnixTrusted;
    let isTrusted = this.#known.get(address);
    if (isTrusted === undefined) {
      const one = readAddress(address);
      isTrusted = one !== undefined && this.#lists[familyOf(one)].check(one, familyOf(one));
      if (this.#known.size >= MAX_KNOWN_NAMES) this.#known.clear();
      this.#known.set(address, isTrusted);
    }
    return isTrusted;
  }
}

/** The connection as it is to be served: that of a proxy which says who is behind it tells that. */
function unwrapped(connection: Connection, proxies: Proxies | undefined): Connection {
  const isProxy = proxies?.says.includes("PROXY") && proxies.includes(connection.remoteAddress, 0);
  return isProxy ? new ProxiedConnection(connection) : connection;
}

/** What a PROXY header tells: how many bytes it has, and who is behind the proxy, if that is told. */
interface ProxyHeader {
  size: number;
  client?: { address: string; port: number };
}
const PORT = "(0|[1-9]\\d{0,4})";
const PROXY_LINE = new RegExp(
  `^PROXY (?:UNKNOWN(?: [^\\r\\n]*)?|TCP([46]) ([^ ]+) ([^ ]+) ${PORT} ${PORT})\\r\\n`,
);
const PROXY_SIGNATURE = "\r\n\r\n\0\r\nQUIT\n";

/** Reads a header of version 1 or 2 of the PROXY protocol (HAProxy's doc/proxy-protocol.txt);
 * undefined if more of it has to come. */
function readProxyHeader(bytes: Buffer): ProxyHeader | undefined {
  const text = bytes.toString("latin1", 0, MAX_PROXY_LINE);
  const begins = (with_: string) => with_.startsWith(text.slice(0, with_.length));
  if (begins(PROXY_SIGNATURE)) return bytes.length < 16 ? undefined : readBinaryHeader(bytes);
  if (!begins("PROXY ")) throw new ProxyError("there is none");
  const end = text.indexOf("\n") + 1;
  if (end === 0 && text.length < MAX_PROXY_LINE) return undefined;
  const parts = PROXY_LINE.exec(text);
  if (parts === null) throw new ProxyError("it is malformed");
  const [, version, source = "", destination = "", port, toPort] = parts;
  if (version === undefined) return { size: end };
  const addresses = [source, destination].map(readAddress);
  const isSound = [source, destination].every((text) => text.includes(":") === (version === "6")) &&
    addresses.every((address) => address !== undefined) &&
    Math.max(Number(port), Number(toPort)) <= 65535;
  if (!isSound) throw new ProxyError("it is malformed");
  return { size: end, client: { address: addresses[0]!, port: Number(port) } };
}
/** Version 2. What a proxy may say besides is skipped. */
function readBinaryHeader(bytes: Buffer): ProxyHeader | undefined {
  const [first, second, length] = [
    bytes.readUInt8(12),
    bytes.readUInt8(13),
    bytes.readUInt16BE(14),
  ];
  const version = first >> 4, command = first & 15, family = second >> 4, transport = second & 15;
  const size = 16 + length;
  const least = [0, 12, 36, 216][family]; // unspecified, IPv4, IPv6, Unix
  const isLocal = command === 0; // The proxy speaks for itself, as in a check.
  const isSound = version === 2 && command < 2 &&
    (isLocal || transport < 3 && least !== undefined && length >= least);
  if (!isSound) throw new ProxyError("it is malformed");
  if (size > MAX_PROXY_HEADER) throw new ProxyError("it is too long");
  if (bytes.length < size) return undefined;
  if (isLocal || transport === 0) return { size };
  if (family === 1) {
    return {
      size,
      client: { address: bytes.subarray(16, 20).join("."), port: bytes.readUInt16BE(24) },
    };
  }
  if (family !== 2) return { size };
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(16 + 2 * i).toString(16));
  return {
    size,
    client: { address: readAddress(groups.join(":"))!, port: bytes.readUInt16BE(48) },
  };
}

/** A connection of a proxy's, which begins with a PROXY header: it tells who has connected to the proxy. */
class ProxiedConnection implements Connection {
  readonly #connection: Connection;
  #client: ProxyHeader["client"];
  #isTold = false;
  /** What has come with the header, and is not part of it. */
  #rest: Buffer | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
  }
  get remoteAddress(): string {
    return this.#client?.address ?? this.#connection.remoteAddress;
  }
  get remotePort(): number {
    return this.#client?.port ?? this.#connection.remotePort;
  }
  get unix(): string | undefined {
    return this.#client === undefined ? this.#connection.unix : undefined;
  }
  get encrypted(): boolean {
    return this.#connection.encrypted ?? false;
  }
  read(buffer: Uint8Array): number | null | Promise<number | null> {
    if (!this.#isTold) return this.#readHeader(buffer);
    const rest = this.#rest;
    if (rest === undefined) return this.#connection.read(buffer);
    const count = Math.min(rest.length, buffer.length);
    buffer.set(rest.subarray(0, count));
    this.#rest = count < rest.length ? rest.subarray(count) : undefined;
    return count;
  }
  /** The first read, which goes on until something has come that is not part of the header: so whoever
   * bounds the time of a read bounds that of the header. */
  async #readHeader(buffer: Uint8Array): Promise<number | null> {
    const bytes = Buffer.allocUnsafe(MAX_PROXY_HEADER);
    let end = 0;
    let header: ProxyHeader | undefined;
    while (header === undefined) {
      const count = await this.#connection.read(bytes.subarray(end));
      if (count === null && end === 0) return null; // It was only to see whether somebody is there.
      if (count === null) throw new ProxyError("it ended early");
      end += count;
      header = readProxyHeader(bytes.subarray(0, end));
    }
    this.#isTold = true;
    this.#client = header.client;
    if (header.size < end) this.#rest = bytes.subarray(header.size, end);
    return await this.read(buffer);
  }
  write(bytes: Uint8Array): number | Promise<number> {
    return this.#connection.write(bytes);
  }
  closeWrite(): void | Promise<void> {
    return this.#connection.closeWrite();
  }
  close(): void {
    this.#connection.close();
  }
}

// What is used of Deno, so that one file type-checks without Deno's types.
/** A connection; one to a Unix socket lacks what is optional. */
interface DenoConn {
  readonly remoteAddr: { hostname?: string; port?: number };
  read(buffer: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
  setNoDelay?(isOn: boolean): void;
  closeWrite(): Promise<void>;
  close(): void;
}
interface DenoAccepting {
  readonly addr: { hostname?: string; port?: number };
  accept(): Promise<DenoConn>;
  close(): void;
}
type DenoAddress =
  | { hostname: string; port: number; reusePort: boolean; tcpBacklog: number }
  | { transport: "unix"; path: string };
declare const Deno: {
  listen(options: DenoAddress): DenoAccepting;
  readonly stderr: { write(bytes: Uint8Array): Promise<number> };
};

/**
 * Keeps Deno fair. It polls all reads in one task, which may do 128 of them; the rest is put off until
 * the kernel has been asked for news, and then those whose bytes have come meanwhile go first. So of
 * more than 128 busy connections the same ones would be served again and again. Therefore few reads are
 * begun in a turn of the event loop, so that this limit is not met, and the next ones wait in line.
 */
class ReadQueue {
  /** Connections that are open. */
  open = 0;
  /** Reads that may still begin in this turn. */
  #left = 0;
  #isTurning = false;
  readonly #waiting: (() => void)[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #hasTurned = false;

  /** The first read of a connection does not wait in line, nor hold it up: its client may be silent. */
  read(tcp: DenoConn, buffer: Uint8Array, isFirst: boolean): Promise<number | null> {
    if (this.open <= FEW_CONNECTIONS) return tcp.read(buffer);
    if (isFirst) return this.#read(tcp, buffer);
    if (this.#left > 0) {
      this.#left--;
      return this.#read(tcp, buffer);
    }
    this.#timer ??= setTimeout(this.#noTurn, 1);
    return new Promise((resolve, reject) =>
      this.#waiting.push(() => void this.#read(tcp, buffer).then(resolve, reject))
    );
  }
  #read(tcp: DenoConn, buffer: Uint8Array): Promise<number | null> {
    const read = tcp.read(buffer);
    read.then(this.#done, this.#done);
    return read;
  }
  /** All reads of a turn are done before the first of those who asked for them goes on, so what this
   * puts off by a microtask comes after all of them. */
  #done = (): void => {
    if (!this.#isTurning) queueMicrotask(this.#turn);
    this.#isTurning = true;
  };
  #turn = (): void => {
    this.#isTurning = false;
    this.#hasTurned = true;
    this.#begin(READS_A_TURN);
  };
  /** Those who are first in line begin; what is left of so many is for whoever comes. */
  #begin(count: number): void {
    for (this.#left = count; this.#left > 0 && this.#waiting.length > 0; this.#left--) {
      this.#waiting.shift()!();
    }
  }
  /** Whoever was asked has nothing to say: the next ones need not wait for that. */
  #noTurn = (): void => {
    if (!this.#hasTurned) this.#begin(READS_AT_REST);
    this.#hasTurned = false;
    this.#timer = this.#waiting.length > 0 ? setTimeout(this.#noTurn, 1) : undefined;
  };
}
const reads = new ReadQueue();

class DenoConnection implements Connection {
  readonly unix: string | undefined;
  readonly #tcp: DenoConn;
  #hasRead = false;
  #writes = 0;
  #closed = false;

  constructor(tcp: DenoConn, unix: string | undefined) {
    this.#tcp = tcp;
    this.unix = unix;
    reads.open++;
  }
  get remoteAddress(): string {
    return this.#tcp.remoteAddr.hostname ?? "";
  }
  get remotePort(): number {
    return this.#tcp.remoteAddr.port ?? 0;
  }
  read(buffer: Uint8Array): Promise<number | null> {
    const isFirst = !this.#hasRead;
    this.#hasRead = true;
    return reads.read(this.#tcp, buffer, isFirst);
  }
  write(bytes: Uint8Array): Promise<number> {
    if (++this.#writes === 2) this.#setNoDelay();
    return this.#tcp.write(bytes);
  }
  /** Else a small second write would wait for the first to be acknowledged. */
  #setNoDelay(): void {
    try {
      this.#tcp.setNoDelay?.(true);
    } catch { /* The peer has gone, which the write will tell. */ }
  }
  async closeWrite(): Promise<void> {
    try {
      await this.#tcp.closeWrite();
    } catch { /* The peer has gone. */ }
  }
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    reads.open--;
    this.#tcp.close();
  }
}

/**
 * TLS on a connection of Deno's, by `node:tls`. Deno has its own, but a `Deno.TlsConn` that is closed
 * stays open in the kernel until its client has shaken hands and has read what was sent to it, which
 * may be never.
 */
class TlsConnection implements Connection {
  readonly encrypted = true;
  readonly unix: string | undefined;
  readonly #tcp: Connection;
  /** The connection as the kind of stream that `node:tls` takes. */
  readonly #stream: Duplex;
  readonly #tls: TLSSocket;
  readonly #buffer = new Uint8Array(TLS_PIECE);
  /** What did not fit into the buffer of the last read. */
  #rest: Uint8Array | null = null;
  /** TLS wants bytes of the connection; some are being read; somebody waits for what they say. */
  #isHungry = false;
  #isReading = false;
  #isAwaited = false;
  #isSecure = false;
  #isWriting = false;
  #closed = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #failure: Error | undefined;
  /** Lets the read that waits look again. */
  #wake = () => {};

  constructor(tcp: Connection, secureContext: SecureContext) {
    const { Duplex } = process.getBuiltinModule("node:stream");
    const { TLSSocket } = process.getBuiltinModule("node:tls");
    this.#tcp = tcp;
    this.unix = tcp.unix;
    this.#stream = new Duplex({
      read: () => {
        this.#isHungry = true;
        void this.#feed();
      },
      write: (bytes, _, done) => void writeAll(tcp, bytes).then(() => done(), done),
      final: (done) => void Promise.resolve(tcp.closeWrite()).then(() => done(), done),
      destroy: (error, done) => {
        tcp.close();
        done(error);
      },
    });
    // TLS is told, too, but goes on to take what is written.
    this.#stream.on("error", (error) => this.#failure ??= error);
    this.#tls = new TLSSocket(this.#stream as Socket, {
      isServer: true,
      secureContext,
      ALPNProtocols: ["http/1.1"],
    });
    this.#tls.on("secure", () => this.#isSecure = true);
    this.#tls.on("readable", () => this.#wake());
    this.#tls.on("end", () => this.#wake());
    this.#tls.on("error", (error) => {
      const failure = this.#isSecure ? error : new TlsError(error.message);
      const saysMore = failure instanceof TlsError && !failure.isGone;
      if (this.#failure === undefined || saysMore) this.#failure = failure;
    });
    this.#tls.on("close", () => {
      this.#failure ??= new Error(CLOSED);
      this.#wake();
    });
  }
  get remoteAddress(): string {
    return this.#tcp.remoteAddress;
  }
  get remotePort(): number {
    return this.#tcp.remotePort;
  }
  /** Reads some bytes for TLS; but once hands have been shaken, only while content is waited for: a read
   * that is begun before its turn would come to the front of the {@linkcode ReadQueue}. */
  async #feed(): Promise<void> {
    if (!this.#isHungry || this.#isReading || this.#isSecure && !this.#isAwaited) return;
    this.#isHungry = false;
    this.#isReading = true;
    try {
      const count = await this.#tcp.read(this.#buffer);
      this.#isReading = false;
      this.#stream.push(count === null ? null : this.#buffer.slice(0, count));
      if (this.#tls.readableLength > 0) this.#isAwaited = false;
    } catch (error) {
      if (error instanceof ProxyError) this.#failure = error; // TLS would not pass it on.
      this.#stream.destroy(error as Error);
    }
  }
  read(buffer: Uint8Array): number | null | Promise<number | null> {
    if (this.#closed) return Promise.reject(new Error(CLOSED));
    const chunk: Uint8Array | null = this.#rest ?? this.#tls.read();
    if (chunk !== null) {
      const count = Math.min(chunk.length, buffer.length);
      buffer.set(chunk.subarray(0, count));
      this.#rest = count < chunk.length ? chunk.subarray(count) : null;
      return count;
    }
    if (this.#tls.readableEnded) return null;
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = () => {};
        resolve(this.read(buffer));
      };
      this.#isAwaited = true;
      void this.#feed();
    });
  }
  write(bytes: Uint8Array): Promise<number> {
    const piece = bytes.subarray(0, TLS_PIECE);
    this.#isWriting = true;
    return new Promise((resolve, reject) =>
      this.#tls.write(piece, (error) => {
        this.#isWriting = false;
        const failure = this.#failure ?? error;
        if (failure) reject(failure);
        else resolve(piece.length);
      })
    );
  }
  closeWrite(): void | Promise<void> {
    if (this.#closed || this.#failure !== undefined) return;
    return new Promise((resolve) => {
      this.#stream.once("close", () => resolve()); // if it fails meanwhile
      this.#tls.end(() => resolve());
    });
  }
  /** Says so to a client that listens (9112 §9.8), but does not wait for its answer. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#wake();
    const isHeard = this.#isSecure && !this.#isWriting && !this.#stream.writableEnded;
    if (!isHeard) return this.#giveUp();
    this.#timer = setTimeout(() => this.#giveUp(), TICK);
    this.#stream.on("finish", () => this.#giveUp());
    this.#tls.end();
  }
  #giveUp(): void {
    clearTimeout(this.#timer);
    this.#tls.destroy();
    this.#tcp.close();
  }
}

class DenoListener implements Listener {
  readonly #listener: DenoAccepting;
  readonly #unix: string | undefined;
  #secureContext: SecureContext | undefined;
  readonly #proxies: Proxies | undefined;
  #closed = false;

  constructor({ hostname, port, backlog, reusePort, unix, path, tls, proxies }: BindOptions) {
    this.#unix = unix;
    this.#proxies = proxies;
    this.#secureContext = tls && secureContextOf(tls);
    this.#listener = path === undefined
      ? Deno.listen({
        hostname,
        port: port ?? SETTINGS.port.value,
        reusePort: reusePort ?? false,
        tcpBacklog: backlog ?? SETTINGS.backlog.value,
      })
      : Deno.listen({ transport: "unix", path });
  }
  get addr(): { hostname: string; port: number } {
    const { hostname = "", port = 0 } = this.#listener.addr;
    return { hostname, port };
  }
  get encrypted(): boolean {
    return this.#secureContext !== undefined;
  }
  get readsProxyHeader(): boolean {
    return this.#proxies?.says.includes("PROXY") ?? false;
  }
  async accept(): Promise<Connection | null> {
    while (!this.#closed) {
      try {
        const socket = new DenoConnection(await this.#listener.accept(), this.#unix);
        const connection = unwrapped(socket, this.#proxies);
        if (this.#secureContext === undefined) return connection;
        return new TlsConnection(connection, this.#secureContext);
      } catch (error) {
        if (!this.#closed && isLack(error)) throw error;
        // The client has gone before it was accepted: that is nobody's trouble. But many such clients
        // must not keep everybody else waiting.
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    return null;
  }
  close(): void {
    if (!this.#closed) this.#listener.close();
    this.#closed = true;
  }
  renew(tls: { cert: string; key: string }): void {
    if (this.#secureContext === undefined) throw new TypeError(NOT_SECURE);
    this.#secureContext = secureContextOf(tls);
  }
}

/** Checks them first: Deno would find out that they are of no use when the first client comes, and Bun
 * tells it by an error number. */
function secureContextOf({ cert, key }: { cert: string; key: string }): SecureContext {
  const { createPrivateKey, X509Certificate } = process.getBuiltinModule("node:crypto");
  // What comes before a certificate is a comment; another kind of block, or half of one, a mistake.
  const chain = cert.split(/^-----BEGIN CERTIFICATE-----\r?$/m).slice(1)
    .map((block) => `-----BEGIN CERTIFICATE-----${block}`);
  const own = /-----BEGIN [A-Z ]*PRIVATE KEY-----[^]*?-----END [A-Z ]*-----/.exec(key)?.[0] ?? key;
  let isPair: boolean, kind: string;
  try {
    const [first = new X509Certificate(cert)] = chain.map((block) => new X509Certificate(block));
    const secret = createPrivateKey(own);
    isPair = first.checkPrivateKey(secret);
    kind = secret.asymmetricKeyDetails?.namedCurve ?? secret.asymmetricKeyType ?? "";
  } catch (error) {
    throw new TypeError(`not a certificate and a key in PEM: ${(error as Error).message}`);
  }
  const isWhole = chain.length === (cert.match(/-----BEGIN [A-Z0-9 ]*CERTIFICATE/g)?.length ?? 0);
  if (!isWhole) throw new TypeError("a certificate does not begin with a line of its own");
  if (!isPair) throw new TypeError("the key is not that of the certificate");
  if (!/^(rsa|ed25519|prime256v1|secp384r1|secp521r1)$/.test(kind)) {
    throw new TypeError(`a key of the kind ${kind} can't be used`); // not on both runtimes
  }
  return process.getBuiltinModule("node:tls").createSecureContext({ cert, key: own });
}

/** Whether there is too little of something for another connection, descriptors for example. */
function isLack(error: unknown): boolean {
  return /^(EMFILE|ENFILE|ENOBUFS|ENOMEM)$/.test((error as { code?: string }).code ?? "");
}

// What is used of Bun, so that one file type-checks without Bun's types.
interface BunSocket {
  data: BunConnection;
  readonly remoteAddress?: string;
  readonly remotePort?: number;
  write(bytes: Uint8Array): number;
  pause(): void;
  resume(): void;
  shutdown(): void;
  close(): void;
  terminate(): void;
  setKeyCert(context: unknown): void;
}
interface BunRuntime {
  listen(options: {
    hostname?: string;
    port?: number;
    reusePort?: boolean;
    unix?: string;
    allowHalfOpen: boolean;
    tls?: { cert: string; key: string; ALPNProtocols: string };
    socket: {
      open(socket: BunSocket): void;
      handshake(socket: BunSocket, success: boolean, error: Error | null): void;
      data(socket: BunSocket, chunk: Uint8Array): void;
      drain(socket: BunSocket): void;
      end(socket: BunSocket): void;
      close(socket: BunSocket, error?: Error): void;
      error(socket: BunSocket, error: Error): void;
    };
  }): { readonly hostname: string; readonly port: number; stop(): void };
}
declare const Bun: BunRuntime | undefined;

/** Bun calls back with bytes whenever they come. This turns the calls into reads: what nobody has
 * asked for yet is kept, and the socket is paused until it has been taken. */
class BunConnection implements Connection {
  readonly encrypted: boolean;
  readonly unix: string | undefined;
  readonly #socket: BunSocket;
  #arrived: Uint8Array[] = [];
  #paused = false;
  /** The peer has ended its side; so has this one. */
  #ended = false;
  #hasEnded = false;
  #closed = false;
  #isGone = false;
  // The read or write that waits, if one does. The two executors are made once, not once a read.
  #readBuffer: Uint8Array | undefined;
  #readDone!: (count: number | null) => void;
  #readFailed!: (error: Error) => void;
  #startRead = (resolve: (count: number | null) => void, reject: (error: Error) => void) => {
    this.#readDone = resolve;
    this.#readFailed = reject;
  };
  /** Why the connection was closed, if that is known. */
  #failure: Error | undefined;
  #writeBytes: Uint8Array | undefined;
  #writeDone!: (count: number) => void;
  #writeFailed!: (error: Error) => void;

  /** Asked at once, since a socket that is closed does not know its peer any more. */
  readonly remoteAddress: string;
  readonly remotePort: number;

  constructor(socket: BunSocket, encrypted: boolean, unix: string | undefined) {
    this.#socket = socket;
    this.encrypted = encrypted;
    this.unix = unix;
    this.remoteAddress = unix === undefined ? socket.remoteAddress ?? "" : "";
    this.remotePort = unix === undefined ? socket.remotePort ?? 0 : 0;
  }

  read(buffer: Uint8Array): number | null | Promise<number | null> {
    const chunk = this.#arrived.shift();
    if (chunk !== undefined) return this.#take(chunk, buffer);
    if (this.#ended) return null;
    if (this.#closed) return Promise.reject(this.#error());
    this.#readBuffer = buffer;
    if (this.#paused) this.resume();
    return new Promise(this.#startRead);
  }
  /** Copies what fits of `chunk`; the rest is for the next read. */
  #take(chunk: Uint8Array, buffer: Uint8Array): number {
    if (chunk.length <= buffer.length) {
      buffer.set(chunk);
      return chunk.length;
    }
    buffer.set(chunk.subarray(0, buffer.length));
    this.#arrived.unshift(chunk.subarray(buffer.length));
    return buffer.length;
  }
  write(bytes: Uint8Array): number | Promise<number> {
    const count = this.#closed ? -1 : this.#socket.write(bytes);
    if (count > 0 || bytes.length === 0) return count;
    if (count < 0) return Promise.reject(this.#error());
    return new Promise((resolve, reject) => {
      this.#writeBytes = bytes;
      this.#writeDone = resolve;
      this.#writeFailed = reject;
    });
  }
  closeWrite(): void {
    if (!this.#closed) this.#socket.shutdown();
    this.#hasEnded = true;
  }
  close(): void {
    if (this.#closed) return;
    const isUnsent = this.#writeBytes !== undefined;
    this.closed();
    // `end` would wait for a TLS client to close its side as well, for about 10 s. `close` waits too,
    // but only if what was written can't be sent, which a reset does not.
    if (isUnsent) return this.#socket.terminate();
    if (this.encrypted) this.#socket.shutdown(); // 9112 §9.8
    this.#socket.close();
    if (!this.#isGone) setTimeout(() => this.#socket.terminate(), TICK);
  }
  pause(): void {
    if (!this.#paused && !this.#closed) this.#socket.pause();
    this.#paused = true;
  }
  resume(): void {
    if (this.#paused && !this.#closed) this.#socket.resume();
    this.#paused = false;
  }

  // What Bun calls.
  handshake(success: boolean, error: Error | null): void {
    if (!success) this.#failure = new TlsError(error?.message);
  }
  data(chunk: Uint8Array): void {
    const buffer = this.#readBuffer;
    if (buffer === undefined) {
      this.#arrived.push(chunk);
      this.pause();
    } else {
      this.#readBuffer = undefined;
      this.#readDone(this.#take(chunk, buffer));
    }
  }
  drain(): void {
    const bytes = this.#writeBytes;
    if (bytes === undefined) return; // Bun also calls this when there was nothing to drain.
    const count = this.#socket.write(bytes);
    if (count === 0) return;
    this.#writeBytes = undefined;
    if (count > 0) this.#writeDone(count);
    else this.#writeFailed(this.#error());
  }
  end(): void {
    this.#ended = true;
    if (this.#readBuffer !== undefined) this.#readDone(null);
    this.#readBuffer = undefined;
  }
  /** The socket is no more: without an error, because both sides have ended. */
  gone(error: Error | undefined): void {
    this.#isGone = true;
    if (this.#hasEnded && error === undefined && !this.#closed) this.end();
    this.closed();
  }
  /** Closed by either side: whoever waits is told. */
  closed(): void {
    this.#closed = true;
    if (this.#readBuffer !== undefined) this.#readFailed(this.#error());
    if (this.#writeBytes !== undefined) this.#writeFailed(this.#error());
    this.#readBuffer = this.#writeBytes = undefined;
  }
  #error(): Error {
    return this.#failure ?? new Error(CLOSED);
  }
}

/** Bun can't stop accepting. Connections that nobody has asked for yet wait here, paused. */
class BunListener implements Listener {
  readonly #server: { readonly hostname: string; readonly port: number; stop(): void };
  readonly #backlog: number;
  readonly #refusal: Uint8Array | undefined;
  readonly #refused: ListenOptions["refused"];
  readonly encrypted: boolean;
  readonly #unix: string | undefined;
  /** What connections use instead of what Bun was told to listen with, which it does not change. */
  #renewed: SecureContext | undefined;
  readonly #proxies: Proxies | undefined;
  readonly #waiting: BunConnection[] = [];
  #refusing = 0;
  #accepting: ((connection: Connection | null) => void) | undefined;
  #closed = false;

  constructor(bun: BunRuntime, options: BindOptions) {
    const { hostname, port, backlog, reusePort, unix, path, tls, proxies, refusal } = options;
    if (tls !== undefined && proxies?.says.includes("PROXY")) {
      throw new TypeError(
        "on Bun, there is no PROXY with tls: TLS comes before all that can be read",
      );
    }
    if (tls !== undefined) secureContextOf(tls);
    this.#proxies = proxies;
    this.#backlog = backlog ?? SETTINGS.backlog.value;
    this.#refusal = refusal;
    this.#refused = options.refused;
    this.encrypted = tls !== undefined;
    this.#unix = unix;
    this.#server = bun.listen({
      ...(path === undefined
        ? { hostname, port: port ?? SETTINGS.port.value, reusePort: reusePort ?? false }
        : { unix: path }),
      allowHalfOpen: true,
      ...(tls && { tls: { ...tls, ALPNProtocols: "\x08http/1.1" } }), // as it is on the wire
      socket: {
        open: (socket) => this.#opened(socket),
        handshake: (socket, success, error) => socket.data.handshake(success, error),
        data: (socket, chunk) => socket.data.data(chunk),
        drain: (socket) => socket.data.drain(),
        end: (socket) => socket.data.end(),
        close: (socket, error) => socket.data.gone(error),
        error: (socket) => socket.data.closed(),
      },
    });
  }
  get addr(): { hostname: string; port: number } {
    return { hostname: this.#server.hostname, port: this.#server.port };
  }
  #opened(socket: BunSocket): void {
    const connection = socket.data = new BunConnection(socket, this.encrypted, this.#unix);
    // Hands have not been shaken yet.
    if (this.#renewed !== undefined) socket.setKeyCert(this.#renewed.context);
    if (connection.remoteAddress === "" && this.#unix === undefined) {
      connection.close(); // The client has gone before it was accepted.
    } else if (this.#accepting !== undefined) {
      this.#accepting(unwrapped(connection, this.#proxies));
      this.#accepting = undefined;
    } else if (this.#waiting.length < this.#backlog && !this.#closed) {
      connection.pause();
      this.#waiting.push(connection);
    } else {
      void this.#refuse(connection);
    }
  }
  /** As many may be told so at a time as may wait. */
  async #refuse(connection: Connection): Promise<void> {
    const isAnswered = this.#refusing < this.#backlog;
    this.#refused?.(connection, isAnswered);
    if (!isAnswered) return connection.close();
    this.#refusing++;
    const timer = setTimeout(() => connection.close(), LINGER_TIME);
    await sayGoodbye(connection, this.#refusal ?? new Uint8Array());
    clearTimeout(timer);
    this.#refusing--;
  }
  get waiting(): number {
    return this.#waiting.length;
  }
  get readsProxyHeader(): boolean {
    return this.#proxies?.says.includes("PROXY") ?? false;
  }
  accept(): Promise<Connection | null> {
    const connection = this.#waiting.shift();
    if (connection !== undefined) return Promise.resolve(unwrapped(connection, this.#proxies));
    if (this.#closed) return Promise.resolve(null);
    return new Promise((resolve) => this.#accepting = resolve);
  }
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#server.stop();
    this.#accepting?.(null);
  }
  renew(tls: { cert: string; key: string }): void {
    if (!this.encrypted) throw new TypeError(NOT_SECURE);
    const socket: object | undefined = process.getBuiltinModule?.("node:tls").TLSSocket.prototype;
    if (socket === undefined || !("setKeyCert" in socket)) {
      throw new Error("Bun can renew a certificate since version 1.4");
    }
    this.#renewed = secureContextOf(tls);
  }
}

/**
 * A listener at a Unix socket. It is bound in a folder that nobody else may enter, and gets its name when
 * its mode is right, by a link: that fails if the name is taken, so of two servers that start at once one
 * is told so. Both runtimes remove what is at the path that they have bound when they close, whoever has
 * made it; now that is nothing, and this removes the name if it is still this server's.
 */
class UnixListener implements Listener {
  readonly addr: { hostname: string; port: number; unix: string };
  readonly #fs: typeof import("node:fs") = process.getBuiltinModule("node:fs");
  /** The path, wherever this process goes. */
  readonly #path: string;
  readonly #listener: Listener;
  readonly #file: FileStatus;
  #closed = false;

  constructor(unix: string, mode: number | undefined, bind: (path: string) => Listener) {
    this.addr = { hostname: "", port: 0, unix };
    this.#path = unix.startsWith("/") ? unix : `${process.cwd()}/${unix}`;
    this.#makeRoom();
    const folder = this.#fs.mkdtempSync(`${unix}.`);
    const path = `${folder}/s`;
    try {
      this.#listener = bind(path);
      try {
        if (mode !== undefined) this.#fs.chmodSync(path, mode);
        this.#file = this.#fs.lstatSync(path);
        this.#fs.linkSync(path, unix);
      } catch (error) {
        this.#listener.close();
        throw error;
      }
    } finally {
      this.#fs.rmSync(folder, { recursive: true });
    }
  }
  /** Removes the socket of a server that has crashed, and nothing else. */
  #makeRoom(): void {
    const { unix } = this.addr;
    const found = this.#fs.lstatSync(unix, { throwIfNoEntry: false });
    if (found === undefined) return;
    if (!found.isSocket()) throw new Error("there is a file that is not a socket");
    const outcome = probe(unix);
    if (outcome === CONNECTED) throw new Error("another server listens there");
    if (outcome !== REFUSED) throw new Error("whether a server listens there can't be told");
    // Another server may have replaced it meanwhile, if not between the next two calls.
    if (this.#isStill(found)) this.#fs.unlinkSync(unix);
  }
  #isStill(file: FileStatus): boolean {
    const now = this.#fs.lstatSync(this.#path, { throwIfNoEntry: false });
    return now?.dev === file.dev && now.ino === file.ino && now.birthtimeMs === file.birthtimeMs;
  }
  get encrypted(): boolean {
    return this.#listener.encrypted ?? false;
  }
  get waiting(): number {
    return this.#listener.waiting ?? 0;
  }
  get readsProxyHeader(): boolean {
    return this.#listener.readsProxyHeader ?? false;
  }
  renew(tls: { cert: string; key: string }): void {
    this.#listener.renew!(tls);
  }
  accept(): Promise<Connection | null> {
    return this.#listener.accept();
  }
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      if (this.#isStill(this.#file)) this.#fs.unlinkSync(this.#path);
    } catch { /* It stays, as after a crash. */ }
    this.#listener.close();
  }
}
type FileStatus = { dev: number; ino: number; birthtimeMs: number };

const CONNECTED = 1, REFUSED = 2;
/** Connects to a Unix socket, and tells what came of it. */
const PROBE = `
const { path, told } = require("node:worker_threads").workerData;
const socket = require("node:net").connect({ path });
const tell = (outcome) => {
  Atomics.store(told, 0, outcome);
  Atomics.notify(told, 0);
  socket.destroy();
};
socket.on("connect", () => tell(${CONNECTED}));
socket.on("error", ({ code }) => tell(/^(ECONNREFUSED|ENOENT)$/.test(code) ? ${REFUSED} : -1));`;

/** What connecting to a Unix socket leads to. Neither runtime tells a thread that waits for it, so another
 * thread connects. */
function probe(path: string): number {
  const { Worker } = process.getBuiltinModule("node:worker_threads");
  const told = new Int32Array(new SharedArrayBuffer(4));
  new Worker(PROBE, { eval: true, workerData: { path, told } }).unref();
  Atomics.wait(told, 0, 0, PROBE_TIME);
  return told[0]!;
}

/** Sends a last answer and closes. What the peer goes on sending is read before, since closing on it
 * makes the kernel reset the connection, and the peer may lose the answer (9112 §9.6). It is for the
 * caller to close the connection when that takes too long. `reading` is a read that is under way. */
async function sayGoodbye(
  connection: Connection,
  answer: Uint8Array,
  reading?: Promise<unknown>,
): Promise<void> {
  try {
    await writeAll(connection, answer);
    await connection.closeWrite();
    await reading;
    await drain(connection);
  } catch { /* The peer did not wait for it. */ }
  connection.close();
}

/** Reads what the peer still sends, up to a bounded amount. */
async function drain(connection: Connection): Promise<void> {
  const waste = new Uint8Array(LINGER_PIECE);
  let count: number | null = 0;
  for (let total = 0; count !== null && total < LINGER_BYTES; total += count ?? 0) {
    count = await connection.read(waste);
  }
}

/**
 * Lets everybody else have a turn of the event loop. As long as somebody has something to do in each
 * turn, Deno asks the kernel for news in every 61st alone. So when that has gone on for a while, all
 * who give way wait for the same timer, and then it does.
 */
class Turns {
  #since = 0;
  #pause: Promise<void> | undefined;

  next(): Promise<void> {
    if (this.#pause !== undefined) return this.#pause;
    if (typeof Bun !== "undefined" || performance.now() - this.#since < MANY_TURNS) {
      return new Promise((resolve) => setImmediate(resolve));
    }
    return this.#pause = new Promise((resolve) =>
      setTimeout(() => {
        this.#pause = undefined;
        this.#since = performance.now();
        resolve();
      }, 1)
    );
  }
}
const turns = new Turns();

/** Whether a read has to wait for another turn of the event loop, if that can be told. On Deno, one that
 * has not is a promise as well, but is settled after some microtasks; with TLS it takes more. */
async function isWaiting(read: unknown, { encrypted }: Connection): Promise<boolean> {
  if (typeof Bun !== "undefined") return read instanceof Promise;
  if (!(read instanceof Promise) || encrypted) return false;
  return !await settlesAtOnce(read);
}
/** Whether a promise is settled after some microtasks, without another turn of the event loop. */
async function settlesAtOnce(promise: Promise<unknown>): Promise<boolean> {
  let isSettled = false;
  const settle = () => isSettled = true;
  promise.then(settle, settle);
  for (let i = 0; i < MICROTASKS_AT_ONCE && !isSettled; i++) await undefined;
  return isSettled;
}

/** What a request for Fetch is based on. On Bun, `new Request(it, init)` asks for the method of those alone
 * that Bun has made; on Deno, making one takes 2 µs. */
const RequestBase = typeof Bun === "undefined" ? class {} : Request;

type Held = string | Uint8Array | AsyncIterable<Uint8Array> | undefined;

/** The content of a response of the runtime's, if that is no stream and is there: to ask for its `body`
 * would make a stream of it, which costs as much as the rest of a request. */
function heldContent(response: Response): Held {
  heldBy ??= typeof Bun === "undefined" ? denoHolds() : bunHolds();
  return heldBy(response);
}
let heldBy: ((response: Response) => Held) | undefined;

interface DenoBody {
  streamOrStatic: { body?: string | Uint8Array; consumed?: boolean };
}
/** Deno has it behind a symbol. */
function denoHolds(): typeof heldContent {
  const symbols = Object.getOwnPropertySymbols(Response.prototype);
  const symbol = symbols.find(({ description }) => description === "body");
  const bodyOf = (response: Response) =>
    (response as unknown as Record<symbol, DenoBody | null>)[symbol!]?.streamOrStatic;
  const sample = symbol && bodyOf(new Response("sample"));
  if (sample?.body !== "sample" || sample.consumed !== false) return () => undefined;
  return (response) => {
    if (Object.getPrototypeOf(response) !== Response.prototype) return undefined;
    try {
      const held = Object.hasOwn(response, "body") ? undefined : bodyOf(response);
      if (held?.consumed !== false) return undefined;
      held.consumed = true;
      return held.body;
    } catch { // It is not of Deno's making.
      return undefined;
    }
  };
}
async function* whenThere(bytes: Promise<Uint8Array>): AsyncIterable<Uint8Array> {
  yield await bytes;
}
/** Bun estimates the size of a response, of which a stream is no part, but its status text and whatever
 * else somebody has added are. */
function bunHolds(): typeof heldContent {
  type Jsc = { estimateShallowMemoryUsageOf?(value: object): number };
  const { estimateShallowMemoryUsageOf: sizeOf } =
    (process.getBuiltinModule("bun:jsc") ?? {}) as Jsc;
  const { peek } = Bun as unknown as { peek<T>(promise: Promise<T>): T | Promise<T> };
  const empty = sizeOf?.(new Response(new ReadableStream())) ?? 0;
  const isSound = empty > 0 && sizeOf!(new Response("12345")) === empty + 5 &&
    sizeOf!(new Response(null, { headers: { a: "b" }, statusText: "123" })) === empty + 3;
  if (!isSound) return () => undefined;
  const isPlain = (response: Response) =>
    Object.getPrototypeOf(response) === Response.prototype &&
    Reflect.ownKeys(response).length === 0 && response.url === "";
  return (response) => {
    if (!isPlain(response) || sizeOf!(response) <= empty + response.statusText.length) return;
    if (response.bodyUsed) return;
    const bytes = peek(response.bytes());
    return bytes instanceof Uint8Array ? bytes : whenThere(bytes); // It was a stream after all.
  };
}

/** The field of a response whose content the runtime's `fetch` has decoded. */
const DECODED_FIELD = typeof Bun === "undefined"
  ? /^content-encoding: (gzip|br)\r\n/im
  : /^content-encoding: (gzip|br|deflate|zstd)\r\n/im;

/** Writes some bytes to the standard error, and tells how many. Unlike `process.stderr`, which stops
 * the whole process on Deno, and gathers without bound on Bun, it waits for a reader that is slow. */
async function writeError(bytes: Uint8Array): Promise<number> {
  if (typeof Bun === "undefined") return await Deno.stderr.write(bytes);
  const { write } = await import("node:fs"); // only now: on Deno it takes a fifth of the start
  return await new Promise((resolve, reject) =>
    write(2, bytes, (error, count) => error === null ? resolve(count) : reject(error))
  );
}

// ─────────────────────────────────────────────────────────────────────────────────────────────
// 3. Parsing
// ─────────────────────────────────────────────────────────────────────────────────────────────

const TEXT_TYPE = "text/plain; charset=utf-8";

/** An error that is an answer: thrown by a handler, it is sent with its status and its message as
 * text. The server throws it too, for what it refuses. */
export class HttpError extends Error {
  /** The status code of the answer, 400 to 599. */
  readonly status: number;

  /** `message` is one line for the person on the other side, so it must hold no secret; a `cause`
   * among the options is for the log alone. */
  constructor(status: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "HttpError";
    this.status = status;
  }
  /** The answer as a `Response`, with the message alone as its text: what Hono asks an error for, so that
   * it is not taken for a mistake of the application. */
  getResponse(): Response {
    const headers = { "Content-Type": TEXT_TYPE, "X-Content-Type-Options": "nosniff" };
    return new Response(this.message, { status: this.status, headers });
  }
}

/** The head of a request: its request line (9112 §3) and what its fields say about its framing. */
export interface Head {
  /** As sent: methods are case-sensitive (9110 §9.1). */
  readonly method: string;
  /** As sent (9112 §3.2). */
  readonly target: string;
  /** As sent (9112 §2.3). */
  readonly protocol: string;
  /** The target's path and query; of an absolute target, what follows its authority. */
  readonly resource: string;
  /** The host and port that the request is for (9110 §7.1); empty if an HTTP/1.0 client named none. */
  readonly authority: string;
  /** "1.0", or "1.1" for every minor version from 1 on (9110 §2.5). */
  readonly version: "1.0" | "1.1";
  /** Bytes of content that follow; 0 when `chunked`. */
  readonly contentLength: number;
  /** The content comes in chunks (9112 §7.1). */
  readonly chunked: boolean;
  /** The field lines as they came, each with its CRLF, one character a byte. */
  readonly fields: string;
  /** The client would use the connection again (9112 §9.3). */
  readonly keepAlive: boolean;
  /** The client may wait for 100 (Continue) before it sends the content (9110 §10.1.1). */
  readonly expectsContinue: boolean;
  /** There is a precondition or a range (9110 §13, §14). */
  readonly conditional: boolean;
}

/** The bounds of a request that its head alone can break, as in {@linkcode ServeOptions}. */
export interface HeadLimits {
  /** Bytes of the head. Default 16384. */
  maxHeaderSize?: number;
  /** Number of fields. Default 100. */
  maxHeaderCount?: number;
  /** Bytes of content that the head may announce. Default 1048576. */
  maxBodySize?: number;
}

const TAB = 9, LF = 10, CR = 13, SPACE = 32, SLASH = 47, COLON = 58, QUESTION_MARK = 63;

// What each byte may be part of.
const TOKEN = 1; // 9110 §5.6.2
const PATH = 2; // visible ASCII but for # < > " \, which no URI contains (RFC 3986, appendix A)
const QUERY = 4; // the same and \, which clients that follow the URL standard send as it is
const VALUE = 8; // 9110 §5.5: visible ASCII, space, tab, and obs-text
const CLASS = new Uint8Array(256);
/** Each byte; of an ASCII capital, the small letter. */
const LOWER_CASE = new Uint8Array(256);
for (let byte = 0; byte < 256; byte++) {
  const char = String.fromCharCode(byte);
  LOWER_CASE[byte] = /[A-Z]/.test(char) ? byte + 32 : byte;
  if (/[!#$%&'*+\-.^_`|~0-9A-Za-z]/.test(char)) CLASS[byte]! |= TOKEN;
  if (/[!-~]/.test(char) && !/[#<>"\\?]/.test(char)) CLASS[byte]! |= PATH;
  if (/[!-~]/.test(char) && !/[#<>"]/.test(char)) CLASS[byte]! |= QUERY;
  if (/[\t\x20-\x7e\x80-\xff]/.test(char)) CLASS[byte]! |= VALUE;
}

// What the parser expects next.
const EMPTY_LINE_LF = 0, EMPTY_LINE = 1, METHOD = 2, TARGET_PATH = 3, TARGET_QUERY = 4;
const TARGET_END = 5, VERSION = 6, REQUEST_LINE_LF = 7, FIELD = 8, FIELD_NAME = 9, FIELD_VALUE = 10;
const FIELD_LF = 11, HEAD_LF = 12;

/** The last Host that was found valid: mostly all clients send the same. */
let knownHost: string | undefined;

/** Texts that were found in bytes lately, and those bytes, in slots of equal size. Requests are much
 * alike, and to compare bytes costs less than to make a text of them. */
const KNOWN_TEXTS: string[] = new Array(MAX_KNOWN_TEXTS).fill("");
const KNOWN_BYTES = new Uint8Array(MAX_KNOWN_TEXTS * MAX_KNOWN_TEXT);

/** What the bytes from `from` to `to` say, one character a byte. */
function textOf(bytes: Buffer, from: number, to: number): string {
  const size = to - from;
  if (size === 0 || size > MAX_KNOWN_TEXT) return bytes.toString("latin1", from, to);
  const slot = (31 * bytes[from]! + 7 * bytes[to - 1]! + size) % MAX_KNOWN_TEXTS;
  const at = slot * MAX_KNOWN_TEXT;
  const known = KNOWN_TEXTS[slot]!;
  if (known.length === size) {
    let i = 0;
    while (i < size && bytes[from + i] === KNOWN_BYTES[at + i]) i++;
    if (i === size) return known;
  }
  KNOWN_BYTES.set(bytes.subarray(from, to), at);
  return KNOWN_TEXTS[slot] = bytes.toString("latin1", from, to);
}

/**
 * Parses request heads as their bytes arrive: a state machine that looks at every byte once, so
 * that a head that trickles in costs no more than one that comes whole, and gets the same answer.
 * It knows no socket and no clock.
 */
export class HeadParser {
  readonly #maxSize: number;
  readonly #maxCount: number;
  readonly #maxContent: number;
  #state = EMPTY_LINE;
  #emptyLines = 0;
  // Offsets from the first byte of the head.
  #position = 0;
  #methodAt = 0;
  #methodEnd = 0;
  #targetEnd = 0;
  #fieldsAt = 0;
  #nameAt = 0;
  #nameEnd = 0;
  // What the lines have said so far.
  #protocol = "";
  #count = 0;
  #host: string | undefined;
  #contentLength = -1;
  #coding: string | undefined;
  #connection = "";
  #expectation = "";
  #conditional = false;

  /** A parser for one head after another. */
  constructor(limits: HeadLimits = {}) {
    this.#maxSize = limits.maxHeaderSize ?? SETTINGS.maxHeaderSize.value;
    this.#maxCount = limits.maxHeaderCount ?? SETTINGS.maxHeaderCount.value;
    this.#maxContent = limits.maxBodySize ?? SETTINGS.maxBodySize.value;
  }

  /** How many bytes of the head were seen; once it was returned, its size. */
  get size(): number {
    return this.#position;
  }
  /** Whether a request has begun: empty lines before it do not count. */
  get begun(): boolean {
    return this.#state > EMPTY_LINE;
  }

  /** The request line, as far as it has been seen; for a head that is refused. */
  seenIn(bytes: Buffer, start: number): { method: string; target: string; protocol: string } {
    const text = (from: number, end: number) =>
      end === 0 ? "" : textOf(bytes, start + from, start + end);
    return {
      method: text(this.#methodAt, this.#methodEnd),
      target: text(this.#methodEnd + 1, this.#targetEnd),
      protocol: this.#protocol,
    };
  }

  /** Gets ready for the next head. */
  reset(): void {
    this.#state = EMPTY_LINE;
    this.#emptyLines = 0;
    this.#position = 0;
    this.#methodEnd = this.#targetEnd = 0;
    this.#protocol = "";
    this.#count = 0;
    this.#host = undefined;
    this.#contentLength = -1;
    this.#coding = undefined;
    this.#connection = this.#expectation = "";
    this.#conditional = false;
  }

  /**
   * Goes on with the head whose first byte is at `start`, up to `end`. Returns the head; or
   * undefined when it needs more: call it again then with the same bytes and what follows them.
   * @throws {HttpError} when the message must be refused.
   */
  parse(bytes: Buffer, start: number, end: number): Head | undefined {
    const limit = start + this.#maxSize;
    const stop = end < limit ? end : limit;
    let state = this.#state;
    let i = start + this.#position;
    // A state mostly goes on with the one below it, whose bytes are mostly there.
    while (i < stop) {
      if (state <= REQUEST_LINE_LF) {
        if (state === EMPTY_LINE_LF) {
          if (bytes[i++] !== LF) throw badLine("CR without LF");
          state = EMPTY_LINE;
          if (i === stop) break;
        }
        if (state === EMPTY_LINE) { // 9112 §2.2: at least one before the request SHOULD be ignored
          if (bytes[i] === CR) {
            if (++this.#emptyLines > MAX_EMPTY_LINES) {
              throw badLine("too many empty lines before it");
            }
            state = EMPTY_LINE_LF;
            i++;
            continue;
          }
          this.#methodAt = i - start;
          state = METHOD;
        }
        if (state === METHOD) { // 9112 §3.1
          while (i < stop && (CLASS[bytes[i]!]! & TOKEN) !== 0) i++;
          if (i === stop) break;
          if (bytes[i] !== SPACE || i === start + this.#methodAt) {
            throw badLine("the method is not a token followed by a space");
          }
          this.#methodEnd = i++ - start;
          state = TARGET_PATH;
        }
        if (state === TARGET_PATH) { // 9112 §3.2
          while (i < stop && (CLASS[bytes[i]!]! & PATH) !== 0) i++;
          if (i === stop) break;
          state = bytes[i] === QUESTION_MARK ? TARGET_QUERY : TARGET_END;
        }
        if (state === TARGET_QUERY) {
          while (i < stop && (CLASS[bytes[i]!]! & QUERY) !== 0) i++;
          if (i === stop) break;
          state = TARGET_END;
        }
        if (state === TARGET_END) {
          if (bytes[i] !== SPACE || i === start + this.#methodEnd + 1) {
            throw badLine("the target is not a URI followed by a space");
          }
          this.#targetEnd = i++ - start;
          state = VERSION;
        }
        if (state === VERSION) { // 9112 §2.3
          while (i < stop && bytes[i]! > SPACE) i++;
          if (i === stop) break;
          if (bytes[i] !== CR) throw badLine("the version is not followed by CRLF");
          this.#protocol = protocolOf(bytes, start + this.#targetEnd + 1, i++);
          state = REQUEST_LINE_LF;
          if (i === stop) break;
        }
        if (state === REQUEST_LINE_LF) {
          if (bytes[i++] !== LF) throw badLine("CR without LF");
          this.#fieldsAt = i - start;
          state = FIELD;
          if (i === stop) break;
        }
      }
      if (state === FIELD) { // 9112 §5
        if (bytes[i] === CR) {
          i++;
          state = HEAD_LF;
          continue;
        }
        if (bytes[i] === SPACE || bytes[i] === TAB) {
          // 9112 §2.2 and §5.2: read otherwise than by whoever stands in front, it smuggles.
          throw badField("a line begins with white space");
        }
        if (++this.#count > this.#maxCount) {
          throw new HttpError(431, `More than ${this.#maxCount} header fields`);
        }
        this.#nameAt = i - start;
        state = FIELD_NAME;
      }
      if (state === FIELD_NAME) { // 9112 §5.1: no space before the colon
        while (i < stop && (CLASS[bytes[i]!]! & TOKEN) !== 0) i++;
        if (i === stop) break;
        if (bytes[i] !== COLON || i === start + this.#nameAt) {
          throw badField("a field name is not a token followed by a colon");
        }
        this.#nameEnd = i++ - start;
        state = FIELD_VALUE;
      }
      if (state === FIELD_VALUE) {
        while (i < stop && (CLASS[bytes[i]!]! & VALUE) !== 0) i++;
        if (i === stop) break;
        if (bytes[i] !== CR) throw badField("a field value holds a control character");
        this.#field(bytes, start, i++);
        state = FIELD_LF;
        if (i === stop) break;
      }
      if (state === FIELD_LF) {
        if (bytes[i++] !== LF) throw badField("CR without LF");
        state = FIELD;
        continue;
      }
      if (state === HEAD_LF) {
        if (bytes[i++] !== LF) throw badField("CR without LF");
        this.#position = i - start;
        return this.#head(bytes, start);
      }
    }
    this.#state = state;
    this.#position = i - start;
    if (i < limit) return undefined;
    if (state === METHOD) throw new HttpError(501, "No method is that long"); // 9112 §3
    throw state <= REQUEST_LINE_LF // A line that long holds a long target, mostly.
      ? new HttpError(414, `Request line of more than ${this.#maxSize} bytes`)
      : new HttpError(431, `Header of more than ${this.#maxSize} bytes`);
  }

  /** Takes note of a field that matters here; its line ends at `end`. */
  #field(bytes: Buffer, start: number, end: number): void {
    switch (knownName(bytes, start + this.#nameAt, start + this.#nameEnd)) {
      case undefined:
        return;
      case "host":
        if (this.#host !== undefined) throw badField("more than one Host"); // 9112 §3.2
        this.#host = this.#value(bytes, start, end);
        return;
      case "content-length": // 9110 §8.6
        if (this.#contentLength >= 0) throw badField("more than one Content-Length");
        this.#contentLength = lengthOf(this.#value(bytes, start, end));
        return;
      case "transfer-encoding": // 9112 §6.1
        if (this.#coding !== undefined) throw badField("more than one Transfer-Encoding");
        this.#coding = this.#value(bytes, start, end).toLowerCase();
        return;
      case "content_length":
      case "transfer_encoding":
        throw badField(UNDERSCORED);
      case "connection":
        this.#connection = joined(this.#connection, this.#value(bytes, start, end));
        return;
      case "expect":
        this.#expectation = joined(this.#expectation, this.#value(bytes, start, end));
        return;
      default:
        this.#conditional = true;
    }
  }
  /** The field's value without the white space around it (9112 §5.1). */
  #value(bytes: Buffer, start: number, end: number): string {
    let at = start + this.#nameEnd + 1;
    while (at < end && (bytes[at] === SPACE || bytes[at] === TAB)) at++;
    while (at < end && (bytes[end - 1] === SPACE || bytes[end - 1] === TAB)) end--;
    return textOf(bytes, at, end);
  }

  /** Checks what only the whole head can tell. */
  #head(bytes: Buffer, start: number): Head {
    const method = textOf(bytes, start + this.#methodAt, start + this.#methodEnd);
    const target = textOf(bytes, start + this.#methodEnd + 1, start + this.#targetEnd);
    const protocol = this.#protocol;
    const version = protocol === "HTTP/1.0" ? "1.0" : "1.1";
    let authority = this.#host ?? "";
    if (this.#host === undefined) {
      if (version === "1.1") throw badField("no Host"); // 9112 §3.2
    } else if (authority !== knownHost) {
      if (!isAuthority(authority)) throw badField("the Host is not a host and port");
      knownHost = authority;
    }
    let resource = target;
    if (target.charCodeAt(0) !== SLASH || method === "CONNECT") {
      [authority, resource] = readTarget(method, target, authority);
    }

    const coding = this.#coding;
    if (coding !== undefined) this.#checkCoding(coding, version);
    if (this.#contentLength > this.#maxContent) {
      throw new HttpError(413, `Content of more than ${this.#maxContent} bytes`);
    }
    const hasContent = coding !== undefined || this.#contentLength > 0;
    const expects = version === "1.1" && this.#expects(); // 9110 §10.1.1: MUST ignore in 1.0
    return {
      method,
      target,
      protocol,
      resource,
      authority,
      version,
      fields: textOf(bytes, start + this.#fieldsAt, start + this.#position - 2),
      contentLength: this.#contentLength < 0 ? 0 : this.#contentLength,
      chunked: coding !== undefined,
      keepAlive: this.#keepsAlive(version),
      expectsContinue: expects && hasContent,
      conditional: this.#conditional,
    };
  }

  /** 9112 §6.1 and §6.3: whatever leaves the end of a message in doubt is refused. */
  #checkCoding(coding: string, version: string): void {
    if (version === "1.0") throw badField("Transfer-Encoding in HTTP/1.0");
    if (this.#contentLength >= 0) throw badField("both Transfer-Encoding and Content-Length");
    if (coding === "chunked") return;
    const codings = coding.split(",").map(trim);
    if (codings.pop() !== "chunked") throw badField("the last transfer coding is not chunked");
    if (codings.includes("chunked")) throw badField("chunked twice");
    if (codings.includes("")) throw badField("an empty transfer coding");
    throw new HttpError(501, "The only transfer coding that is understood is chunked");
  }
  /** 9110 §10.1.1, a list whose empty members are to be ignored (9110 §5.6.1.2). */
  #expects(): boolean {
    if (this.#expectation === "") return false;
    const members = this.#expectation.split(",").map(trim).filter((member) => member !== "");
    if (members.length === 0 || members.join() === "100-continue") return members.length > 0;
    throw new HttpError(417, "The only expectation that can be met is 100-continue");
  }
  #keepsAlive(version: string): boolean {
    if (this.#connection === "") return version === "1.1";
    if (this.#connection === "close") return false;
    if (this.#connection === "keep-alive") return true;
    const options = this.#connection.split(",").map(trim);
    return !options.includes("close") && (version === "1.1" || options.includes("keep-alive"));
  }
}

function badLine(why: string): HttpError {
  return new HttpError(400, `Malformed request line: ${why}`);
}
function badField(why: string): HttpError {
  return new HttpError(400, `Malformed header: ${why}`);
}

/** Behind a gateway that turns "_" into "-", as CGI does, such a field would frame the message. */
const UNDERSCORED = "a framing field is spelled with an underscore";

/** The names, in lower case, of the fields that matter to a server, by their length. */
const KNOWN_NAMES: string[][] = Array.from({ length: 20 }, () => []);
for (
  const name of ["host", "connection", "expect"].concat(
    ["content-length", "transfer-encoding", "content_length", "transfer_encoding"],
    ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"],
    ["range", "if-range"],
  )
) KNOWN_NAMES[name.length]!.push(name);

/** Which of these names, in any case, the bytes from `from` to `to` are, if they are one. */
function knownName(bytes: Buffer, from: number, to: number): string | undefined {
  const names = KNOWN_NAMES[to - from];
  if (names === undefined) return undefined;
  for (const name of names) {
    let i = 0;
    while (i < name.length && LOWER_CASE[bytes[from + i]!] === name.charCodeAt(i)) i++;
    if (i === name.length) return name;
  }
  return undefined;
}

/** A list with the value of one more line (9110 §5.3), in lower case. */
function joined(list: string, value: string): string {
  return list === "" ? value.toLowerCase() : `${list},${value.toLowerCase()}`;
}

/** Takes spaces and tabs off both ends (9110 §5.6.3), and nothing else. */
function trim(text: string): string {
  let at = 0, end = text.length;
  while (at < end && (text.charCodeAt(at) === SPACE || text.charCodeAt(at) === TAB)) at++;
  while (end > at && (text.charCodeAt(end - 1) === SPACE || text.charCodeAt(end - 1) === TAB)) {
    end--;
  }
  return text.substring(at, end);
}

/** 9112 §2.3: the exact form, in upper case. */
function protocolOf(bytes: Buffer, at: number, end: number): string {
  const protocol = textOf(bytes, at, end);
  if (protocol === "HTTP/1.1") return protocol;
  if (!/^HTTP\/\d\.\d$/.test(protocol)) throw badLine("the version is not HTTP/ and two digits");
  if (protocol[5] === "1") return protocol;
  throw new HttpError(505, "Only HTTP/1.0 and HTTP/1.1 are spoken here");
}

/** 9110 §8.6: digits and nothing else, and no more than can be counted. */
function lengthOf(value: string): number {
  const length = /^[0-9]+$/.test(value) ? Number(value) : NaN;
  if (Number.isSafeInteger(length)) return length;
  throw badField("the Content-Length is not a number that can be counted to");
}

/** 9110 §7.2 and RFC 3986 §3.2: a host and perhaps a port. A comma, though RFC 3986 allows it in a
 * name, would make the field a list for some readers. */
function isAuthority(text: string): boolean {
  const parts =
    /^(\[[0-9A-Fa-f:.]+\]|(?:[\-._~0-9A-Za-z!$&'()*+;=]|%[0-9A-Fa-f]{2})+)(?::([0-9]{0,5}))?$/
      .exec(text);
  if (parts === null || Number(parts[2] ?? 0) > 65535) return false;
  if (parts[1]![0] !== "[") return true;
  return process.getBuiltinModule("node:net").isIPv6(parts[1]!.slice(1, -1)); // rarely needed
}

/** The target forms that do not begin with a slash (9112 §3.2.2 to §3.2.4), as authority and
 * resource. An absolute target's authority takes the place of Host's. */
function readTarget(method: string, target: string, host: string): [string, string] {
  if (method === "CONNECT") throw new HttpError(501, "CONNECT is not supported");
  if (target === "*" && method === "OPTIONS") return [host, target];
  const parts = /^https?:\/\/([^/?]*)(.*)$/i.exec(target);
  if (parts === null || !isAuthority(parts[1]!)) {
    throw badLine("the target is neither a path nor an http URI");
  }
  const authority = parts[1]!, resource = parts[2]!;
  if (resource[0] === "/") return [authority, resource];
  if (resource === "" && method === "OPTIONS") return [authority, "*"]; // 9112 §3.2.4
  return [authority, `/${resource}`];
}

// ─────────────────────────────────────────────────────────────────────────────────────────────
// 4. Bodies
// ─────────────────────────────────────────────────────────────────────────────────────────────

/** A request, shaped like Fetch's `Request` and lighter: nothing is built that is not asked for. */
export interface HttpRequest {
  /** The method as sent: case matters to the protocol (9110 §9.1). */
  readonly method: string;
  /** The request target as sent (9112 §3.2): mostly a path and query. */
  readonly target: string;
  /** The target's path as sent, still percent-encoded, without the query. */
  readonly path: string;
  /** The target's query, decoded; built on first use. */
  readonly query: URLSearchParams;
  /** The absolute URI (9110 §7.1), which `new URL` takes. */
  readonly url: string;
  /** "1.1" for every minor version from 1 on. */
  readonly version: "1.0" | "1.1";
  /** The header fields. */
  readonly headers: HttpHeaders;
  /** The client's IP address: that at the other end of the connection, or what a proxy there has told
   * of it, if {@linkcode ServeOptions.proxy} says that it is believed; "" at a Unix socket. */
  readonly remoteAddress: string;
  /** The client's port; 0 if a proxy has told the address alone. */
  readonly remotePort: number;
  /** Aborts when the client goes away: a reset, a timeout, or the end of its sending side, since one
   * that has only finished sending looks the same as one that left. An answer is sent all the same; but
   * a stream that ends after it is broken off, since it may have ended because of it. */
  readonly signal: AbortSignal;
  /** Aborts when the server begins to stop, if the request has not been answered by then: a handler whose
   * answer has no end should end it then, or is cut off after the time of grace. */
  readonly stopping: AbortSignal;
  /** The content as a stream that reads no faster than it is read from; null if there is none. */
  readonly body: ReadableStream<Uint8Array<ArrayBuffer>> | null;
  /** The whole content. Like the stream and the two below it can be had once, else it throws a
   * `TypeError`; it rejects with an {@linkcode HttpError} (400, 408, 413) when the content is cut
   * short, malformed, late, or larger than `maxBodySize`, which answers so if left uncaught. */
  bytes(): Promise<Uint8Array<ArrayBuffer>>;
  /** The content as UTF-8; what is not becomes U+FFFD, and a byte-order mark goes, as in Fetch. */
  text(): Promise<string>;
  /** The content as JSON. Rejects with an {@linkcode HttpError} 400 when it is not JSON in UTF-8. */
  json(): Promise<unknown>;
  /** The same request for what was written for Fetch, and for forms: `request.toFetch().formData()`. It
   * has the same content: one of the two can read it; but GET and HEAD have none there. JSON or a form
   * that can't be read rejects as {@linkcode json} does. Throws an {@linkcode HttpError} 501 for a
   * method, and 400 for a host, that the runtime's Fetch refuses. */
  toFetch(): Request;
}

/** The header fields of a request. Names are given in any case. */
export class HttpHeaders {
  readonly #fields: string;

  /** `fields` are field lines, each with its CRLF. */
  constructor(fields: string) {
    this.#fields = fields;
  }
  /** The value, or null; several lines make one list (9110 §5.3; of cookies, RFC 9113 §8.2.3). */
  get(name: string): string | null {
    let list: string | null = null;
    for (let at = this.#find(name, 0); at > 0; at = this.#find(name, this.#lineAfter(at))) {
      const value = this.#valueAt(at);
      list = list === null ? value : list + (/^cookie$/i.test(name) ? "; " : ", ") + value;
    }
    return list;
  }
  /** Whether there is such a field. */
  has(name: string): boolean {
    return this.#find(name, 0) > 0;
  }
  /** The values of all lines with this name, in order. */
  getAll(name: string): string[] {
    const values: string[] = [];
    for (let at = this.#find(name, 0); at > 0; at = this.#find(name, this.#lineAfter(at))) {
      values.push(this.#valueAt(at));
    }
    return values;
  }
  /** Where the value begins of the next field with this name, from the line at `at` on; or 0. */
  #find(name: string, at: number): number {
    const fields = this.#fields;
    for (; at < fields.length; at = this.#lineAfter(at)) {
      const colon = at + name.length;
      if (fields.charCodeAt(colon) === COLON && isSameName(fields, at, name)) return colon + 1;
    }
    return 0;
  }
  #lineAfter(at: number): number {
    const lf = this.#fields.indexOf("\n", at);
    return lf < 0 ? this.#fields.length : lf + 1;
  }
  #valueAt(at: number): string {
    return trim(this.#fields.substring(at, this.#fields.indexOf("\r", at)));
  }
  /** All lines as name, in lower case, and value. */
  *[Symbol.iterator](): Iterator<[string, string]> {
    const fields = this.#fields;
    for (let at = 0; at < fields.length; at = this.#lineAfter(at)) {
      const colon = fields.indexOf(":", at);
      yield [fields.substring(at, colon).toLowerCase(), this.#valueAt(colon + 1)];
    }
  }
}

/** Whether `name`, in any case, stands at `at`. */
function isSameName(fields: string, at: number, name: string): boolean {
  for (let i = 0; i < name.length; i++) {
    const one = fields.charCodeAt(at + i), other = name.charCodeAt(i);
    if (one === other && one !== COLON) continue; // The first colon ends a name.
    const letter = one | 32; // The bit tells the cases of a letter apart.
    if (letter !== (other | 32) || letter < 97 || letter > 122) return false;
  }
  return true;
}

/** Buffers of the sizes that are in constant use. */
const SPARE = new Map<number, Buffer[]>(
  [INPUT_SIZE, INPUT_KEPT, SMALL_OUTPUT_SIZE, MEDIUM_OUTPUT_SIZE, GATHERED, OUTPUT_SIZE, TEXT_SIZE]
    .map((size) => [size, []]),
);
function takeBuffer(size: number): Buffer {
  // Deno cuts several small ones from one block, which saves a tenth of an idle connection.
  return SPARE.get(size)?.pop() ?? Buffer.allocUnsafe(size);
}
/** Keeps a buffer that nobody uses any more. */
function giveBuffer(buffer: Buffer | undefined): void {
  const spare = buffer && SPARE.get(buffer.length);
  if (spare !== undefined && spare.length * buffer!.length < MAX_SPARE) spare.push(buffer!);
}
const NO_BUFFER = Buffer.allocUnsafeSlow(0);
/** Memory that is about to be filled: to have it zeroed before costs a tenth of an upload. */
function unfilled(size: number): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset } = Buffer.allocUnsafeSlow(size);
  return new Uint8Array(buffer, byteOffset, size);
}

/** What has been read from a connection and not yet been used. Everything is read through here. */
class Input {
  bytes: Buffer = takeBuffer(INPUT_SIZE);
  start = 0;
  end = 0;
  readonly #connection: Connection;
  readonly #largest: number;
  /** A read that was begun to notice whether the client goes away. */
  #ahead: Promise<number | null> | undefined;

  /** The buffer grows to `largest` bytes for a head that needs it. */
  constructor(connection: Connection, largest: number) {
    this.#connection = connection;
    this.#largest = Math.max(largest, INPUT_SIZE);
  }
  get empty(): boolean {
    return this.start === this.end;
  }

  /** Reads more behind what is there. The result goes to `took`. */
  read(): number | null | Promise<number | null> {
    const ahead = this.#ahead;
    this.#ahead = undefined;
    return ahead ?? this.#connection.read(this.#space());
  }
  /** Takes note of what `read` has brought; false at the end of the stream. */
  took(count: number | null): count is number {
    this.end += count ?? 0;
    return count !== null;
  }
  /** Reads past the buffer, which must be empty, straight to where the bytes are wanted. */
  readInto(target: Uint8Array): number | null | Promise<number | null> {
    return this.#connection.read(target);
  }
  /** Takes bytes that are there already, as many as fit. */
  take(target: Uint8Array): number {
    const count = Math.min(target.length, this.end - this.start);
    target.set(this.bytes.subarray(this.start, this.start + count));
    this.start += count;
    return count;
  }
  /** Reads on, as far as there is room, only to notice that the client has left: then `gone` is
   * called. What is read is for whoever reads next. False if there is no room. */
  watch(gone: (error?: unknown) => void): boolean {
    if (this.#ahead !== undefined) return true;
    if (this.end - this.start === this.#largest) return false;
    const ahead = this.#ahead = Promise.resolve(this.#connection.read(this.#space()));
    ahead.then((count) => {
      if (count === null) return gone();
      if (this.#ahead !== ahead) return; // Somebody has taken it over.
      this.end += count;
      this.#ahead = undefined;
      this.watch(gone);
    }, gone);
    return true;
  }
  /** The read that nobody waits for yet. */
  get ahead(): Promise<number | null> | undefined {
    return this.#ahead;
  }
  /** Nothing more will be read. */
  release(): void {
    if (this.#ahead === undefined) giveBuffer(this.bytes);
    this.bytes = NO_BUFFER;
    this.start = this.end = 0;
  }

  #space(): Buffer {
    if (this.empty) {
      const { length } = this.bytes;
      if (length > INPUT_KEPT) this.bytes = takeBuffer(INPUT_SIZE);
      if (length < INPUT_KEPT && this.end === length) { // The next request may be as large.
        giveBuffer(this.bytes);
        this.bytes = takeBuffer(INPUT_KEPT);
      }
      this.start = this.end = 0;
      return this.bytes;
    }
    if (this.start > 0) {
      this.bytes.copyWithin(0, this.start, this.end);
      this.end -= this.start;
      this.start = 0;
    }
    if (this.end === this.bytes.length) {
      const larger = Buffer.allocUnsafeSlow(Math.min(this.end * 4, this.#largest));
      larger.set(this.bytes);
      giveBuffer(this.bytes);
      this.bytes = larger;
    }
    return this.bytes.subarray(this.end);
  }
}

const TOKENS = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]+";
const FIELD_NAME_FORM = new RegExp(`^${TOKENS}$`);
const FIELD_VALUE_FORM = /^[\t\x20-\x7e\x80-\xff]*$/; // 9110 §5.5
/** 9112 §7.1.1, with the white space that a recipient MUST put up with. */
const CHUNK_LINE = new RegExp(
  `^([0-9A-Fa-f]{1,16})((?:[ \\t]*;[ \\t]*${TOKENS}(?:[ \\t]*=[ \\t]*(?:${TOKENS}|` +
    `"(?:[\\t \\x21\\x23-\\x5b\\x5d-\\x7e\\x80-\\xff]|\\\\[\\t \\x21-\\x7e\\x80-\\xff])*"))?)*)$`,
);
/** 9112 §7.1.2 */
const TRAILER_LINE = new RegExp(`^${TOKENS}:[\\t\\x20-\\x7e\\x80-\\xff]*$`);

/** The lines between the data of chunked content (9112 §7.1), as their bytes arrive. */
class ChunkFraming {
  /** How many bytes of data follow; 0 while that is not known. */
  size = 0;
  /** The last chunk and the trailer fields have been read. */
  done = false;
  readonly #limits: Settings;
  #expects: "size" | "end of data" | "trailer" = "size";
  #line = "";
  #extensions = 0;
  #trailer = 0;
  #trailerCount = 0;

  constructor(limits: Settings) {
    this.#limits = limits;
  }
  /** Reads up to the next data, and tells where that begins. @throws {HttpError} */
  read(bytes: Buffer, start: number, end: number): number {
    this.size = 0;
    while (start < end && this.size === 0 && !this.done) {
      const lf = bytes.indexOf(LF, start);
      const stop = lf < 0 || lf >= end ? end : lf + 1;
      this.#line += bytes.toString("latin1", start, stop);
      start = stop;
      this.#checkBounds();
      if (!this.#line.endsWith("\n")) break;
      if (!this.#line.endsWith("\r\n")) throw badChunk("LF without CR");
      const line = this.#line.slice(0, -2);
      this.#line = "";
      this.#readLine(line);
    }
    return start;
  }
  #checkBounds(): void {
    const { maxHeaderSize } = this.#limits;
    if (this.#expects === "end of data" && !"\r\n".startsWith(this.#line)) {
      throw badChunk("the data is longer than its size");
    }
    if (this.#expects === "size" && this.#line.length > MAX_CHUNK_LINE) throw tooExtended();
    if (this.#expects === "trailer" && this.#trailer + this.#line.length > maxHeaderSize) {
      throw new HttpError(431, `Trailer of more than ${maxHeaderSize} bytes`);
    }
  }
  #readLine(line: string): void {
    if (this.#expects === "end of data") {
      this.#expects = "size";
    } else if (this.#expects === "size") {
      const match = CHUNK_LINE.exec(line);
      if (match === null) throw badChunk("its first line is not a size in hexadecimal");
      this.#extensions += match[2]!.length;
      if (this.#extensions > MAX_EXTENSIONS) throw tooExtended();
      this.size = parseInt(match[1]!, 16);
      this.#expects = this.size === 0 ? "trailer" : "end of data";
    } else if (line === "") {
      this.done = true;
    } else { // Checked, and dropped: what they would mean is the head's to say (9110 §6.5.1).
      if (!TRAILER_LINE.test(line)) throw badField("a trailer line is not a field");
      if (/^(content_length|transfer_encoding):/i.test(line)) throw badField(UNDERSCORED);
      if (++this.#trailerCount > this.#limits.maxHeaderCount) {
        throw new HttpError(431, `More than ${this.#limits.maxHeaderCount} trailer fields`);
      }
      this.#trailer += line.length + 2;
    }
  }
}

function tooExtended(): HttpError {
  return new HttpError(413, `Chunk extensions of more than ${MAX_EXTENSIONS} bytes`);
}
function badChunk(why: string): HttpError {
  return new HttpError(400, `Malformed chunk: ${why}`);
}

/** An {@linkcode Exchange} that is not over yet. */
type Answered = { -readonly [name in keyof Exchange]: Exchange[name] };

/** What content needs of the connection: somebody who looks at the clock. */
interface Patience {
  /** Something is done without waiting. When that is much, others get their turn before. */
  step(size?: number): Promise<void> | undefined;
  /** Reading has to wait for the client from now on. */
  waiting(): void;
  /** It has not any more. Throws if the client took too long. */
  resumed(): void;
  /** Sends 100 (Continue). */
  sendContinue(): Promise<void>;
}

/** The content of one request, read from the connection as it is asked for. */
class Body {
  /** All of it has been read from the connection. */
  complete: boolean;
  /** Why it can't be read any further. */
  failure: unknown;
  /** That is because the connection broke. */
  isLost = false;
  readonly #input: Input;
  readonly #patience: Patience;
  #maxSize: number;
  readonly #chunks: ChunkFraming | undefined;
  /** Bytes to come of the content, or of the current chunk; of all that was announced. */
  #left: number;
  #total: number;
  /** The client may hold the content back until it gets 100 (Continue), which it does once the content
   * is asked for and has not come, but not any more once the answer has begun (9110 §10.1.1). */
  #expected: boolean;
  #pulling: Promise<number> | undefined;

  constructor(head: Head, input: Input, patience: Patience, limits: Settings) {
    this.#input = input;
    this.#patience = patience;
    this.#maxSize = limits.maxBodySize;
    this.#left = this.#total = head.contentLength;
    this.#chunks = head.chunked ? new ChunkFraming(limits) : undefined;
    this.complete = this.#left === 0 && !head.chunked;
    this.#expected = head.expectsContinue;
  }
  /** Bytes that have been read. */
  get received(): number {
    return this.#total - this.#left;
  }
  /** Sets another limit, before any of it has been read. @throws {HttpError} */
  limitTo(maxSize: number): void {
    this.#maxSize = maxSize;
    this.#checkSize();
  }
  #checkSize(): void {
    if (this.#total <= this.#maxSize) return;
    throw this.failure = new HttpError(413, `Content of more than ${this.#maxSize} bytes`);
  }
  /** What is left unread is not too much to be skipped for the sake of the next request. */
  get isWorthSkipping(): boolean {
    return this.failure === undefined && this.#pulling === undefined && !this.#isWithheld &&
      this.#left <= MAX_SKIPPED;
  }
  /** A read that is under way, perhaps without anybody who still wants it. */
  get pending(): Promise<unknown> | undefined {
    return this.#pulling;
  }
  /** The client may be waiting for 100 (Continue) and not send the content without it. */
  get #isWithheld(): boolean {
    return this.#expected && this.#input.empty;
  }

  /** Asks a client for the content that waits to be asked. */
  async invite(): Promise<void> {
    try {
      if (this.#isWithheld) await this.#patience.sendContinue();
    } catch (error) {
      this.isLost = true;
      throw error;
    }
    this.#expected = false;
  }
  /** The answer begins: it is too late for 100 (Continue). */
  answered(): void {
    this.#expected = false;
  }
  /** The whole content, if it is there already; only good until the next read. */
  whole(): Uint8Array | undefined {
    const { start, end, bytes } = this.#input;
    if (this.#chunks !== undefined || this.failure || end - start < this.#left) return undefined;
    this.#input.start += this.#left;
    this.#left = 0;
    this.complete = true;
    return bytes.subarray(start, this.#input.start);
  }
  /** The whole content in memory of its own, which grows as the bytes come, not as promised. */
  async collect(): Promise<Uint8Array<ArrayBuffer>> {
    const most = this.#chunks === undefined ? this.#left : this.#maxSize + 1;
    let bytes = unfilled(Math.min(most, BODY_PIECE));
    let length = 0;
    for (let count = -1; count !== 0; length += count) {
      if (length === bytes.length && !this.complete) {
        const larger = unfilled(Math.min(length * BODY_GROWTH, most));
        larger.set(bytes);
        bytes = larger;
      }
      count = await this.pull(bytes.subarray(length));
    }
    return length === bytes.length ? bytes : bytes.slice(0, length);
  }
  /** Reads what a handler left unread, if it is not too much. */
  async skip(): Promise<boolean> {
    const waste = new Uint8Array(Math.min(BODY_PIECE, MAX_SKIPPED));
    for (let total = 0; !this.complete && total <= MAX_SKIPPED;) total += await this.pull(waste);
    return this.complete;
  }
  /** The request has been answered: a handler that asks only now must not take nothing for all. */
  abandon(): void {
    this.failure ??= new TypeError("The request was answered before its content was read");
  }

  /** Reads some content into `target`; 0 at the end. One read at a time. @throws {HttpError} */
  async pull(target: Uint8Array): Promise<number> {
    if (this.failure !== undefined) throw this.failure;
    if (this.#pulling !== undefined) throw new TypeError("The content is being read already");
    try {
      return this.complete ? 0 : await (this.#pulling = this.#pull(target));
    } catch (error) {
      this.failure = error;
      throw error;
    } finally {
      this.#pulling = undefined;
    }
  }
  async #pull(target: Uint8Array): Promise<number> {
    const input = this.#input;
    const step = this.#patience.step();
    if (step !== undefined) await step;
    await this.invite();
    let count = 0;
    do { // What has come is taken, of however many chunks; only the first bytes are waited for.
      if (this.#left === 0) {
        if (input.empty) {
          input.took(await this.#wait(input.read()));
          const step = this.#patience.step(STEPS_FOR_CHUNKS);
          if (step !== undefined) await step;
        }
        this.#readChunkLines(this.#chunks!);
        continue;
      }
      const room = target.subarray(count, count + this.#left);
      if (input.empty && input.ahead !== undefined) input.took(await this.#wait(input.read()));
      const more = input.empty ? await this.#wait(input.readInto(room)) : input.take(room);
      count += more;
      this.#left -= more;
      this.complete = this.#left === 0 && this.#chunks === undefined;
    } while (!this.complete && count < target.length && (count === 0 || !input.empty));
    return count;
  }
  #readChunkLines(chunks: ChunkFraming): void {
    const input = this.#input;
    input.start = chunks.read(input.bytes, input.start, input.end);
    this.complete = chunks.done;
    this.#left = chunks.size;
    this.#total += this.#left;
    this.#checkSize();
  }
  async #wait(read: number | null | Promise<number | null>): Promise<number> {
    this.#patience.waiting();
    let count: number | null;
    try {
      count = await read;
    } catch (error) {
      this.isLost = true;
      throw error;
    } finally {
      this.#patience.resumed();
    }
    if (count === null) throw new HttpError(400, "The content ended early"); // 9112 §8
    return count;
  }
}

const utf8 = new TextDecoder();
const strictUtf8 = new TextDecoder("utf-8", { fatal: true });

/** A promise that may be left alone: that what nobody waits for has failed must not end the process. */
function unheeded<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

/** Whom a request is from, and what it is for, as far as somebody else than the client has told it. */
interface Told {
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly scheme?: string | undefined;
  readonly authority?: string | undefined;
}

/** What proxies tell of a request, as far as they are believed. */
function readTold(proxies: Proxies, headers: HttpHeaders, peer: Connection): Told {
  if (!proxies.includes(peer.remoteAddress, 0)) return peer;
  const said = (name: ProxyField) => proxies.says.includes(name) && headers.get(name) || "";
  const forwarded = said("Forwarded");
  if (forwarded !== "") return clientOf(elementsOf(forwarded), proxies, peer);
  const { remoteAddress, remotePort } = clientOf(nodesOf(said("X-Forwarded-For")), proxies, peer);
  // The last member of all is what the peer has written.
  const last = (name: ProxyField) => trim(said(name).split(",").at(-1)!);
  const scheme = schemeOf(last("X-Forwarded-Proto"));
  const authority = authorityOf(last("X-Forwarded-Host"));
  return { remoteAddress, remotePort, scheme, authority };
}
function schemeOf(text = ""): string | undefined {
  return /^https?$/i.test(text) ? text.toLowerCase() : undefined;
}
function authorityOf(text = ""): string | undefined {
  return isAuthority(text) ? text : undefined;
}

/** Each proxy has added whom it was asked by to the end of a list. So, from its end on, the first that is
 * no proxy is the client; what stands before it may be anybody's. `nodes` come from the end on, a
 * malformed one as undefined, and one that is not told without an address. */
function clientOf(nodes: Iterable<Told | undefined>, proxies: Proxies, peer: Told): Told {
  let client = peer;
  let steps = 0;
  for (const node of nodes) {
    if (node === undefined) return peer;
    const { remoteAddress, remotePort } = client;
    if (node.remoteAddress === "") return { ...node, remoteAddress, remotePort };
    client = node;
    if (!proxies.includes(node.remoteAddress, ++steps)) break;
  }
  return client;
}

/** The members of `X-Forwarded-For`, from the last on. */
function* nodesOf(list: string): Generator<Told | undefined> {
  for (const member of list.split(",").reverse()) {
    const text = trim(member);
    if (text === "") continue; // 9110 §5.6.1
    const isBare = text[0] !== "[" && /:.*:/.test(text);
    yield readNode(isBare ? `[${text}]` : text);
  }
}
/** An address, in brackets if it is one of IPv6, and perhaps a port (RFC 7239 §6). */
function readNode(text: string): Told | undefined {
  const [, inBrackets, plain, port] =
    /^(?:\[([^\]:]*:[^\]]*)\]|([^:]*))(?::(\d{1,5}|_[\w.\-]+))?$/.exec(text) ?? [];
  const address = readAddress(inBrackets ?? plain ?? "");
  if (address === undefined || Number(port) > 65535) return undefined;
  return { remoteAddress: address, remotePort: Number(port) || 0 };
}

/** RFC 7239 §6.2 and §6.3: a node of which no address is told. */
const HIDDEN_NODE = /^(?:unknown|_[\w.\-]+)(?::(?:\d{1,5}|_[\w.\-]+))?$/i;
const QUOTED_TEXT = /^(?:[^"\\]|\\.)*$/; // 9110 §5.6.4

/** The elements of `Forwarded` (RFC 7239 §4), from the last on. They are read backwards: so nothing that a
 * client has put before it, a quote that is left open, say, changes what a proxy has added. */
function* elementsOf(list: string): Generator<Told | undefined> {
  let pairs = new Map<string, string>();
  for (let at = list.length; at >= 0; at--) {
    at = startOf(isBlank, list, at);
    if (at > 0 && list[at - 1] !== "," && list[at - 1] !== ";") {
      const isQuoted = list[at - 1] === '"';
      const end = isQuoted ? at - 1 : at;
      const start = isQuoted ? openingQuote(list, end) + 1 : startOf(isTokenPart, list, at);
      const equals = start - (isQuoted ? 2 : 1);
      at = startOf(isTokenPart, list, equals);
      const name = list.substring(at, equals).toLowerCase(), value = list.substring(start, end);
      const isSound = list[equals] === "=" && name !== "" && !pairs.has(name) &&
        (isQuoted ? QUOTED_TEXT.test(value) : value !== "");
      if (!isSound) return yield undefined;
      pairs.set(name, isQuoted ? value.replace(/\\(.)/g, "$1") : value);
      at = startOf(isBlank, list, at);
    }
    if (list[at - 1] === ";") continue;
    if (at > 0 && list[at - 1] !== ",") return yield undefined;
    if (pairs.size > 0) yield readElement(pairs);
    pairs = new Map();
  }
}

/** What an element tells, by the names of its parameters. */
function readElement(pairs: Map<string, string>): Told | undefined {
  const name = pairs.get("for") ?? "unknown";
  const node = HIDDEN_NODE.test(name) ? { remoteAddress: "", remotePort: 0 } : readNode(name);
  const scheme = schemeOf(pairs.get("proto")), authority = authorityOf(pairs.get("host"));
  return node && { ...node, scheme, authority };
}
function isBlank(code: number): boolean {
  return code === SPACE || code === TAB;
}
function isTokenPart(code: number): boolean {
  return (CLASS[code]! & TOKEN) !== 0;
}
/** Where a run of such characters begins that ends at `end`. */
function startOf(isPart: (code: number) => boolean, text: string, end: number): number {
  while (end > 0 && isPart(text.charCodeAt(end - 1))) end--;
  return end;
}
/** Where the quoted string begins of which the last quote is at `closing`; or -1. */
function openingQuote(text: string, closing: number): number {
  for (let at = closing; at > 0;) {
    at = text.lastIndexOf('"', at - 1);
    const slashes = at - startOf((code) => code === 92, text, at);
    if (slashes % 2 === 0) return at; // Else it is part of the string (9110 §5.6.4).
  }
  return -1;
}

/** What a request asks of whoever has it. */
interface RequestOwner {
  /** The server is stopping. */
  readonly isStopping: boolean;
  /** Somebody wants to know whether the client leaves. */
  watch(): void;
}

/** What applications are told of each client. */
const REMOTE_ADDRS = new WeakMap<Told, FetchInfo["remoteAddr"]>();

/** The request that a handler gets. */
class IncomingRequest implements HttpRequest {
  readonly head: Head;
  readonly content: Body;
  readonly #connection: Connection;
  readonly #owner: RequestOwner;
  readonly #proxies: Proxies | undefined;
  #told: Told | undefined;
  #headers: HttpHeaders | undefined;
  #query: URLSearchParams | undefined;
  #stream: ReadableStream<Uint8Array<ArrayBuffer>> | null | undefined;
  #used = false;
  #abort: AbortController | undefined;
  #isTold = false;
  #stop: AbortController | undefined;
  #completion: PromiseWithResolvers<void> | undefined;
  #outcome: { failure: unknown } | undefined;
  #gone: unknown;

  constructor(
    head: Head,
    content: Body,
    connection: Connection,
    owner: RequestOwner,
    proxies?: Proxies,
  ) {
    this.head = head;
    this.content = content;
    this.#connection = connection;
    this.#owner = owner;
    this.#proxies = proxies;
  }
  /** Whom it is from and what it is for, if proxies are believed; else the connection tells it. */
  get #source(): Told {
    if (this.#proxies === undefined) return this.#connection;
    return this.#told ??= readTold(this.#proxies, this.headers, this.#connection);
  }
  get method(): string {
    return this.head.method;
  }
  get target(): string {
    return this.head.target;
  }
  get path(): string {
    const { resource } = this.head;
    const query = resource.indexOf("?");
    return query < 0 ? resource : resource.substring(0, query);
  }
  get query(): URLSearchParams {
    const { resource } = this.head;
    const at = resource.indexOf("?");
    return this.#query ??= new URLSearchParams(at < 0 ? "" : resource.substring(at + 1));
  }
  /** The host and port that it is for; empty if nobody has named one. */
  get authority(): string {
    return this.#source.authority ?? this.head.authority;
  }
  get url(): string {
    const { resource } = this.head;
    const scheme = this.#source.scheme ?? (this.#connection.encrypted ? "https" : "http");
    return `${scheme}://${this.authority || "localhost"}${resource === "*" ? "" : resource}`;
  }
  get version(): "1.0" | "1.1" {
    return this.head.version;
  }
  get headers(): HttpHeaders {
    return this.#headers ??= new HttpHeaders(this.head.fields);
  }
  get remoteAddress(): string {
    return this.#source.remoteAddress;
  }
  get remotePort(): number {
    return this.#source.remotePort;
  }
  /** The same, made once a connection, or for what was told of a request. */
  get remoteAddr(): FetchInfo["remoteAddr"] {
    const source = this.#source;
    let known = REMOTE_ADDRS.get(source);
    if (known === undefined) {
      const { remoteAddress: hostname, remotePort: port } = source;
      const path = hostname === "" ? this.#connection.unix : undefined;
      known = path === undefined
        ? { transport: "tcp", hostname, port }
        : { transport: "unix", path, hostname, port };
      REMOTE_ADDRS.set(source, known);
    }
    return known;
  }
  get signal(): AbortSignal {
    this.#isTold = true;
    return this.leaving;
  }
  /** The same, if it is not the application that asks. */
  get leaving(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController();
      if (this.#gone !== undefined) this.#abort.abort(this.#gone);
      else this.#owner.watch();
    }
    return this.#abort.signal;
  }
  get stopping(): AbortSignal {
    if (this.#stop === undefined) {
      this.#stop = new AbortController();
      if (this.#owner.isStopping) this.stop();
    }
    return this.#stop.signal;
  }
  /** The server begins to stop. */
  stop(): void {
    this.#stop?.abort(new DOMException("The server is stopping", "AbortError"));
  }
  get body(): ReadableStream<Uint8Array<ArrayBuffer>> | null {
    if (this.#stream === undefined) {
      const { content } = this;
      const use = () => this.#use();
      let begun = false;
      const isEmpty = content.complete && content.failure === undefined;
      this.#stream = isEmpty ? null : new ReadableStream({
        async pull(controller) {
          if (!begun) use();
          begun = true;
          const piece = new Uint8Array(STREAM_PIECE);
          const count = await content.pull(piece);
          if (count > 0) controller.enqueue(piece.subarray(0, count));
          if (content.complete) controller.close();
        },
      }, { highWaterMark: 0 });
    }
    return this.#stream;
  }
  bytes(): Promise<Uint8Array<ArrayBuffer>> {
    return unheeded(this.#bytes());
  }
  async #bytes(): Promise<Uint8Array<ArrayBuffer>> {
    this.#use();
    const whole = this.content.whole();
    return whole === undefined ? await this.content.collect() : new Uint8Array(whole);
  }
  text(): Promise<string> {
    return unheeded(this.#text());
  }
  async #text(): Promise<string> {
    this.#use();
    return utf8.decode(this.content.whole() ?? await this.content.collect());
  }
  json(): Promise<unknown> {
    return unheeded(this.#json());
  }
  async #json(): Promise<unknown> {
    this.#use();
    const bytes = this.content.whole() ?? await this.content.collect();
    try {
      const text = utf8.decode(bytes);
      // To be strict from the start costs some times as much on Deno.
      return JSON.parse(text.includes("\ufffd") ? strictUtf8.decode(bytes) : text);
    } catch (error) {
      // What an engine says about it differs from one to the next, so it is for the log alone.
      throw new HttpError(400, "Invalid JSON", { cause: error });
    }
  }
  toFetch(): Request {
    return fetchRequestOf(this);
  }
  /** Whether the content has been asked for. */
  get isUsed(): boolean {
    return this.#used;
  }
  /** Whether the handler has the content as a stream, though it may not have read any of it. */
  get isStreaming(): boolean {
    return this.#stream !== undefined && this.#stream !== null;
  }
  /** The client has left, or at least ended its side. */
  get isGone(): boolean {
    return this.#gone !== undefined;
  }
  /** Throws if a handler may have ended its answer early, since it was told that the client has gone. */
  throwIfTold(): void {
    if (this.#isTold && this.isGone) throw this.#gone;
  }
  /** Whether a handler failed with this only because the client has gone. */
  isReason(error: unknown): boolean {
    const { isLost, failure } = this.content;
    const tellsSo = (one: unknown) =>
      isLost && one === failure ||
      this.isGone && (one === this.#gone || one instanceof Error && one.name === "AbortError");
    return tellsSo(error) || error instanceof Error && tellsSo(error.cause);
  }
  /** The client has left. */
  abort(reason: unknown): void {
    this.#gone ??= reason ?? new DOMException("The client has gone", "AbortError");
    this.#abort?.abort(this.#gone);
  }
  /** Settles when the answer has been written, or can't be. */
  get completed(): Promise<void> {
    if (this.#completion === undefined) {
      this.#completion = Promise.withResolvers();
      void unheeded(this.#completion.promise);
      if (this.#outcome !== undefined) this.#complete(this.#outcome.failure);
    }
    return this.#completion.promise;
  }
  /** Whether somebody wants to know. */
  get isFollowed(): boolean {
    return this.#completion !== undefined;
  }
  /** The answer has been written, or why it can't be. */
  end(failure?: unknown): void {
    this.#outcome ??= { failure };
    if (this.#completion !== undefined) this.#complete(failure);
  }
  #complete(failure: unknown): void {
    if (failure === undefined) this.#completion!.resolve();
    else this.#completion!.reject(failure);
  }
  #use(): void {
    if (this.#used) throw new TypeError("The request's content can be read only once");
    this.#used = true;
  }
}

/** What {@linkcode requestOf} makes a request of. */
export interface RequestValues {
  /** Default `"GET"`. */
  method?: string;
  /** Path and query, or another form of target (9112 §3.2). Default `"/"`. */
  target?: string;
  /** Default: none, but `Host: localhost` is added if it is missing, and Content-Length always. */
  headers?: Record<string, string | string[]>;
  /** The content, of any length. Default: none. */
  body?: string | Uint8Array;
  /** Default `"127.0.0.1"`. */
  remoteAddress?: string;
  /** Default 50000. */
  remotePort?: number;
}

/** A request of plain values, by which a handler can be tested without a server: `await
 * handler(requestOf({ target: "/ping" }))`. Its signals never abort.
 * @throws {HttpError} for values that the server would have refused. */
export function requestOf(values: RequestValues = {}): HttpRequest {
  const { method = "GET", target = "/", body = "", headers = {} } = values;
  const content = typeof body === "string" ? Buffer.from(body) : body;
  const fields = Object.entries(headers).flatMap(([name, value]) =>
    [value].flat().map((one) => [name.toLowerCase(), one] as const)
  ).filter(([name]) => name !== "content-length");
  if (!fields.some(([name]) => name === "host")) fields.push(["host", "localhost"]);
  if (content.length > 0) fields.push(["content-length", `${content.length}`]);
  if (!/^[\x21-\x7e]+$/.test(method + target)) throw badLine("it holds other than visible ASCII");
  let text = `${method} ${target} HTTP/1.1\r\n`;
  for (const [name, value] of fields) {
    if (!FIELD_NAME_FORM.test(name)) throw badField("a field name is not a token");
    if (!FIELD_VALUE_FORM.test(value)) throw badField("a field value holds a control character");
    text += `${name}: ${value}\r\n`;
  }
  const bytes = Buffer.from(`${text}\r\n`, "latin1");
  const parser = new HeadParser({ maxHeaderSize: Infinity, maxBodySize: Infinity });
  const head = parser.parse(bytes, 0, bytes.length);
  if (head === undefined || parser.size < bytes.length) throw badLine("it has an end of its own");
  let at = 0;
  const connection: Connection = {
    remoteAddress: values.remoteAddress ?? "127.0.0.1",
    remotePort: values.remotePort ?? 50000,
    read(buffer) {
      const piece = content.subarray(at, at += buffer.length);
      buffer.set(piece);
      return piece.length > 0 ? piece.length : null;
    },
    write: ({ length }) => length,
    closeWrite() {},
    close() {},
  };
  const nobody: Patience & RequestOwner = {
    isStopping: false,
    watch() {},
    step: () => undefined,
    waiting() {},
    resumed() {},
    sendContinue: () => Promise.resolve(),
  };
  const settings = checkSettings({});
  const input = new Input(connection, settings.maxHeaderSize);
  return new IncomingRequest(head, new Body(head, input, nobody, settings), connection, nobody);
}

/** The key of what makes the runtime's own object of one that passes for it. */
const OWN = Symbol("own");
/** By which `console.log` asks what to show. */
const INSPECT = Symbol.for("nodejs.util.inspect.custom");

/** Makes the objects of `Lazy` pass for those of `Type`, of which `sample` is one. What they can't do
 * themselves is done by the runtime's own, which they make when it is needed first. Deno's functions
 * know their objects by symbols; those lead there, too. */
function passFor(Lazy: { prototype: object }, Type: { prototype: object }, sample: object): void {
  const { prototype } = Lazy;
  if (!(prototype instanceof (Type as never))) Object.setPrototypeOf(prototype, Type.prototype);
  type Lazy = { [OWN]: Record<PropertyKey, unknown> };
  for (const key of [...Reflect.ownKeys(Type.prototype), ...Object.getOwnPropertySymbols(sample)]) {
    const known = Object.getOwnPropertyDescriptor(Type.prototype, key);
    let property = Object.getOwnPropertyDescriptor(prototype, key);
    if (key === "constructor") {
      property = { value: Type };
    } else if (property === undefined && typeof known?.value === "function") {
      const value = function (this: Lazy, ...args: unknown[]) {
        return (this[OWN][key] as (...args: unknown[]) => unknown)(...args);
      };
      property = { value, writable: true };
    } else if (property === undefined) {
      property = {
        get(this: Lazy) {
          return this[OWN][key];
        },
        set(this: Lazy, value: unknown) {
          this[OWN][key] = value;
        },
      };
    }
    const enumerable = known?.enumerable ?? false;
    Object.defineProperty(prototype, key, { ...property, configurable: true, enumerable });
  }
}

/** The header fields of a request for Fetch. */
class FetchHeaders {
  readonly #headers: HttpHeaders;
  #own: Headers | undefined;

  constructor(headers: HttpHeaders) {
    this.#headers = headers;
  }
  get [OWN](): Headers {
    return this.#own ??= this.#make();
  }
  #make(): Headers {
    const own = new Headers([...this.#headers]);
    const cookie = this.#headers.get("cookie");
    if (cookie !== null) own.set("cookie", cookie); // Of several lines, Deno makes a list with commas.
    return own;
  }
  /** Stands for these from now on, so that what is done to the one is done to both. */
  adopt(own: Headers): void {
    this.#own = own;
  }
  get(name: string): string | null {
    return this.#isSimple(name) ? this.#headers.get(name) : this[OWN].get(name);
  }
  has(name: string): boolean {
    return this.#isSimple(name) ? this.#headers.has(name) : this[OWN].has(name);
  }
  #isSimple(name: unknown): boolean {
    return this.#own === undefined && typeof name === "string" && FIELD_NAME_FORM.test(name);
  }
  forEach(callback: Parameters<Headers["forEach"]>[0], self?: unknown): void {
    const headers = this as unknown as Headers;
    this[OWN].forEach((value, name) => callback.call(self, value, name, headers));
  }
  [INSPECT](): Headers {
    return this[OWN];
  }
}

/** What a request without content has. */
const NO_CONTENT: Content = {
  bytes: () => Promise.resolve(new Uint8Array()),
  text: () => Promise.resolve(""),
  json: () => unheeded(Promise.reject(new HttpError(400, "Invalid JSON"))),
};
type Content = Pick<Request, "bytes" | "text" | "json">;

/** A request for Fetch: to make a real one costs more than to parse what it tells. */
class FetchRequest extends (RequestBase as { new (url: string): object }) {
  readonly #request: IncomingRequest;
  readonly #method: string;
  readonly #hasContent: boolean;
  #url: string | undefined;
  #headers: FetchHeaders | undefined;
  #own: Request | undefined;

  constructor(request: IncomingRequest, method: string) {
    super(SAMPLE_URL);
    this.#request = request;
    this.#method = method;
    const { contentLength, chunked } = request.head;
    // Fetch allows GET and HEAD none.
    this.#hasContent = (contentLength > 0 || chunked) && method !== "GET" && method !== "HEAD";
  }
  get [OWN](): Request {
    return this.#own ??= this.#make();
  }
  #make(): Request {
    const { isUsed } = this.#request;
    const isStreamed = this.#hasContent && !isUsed;
    const init = {
      method: this.#method,
      headers: this.headers,
      body: isStreamed ? this.#request.body : this.#hasContent ? "used" : null,
      signal: this.#request.leaving,
      duplex: "half",
    } as RequestInit;
    const own = new Request(this.url, init);
    this.#headers!.adopt(own.headers);
    if (this.#hasContent && isUsed) void own.text();
    return own;
  }
  get method(): string {
    return this.#method;
  }
  get url(): string {
    return this.#url ??= normalUrl(this.#request);
  }
  get headers(): Headers {
    this.#headers ??= new FetchHeaders(this.#request.headers);
    return this.#headers as unknown as Headers;
  }
  get signal(): AbortSignal {
    return this.#request.signal;
  }
  get body(): ReadableStream<Uint8Array<ArrayBuffer>> | null {
    return this.#hasContent ? this[OWN].body : null;
  }
  get bodyUsed(): boolean {
    return this.#own?.bodyUsed ?? (this.#hasContent && this.#request.isUsed);
  }
  /** Who has the content. */
  get #content(): Content {
    return this.#own ?? (this.#hasContent ? this.#request : NO_CONTENT);
  }
  bytes(): Promise<Uint8Array<ArrayBuffer>> {
    return this.#content.bytes() as Promise<Uint8Array<ArrayBuffer>>;
  }
  text(): Promise<string> {
    return this.#content.text();
  }
  json(): Promise<unknown> {
    if (this.#own === undefined) return this.#content.json();
    return unheeded(
      this.#own.json().catch((cause) => {
        throw cause instanceof SyntaxError ? new HttpError(400, "Invalid JSON", { cause }) : cause;
      }),
    );
  }
  arrayBuffer(): Promise<ArrayBuffer> {
    return unheeded(this.bytes().then(({ buffer }) => buffer));
  }
  blob(): Promise<Blob> {
    return unheeded(this.bytes().then((bytes) => new Blob([bytes], { type: this.#type })));
  }
  formData(): Promise<unknown> {
    return unheeded(this.#formData());
  }
  async #formData(): Promise<unknown> {
    const bytes = await this.bytes();
    try {
      return await new Response(bytes, { headers: { "Content-Type": this.#type } }).formData();
    } catch (cause) {
      throw new HttpError(400, "The content is not the form that its type says", { cause });
    }
  }
  get #type(): string {
    return this.headers.get("content-type") ?? "";
  }
  [INSPECT](): Request {
    return this[OWN];
  }
}
const SAMPLE_URL = "http://sample/";
let passes = false;

/** @throws {HttpError} if the runtime's Fetch has no such request. */
function fetchRequestOf(request: IncomingRequest): Request {
  if (!passes) {
    passFor(FetchHeaders, Headers, new Headers());
    passFor(FetchRequest, Request, new Request(SAMPLE_URL));
    passes = true;
  }
  if (request.authority !== knownUrlHost) checkUrl(request);
  return new FetchRequest(request, fetchMethod(request.method)) as unknown as Request;
}
/** The method as Fetch has it, which takes no account of the case of six. */
function fetchMethod(method: string): string {
  if (method === "GET" || method === "POST") return method;
  if (/^(GET|HEAD|POST|PUT|DELETE|OPTIONS)$/i.test(method)) return method.toUpperCase();
  let known = "";
  try {
    known = new Request(SAMPLE_URL, { method }).method;
  } catch { /* It is forbidden, as TRACE is. */ }
  if (known === method) return method;
  throw new HttpError(501, `Fetch has no method ${method} here`); // Bun would make another of it.
}

/** The last authority of which a URL was made that remains as it is. */
let knownUrlHost: string | undefined;
/** A path and query that remain as they are: without segments of dots, and what is to be encoded. */
const SAME_PATH = /^(?=\/)(?:\/(?!\.|%2e)|[\w\-.~!$&()*+,;=:@?%])+$/i;

/** @throws {HttpError} for a host that RFC 3986 alone allows. */
function checkUrl({ url, authority }: IncomingRequest): void {
  try {
    const { protocol, host } = new URL(url);
    const isDefault = /:(80|443)$/.test(authority); // for one of the two schemes
    if (url.startsWith(`${protocol}//${host}/`) && !isDefault) knownUrlHost = authority;
  } catch (cause) {
    throw new HttpError(400, "The request's host is none for a URL", { cause });
  }
}
/** A URL as `new URL` writes it. */
function normalUrl(request: IncomingRequest): string {
  const { authority, head: { resource } } = request;
  const isSame = authority === knownUrlHost && SAME_PATH.test(resource);
  return isSame ? request.url : new URL(request.url).href;
}

// ─────────────────────────────────────────────────────────────────────────────────────────────
// 5. Responses
// ─────────────────────────────────────────────────────────────────────────────────────────────

/** A response as a plain object. One that is frozen, with its `headers` if it has any, is encoded
 * once and costs next to nothing from then on: a body of bytes must not be changed either then. */
export interface HttpResponse {
  /** 200 to 599. Default 200; of an upgrade always 101. */
  status?: number | undefined;
  /** Field names and values; several values make several lines. A value holds no control characters
   * but tabs, and is sent one byte a character, so it has none beyond U+00FF. The fields that frame a
   * message belong to the server, but for two: `Content-Length` says how long a streamed body will be,
   * and `Connection: close` is obeyed. */
  headers?: Record<string, string | string[]> | Headers | undefined;
  /** Text is sent as UTF-8, and as `text/plain; charset=utf-8` unless `headers` say otherwise; bytes that
   * are UTF-8 likewise. Other content that has no type, streams too, gets `X-Content-Type-Options:
   * nosniff`, lest browsers run it as a page. A stream is pulled no faster than the client takes it, and
   * canceled when the client leaves. Its length is told if `Content-Length` says it, or all of it is
   * there at once; else it is sent in chunks. Its pieces may be text or bytes. */
  body?: Piece | Blob | ReadableStream<Piece> | AsyncIterable<Piece> | null | undefined;
  /** Takes the connection over for another protocol (9110 §7.8), which `headers` name as `Upgrade`. It is
   * called when 101 has been sent, and gets what the client has sent behind the request first. It has the
   * connection until it returns, or until its promise settles; then the server closes it.
   *
   * No timeout of the server's holds any more, so it is for the owner to give up a client that is just
   * silent. A read or write that rejects tells that the client has gone, and `request.signal` aborts then.
   * The connection keeps its permit. `request.stopping` tells the owner that the server stops, which cuts
   * it off after the time of grace.
   *
   * A client that did not ask for this protocol, or speaks HTTP/1.0, gets 426 instead, and one whose
   * request has content that was not read 400. A `Response` can have this property, too. */
  upgrade?: ((connection: Connection) => void | Promise<void>) | undefined;
}

/** A piece of a streamed body. */
export type Piece = string | ArrayBuffer | ArrayBufferView;

/** The reason phrases of 9110 §15, and of the few status codes from elsewhere that are in use. */
const REASONS: Record<number, string> = {
  101: "Switching Protocols",
  200: "OK",
  201: "Created",
  202: "Accepted",
  203: "Non-Authoritative Information",
  204: "No Content",
  205: "Reset Content",
  206: "Partial Content",
  207: "Multi-Status",
  300: "Multiple Choices",
  301: "Moved Permanently",
  302: "Found",
  303: "See Other",
  304: "Not Modified",
  307: "Temporary Redirect",
  308: "Permanent Redirect",
  400: "Bad Request",
  401: "Unauthorized",
  402: "Payment Required",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  406: "Not Acceptable",
  407: "Proxy Authentication Required",
  408: "Request Timeout",
  409: "Conflict",
  410: "Gone",
  411: "Length Required",
  412: "Precondition Failed",
  413: "Content Too Large",
  414: "URI Too Long",
  415: "Unsupported Media Type",
  416: "Range Not Satisfiable",
  417: "Expectation Failed",
  421: "Misdirected Request",
  422: "Unprocessable Content",
  423: "Locked",
  424: "Failed Dependency",
  425: "Too Early",
  426: "Upgrade Required",
  428: "Precondition Required",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  451: "Unavailable For Legal Reasons",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
  505: "HTTP Version Not Supported",
  507: "Insufficient Storage",
  511: "Network Authentication Required",
};

const encoder = new TextEncoder();
const CONTINUE = encoder.encode("HTTP/1.1 100 Continue\r\n\r\n");
const LAST_CHUNK = encoder.encode("0\r\n\r\n");
const CRLF = encoder.encode("\r\n");
const NOTHING = new Uint8Array(0);
/** The field line of a connection's last answer (9112 §9.6). */
const CLOSE = "Connection: close\r\n";

/** What is wrong with a response. Where that was found out is of no interest to anybody. */
class ResponseError extends TypeError {}

const TEXT_TYPE_LINE = `Content-Type: ${TEXT_TYPE}\r\n`;
const ALREADY_READ = "The body of the response has been read already";

type Streamed = ReadableStream<Piece> | AsyncIterable<Piece>;

function isStreamed(body: unknown): body is Streamed {
  return typeof body === "object" && body !== null &&
    (Symbol.asyncIterator in body || body instanceof ReadableStream);
}

// Not by `instanceof`: the first use of these globals makes Deno load its Fetch, for 2 ms.
function isFetch(response: HttpResponse | Response): response is Response {
  return typeof response === "object" && response !== null && "bodyUsed" in response;
}
function isFetchHeaders(headers: object): headers is Headers {
  return Symbol.iterator in headers;
}

/** Where the pieces of a streamed response come from. */
interface Source {
  /** What it brings may be changed once the next one is asked for. */
  next(): Promise<{ done?: boolean | undefined; value?: Piece | undefined }>;
  /** Nobody wants the rest. Whether that can be done properly is of no more interest. */
  cancel(reason?: unknown): Promise<void>;
  /** Another source for some of the bytes, if they can be had in any order. */
  part?(from: number, to: number): Source;
}
/** @throws {ResponseError} if the stream is locked, or no stream at all. */
function sourceOf(stream: Streamed): Source {
  if (stream instanceof ReadableStream) {
    if (stream.locked) throw new ResponseError(ALREADY_READ);
    const reader = stream.getReader();
    return {
      next: () => reader.read(),
      cancel: (reason) => reader.cancel(reason).catch(() => {}),
    };
  }
  const iterator = stream[Symbol.asyncIterator]();
  return {
    next: () => Promise.resolve(iterator.next()), // which may give no promise
    cancel: async () => {
      try {
        await iterator.return?.();
      } catch { /* It has told its own story, or has none. */ }
    },
  };
}
function sourceOfBlob(blob: Blob): Source {
  let source: Source | undefined;
  return {
    next: () => (source ??= sourceOf(blob.stream())).next(),
    cancel: async (reason) => await source?.cancel(reason),
    part: (from, to) => sourceOfBlob(blob.slice(from, to)),
  };
}
/** A source of which some pieces were taken already, and perhaps the next one was asked for. */
function sourceAfter(
  taken: Uint8Array[],
  asked: ReturnType<Source["next"]> | undefined,
  { next, cancel }: Source,
): Source {
  return {
    next() {
      const value = taken.shift();
      if (value !== undefined) return Promise.resolve({ value });
      const promise = asked ?? next();
      asked = undefined;
      return promise;
    },
    cancel,
  };
}
/** @throws {ResponseError} */
function bytesOf(piece: unknown): Uint8Array {
  if (piece instanceof Uint8Array) return piece;
  if (typeof piece === "string") return encoder.encode(piece);
  if (piece instanceof ArrayBuffer) return new Uint8Array(piece);
  if (!ArrayBuffer.isView(piece)) {
    throw new ResponseError("The pieces of a streamed body must be text or bytes");
  }
  return new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength);
}

/** What a source has at once, as far as it fits into `buffer`: all its bytes, or another source that has
 * them before the rest. */
async function gather(source: Source, buffer: Buffer): Promise<Uint8Array | Source> {
  let size = 0;
  const gathered = () => buffer.subarray(0, size);
  for (let steps = 0; steps < STEPS_A_TURN; steps++) {
    const next = source.next();
    const isPatient = source.part !== undefined; // A file that is not there has no bytes either.
    if (!isPatient && !await settlesAtOnce(next)) return sourceAfter([gathered()], next, source);
    const { done, value } = await next;
    if (done) return gathered();
    const piece = bytesOf(value);
    if (size + piece.length > buffer.length) {
      return sourceAfter([gathered(), piece], undefined, source);
    }
    buffer.set(piece, size);
    size += piece.length;
  }
  return sourceAfter([gathered()], undefined, source);
}

/** Cancels the body of a response that will not be sent, if it is a stream. */
function discard(response: HttpResponse | Response): void {
  try {
    if (isStreamed(response.body)) void sourceOf(response.body).cancel();
  } catch { /* It is locked: somebody else has it. */ }
}

/** A response that was found to be sound. */
interface Reply {
  status: number;
  /** The handler's field lines, but for those that are the server's to write. */
  fields: string;
  content: string | Uint8Array | Source;
  /** It is a `Response`. */
  isFetch: boolean;
  /** The handler told the content's type; forbade to guess it. */
  isTyped: boolean;
  isUnsniffed: boolean;
  /** The handler's Content-Length. */
  declared: string | undefined;
  /** Bytes of content, if that is known; of text it is only known once it is encoded. */
  length: number | undefined;
  /** The handler wants the connection closed. */
  close: boolean;
  etag: string | undefined;
  lastModified: string | undefined;
  /** Who takes the connection over, and by which protocol. */
  upgrade: HttpResponse["upgrade"];
  protocol: string;
}

function isSource(content: Reply["content"]): content is Source {
  return typeof content !== "string" && !(content instanceof Uint8Array);
}

/** Every answer that the server itself gives to an error. */
function errorReply(status: number, message?: string): HttpResponse {
  const text = `${status} ${REASONS[status] ?? "Error"}`;
  return {
    status,
    headers: { "Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff" },
    body: message === undefined ? text : `${text}: ${message}`,
  };
}

/** The bytes of an answer to a message that was refused, and how many of them are content; `fields` are
 * lines to add. Even then HEAD must not be answered with content (9110 §9.3.2). */
function encodeRefusal(error: HttpError, date: string, method: string, fields = "") {
  const reply = checkResponse(errorReply(error.status, error.message));
  const content = String(reply.content);
  const text = headText(reply, date, content.length, fields + CLOSE);
  const size = method === "HEAD" ? 0 : content.length;
  return { bytes: encoder.encode(size === 0 ? text : text + content), size };
}

/** How many bytes content has. */
function sizeOf(content: string | Uint8Array): number {
  return typeof content === "string" ? Buffer.byteLength(content) : content.length;
}

/** Whether a response with this status can have content (9110 §6.4.1). */
function allowsContent(status: number): boolean {
  return status !== 101 && status !== 204 && status !== 205 && status !== 304;
}

/** Checks what a handler has returned. @throws {ResponseError} which says what is wrong with it. */
function checkResponse(response: HttpResponse | Response): Reply {
  if (typeof response !== "object" || response === null || Array.isArray(response)) {
    const kind = Array.isArray(response) ? "an array" : response === null ? null : typeof response;
    throw new ResponseError(`The handler returned ${kind}: return { body } or a Response`);
  }
  const { upgrade } = response as HttpResponse;
  const status = upgrade === undefined ? response.status ?? 200 : 101;
  if (upgrade !== undefined) checkUpgrade(response);
  else if (!Number.isInteger(status) || status < 200 || status > 599) {
    const found = `${typeof status} ${status}`;
    throw new ResponseError(`A status must be a whole number from 200 to 599, not the ${found}`);
  }
  const reply: Reply = {
    status,
    fields: "",
    content: "",
    isFetch: isFetch(response),
    isTyped: false,
    isUnsniffed: false,
    declared: undefined,
    length: undefined,
    close: false,
    etag: undefined,
    lastModified: undefined,
    upgrade,
    protocol: "",
  };
  addFields(reply, response.headers ?? {}); // On Bun, a Blob's type is among them only until its body is.
  if (isFetch(response) && response.url !== "") asDecoded(reply);
  if (upgrade !== undefined) {
    if (reply.protocol !== "") return reply;
    throw new ResponseError("An upgrade needs a field Upgrade that names the protocol");
  }
  const body = (isFetch(response) ? fetchBody(response) : response.body) ?? "";
  if (body === "" && !reply.isFetch) checkKeys(response);
  addContent(reply, body);
  if (!reply.isTyped && allowsContent(status)) addType(reply);
  return reply;
}
/** @throws {ResponseError} */
function checkUpgrade(response: HttpResponse | Response): void {
  const { upgrade } = response as HttpResponse;
  if (typeof upgrade !== "function") throw new ResponseError("upgrade must be a function");
  const isPlain = (response.status ?? 101) === 101 && (response.body ?? "") === "";
  if (!isPlain && !isFetch(response)) {
    throw new ResponseError("An upgrade has the status 101, and no body");
  }
}
function fetchBody(response: Response): HttpResponse["body"] {
  const held = heldContent(response);
  if (held === undefined && response.bodyUsed) throw new ResponseError(ALREADY_READ);
  return held ?? response.body;
}
/** Whoever returns an object without a body may have meant the object itself. @throws {ResponseError} */
function checkKeys(response: object): void {
  const stray = Object.keys(response).find((key) => !/^(status|headers|body|upgrade)$/.test(key));
  if (stray === undefined) return;
  throw new ResponseError(`A response has no '${stray}': for JSON, return Response.json(...)`);
}
/** Content of which nobody says what it is would be guessed by browsers, and run if it looks like it. */
function addType(reply: Reply): void {
  const { content } = reply;
  if (content === "" || reply.length === 0) return;
  if (typeof content === "string" || !isSource(content) && isUtf8(content)) {
    reply.fields += TEXT_TYPE_LINE;
  } else if (!reply.isUnsniffed) reply.fields += "X-Content-Type-Options: nosniff\r\n";
}
/** What `fetch` has got may have been decoded, though its fields still tell what was sent. */
function asDecoded(reply: Reply): void {
  const fields = reply.fields.replace(DECODED_FIELD, "");
  if (fields !== reply.fields) reply.declared = undefined;
  reply.fields = fields;
}

function addFields(reply: Reply, headers: NonNullable<(HttpResponse | Response)["headers"]>): void {
  if (isFetchHeaders(headers)) { // Deno takes twice as long to iterate over them.
    return headers.forEach((value, name) => addField(reply, name, value));
  }
  for (const name in headers) {
    const value = headers[name]!;
    if (!Array.isArray(value)) addField(reply, name, value);
    else for (const one of value) addField(reply, name, one);
  }
}
function addField(reply: Reply, name: string, value: string): void {
  const kind = FIELD_KINDS.get(name) ?? fieldKind(name);
  if (typeof value !== "string" || !FIELD_VALUE_FORM.test(value)) {
    throw new ResponseError(`The response's field ${name} ${whatIsWrong(value)}`);
  }
  if (kind === "upgrade" && (reply.status === 101 || reply.status === 426)) { // 9110 §7.8: a MUST there
    if (reply.upgrade !== undefined && reply.protocol !== "") {
      throw new ResponseError("An upgrade is to one protocol");
    }
    reply.fields += `${name}: ${value}\r\nConnection: Upgrade\r\n`;
    reply.protocol = value;
  }
  if (kind === "content-type") reply.isTyped = true;
  if (kind === "x-content-type-options") reply.isUnsniffed = true;
  if (kind === "content-length") reply.declared = value;
  else if (kind === "connection") reply.close ||= /(^|,)[ \t]*close[ \t]*(,|$)/i.test(value);
  else if (kind !== "server's" && kind !== "upgrade") reply.fields += `${name}: ${value}\r\n`;
  if (kind === "etag") reply.etag = value;
  if (kind === "last-modified") reply.lastModified = value;
}
function addContent(reply: Reply, body: NonNullable<(HttpResponse | Response)["body"]>): void {
  const streamed = isStreamed(body);
  if (typeof body === "string") {
    reply.content = body;
  } else if (streamed) {
    reply.content = sourceOf(body);
  } else if (body instanceof ArrayBuffer || ArrayBuffer.isView(body)) {
    const bytes = bytesOf(body);
    // To ask for the buffer makes Bun create one, for 2 µs.
    if (bytes.length === 0 && (bytes.buffer as ArrayBuffer).detached) {
      throw new ResponseError("The body's bytes are detached");
    }
    reply.content = bytes;
    reply.length = bytes.length;
  } else if (body instanceof Blob) {
    reply.content = sourceOfBlob(body);
    reply.length = body.size;
    if (!reply.isTyped && body.type !== "") addField(reply, "Content-Type", body.type);
  } else {
    const found = typeof body === "object" ? "an object: use JSON.stringify" : `a ${typeof body}`;
    throw new ResponseError(`A body must be text, bytes, a Blob or a stream, not ${found}`);
  }
  if (reply.declared !== undefined && (streamed || body === "")) {
    if (!/^[0-9]{1,15}$/.test(reply.declared)) {
      throw new ResponseError("The response's Content-Length is not a number");
    }
    reply.length = Number(reply.declared);
  }
}

/** What is known of field names as handlers spell them: they use the same few again and again. */
const FIELD_KINDS = new Map<string, string>();
/** The fields that are the server's to write: 9110 §6.6.1 and 9112 §6, §7.1.2, §9. */
const SERVERS_FIELD = /^(date|keep-alive|trailer|transfer-encoding)$/;

/** The name in lower case, or that it is the server's. A name that would break the message out of its
 * frame is the handler's error (9110 §5.1). */
function fieldKind(name: string): string {
  if (!FIELD_NAME_FORM.test(name)) {
    throw new ResponseError(`A field name has letters, digits and hyphens, unlike '${name}'`);
  }
  const lower = name.toLowerCase();
  const kind = SERVERS_FIELD.test(lower) ? "server's" : lower;
  if (FIELD_KINDS.size < MAX_KNOWN_NAMES) FIELD_KINDS.set(name, kind);
  return kind;
}

function whatIsWrong(value: unknown): string {
  if (typeof value !== "string") return `must be a string, not a ${typeof value}`;
  if (/[\0\r\n]/.test(value)) return "has a line break or NUL in it";
  return /[^\0-\xff]/.test(value)
    ? "has a character beyond U+00FF"
    : "has a control character in it";
}

/** The head of a response, up to and with the empty line. A response to HEAD, and a 304, has the
 * head that GET would have got (9110 §9.3.2); `length` is undefined where no length may be told. */
function headText(reply: Reply, date: string, length: number | undefined, more: string): string {
  const { status, fields } = reply;
  const framing = length === undefined ? more : `Content-Length: ${length}\r\n${more}`;
  const dated = date === "" ? "" : `Date: ${date}\r\n`;
  return `HTTP/1.1 ${status} ${REASONS[status] ?? ""}\r\n${dated}${fields}${framing}\r\n`;
}

/** The answer in place of an upgrade, if that can't be (9110 §7.8). */
function upgradeRefusal({ protocol }: Reply, request: IncomingRequest): HttpResponse | undefined {
  const list = (name: string) =>
    (request.headers.get(name) ?? "").toLowerCase().split(",").map(trim);
  const isAsked = request.version === "1.1" && list("connection").includes("upgrade") &&
    list("upgrade").includes(protocol.toLowerCase());
  if (!isAsked) {
    const { headers, ...answer } = errorReply(426);
    return { ...answer, headers: { ...headers, Upgrade: protocol } };
  }
  return request.content.complete ? undefined : errorReply(400, "An upgrade with content");
}

/** Applies preconditions to a 200 or 206, and a range to a 200, in the order of 9110 §13.2.2. */
function applyConditions(reply: Reply, request: HttpRequest): Reply {
  const { method, headers } = request;
  if (reply.status !== 200 && reply.status !== 206) return reply; // 9110 §13.2.1
  if (method !== "GET" && method !== "HEAD") return reply;
  const { etag, lastModified } = reply;
  const modified = lastModified === undefined ? NaN : parseDate(lastModified);
  if (etag !== undefined || !Number.isNaN(modified)) {
    const ifMatch = tagsOf(headers.get("if-match"));
    if (ifMatch !== undefined) {
      const matches = ifMatch.some((tag) => tag === "*" || isSameStrong(tag, etag));
      if (!matches && ifMatch.length > 0) return failed(reply, 412);
    } else if (modified > parseDate(headers.get("if-unmodified-since"))) {
      return failed(reply, 412);
    }
    const ifNoneMatch = tagsOf(headers.get("if-none-match"));
    const unchanged = ifNoneMatch !== undefined
      ? ifNoneMatch.some((tag) => tag === "*" || isSameWeak(tag, etag)) // 9110 §13.1.2
      : modified <= parseDate(headers.get("if-modified-since"));
    if (unchanged) return notModified(reply);
  }
  const range = method === "GET" && reply.status === 200 ? headers.get("range") : null;
  return range === null ? reply : applyRange(reply, range, headers.get("if-range"), modified);
}

/** 9110 §14.2: one range of bytes is served, anything else is answered with the whole. */
function applyRange(reply: Reply, range: string, ifRange: string | null, modified: number): Reply {
  const { content, etag } = reply;
  const parts = /^bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*$/i.exec(range);
  if (parts === null || isSource(content) && content.part === undefined) return reply;
  if (ifRange !== null) { // 9110 §13.1.5: the very same representation, or the whole
    const same = ifRange.includes('"')
      ? isSameStrong(ifRange, etag)
      : parseDate(ifRange) === modified && modified < Date.now() - 1000;
    if (!same) return reply;
  }
  const bytes = typeof content === "string" ? encoder.encode(content) : content;
  const size = isSource(bytes) ? reply.length! : bytes.length;
  const [first, last] = [parts[1], parts[2]];
  if (first === "" && last === "") return reply;
  if (first !== "" && last !== "" && Number(last) < Number(first)) return reply;
  const from = first === "" ? Math.max(0, size - Number(last)) : Number(first);
  const to = first === "" || last === "" ? size : Math.min(size, Number(last) + 1);
  if (from >= to) return failed(reply, 416, `Content-Range: bytes */${size}\r\n`);
  return {
    ...reply,
    status: 206,
    fields: `${reply.fields}Content-Range: bytes ${from}-${to - 1}/${size}\r\n`,
    content: isSource(bytes) ? bytes.part!(from, to) : bytes.subarray(from, to),
    length: to - from,
  };
}

/** The answer in place of `reply`, when its condition or range can't be met. */
function failed({ close }: Reply, status: number, fields = ""): Reply {
  const reply = checkResponse(errorReply(status));
  return { ...reply, fields: reply.fields + fields, close };
}

/** 9110 §15.4.5: what describes the content that is not sent is left out. */
function notModified(reply: Reply): Reply {
  const fields = reply.fields.replace(/^content-(?!location|security)[^\r]*\r\n/gim, "");
  return { ...reply, status: 304, fields, content: NOTHING, length: undefined };
}

/** The entity tags of a list (9110 §8.8.3), without what is not one; undefined if there is no list. */
function tagsOf(list: string | null): string[] | undefined {
  if (list === null) return undefined;
  const tags = list.matchAll(/(?:^|,)[ \t]*(\*|(?:W\/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?=,|$)/g);
  return Array.from(tags, (match) => match[1]!);
}
/** 9110 §8.8.3.2 */
function isSameStrong(tag: string, etag: string | undefined): boolean {
  return tag === etag && !tag.startsWith("W/");
}
function isSameWeak(tag: string, etag: string | undefined): boolean {
  return etag !== undefined && tag.replace(/^W\//, "") === etag.replace(/^W\//, "");
}

const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec";
const TIME = "(\\d\\d):(\\d\\d):(\\d\\d)";
const IMF_DATE = new RegExp(`^\\w{3}, (\\d\\d) (\\w{3}) (\\d{4}) ${TIME} GMT$`);
const RFC850_DATE = new RegExp(`^\\w{6,9}, (\\d\\d)-(\\w{3})-(\\d\\d) ${TIME} GMT$`);
const ASCTIME_DATE = new RegExp(`^\\w{3} (\\w{3}) ([ \\d]\\d) ${TIME} (\\d{4})$`);

/** A date in one of the three forms that a recipient MUST accept (9110 §5.6.7), in milliseconds;
 * NaN for anything else, which compares as neither earlier nor later than anything. */
function parseDate(text: string | null): number {
  if (text === null) return NaN;
  let day: string, month: string, year: string, time: string[];
  let parts = IMF_DATE.exec(text) ?? RFC850_DATE.exec(text);
  if (parts !== null) {
    [, day = "", month = "", year = "", ...time] = parts;
  } else {
    parts = ASCTIME_DATE.exec(text);
    if (parts === null) return NaN;
    [, month = "", day = "", ...time] = parts;
    year = time.pop()!;
  }
  const index = MONTHS.split(" ").indexOf(month);
  const [hour = 0, minute = 0, second = 0] = time.map(Number);
  if (index < 0 || hour > 23 || minute > 59 || second > 60) return NaN;
  let fullYear = Number(year);
  if (year.length === 2) { // "appears to be more than 50 years in the future": it is past
    const now = new Date().getUTCFullYear();
    fullYear += now - now % 100;
    if (fullYear > now + 50) fullYear -= 100;
  }
  const date = Date.UTC(fullYear, index, Number(day), hour, minute, second);
  return new Date(date - (second === 60 ? 1000 : 0)).getUTCDate() === Number(day) ? date : NaN;
}

interface FrozenAnswer {
  readonly reply: Reply;
  readonly second: number;
  /** All of it, or the head alone if the content is long: to copy that each second would cost more. */
  readonly bytes: Uint8Array;
  readonly content: Uint8Array;
  readonly isWhole: boolean;
}

/** The encoded answers of frozen responses, each with the second that its `Date` tells: those after
 * which the connection is kept, and those after which it is closed. A new second makes a new head,
 * since the old one may still be on its way to somebody. */
const FROZEN = {
  kept: new WeakMap<object, FrozenAnswer>(),
  closed: new WeakMap<object, FrozenAnswer>(),
};

/** The whole answer to a plain HTTP/1.1 GET, if `response` is frozen. */
function frozenAnswer(
  response: HttpResponse | Response,
  now: Clock,
  persists: boolean,
): FrozenAnswer | undefined {
  if (!Object.isFrozen(response) || isFetch(response)) return undefined;
  const answers = persists ? FROZEN.kept : FROZEN.closed;
  const known = answers.get(response);
  if (known !== undefined && known.second === now.second) return known;
  if (known === undefined && !isDeepFrozen(response)) return undefined;
  const reply = known?.reply ?? checkResponse(response);
  if (isSource(reply.content) || reply.close || !allowsContent(reply.status)) return undefined;
  const content = known?.content ?? Buffer.from(reply.content);
  const text = headText(reply, now.date, content.length, persists ? "" : CLOSE);
  const isWhole = text.length + content.length <= OUTPUT_SIZE;
  const head = Buffer.from(text, "latin1");
  const bytes = isWhole ? Buffer.concat([head, content]) : head;
  const answer = { reply, second: now.second, bytes, content, isWhole };
  answers.set(response, answer);
  return answer;
}
function isDeepFrozen(response: HttpResponse | Response): boolean {
  if (typeof response !== "object" || response === null) return false;
  const { headers, body, upgrade } = response as HttpResponse;
  if (isStreamed(body) || upgrade !== undefined) return false;
  return headers === undefined ||
    Object.isFrozen(headers) && Object.values(headers ?? {}).every(Object.isFrozen) &&
      !(Symbol.iterator in Object(headers)); // What a `Headers` holds can't be frozen.
}

// ─────────────────────────────────────────────────────────────────────────────────────────────
// 6. The connection
// ─────────────────────────────────────────────────────────────────────────────────────────────

/** What the connections of one server share. */
interface Shared {
  readonly handler: Handler;
  readonly settings: Settings;
  readonly options: ServeOptions;
  readonly proxies: Proxies | undefined;
  readonly log: Logger;
  readonly notes: BoundedLog;
  readonly clock: Clock;
  readonly totals: Totals;
  /** Somebody is told of each {@linkcode Exchange}. */
  readonly isTold: boolean;
  readonly headLimits: HeadLimits;
  /** Parsers that no connection uses: one that waits for a request needs none. */
  readonly parsers: HeadParser[];
  /** The server is stopping: no connection is kept for another request. */
  stopping: boolean;
  /** Somebody waits for a permit: likewise. */
  crowded: boolean;
  /** Gives back the permit of a connection that is only kept open for its last answer to arrive; false
   * if so many are already that this one has to be closed at once. */
  release(): boolean;
  /** Tells everybody who wants to know what became of a request. */
  tell(answered: Answered): void;
  /** Forgets a connection, and gives its permit back if it has not been. */
  closed(connection: HttpConnection, isLingering: boolean): void;
}

/** What is counted for {@linkcode ServerStats}. */
interface Totals {
  /** Answers by the first digit of their status. */
  answers: [number, number, number, number, number, number];
  refused: number;
  timeouts: number;
  losses: number;
}

/** The time, good to a {@linkcode TICK}. Asking the system would cost each request more than the
 * parsing of its head; this asks ten times a second, and not at all while nothing happens. */
class Clock {
  /** The present second, and what a `Date` field says of it (9110 §6.6.1). */
  second = 0;
  date = "";
  #now = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** No tick is due before the next deadline, since nobody asked for the time during the last one. */
  #asleep = true;
  #asked = false;
  #stopped = false;
  readonly #onTick: (before: number, now: number) => number;

  /** `onTick` is told the times of the last tick and of this one, and tells the next deadline. */
  constructor(onTick: (before: number, now: number) => number) {
    this.#onTick = onTick;
  }
  /** Milliseconds since some fixed moment. */
  now(): number {
    this.#asked = true;
    if (this.#asleep) this.#wake();
    return this.#now;
  }
  stop(): void {
    clearTimeout(this.#timer);
    this.#asleep = this.#stopped = true;
  }
  #wake(): void {
    this.#read();
    if (this.#stopped) return; // A handler may end after its server.
    this.#asleep = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#tick, TICK);
  }
  #read(): void {
    this.#now = performance.now();
    const second = Math.floor(Date.now() / 1000);
    if (second === this.second) return;
    this.second = second;
    this.date = new Date(second * 1000).toUTCString(); // which is IMF-fixdate, 9110 §5.6.7
  }
  #tick = (): void => {
    const before = this.#now;
    this.#read();
    const deadline = this.#onTick(before, this.#now);
    if (this.#stopped) return;
    this.#asleep = !this.#asked && deadline > this.#now;
    this.#asked = false;
    if (this.#asleep && deadline === Infinity) return;
    const wait = this.#asleep ? Math.min(deadline - this.#now, LONGEST_TIMER) : TICK;
    this.#timer = setTimeout(this.#tick, Math.max(wait, TICK));
  };
}

/** What many clients can bring about is told a few times a second, and then how often it was. */
class BoundedLog {
  readonly #log: Logger;
  readonly #kinds = new Map<string, { level: "error" | "info"; count: number }>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(log: Logger) {
    this.#log = log;
  }
  /** A line of a certain kind, which is named if there are too many. */
  add(level: "error" | "info", kind: string, message: string): void {
    if (this.#log[level] === undefined) return;
    const known = this.#kinds.get(kind) ?? { level, count: 0 };
    if (++known.count <= LINES_A_SECOND) this.#log[level](message);
    this.#kinds.set(kind, known);
    this.#timer ??= setTimeout(() => this.flush(), 1000);
  }
  /** Tells how many were not told, and begins to count anew. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const [kind, { level, count }] of this.#kinds) {
      if (count > LINES_A_SECOND) this.#log[level]?.(`${kind}: ${count - LINES_A_SECOND} more`);
    }
    this.#kinds.clear();
  }
}

/** What a client is waited for: to send another request, the rest of a head, or content; to close. */
type Awaited = "request" | "head" | "content" | "close";

/** How long one client is waited for. */
class Deadlines {
  readonly #shared: Shared;
  readonly #idleTime: number;
  readonly #requestTime: number;
  /** Milliseconds of waiting that the request which is being read may still cost. */
  #allowance: number;
  /** What it is waited for, if for anything; since when, by the clock, and until when. */
  awaited: Awaited | undefined;
  #since = 0;
  #readBy = Infinity;
  /** Until when it must have taken something of what is being written. */
  #writeBy = Infinity;

  constructor(shared: Shared) {
    const { idleTimeout, requestTimeout } = shared.settings;
    this.#shared = shared;
    this.#idleTime = idleTimeout * 1000;
    this.#requestTime = this.#allowance = requestTimeout * 1000;
  }
  /** The first of them; Infinity while the client has nothing to do. */
  get next(): number {
    return Math.min(this.#readBy, this.#writeBy);
  }
  /** The client is waited for from now on. That it has to close is final, even if somebody still reads. */
  await(what: Awaited): void {
    if (this.awaited === "close") return;
    const idleTime = this.#idleTime;
    let time = this.#shared.stopping ? TICK : idleTime;
    if (what !== "request") time = what === "close" ? LINGER_TIME : this.#allowance;
    this.awaited = what;
    this.#since = this.#shared.clock.now();
    this.#readBy = this.#since + Math.min(time, idleTime);
  }
  /** Something of what was awaited has come; until further notice, no more is. */
  came(): void {
    const now = this.#shared.clock.now(); // which also brings the date up to date
    if (this.awaited === "close") return;
    if (this.awaited !== "request") this.#allowance -= now - this.#since;
    this.awaited = undefined;
    this.#readBy = Infinity;
  }
  /** Another request may begin, with all of its time. */
  renew(): void {
    this.#allowance = this.#requestTime;
  }
  /** The request that is being read has another time, in seconds. What it has taken so far counts; without
   * a limit, that is not known, and next to nothing. */
  allow(requestTimeout: number): void {
    const spent = this.#requestTime < Infinity ? this.#requestTime - this.#allowance : 0;
    this.#allowance = requestTimeout * 1000 - spent;
  }
  /** The client has to take something of what is written to it; it has taken all. */
  writing(): void {
    this.#writeBy = this.#shared.clock.now() + this.#idleTime;
  }
  written(): void {
    this.#writeBy = Infinity;
  }
  get isWriting(): boolean {
    return this.#writeBy < Infinity;
  }
}

/** Gathers answers, so that those to pipelined requests leave in one write. A connection has a buffer
 * only while it has something to write. */
class Output {
  readonly #connection: Connection;
  readonly #deadlines: Deadlines;
  readonly #shared: Shared;
  /** A lone answer is written as it is; more than one are copied to the buffer. */
  #single: Uint8Array | undefined;
  #buffer: Buffer | undefined;
  #length = 0;
  #writing: Promise<void> | undefined;
  /** What ends in what was gathered; in what is being written. */
  #gathered: Answered[] = [];
  #leaving: Answered[] = [];
  /** Why it can't be written any further. */
  failure: unknown;

  constructor(connection: Connection, deadlines: Deadlines, shared: Shared) {
    this.#connection = connection;
    this.#deadlines = deadlines;
    this.#shared = shared;
  }
  /** Whether nothing is left to be written. */
  get isEmpty(): boolean {
    return this.length === 0 && this.#writing === undefined;
  }
  /** How many bytes have been gathered. */
  get length(): number {
    return this.#single?.length ?? this.#length;
  }
  /** Whether so many more bytes can be gathered; else `flush` first. */
  fits(size: number): boolean {
    return this.length + size <= OUTPUT_SIZE;
  }
  /** Adds bytes that fit, or bytes of any size to nothing. They must not change until they are
   * written, since they are not copied while they are alone. */
  put(bytes: Uint8Array): void {
    if (this.length === 0) this.#single = bytes;
    else this.copy(bytes);
  }
  /** Adds a copy of bytes that fit. */
  copy(bytes: Uint8Array): void {
    this.#space(bytes.length).set(bytes, this.#length);
    this.#length += bytes.length;
  }
  /** Adds text if it fits and is all ASCII; else adds nothing and returns false. */
  putAscii(text: string): boolean {
    const { length } = text;
    if (!this.fits(length)) return false;
    const { read, written } = encoder.encodeInto(text, this.#space(length).subarray(this.#length));
    if (read < length || written > length) return false;
    this.#length += length;
    return true;
  }
  /** Adds bytes of any size: those that do not fit are written. */
  async add(bytes: Uint8Array): Promise<void> {
    if (this.fits(bytes.length)) return this.copy(bytes);
    await this.flush();
    this.put(bytes);
    await this.flush();
  }
  /** Makes room for what is to come, which must fit. */
  reserve(size: number): void {
    this.#space(size);
  }
  /** Adds text that has so many bytes in UTF-8, which must fit. */
  putText(text: string, size: number): void {
    this.#space(size).write(text, this.#length);
    this.#length += size;
  }
  /** An answer ends with what was put last: its end is told when that has been taken. */
  end(answered: Answered): void {
    if (this.isEmpty) this.#tell(answered);
    else if (this.length === 0) this.#leaving.push(answered);
    else this.#gathered.push(answered);
  }
  /** The answers that were not taken, and won't be. */
  lose(): Answered[] {
    return [...this.#leaving.splice(0), ...this.#gathered.splice(0)];
  }
  /** Writes all that was gathered; undefined if that was done at once. */
  flush(): Promise<void> | undefined {
    if (this.#writing !== undefined) return this.#writing.then(() => this.flush());
    if (this.length === 0) return undefined;
    const buffer = this.#buffer;
    const bytes = this.#single ?? buffer!.subarray(0, this.#length);
    this.#single = this.#buffer = undefined;
    this.#length = 0;
    if (this.#leaving.length === 0) { // else a write has failed
      const none = this.#leaving;
      this.#leaving = this.#gathered;
      this.#gathered = none;
    }
    const taken = this.#connection.write(bytes);
    if (taken !== bytes.length) return this.#writing = this.#writeRest(bytes, taken, buffer);
    giveBuffer(buffer);
    this.#taken();
    return undefined;
  }
  /** One by one, since whoever is told may close the connection. */
  #taken(): void {
    let answered: Answered | undefined;
    while ((answered = this.#leaving.shift()) !== undefined) this.#tell(answered);
  }
  #tell(answered: Answered): void {
    answered.delivered = true;
    this.#shared.tell(answered);
  }
  async #writeRest(
    bytes: Uint8Array,
    taken: number | Promise<number>,
    buffer: Buffer | undefined,
  ): Promise<void> {
    try {
      this.#deadlines.writing();
      for (let sent = await taken; sent < bytes.length;) {
        this.#deadlines.writing();
        sent += await this.#connection.write(bytes.subarray(sent));
      }
      giveBuffer(buffer);
      this.#taken();
    } catch (error) {
      throw this.failure = error;
    } finally {
      this.#writing = undefined;
      this.#deadlines.written();
    }
  }
  /** A buffer with room for so many bytes behind what was gathered, which must fit. */
  #space(size: number): Buffer {
    const before = this.#buffer;
    const needed = this.length + size;
    const isInUse = before !== undefined && this.#single === undefined;
    if (isInUse && needed <= before.length) return before;
    const isSmall = needed <= SMALL_OUTPUT_SIZE, isMedium = needed <= MEDIUM_OUTPUT_SIZE;
    const buffer = takeBuffer(
      isSmall ? SMALL_OUTPUT_SIZE : isMedium ? MEDIUM_OUTPUT_SIZE : OUTPUT_SIZE,
    );
    const gathered = this.#single ?? before?.subarray(0, this.#length);
    if (gathered !== undefined) {
      buffer.set(gathered);
      this.#length = gathered.length;
      this.#single = undefined;
      giveBuffer(before);
    }
    return this.#buffer = buffer;
  }
}

/** Why a request got no answer, most often. */
const LEFT = "the client left";

/** What is told of an answer. */
type Outcome = Pick<Answer, "status" | "sent" | "reason" | "startedAt">;

/** The answer to one request: what the handler gave becomes bytes in the output. It ends with the request. */
class Answer {
  readonly request: IncomingRequest;
  status = 0;
  /** Bytes of its content that were sent. */
  sent = 0;
  /** Why it failed, if it did. */
  reason = "";
  /** When it began to leave; NaN if that is all in one write. */
  startedAt = NaN;
  /** Whether the connection waits for another request after it. */
  persists = true;
  /** Who takes the connection over after it. */
  owner: HttpResponse["upgrade"];
  /** Since when, by the clock, nobody may be there any more for whom the handler works. */
  leftAt = Infinity;
  /** Where the pieces of its content come from, if they are streamed. */
  source: Source | undefined;
  readonly #connection: HttpConnection;
  /** It is given in place of a handler that failed, perhaps by `onError`. */
  #isFailure = false;

  constructor(request: IncomingRequest, connection: HttpConnection) {
    this.request = request;
    this.#connection = connection;
  }

  /** The answer to what a handler threw. */
  failure(thrown: unknown): HttpResponse | Response {
    const { onError } = this.#connection.shared.options;
    const { failure } = this.request.content;
    // Whoever reads the content for the handler, as `fetch` does, may wrap what was wrong with it.
    const isWrapped = failure instanceof HttpError && !(thrown instanceof HttpError);
    const error = isWrapped
      ? new HttpError(failure.status, failure.message, { cause: thrown })
      : thrown;
    const expected = error instanceof HttpError;
    this.#isFailure = true;
    if (expected) this.reason = visible(error.message) + because(error);
    else this.#connection.noteMistake(error, this.request);
    try {
      if (onError !== undefined) {
        const answer = onError(error, this.request);
        if (!isPromise(answer)) return answer;
        (answer as Promise<never>).catch(() => {});
        throw new TypeError("onError returned a promise: it must answer at once");
      }
    } catch (second) {
      this.#connection.noteMistake(second, this.request, "onError, ");
    }
    return expected ? errorReply(error.status, error.message) : errorReply(500);
  }
  /** The same, for a response that can't be sent. */
  #failureReply(error: unknown): Reply {
    try {
      if (this.#isFailure) throw error; // It is what onError has answered.
      return checkResponse(this.failure(error));
    } catch (second) {
      this.#connection.noteMistake(second, this.request, "onError, ");
      return checkResponse(errorReply(500));
    }
  }

  /** Sends it, or gathers it for the next write; undefined if nothing has to be waited for. */
  send(response: HttpResponse | Response): Promise<void> | undefined {
    const { head, content } = this.request;
    const { stopping, crowded, clock } = this.#connection.shared;
    clock.now(); // The handler may have taken its time.
    this.persists = head.keepAlive && !stopping && !crowded &&
      (content.complete || content.isWorthSkipping);
    let reply: Reply;
    try {
      if (!head.conditional && head.version === "1.1" && head.method !== "HEAD") {
        const frozen = frozenAnswer(response, clock, this.persists);
        if (frozen !== undefined) return this.#sendFrozen(frozen);
      }
      reply = checkResponse(response);
    } catch (error) {
      discard(response);
      reply = this.#failureReply(error);
    }
    if (reply.upgrade !== undefined) {
      discard(response);
      const refusal = upgradeRefusal(reply, this.request);
      if (refusal === undefined) this.owner = reply.upgrade;
      else reply = checkResponse(refusal);
    }
    if (isSource(reply.content)) {
      this.source = reply.content;
      const mayBeWhole = !reply.length || reply.isFetch;
      if (mayBeWhole && head.method !== "HEAD" && allowsContent(reply.status)) {
        return this.#sendGathered(reply, reply.content);
      }
    }
    return this.#sendReply(reply);
  }
  /** Takes what a stream has at once: if that is all of it, it is sent like any other content. */
  async #sendGathered(reply: Reply, source: Source): Promise<void> {
    const connection = this.#connection, { request } = this;
    const buffer = takeBuffer(GATHERED);
    try {
      const content = await gather(source, buffer);
      if (!isSource(content)) request.throwIfTold();
      const length = isSource(content) ? reply.length : content.length;
      if (!isSource(content)) this.source = undefined;
      reply = { ...reply, content, length };
    } catch (error) {
      void source.cancel(error);
      this.source = undefined;
      if (connection.isClosed || request.isReason(error)) throw error;
      reply = this.#failureReply(error);
    }
    if (request.content.failure !== undefined) this.persists = false; // The stream was made of it.
    await this.#sendReply(reply);
    giveBuffer(buffer); // Nobody else has it by now.
  }
  #sendReply(reply: Reply): Promise<void> | undefined {
    const { head, content } = this.request;
    if (head.conditional) {
      const { content } = reply;
      reply = applyConditions(reply, this.request);
      if (isSource(content) && reply.content !== content) void content.cancel();
    }
    if (isSource(reply.content)) this.source = reply.content;
    else content.answered();
    if (reply.close) this.persists = false;
    this.status = reply.status;
    return this.#sendSmall(reply) ? undefined : this.#sendParts(reply);
  }
  /** Gathers an answer that fits, as most do; false if this one does not. */
  #sendSmall(reply: Reply): boolean {
    const { content, status } = reply, { method } = this.request;
    if (isSource(content) || method === "HEAD" || !allowsContent(status)) return false;
    const { output } = this.#connection;
    if (typeof content === "string" && content.length <= SHORT_TEXT) {
      const { length } = content; // as many bytes, if it is ASCII
      if (output.putAscii(this.#headText(reply, length, "") + content)) {
        this.sent = length;
        return true;
      }
    }
    const size = reply.length = sizeOf(content);
    const text = this.#headText(reply, size, "");
    if (!output.fits(text.length + size)) return false;
    output.reserve(text.length + size);
    if (!output.putAscii(text)) return false;
    if (typeof content !== "string") output.copy(content);
    else output.putText(content, size);
    this.#connection.steps += size / TEXT_A_STEP;
    this.sent = size;
    return true;
  }
  #sendFrozen(answer: FrozenAnswer): Promise<void> | undefined {
    const { output } = this.#connection;
    this.request.content.answered();
    this.status = answer.reply.status;
    this.sent = answer.content.length;
    if (!answer.isWhole) {
      this.startedAt = performance.now();
      return output.add(answer.bytes).then(() => output.add(answer.content));
    }
    if (!output.fits(answer.bytes.length)) return output.add(answer.bytes);
    output.put(answer.bytes);
    return undefined;
  }
  #headText(reply: Reply, length: number | undefined, framing: string): string {
    let more = framing;
    if (!this.persists && this.owner === undefined) more += CLOSE; // An upgrade goes on.
    else if (this.request.version === "1.0") more += "Connection: keep-alive\r\n";
    return headText(reply, this.#connection.shared.clock.date, length, more);
  }
  /** Sends a head, and then the content. */
  async #sendParts(reply: Reply): Promise<void> {
    this.startedAt = performance.now();
    const { status, content } = reply;
    const { request } = this, { output } = this.#connection;
    const isHead = request.method === "HEAD";
    const streamed = isSource(content);
    let { length } = reply;
    // HEAD may be told what GET would have got; of nothing that is not known (9110 §8.6).
    if (isHead && !streamed && content.length > 0) length = sizeOf(content);
    let framing = "";
    if (status === 205) {
      length = 0; // 9110 §15.3.6
    } else if (!allowsContent(status)) {
      length = undefined; // 9110 §8.6
    } else if (streamed && length === undefined) {
      if (request.version === "1.1") framing = "Transfer-Encoding: chunked\r\n";
      else this.persists = false; // 9112 §6.3: the end of the connection is the end of the content
    }
    if (streamed) {
      // The stream may be made of the content, for which it is too late to ask afterwards.
      if (request.isStreaming) await request.content.invite();
      request.content.answered();
    }
    const text = this.#headText(reply, length, framing);
    await output.add(Buffer.from(text, "latin1")); // 9110 §5.5: one byte a character
    this.sent = 0;
    if (isHead || !allowsContent(status)) {
      if (streamed) void content.cancel();
    } else if (streamed) {
      await this.#sendStream(content, length, framing !== "");
    } else if (typeof content === "string") {
      await this.#sendText(content);
    } else {
      await output.add(content);
      this.sent = content.length;
    }
  }
  /** Encodes a long text as it is written. */
  async #sendText(text: string): Promise<void> {
    const { output } = this.#connection;
    await output.flush();
    const buffer = takeBuffer(TEXT_SIZE);
    for (let at = 0; at < text.length;) {
      // Half of a pair of surrogates at the end does not fit: it comes with the next piece.
      const { read, written } = encoder.encodeInto(text.substring(at, at + TEXT_SIZE), buffer);
      at += read;
      output.put(buffer.subarray(0, written));
      await output.flush();
      this.sent += written;
      const step = this.#connection.step(written / TEXT_A_STEP);
      if (step !== undefined) await step;
    }
    giveBuffer(buffer);
  }
  /** Takes a piece when the one before has been sent, so that memory does not grow with the body. */
  async #sendStream(source: Source, length: number | undefined, chunked: boolean): Promise<void> {
    const { request } = this, connection = this.#connection, { output, deadlines } = connection;
    try {
      while (this.sent !== length) {
        const step = connection.step();
        if (step !== undefined) await step;
        const next = source.next();
        // What is there leaves together; but nothing waits for what is not.
        const isThere = await settlesAtOnce(next);
        if (!isThere || output.length >= GATHERED) await output.flush();
        if (request.isGone && !deadlines.isWriting) deadlines.writing();
        const { done, value: piece } = await next;
        if (connection.isClosed) throw new Error(CLOSED);
        if (done) break;
        const value = bytesOf(piece);
        if (value.length === 0) continue; // A chunk of no bytes would be the last.
        if (this.sent + value.length > (length ?? Infinity)) break;
        this.sent += value.length;
        deadlines.written();
        if (chunked) output.putAscii(`${value.length.toString(16)}\r\n`); // There is room left.
        await output.add(value);
        if (chunked) await output.add(CRLF);
      }
      if (length === undefined) {
        request.throwIfTold();
        if (chunked) await output.add(LAST_CHUNK);
      } else if (this.sent === length) {
        void this.#expectEnd(source);
      } else {
        throw new ResponseError("A streamed body is not as long as its Content-Length");
      }
    } catch (error) { // Without its end, so that the client notices.
      const isLost = connection.isClosed || error === output.failure || request.isReason(error);
      const isClients = error instanceof HttpError && error === request.content.failure;
      if (!isLost && !isClients) connection.noteMistake(error, request);
      this.reason = isLost ? "" : isClients ? `cut off: ${visible(error.message)}` : "cut off";
      void source.cancel(error);
      throw error;
    } finally {
      this.source = undefined;
    }
  }
  /** As much as was promised has been sent: it may take the stream as long as it likes to end. */
  async #expectEnd(source: Source): Promise<void> {
    try {
      for (;;) {
        const { done, value } = await source.next();
        if (done) return;
        if (bytesOf(value).length > 0) break;
      }
      throw new ResponseError("A streamed body is longer than its Content-Length");
    } catch (error) {
      this.#connection.noteMistake(error, this.request);
      void source.cancel(error);
    }
  }
}

/** What a connection does for the client; what it waits for meanwhile, its deadlines say. */
type Phase = "receiving" | "handling" | "answering" | "lingering" | "upgraded" | "closed";

/**
 * One connection: its requests in order, each read, handled and answered before the next.
 *
 * | phase     | what happens                                           | the client is waited for        |
 * | --------- | ------------------------------------------------------ | ------------------------------- |
 * | receiving | a head is read; answers from before may be leaving     | request, idleTimeout; then head |
 * | handling  | a handler has the request; `watch` looks for the end   | content, if it is read          |
 * | answering | its answer leaves: it is too late for a 408 or 100     | to take it, idleTimeout a step  |
 * | lingering | the last answer shall arrive; the permit is given back | close, LINGER_TIME              |
 * | upgraded  | somebody else has the connection                       | nothing                         |
 * | closed    | what still runs finds out                              | nothing                         |
 *
 * They follow in this order, and after an answer that lets the connection persist, from the first again.
 * The waits for the rest of a head and for content share requestTimeout.
 * Whatever is awaited here, meanwhile `giveUp` may close the connection, and while something is read,
 * `expire` may answer 408: then `resumed` throws it at whoever waited.
 */
class HttpConnection implements Patience, RequestOwner {
  readonly shared: Shared;
  readonly output: Output;
  readonly deadlines: Deadlines;
  /** What was done for this connection since others got their turn. */
  steps = 0;
  readonly #connection: Connection;
  readonly #input: Input;
  #phase: Phase = "receiving";
  /** What has been seen of a head that is not whole yet. */
  #parser: HeadParser | undefined;
  /** The answer to the request in hand. */
  #answer: Answer | undefined;
  #answered = 0;
  /** What was told in place of an answer, at the end. */
  #refusal: Outcome | undefined;
  /** The 408 that has been sent. */
  #late: HttpError | undefined;
  /** Whether nothing has come of which an {@linkcode Exchange} has still to be told; if one will be, when
   * its message began, and when its head was there. */
  #isNoted = true;
  #startedAt = 0;
  #headAt = 0;

  constructor(shared: Shared, connection: Connection) {
    this.shared = shared;
    this.#connection = connection;
    this.deadlines = new Deadlines(shared);
    this.#input = new Input(connection, shared.settings.maxHeaderSize);
    this.output = new Output(connection, this.deadlines, shared);
  }

  /** The life of the connection. */
  async run(): Promise<void> {
    const { deadlines, output, shared: { handler, log, proxies, settings } } = this;
    try {
      while (!this.isClosed) {
        // Read a head. What was gathered is sent before anything is waited for.
        let head = this.#nextHead();
        while (head === undefined) {
          const flushed = output.flush();
          if (flushed !== undefined) await flushed;
          if (this.shared.crowded && !this.#hasBegun && this.#answered > 0) return; // others wait
          deadlines.await(this.#hasBegun ? "head" : "request");
          const read = this.#input.read();
          const isMuch = this.steps >= STEPS_A_TURN / 2;
          if (isMuch && await isWaiting(read, this.#connection)) this.steps = 0;
          const count = typeof read === "number" ? read : await read;
          this.resumed();
          if (!this.#input.took(count)) return await this.#ended();
          head = this.#nextHead();
        }

        // Call the handler.
        const content = new Body(head, this.#input, this, settings);
        const request = new IncomingRequest(head, content, this.#connection, this, proxies);
        const answer = this.#answer = new Answer(request, this);
        this.#enter("handling");
        log.debug?.(`Processing ${head.method} ${visible(head.target)}...${this.#from()}`);
        let response = content.complete ? undefined : this.#setLimits(answer);
        try {
          const returned = response ?? handler(request);
          response = isPromise(returned) ? await this.#settled(returned) : returned;
        } catch (error) {
          if (request.isReason(error)) throw error; // Nobody is there to get an answer.
          response = answer.failure(error);
        }
        if (content.isLost) throw content.failure;
        if (this.#late !== undefined) throw this.#late;

        // Answer it, and get ready for the next one.
        this.#enter("answering");
        const sent = answer.send(response);
        if (sent !== undefined) await sent;
        if (this.isClosed) return; // What else the client has sent is not handled any more.
        this.#noteAnswer(answer);
        if (request.isFollowed) await output.flush();
        request.end();
        log.debug?.(`Completed!!${this.#from()}`);
        if (answer.owner !== undefined) return await this.#handOver(answer.owner, request);
        if (!content.complete && answer.persists) await this.#skip(content, answer);
        else if (!content.complete) content.abandon();
        if (!answer.persists) return await this.#finish(head.keepAlive || !content.complete);
        this.#enter("receiving");
        this.#answer = undefined;
        deadlines.renew();
        this.#answered++;
        const step = this.step();
        if (step !== undefined) await step;
      }
    } catch (error) {
      this.#answer?.request.abort(error);
      this.#answer?.request.end(error);
      await this.#refuse(error);
    } finally {
      this.close();
      this.#input.release();
    }
  }

  /** Nothing follows the end. */
  #enter(phase: Phase): void {
    if (this.#phase !== "closed") this.#phase = phase;
  }
  /** Gives a client up that has left, or takes too long; `why` is for the log. */
  giveUp(why: string, reason: unknown): void {
    if (this.isClosed) return;
    this.#noteLoss(why, reason);
    this.close(reason, why);
  }
  /** Closes the connection, and gives its permit back. */
  close(reason?: unknown, why = LEFT): void {
    if (this.isClosed) return;
    const wasLingering = this.isLingering;
    this.#enter("closed");
    this.#connection.close();
    for (const answered of this.output.lose()) this.#lost(answered, why);
    this.shared.closed(this, wasLingering);
    const { request, source } = this.#answer ?? {};
    if (reason !== undefined) request?.abort(reason);
    request?.end(reason ?? new Error(CLOSED));
    void source?.cancel(reason);
  }
  get isClosed(): boolean {
    return this.#phase === "closed";
  }
  /** Whether its permit was given back before it is closed. */
  get isLingering(): boolean {
    return this.#phase === "lingering";
  }
  /** Whether no request has begun. */
  get isWaiting(): boolean {
    return this.deadlines.awaited === "request";
  }
  /** Whether a request was answered and no other has begun. */
  get isIdle(): boolean {
    return this.isWaiting && this.#answered > 0;
  }
  /** Since when, by the clock, nobody may be there any more for whom the handler works. */
  get leftAt(): number {
    return this.#phase === "handling" ? this.#answer!.leftAt : Infinity;
  }
  get state(): Exclude<keyof ServerStats["connections"], "waiting"> {
    const phase = this.#phase, { awaited } = this.deadlines;
    if (phase === "lingering" || phase === "upgraded") return phase;
    if (awaited !== undefined) return awaited === "request" ? "idle" : "reading";
    return phase === "handling" ? phase : "writing";
  }
  get isStopping(): boolean {
    return this.shared.stopping;
  }

  /** The server is stopping: what waits for a request gets no more than a moment for it to come. */
  hurry(): void {
    if (this.isWaiting) this.deadlines.await("request");
    this.#answer?.request.stop();
  }
  /** The deadline has passed. */
  expire(): void {
    const { awaited } = this.deadlines, { stopping, totals } = this.shared;
    const isRead = awaited === "head" || awaited === "content";
    if (isRead && this.#phase !== "answering" && this.output.isEmpty) {
      totals.timeouts++;
      void this.#sendLate();
    } else {
      const why = "Connection closed due to idle timeout";
      const isExpected = awaited === "close" || stopping;
      if (!isExpected) totals.timeouts++;
      if (this.#isNoted && !isExpected) this.#note(why);
      this.giveUp(why, new DOMException("The client took too long", "TimeoutError"));
    }
  }
  /** Whoever is reading goes on, and finds out when something comes or the connection is closed. */
  async #sendLate(): Promise<void> {
    const late = this.#late = new HttpError(408, "The request took too long to arrive"); // 9110 §15.5.9
    this.#giveBack();
    try {
      this.#putRefusal(late);
      await this.output.flush();
      await this.#connection.closeWrite();
    } catch (error) {
      this.close(error);
    }
  }
  /** Begins to notice whether the client goes away while its request is handled. */
  watch(): void {
    const answer = this.#answer, { deadlines } = this, { clock, settings } = this.shared;
    const isOthers = answer === undefined || answer.owner !== undefined;
    if (isOthers || deadlines.awaited !== undefined) return;
    const isSeen = this.#input.watch((error) => {
      if (error !== undefined) return this.giveUp(LEFT, error);
      if (this.#answer !== answer) return;
      // It may have left, or only have sent all that it wanted to: then it gets its answer, and a
      // stream may not be silent for long.
      answer.request.abort(undefined);
      answer.leftAt = clock.now();
      if (answer.source !== undefined && !deadlines.isWriting) deadlines.writing();
    });
    // Behind what it has sent ahead, its end can't be seen: so it may have left long ago.
    if (isSeen || answer.leftAt < Infinity) return;
    answer.leftAt = clock.now() + Math.max(0, settings.idleTimeout * 1000 - LINGER_TIME);
  }

  // Reading

  /** Whether some of a head has come, and not yet all of it. */
  get #hasBegun(): boolean {
    return this.#parser !== undefined && this.#parser.begun;
  }
  /** The next head, if all of it is there. */
  #nextHead(): Head | undefined {
    const input = this.#input;
    if (input.empty) return undefined;
    const { parsers, headLimits, isTold } = this.shared;
    const isNew = !this.#hasBegun; // Empty lines before a request are no part of it.
    if (isNew && isTold) this.#startedAt = this.#headAt = performance.now();
    const parser = this.#parser ??= parsers.pop() ?? new HeadParser(headLimits);
    this.#isNoted = false; // It may be refused.
    const head = parser.parse(input.bytes, input.start, input.end);
    if (head === undefined) {
      this.#isNoted = !parser.begun;
      return undefined;
    }
    if (!isNew && isTold) this.#headAt = performance.now();
    input.start += parser.size;
    parser.reset();
    parsers.push(parser);
    this.#parser = undefined;
    return head;
  }
  /** The client has sent its last byte. */
  async #ended(): Promise<void> {
    if (this.#hasBegun) throw new HttpError(400, "The request ended early"); // 9112 §8
    await this.output.flush();
  }
  /** Asks the application how much content this request may have; if that fails, for an answer.
   * @throws {HttpError} if it has announced more. */
  #setLimits(answer: Answer): HttpResponse | Response | undefined {
    const { options: { limits }, settings } = this.shared;
    if (limits === undefined) return undefined;
    let maxBodySize: number, requestTimeout: number;
    try {
      const own: RequestLimits | undefined = limits(answer.request);
      if (isPromise(own)) {
        (own as Promise<never>).catch(() => {});
        throw new TypeError("limits returned a promise: it must answer at once");
      }
      const of = (name: keyof RequestLimits) => checkSetting(name, own?.[name] ?? settings[name]);
      maxBodySize = of("maxBodySize");
      requestTimeout = of("requestTimeout");
    } catch (error) {
      return answer.failure(error);
    }
    this.deadlines.allow(requestTimeout);
    answer.request.content.limitTo(maxBodySize);
    return undefined;
  }
  /** Waits for a handler; meanwhile the answers to the requests before leave. */
  #settled<T>(returned: Promise<T>): Promise<T> {
    this.output.flush()?.catch((error) => this.giveUp(LEFT, error));
    return returned;
  }
  /** Reads past the content that the handler did not ask for. */
  async #skip(content: Body, answer: Answer): Promise<void> {
    await this.output.flush();
    try {
      answer.persists = await content.skip();
    } catch {
      answer.persists = false;
    }
    content.abandon();
  }

  // For whoever reads content

  /** A client that has much to be done, and never waits, does not keep others waiting. */
  step(size = 1): Promise<void> | undefined {
    this.steps += size;
    if (this.steps < STEPS_A_TURN) return undefined;
    this.steps = 0;
    return turns.next();
  }
  waiting(): void {
    this.deadlines.await("content");
  }
  resumed(): void {
    if (this.#late !== undefined) throw this.#late;
    this.deadlines.came();
  }
  async sendContinue(): Promise<void> {
    await this.output.add(CONTINUE);
    await this.output.flush();
  }

  // Ending

  /** After the last answer. A client that asked for the close sends nothing more, but over TLS both
   * sides say that they have finished (9112 §9.8). */
  async #finish(lingers: boolean): Promise<void> {
    await this.output.flush();
    if (lingers || !this.#input.empty || this.#connection.encrypted) await this.#linger();
  }
  /** Answers what can't be served, if it can be answered. */
  async #refuse(error: unknown): Promise<void> {
    try {
      if (this.#late !== undefined) {
        await this.#pending;
        return await drain(this.#connection);
      }
      if (this.isClosed) return;
      const isStranger = error instanceof TlsError && !error.isGone || error instanceof ProxyError;
      if (isStranger) return this.#note(visible(error.message));
      const isLost = !(error instanceof HttpError) || this.#phase === "answering";
      if (isLost) this.#noteLoss(LEFT, error);
      await this.output.flush();
      if (isLost) return;
      this.#putRefusal(error);
      await this.#linger();
    } catch (lost) { // The client did not wait for it.
      if (!this.#isNoted) this.#noteLoss(LEFT, lost);
    }
  }
  /** Gathers the server's own answer to a message, behind nothing else. */
  #putRefusal(error: HttpError): void {
    const { method } = this.#seen();
    const { bytes, size } = encodeRefusal(error, this.shared.clock.date, method);
    const outcome: Outcome = this.#refusal = this.#answer ?? { ...NO_ANSWER };
    outcome.status = error.status;
    outcome.sent = size;
    outcome.reason = visible(error.message) + because(error);
    this.output.put(bytes);
    this.#noteAnswer(outcome, true);
  }
  /** Sends the last answer so that it arrives. Nobody has to wait for a permit meanwhile. */
  async #linger(): Promise<void> {
    this.#giveBack();
    const reading = this.#pending;
    await this.output.flush();
    if (this.isLingering) await sayGoodbye(this.#connection, NOTHING, reading);
  }
  /** Gives the permit back, if not too many linger already. */
  #giveBack(): void {
    if (this.isClosed || this.isLingering) return;
    this.deadlines.await("close");
    this.#enter(this.shared.release() ? "lingering" : "answering");
  }
  /** A read that was begun, and for which nobody waits any more. */
  get #pending(): Promise<unknown> | undefined {
    return this.#input.ahead ?? this.#answer?.request.content.pending;
  }
  /** Leaves the connection to whoever speaks another protocol. */
  async #handOver(owner: NonNullable<HttpResponse["upgrade"]>, request: IncomingRequest) {
    await this.output.flush();
    this.#enter("upgraded");
    const connection = new UpgradedConnection(this.#connection, this.#input, this);
    try {
      await owner(connection);
      if (!this.isClosed) await this.#linger(); // What it wrote last shall arrive.
    } catch (error) {
      if (!this.isClosed) this.noteMistake(error, request, "upgrade, ");
    }
  }

  // Telling

  /** Who it is: of the request in hand, if there is one, the client, which a proxy may have told. */
  #from(): string {
    return ` (from ${peerOf(this.#answer?.request ?? this.#connection)})`;
  }
  /** What is known of the request line of the request in hand. */
  #seen(): { method: string; target: string; protocol: string } {
    const { bytes, start } = this.#input;
    return this.#answer?.request.head ?? this.#parser?.seenIn(bytes, start) ?? NOTHING_SEEN;
  }
  /** The request in hand has been answered: what is to be told of it, once its answer has been taken. */
  #noteAnswer(outcome: Outcome, refused = false): void {
    const answered = this.#conclude(outcome, refused);
    if (answered !== undefined) this.output.end(answered);
  }
  #conclude({ status, sent, reason, startedAt }: Outcome, refused = false): Answered | undefined {
    const { totals, isTold } = this.shared;
    this.#isNoted = true;
    totals.answers[Math.floor(status / 100)]!++;
    if (refused) totals.refused++;
    if (!isTold) return undefined;
    const { method, target, protocol } = this.#seen();
    const request = this.#answer?.request;
    const { remoteAddress, remotePort } = request ?? this.#connection;
    return {
      method,
      target,
      protocol,
      remoteAddress,
      remotePort,
      status,
      received: request?.content.received ?? 0,
      sent,
      headTime: this.#headAt - this.#startedAt,
      // NaN, until it is told, if it leaves in one write.
      answerTime: status === 0 ? 0 : startedAt - this.#startedAt,
      time: this.#startedAt, // until it is told
      delivered: false,
      refused,
      reason,
    };
  }
  #lost(answered: Answered, why: string): void {
    answered.reason ||= why;
    this.shared.tell(answered);
  }
  /** Something that happened to the connection. */
  #note(what: string): void {
    this.shared.notes.add("info", what, what + this.#from());
  }
  /** The connection ends before its time; what becomes of a request that is in hand is told now. */
  #noteLoss(why: string, error: unknown): void {
    const outcome = this.#refusal ?? this.#answer ?? NO_ANSWER;
    this.shared.log.debug?.(`Connection lost: ${inOneLine(error)}${this.#from()}`);
    // Not so if the answer was cut off here.
    if (why === LEFT && outcome.reason === "") this.shared.totals.losses++;
    if (this.#isNoted) return;
    const answered = this.#conclude(outcome);
    if (answered !== undefined) this.#lost(answered, why);
  }
  /** What a handler did wrong. */
  noteMistake(error: unknown, { method, target }: HttpRequest, where = ""): void {
    const what = `${where}${method} ${visible(target)}${this.#from()}: ${describe(error)}`;
    this.shared.notes.add("error", "Errors of handlers", what);
  }
}

const NO_ANSWER: Outcome = { status: 0, sent: 0, reason: "", startedAt: NaN };
const NOTHING_SEEN = { method: "", target: "", protocol: "" };

/** A connection that was taken over, with what its client has sent behind the request. */
class UpgradedConnection implements Connection {
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly unix: string | undefined;
  readonly encrypted: boolean;
  /** Why it can't be read or written any further. */
  #failure: unknown;
  readonly #connection: Connection;
  readonly #input: Input;
  readonly #holder: HttpConnection;
  #hasEnded = false;

  constructor(connection: Connection, input: Input, holder: HttpConnection) {
    this.#connection = connection;
    this.#input = input;
    this.#holder = holder;
    this.remoteAddress = connection.remoteAddress;
    this.remotePort = connection.remotePort;
    this.unix = connection.unix;
    this.encrypted = connection.encrypted ?? false;
  }
  read(buffer: Uint8Array): number | null | Promise<number | null> {
    const input = this.#input;
    if (this.#holder.isClosed) return unheeded(Promise.reject(this.#failure ?? new Error(CLOSED)));
    if (!input.empty) return input.take(buffer);
    if (input.ahead === undefined) return this.#heeded(input.readInto(buffer));
    // A read was begun before, to notice whether the client leaves.
    return this.#heeded((async () => input.took(await input.read()) ? input.take(buffer) : null)());
  }
  write(bytes: Uint8Array): number | Promise<number> {
    // What is below might take it for a failure of the whole.
    if (this.#hasEnded) return unheeded(Promise.reject(new Error("this side has ended")));
    return this.#heeded(this.#connection.write(bytes));
  }
  closeWrite(): void | Promise<void> {
    this.#hasEnded = true;
    return this.#connection.closeWrite();
  }
  close(): void {
    this.#holder.close(new Error(CLOSED));
  }
  /** The kernel tells of a reset only once: whatever is asked afterwards has to fail, too. */
  #heeded<T>(result: T | Promise<T>): T | Promise<T> {
    if (isPromise(result)) {
      result.catch((error) => this.#holder.giveUp(LEFT, this.#failure ??= error));
    }
    return result;
  }
}

function isPromise<T>(value: T | Promise<T>): value is Promise<T> {
  return typeof (value as Promise<T> | undefined | null)?.then === "function";
}

/** What a peer sent, with everything but visible ASCII and spaces escaped. */
function visible(text: string): string {
  return /^[ !#-[\]-~]*$/.test(text) ? text : text.replace(
    /[^ !#-[\]-~]/g,
    (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}
/** What was thrown, with its stack. Its lines are indented: only the log's own begin at the left. */
function describe(error: unknown): string {
  return stackOf(error).split("\n").map(visible).join("\n    ");
}
function stackOf(error: unknown): string {
  try {
    const isTraced = error instanceof Error && !(error instanceof ResponseError);
    const stack = isTraced ? error.stack : undefined;
    if (typeof stack === "string") return stack;
  } catch { /* It refuses to tell. */ }
  return inOneLine(error);
}
/** Anything can be thrown, even what refuses to be text. */
function inOneLine(error: unknown): string {
  try {
    return visible(String(error));
  } catch {
    return "something that can't be shown";
  }
}
function because({ cause }: Error): string {
  return cause === undefined ? "" : `: ${inOneLine(cause)}`;
}

// ─────────────────────────────────────────────────────────────────────────────────────────────
// 7. Concurrency
// ─────────────────────────────────────────────────────────────────────────────────────────────

/** A running server. `await using` stops it at the end of its scope. */
export interface Server extends AsyncDisposable {
  /** Where it listens; at a Unix socket, `unix` is its path, and the others are "" and 0. */
  readonly addr: { hostname: string; port: number; unix?: string };
  /** What it is doing and has done; counted when it is asked for, and of no cost to any request. */
  readonly stats: ServerStats;
  /** Settles when the server was stopped and the last connection is gone. */
  readonly finished: Promise<void>;
  /** Stops accepting, closes idle connections, lets running requests finish, and cuts off what is
   * left after `graceSeconds` (default 10). A further call can make that sooner, not later. Settles
   * with `finished`. */
  shutdown(graceSeconds?: number): Promise<void>;
  /** Uses another certificate chain and private key, as PEM text, for connections that come from now
   * on; those that are open go on, and none is lost. Needs Bun 1.4 there.
   * @throws {Error} if they can't be used, or the server was started without `tls`; it then goes on
   * with what it has. */
  renew(tls: { cert: string; key: string }): void;
}

/** What a server is doing, and what it has done since it was started. */
export interface ServerStats {
  /** Open connections by what they are doing. */
  readonly connections: {
    /** For a permit. Those in the kernel's queue, which on Deno is all but one, can't be seen. */
    readonly waiting: number;
    /** For a request, of which nothing has come. */
    readonly idle: number;
    /** A head or content, for which the client is waited for. */
    readonly reading: number;
    /** A handler has the request, and has not answered. */
    readonly handling: number;
    /** An answer. */
    readonly writing: number;
    /** For their last answer to arrive; these need no permit. */
    readonly lingering: number;
    /** Taken over for another protocol. */
    readonly upgraded: number;
  };
  /** Permits that nobody has, of `maxConnections`. */
  readonly freePermits: number;
  /** Answers by the first digit of their status; `none`: requests that got none. */
  readonly answers: Record<"none" | "1xx" | "2xx" | "3xx" | "4xx" | "5xx", number>;
  /** Of these, those by which the server itself refused a request. */
  readonly refused: number;
  /** Connections on which a client took too long: 408, or closed. */
  readonly timeouts: number;
  /** Connections that broke, or whose client left in the middle of a request or its answer. */
  readonly losses: number;
  /** Lines that the log has lost, if it tells. */
  readonly lostLines: number;
}

/** What a Fetch application is told besides the request. */
class Info implements FetchInfo {
  /** A property of its own, since some applications make a copy of them all. */
  readonly remoteAddr: FetchInfo["remoteAddr"];
  readonly #request: IncomingRequest;

  constructor(request: IncomingRequest) {
    this.remoteAddr = request.remoteAddr;
    this.#request = request;
  }
  get completed(): Promise<void> {
    return this.#request.completed;
  }
  get stopping(): AbortSignal {
    return this.#request.stopping;
  }
}

function handlerOf(application: Handler | FetchApplication): Handler {
  const app = application as FetchApplication | undefined;
  if (typeof app?.fetch === "function") {
    if ("port" in app || "hostname" in app || "unix" in app) {
      throw new TypeError("serve takes the options second: serve({ fetch }, { port: 8080 })");
    }
    return (request) => app.fetch(request.toFetch(), new Info(request as IncomingRequest));
  }
  if (typeof application === "function") return application;
  throw new TypeError(
    "serve takes a handler, or an object with a method fetch, first: serve(handler, { port: 8080 })",
  );
}

/**
 * Serves a handler, or an application written for Fetch as it is, on a TCP port or a Unix socket.
 * @throws {RangeError} for an option that is out of its range, or a `TypeError`, and an error that says
 * why when the port or socket can't be had; its `cause` is the runtime's own.
 */
export function serve(
  application: Handler | FetchApplication,
  options: ServeOptions = {},
): Server {
  const handler = handlerOf(application);
  const { port: checked, backlog } = checkSettings(options);
  checkUnix(options);
  const { bytes: refusal } = encodeRefusal(BUSY, "", "", "Retry-After: 1\r\n");
  const refused: ListenOptions["refused"] = (...which) => server.noteRefused(...which);
  const { hostname, port, reusePort, unix, unixMode, tls, proxy } = options;
  if (proxy !== undefined) new Proxies(proxy); // which throws before the port is taken
  const address = { hostname, port, backlog, reusePort, unix, unixMode };
  let listener: Listener;
  try {
    listener = listen({ ...address, tls, proxy, refusal, refused });
  } catch (cause) {
    const place = unix === undefined ? `${hostname ?? "127.0.0.1"}:${checked}` : `unix:${unix}`;
    throw new Error(`Cannot listen at ${place}: ${whyNot(cause, unix)}`, { cause });
  }
  const server = new HttpServer(listener, handler, options);
  return server;
}
/** Why a connection beyond the backlog is refused. */
const BUSY = new HttpError(503, "Too many connections");

/** Serves the same on a listener of your own. What `options` say of the address is not used.
 * @throws {RangeError} for an option that is out of its range. */
export function serveOn(
  listener: Listener,
  application: Handler | FetchApplication,
  options: ServeOptions = {},
): Server {
  return new HttpServer(listener, handlerOf(application), options);
}

/** Why listening failed, in the same words on both runtimes, as far as they say. */
function whyNot(error: unknown, unix: string | undefined): string {
  const { code, name, message } = error as { code?: string; name: string; message: string };
  if (unix !== undefined) {
    if (name === "NotCapable") {
      return "run it with --allow-net, and --allow-read and --allow-write for its folder";
    }
    if (code === "ENOENT") return "there is no such folder";
    if (code === "EACCES") return "no permission to write to its folder";
    if (code === "EEXIST") return "another server has just taken it";
    if (/^E[A-Z]+$/.test(code ?? "")) return message.split(",")[0]!;
  }
  if (code === "EADDRINUSE" || name === "AddrInUse") return "the port is in use";
  if (code === "EACCES" || name === "PermissionDenied") return "no permission for this port";
  if (code === "EADDRNOTAVAIL") return "this machine has no such address";
  if (name === "NotCapable") return "run it with --allow-net";
  if (/certificate|PEM|key/i.test(message)) {
    return `the certificate or its key can't be used: ${message}`;
  }
  if (/lookup|^Failed to listen/.test(message)) return "the name does not resolve to an address";
  return message.split("\n")[0]!;
}

/** What a browser on this machine would be given. */
function urlOf({ addr: { hostname, port }, encrypted }: Listener): string {
  const isAny = hostname === "0.0.0.0" || hostname === "::";
  const host = isAny ? "localhost" : hostname.includes(":") ? `[${hostname}]` : hostname;
  return `${encrypted ? "https" : "http"}://${host}:${port}/`;
}

/** Permits, handed out in the order of asking. */
class Semaphore {
  #free: number;
  readonly #queue: (() => void)[] = [];

  constructor(permits: number) {
    this.#free = permits;
  }
  /** Takes a permit; undefined if there is one at once. */
  acquire(): Promise<void> | undefined {
    if (this.#free === 0) return new Promise((resolve) => this.#queue.push(resolve));
    this.#free--;
    return undefined;
  }
  get free(): number {
    return this.#free;
  }
  release(): void {
    const next = this.#queue.shift();
    if (next === undefined) this.#free++;
    else next();
  }
}

/** The same logger, but that nobody is harmed by what it throws. */
function harmless(log: Logger): Logger {
  const guard = (name: "debug" | "info" | "error") => {
    if (log[name] === undefined) return undefined;
    return (message: string) => {
      try {
        const result: unknown = log[name]?.(message);
        if (isPromise(result)) result.catch(() => {});
      } catch { /* There is nowhere left to tell it. */ }
    };
  };
  return {
    debug: guard("debug"),
    info: guard("info"),
    error: guard("error"),
    get lost() {
      return log.lost;
    },
  };
}

class HttpServer implements Server, Shared {
  readonly handler: Handler;
  readonly settings: Settings;
  readonly options: ServeOptions;
  readonly proxies: Proxies | undefined;
  readonly log: Logger;
  readonly notes: BoundedLog;
  readonly clock: Clock;
  readonly totals: Totals = { answers: [0, 0, 0, 0, 0, 0], refused: 0, timeouts: 0, losses: 0 };
  readonly isTold: boolean;
  readonly headLimits: HeadLimits;
  readonly parsers: HeadParser[] = [];
  readonly addr: Server["addr"];
  readonly finished: Promise<void>;
  stopping = false;
  crowded = false;
  readonly #listener: Listener;
  readonly #permits: Semaphore;
  readonly #connections = new Set<HttpConnection>();
  #lingering = 0;
  /** Connections that wait for a permit. */
  #queued = 0;
  /** Ends the wait for a permit, by which the accept loop is held up. */
  #goOn = () => {};
  #cutOff = false;
  #done!: () => void;
  #accepting = true;
  /** Set once a stop was asked for. */
  #stopTimer: ReturnType<typeof setTimeout> | undefined;
  /** When what still runs is cut off. */
  #cutAt = Infinity;
  #cutTimer: ReturnType<typeof setTimeout> | undefined;
  readonly #alive: ReturnType<typeof setInterval>;

  constructor(listener: Listener, handler: Handler, options: ServeOptions) {
    this.handler = handler;
    this.settings = checkSettings(options);
    const { limits, onError, onExchange } = options; // which it may have inherited
    this.options = { limits, onError, onExchange };
    const proxies = options.proxy && new Proxies(options.proxy);
    // A second header would be the client's.
    const isRead = listener.readsProxyHeader && proxies?.says.includes("PROXY");
    this.proxies = isRead ? undefined : proxies;
    this.log = harmless(options.log ?? {});
    this.isTold = (this.log.info ?? options.onExchange) !== undefined;
    const { maxBodySize, ...others } = this.settings;
    this.headLimits = {
      ...others,
      maxBodySize: options.limits === undefined ? maxBodySize : Infinity,
    };
    this.notes = new BoundedLog(this.log);
    this.addr = listener.addr;
    this.finished = new Promise((resolve) => this.#done = resolve);
    this.clock = new Clock((before, now) => this.#checkDeadlines(before, now));
    this.#listener = listener;
    this.#permits = new Semaphore(this.settings.maxConnections);
    try {
      options.onListen?.(this.addr);
    } catch (error) {
      listener.close();
      throw error;
    }
    const { port, unix } = this.addr;
    const place = unix === undefined ? `PORT ${port}... ${urlOf(listener)}` : `unix:${unix}...`;
    this.log.info?.(`Listening at ${place}`);
    // Deno ends a process in which nothing is awaited but promises, as in a server that is full.
    this.#alive = setInterval(() => {}, LONGEST_TIMER);
    void this.#acceptAll();
    if (options.signal?.aborted) void this.shutdown();
    else options.signal?.addEventListener("abort", () => void this.shutdown(), { once: true });
  }

  /** Accept, take a permit, run: nothing ends this loop but a shutdown. */
  async #acceptAll(): Promise<void> {
    let pause = ACCEPT_PAUSE.first;
    for (;;) {
      this.log.debug?.("Waiting for connection...");
      let connection: Connection | null;
      try {
        connection = await this.#listener.accept();
      } catch (error) { // No descriptors left, most likely: others must close theirs first.
        this.log.error?.(`Cannot accept a connection: ${visible(String(error))}`);
        await new Promise((resolve) => setTimeout(resolve, pause));
        pause = Math.min(pause * 2, ACCEPT_PAUSE.longest);
        continue;
      }
      if (connection === null) break;
      pause = ACCEPT_PAUSE.first;
      if (this.log.debug !== undefined) {
        this.log.debug(`Client Connected (from ${peerOf(connection)})`);
      }
      const permit = this.#permits.acquire();
      if (permit === undefined) {
        this.#serve(connection);
        continue;
      }
      this.crowded = true;
      this.#dismissOne();
      this.#queued++;
      const served = permit.then(() => {
        this.#queued--;
        this.#serve(connection);
      });
      // A server that stops takes in all that wait in the kernel's queue, which is lost else.
      await new Promise<void>((resolve) => {
        this.#goOn = resolve;
        void served.then(resolve);
        if (this.#stopTimer !== undefined) resolve();
      });
      this.crowded = false;
    }
    this.#accepting = false;
    this.#checkFinished();
  }
  #serve(connection: Connection): void {
    const served = new HttpConnection(this, unwrapped(connection, this.proxies));
    this.#connections.add(served);
    if (this.#cutOff) served.close();
    else void served.run();
  }
  /** Makes room by closing the connection that has been idle for longest; or one whose client has ended
   * its side a while ago and has probably left, though its handler goes on. */
  #dismissOne(): void {
    let longest: HttpConnection | undefined;
    for (const connection of this.#connections) {
      const isLonger = connection.deadlines.next < (longest?.deadlines.next ?? Infinity);
      if (connection.isIdle && isLonger) longest = connection;
    }
    if (longest !== undefined) return longest.close();
    const before = this.clock.now() - LINGER_TIME;
    for (const connection of this.#connections) {
      if (connection.leftAt <= Math.min(before, longest?.leftAt ?? Infinity)) longest = connection;
    }
    longest?.giveUp(LEFT, new DOMException("The client has gone", "AbortError"));
  }
  tell(answered: Answered): void {
    answered.time = performance.now() - answered.time;
    if (Number.isNaN(answered.answerTime)) answered.answerTime = answered.time;
    if (this.log.info !== undefined) this.#logExchange(answered);
    try {
      const { onExchange } = this.options;
      const result: unknown = onExchange?.(answered);
      if (isPromise(result)) result.catch((error) => this.#noteMistake(error));
    } catch (error) {
      this.#noteMistake(error);
    }
  }
  #noteMistake(error: unknown): void {
    this.notes.add("error", "Errors of onExchange", `onExchange: ${describe(error)}`);
  }
  /** A line of the access log. All of a request line that was parsed is visible ASCII, and none of it a
   * quote; but a query may have backslashes. */
  #logExchange(exchange: Exchange): void {
    const { method, target, protocol, status, reason } = exchange;
    const peer = peerOf(exchange);
    const because = reason && `: ${reason}`;
    if (exchange.refused) {
      const line = `${peer} "${`${method} ${visible(target)}`.trim()}" ${status || "-"}${because}`;
      return this.notes.add("info", `Requests refused with ${status}`, line);
    }
    const answer = `${status || "-"} ${exchange.sent} ${Math.round(exchange.time)} ms${because}`;
    this.log.info!(`${peer} "${method} ${visible(target)} ${protocol}" ${answer}`);
  }
  /** A connection beyond the backlog has been refused. */
  noteRefused({ remoteAddress, remotePort }: Connection, isAnswered: boolean): void {
    this.totals.answers[isAnswered ? 5 : 0]++;
    this.totals.refused++;
    if (!this.isTold) return;
    this.tell({
      ...NOTHING_SEEN,
      remoteAddress,
      remotePort,
      status: isAnswered ? BUSY.status : 0,
      received: 0,
      sent: 0,
      headTime: 0,
      answerTime: 0,
      time: performance.now(),
      delivered: isAnswered,
      refused: true,
      reason: BUSY.message,
    });
  }
  get stats(): ServerStats {
    const { answers, refused, timeouts, losses } = this.totals;
    const [none, one, two, three, four, five] = answers;
    const waiting = this.#queued + (this.#listener.waiting ?? 0);
    const counts = { idle: 0, reading: 0, handling: 0, writing: 0, lingering: 0, upgraded: 0 };
    for (const { state } of this.#connections) counts[state]++;
    return {
      connections: { waiting, ...counts },
      freePermits: this.#permits.free,
      answers: { none, "1xx": one, "2xx": two, "3xx": three, "4xx": four, "5xx": five },
      refused,
      timeouts,
      losses,
      lostLines: this.log.lost ?? 0,
    };
  }
  release(): boolean {
    if (this.#lingering >= this.settings.maxConnections) return false;
    this.#lingering++;
    this.#permits.release();
    return true;
  }
  closed(connection: HttpConnection, isLingering: boolean): void {
    this.#connections.delete(connection);
    if (isLingering) this.#lingering--;
    else this.#permits.release();
    this.#checkFinished();
  }

  /** Expires connections whose deadline lay before the last tick, and tells the next deadline. The
   * tick in between lets bytes be read that arrived while this process was too busy to look. */
  #checkDeadlines(before: number, now: number): number {
    let next = Infinity;
    for (const connection of this.#connections) {
      if (connection.deadlines.next <= before) connection.expire();
      else connection.watch();
      next = Math.min(next, Math.max(connection.deadlines.next, now));
    }
    if (!this.crowded) return next;
    this.#dismissOne();
    return now;
  }

  shutdown(graceSeconds: number = GRACE): Promise<void> {
    const cutAt = performance.now() + graceSeconds * 1000;
    if (!(cutAt >= this.#cutAt)) {
      this.#cutAt = cutAt;
      clearTimeout(this.#cutTimer);
      const wait = Math.min(graceSeconds * 1000, LONGEST_TIMER);
      this.#cutTimer = setTimeout(() => this.#cutAllOff(), wait);
    }
    if (this.#stopTimer !== undefined) return this.finished;
    this.log.info?.("Shutting down...");
    // Whoever waits for a permit is taken in before the port goes. Until then connections are kept,
    // lest their clients open new ones: the kernel resets those that come between the last look at
    // the port and its end. That is short in an immediate, which follows a look at all sockets.
    const stop = () => setImmediate(() => this.#stopAccepting());
    this.#stopTimer = setTimeout(stop, this.crowded ? TICK : 0);
    this.#goOn();
    return this.finished;
  }
  #stopAccepting(): void {
    this.stopping = true;
    this.#listener.close();
    for (const connection of this.#connections) connection.hurry();
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.shutdown();
  }
  renew(tls: { cert: string; key: string }): void {
    if (this.#listener.renew === undefined) throw new TypeError("the listener can't do that");
    this.#listener.renew(tls);
    this.log.info?.("Certificate renewed");
  }
  /** Ends what has not finished in the time of grace. */
  #cutAllOff(): void {
    this.#stopAccepting();
    this.#cutOff = true;
    let count = this.#queued;
    for (const { isWaiting, isLingering } of this.#connections) {
      if (!isWaiting && !isLingering) count++;
    }
    if (count > 0) this.log.error?.(`Connections cut off: ${count}`);
    const reason = new DOMException("The server is stopping", "AbortError");
    for (const connection of this.#connections) connection.giveUp("cut off by the stop", reason);
  }
  #checkFinished(): void {
    if (!this.stopping || this.#accepting || this.#connections.size + this.#queued > 0) return;
    clearTimeout(this.#stopTimer);
    clearTimeout(this.#cutTimer);
    clearInterval(this.#alive);
    this.clock.stop();
    this.notes.flush();
    this.log.info?.("Stopped");
    this.#done();
  }
}

// ─────────────────────────────────────────────────────────────────────────────────────────────
// 8. Command line
// ─────────────────────────────────────────────────────────────────────────────────────────────

/** What `--version` prints: the version in deno.json. */
const PROGRAM_VERSION = "0.1.0";

const USAGE = `Usage: server.ts [options]

  --hostname NAME          address to listen on (127.0.0.1)
  --port NUMBER            port to listen on, 0 for a free one (8080)
  --backlog NUMBER         connections that may wait for a permit (511)
  --reuse-port             let several processes share the port
  --unix PATH              Unix socket to listen at, instead of a port
  --unix-mode OCTAL        mode of its file, as 660 (umask)
  --tls-cert FILE          certificate chain in PEM, for HTTPS
  --tls-key FILE           its private key in PEM; SIGHUP reads both again
  --trusted-proxies LIST   addresses and prefixes with commas, or how many (none)
  --proxy-says LIST        what they write, as X-Forwarded-For,X-Forwarded-Proto
  --max-connections NUMBER connections served at the same time (1024)
  --idle-timeout SECONDS   to wait for a client to send or take a byte (30)
  --request-timeout SECONDS for a request to arrive (60)
  --max-header-size BYTES  of a request line and its fields (16384)
  --max-body-size BYTES    of a request body (1048576)
  --delay SECONDS          to hold every request, to see concurrency (0)
  --log-level LEVEL        debug, info, error or silent (info)
  --help                   print this
  --version                print the version`;

const LEVELS: LogLevel[] = ["silent", "error", "info", "debug"];
/** How much a {@linkcode LineLog} tells. */
export type LogLevel = "silent" | "error" | "info" | "debug";

/** Reads the arguments. @throws an error whose message is for whoever typed them. */
async function readArguments(args: string[]) {
  const text = { type: "string" } as const, flag = { type: "boolean" } as const;
  const { values } = parseArgs({
    args,
    options: {
      "hostname": text,
      "port": text,
      "backlog": text,
      "reuse-port": flag,
      "unix": text,
      "unix-mode": text,
      "tls-cert": text,
      "tls-key": text,
      "trusted-proxies": text,
      "proxy-says": text,
      "max-connections": text,
      "idle-timeout": text,
      "request-timeout": text,
      "max-header-size": text,
      "max-body-size": text,
      "delay": text,
      "log-level": text,
      "help": flag,
      "version": flag,
    },
  });
  const number = (flag: keyof typeof values, name: keyof Settings) => {
    const given = values[flag];
    if (given === undefined) return undefined;
    return checkSetting(name, given === "" ? NaN : Number(given), `--${flag}`);
  };
  const delay = Number(values.delay ?? 0);
  if (!(delay >= 0 && delay <= LONGEST_TIMER / 1000)) throw new Error("--delay must be seconds");
  const level = (values["log-level"] ?? "info") as LogLevel;
  if (!LEVELS.includes(level)) throw new Error(`--log-level must be one of ${LEVELS.join(", ")}`);
  const { "tls-cert": cert, "tls-key": key, "unix-mode": mode } = values;
  if ((cert === undefined) !== (key === undefined)) {
    throw new Error("--tls-cert and --tls-key go together");
  }
  const readTls = cert && key
    ? async () => ({ cert: await readFlag("tls-cert", cert), key: await readFlag("tls-key", key) })
    : undefined;
  const { "trusted-proxies": trusted, "proxy-says": says } = values;
  if ((trusted === undefined) !== (says === undefined)) {
    throw new Error("--trusted-proxies and --proxy-says go together");
  }
  const options: ServeOptions = {
    hostname: values.hostname,
    port: number("port", "port"),
    backlog: number("backlog", "backlog"),
    reusePort: values["reuse-port"],
    unix: values.unix,
    unixMode: mode === undefined ? undefined : /^[0-7]+$/.test(mode) ? parseInt(mode, 8) : NaN,
    tls: await readTls?.(),
    proxy: trusted !== undefined && says !== undefined ? readProxies(trusted, says) : undefined,
    maxConnections: number("max-connections", "maxConnections"),
    idleTimeout: number("idle-timeout", "idleTimeout"),
    requestTimeout: number("request-timeout", "requestTimeout"),
    maxHeaderSize: number("max-header-size", "maxHeaderSize"),
    maxBodySize: number("max-body-size", "maxBodySize"),
  };
  checkUnix(options);
  return { options, readTls, delay, level, help: values.help, version: values.version };
}

/** Whom the two flags name, if that makes sense. */
function readProxies(trusted: string, says: string): ProxyOptions {
  const listOf = (text: string) => text.split(",").map(trim);
  const isCount = /^[0-9]+$/.test(trusted);
  const proxy: ProxyOptions = {
    trusted: isCount ? Number(trusted) : listOf(trusted),
    says: listOf(says) as ProxyField[],
  };
  try {
    new Proxies(proxy);
  } catch (error) {
    const { message } = error as Error;
    throw new Error(
      message.replace("proxy.trusted", "--trusted-proxies").replace("proxy.says", "--proxy-says"),
    );
  }
  return proxy;
}

/** The text of the file that a flag names. */
async function readFlag(flag: string, name: string): Promise<string> {
  const { readFile } = await import("node:fs/promises");
  try {
    return await readFile(name, "utf8");
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    let reason = code === "ENOENT" ? "there is no such file" : message;
    if ((error as Error).name === "NotCapable") reason = "run it with --allow-read";
    throw new Error(`--${flag} ${name} can't be read: ${reason}`);
  }
}

function whyNoHandlers({ message, stack }: Error): string {
  if (/import attribute/.test(message)) {
    return "This runtime is too old: handlers.ts needs Deno 2.8 or Bun 1.3, or newer";
  }
  if (/(not found|Cannot find).*handlers\.ts/.test(message)) {
    return "As a program, server.ts needs handlers.ts, index.html and book.json beside it";
  }
  return `handlers.ts can't be loaded: ${stack ?? message}`;
}

/** The program's own log, for libraries too: `serve(handler, { log: new LineLog() })`. Lines, each with its
 * local time and level, go to the standard error: all those of one turn of the event loop at once, and while
 * there are more, all those of some milliseconds. When nobody takes them, 1 MiB is kept. */
export class LineLog implements Logger {
  /** The three methods of a {@linkcode Logger}, as far as the level lets them through. */
  readonly debug?: (message: string) => void;
  /** Likewise. */
  readonly info?: (message: string) => void;
  /** Likewise. */
  readonly error?: (message: string) => void;
  /** How many lines were lost, since nobody took those before. */
  lost = 0;
  #lines = "";
  #untold = 0;
  #writing: Promise<void> | undefined;
  #stamp = "";
  #second = 0;

  /** A log of what is no less important than `level`. Default `"info"`.
   * @throws {RangeError} if there is no such level. */
  constructor(level: LogLevel = "info") {
    if (!LEVELS.includes(level)) throw new RangeError(`level must be one of ${LEVELS.join(", ")}`);
    for (const name of LEVELS.slice(1, LEVELS.indexOf(level) + 1) as (keyof Logger & LogLevel)[]) {
      this[name] = (message) => this.#add(name.toUpperCase(), message);
    }
  }
  /** Waits until all of it has been taken, for a bounded time. */
  async finish(): Promise<void> {
    await Promise.race([this.#writing, new Promise((resolve) => setTimeout(resolve, LOG_TIME))]);
  }
  #add(name: string, message: string): void {
    if (this.#lines.length + message.length > MAX_LOG) {
      this.lost++;
      this.#untold++;
      return;
    }
    const now = Date.now();
    const second = Math.floor(now / 1000);
    if (second !== this.#second) this.#stamp = timestamp(new Date(now));
    this.#second = second;
    this.#lines += `${this.#stamp} - ${name} - ${message}\n`;
    this.#writing ??= this.#writeAll();
  }
  async #writeAll(): Promise<void> {
    for (let pause = 0; this.#lines !== ""; pause = LOG_PAUSE) {
      await new Promise((resolve) => setTimeout(resolve, pause));
      const bytes = encoder.encode(this.#lines);
      const lost = this.#untold;
      this.#lines = "";
      this.#untold = 0;
      if (lost > 0) this.#add("ERROR", `Log lines lost: ${lost}`);
      try {
        for (let sent = 0; sent < bytes.length;) sent += await writeError(bytes.subarray(sent));
      } catch { /* A log that nobody reads any more is no reason to stop. */ }
    }
    this.#writing = undefined;
  }
}

/** As in "22-Nov-2026 04:30:00 AM", in local time. */
function timestamp(date: Date): string {
  const two = (number: number) => String(number).padStart(2, "0");
  const month = MONTHS.split(" ")[date.getMonth()];
  const hour = date.getHours();
  const time = [hour % 12 || 12, date.getMinutes(), date.getSeconds()].map(two).join(":");
  const half = hour < 12 ? "AM" : "PM";
  return `${two(date.getDate())}-${month}-${date.getFullYear()} ${time} ${half}`;
}

/** The program. It sets the exit status: 0 after a stop, 1 if it can't listen, 2 for a mistake. */
async function main(): Promise<void> {
  let settings;
  try {
    settings = await readArguments(process.argv.slice(2));
  } catch (error) {
    // parseArgs finds "--port -1" ambiguous, and explains it at length.
    const message = (error as Error).message.replace(
      /^Option '(--[a-z-]+).* is ambiguous[^]*/,
      "$1 can't be negative",
    );
    console.error(`${message.split("\n")[0]}\n\n${USAGE}`);
    process.exit(2);
  }
  if (settings.help) return console.log(USAGE);
  if (settings.version) return console.log(PROGRAM_VERSION);

  // `bun --hot` runs an edited file in the same process, where the server before still has the port.
  const running = globalThis as { "server.ts"?: Promise<Server> };
  // Not at the top: this file alone is enough for a program that brings its own handler.
  let handler: Handler;
  try { // so written because bundlers then forgive that the file is not there
    // @ts-ignore: The file need not be there, nor need a program be allowed to import names in ".ts".
    ({ handler } = await import("./handlers.ts"));
  } catch (error) {
    console.error(whyNoHandlers(error as Error));
    if (running["server.ts"] !== undefined) return; // The code before the edit goes on.
    process.exit(1);
  }
  const { options, readTls, delay, level } = settings;
  const delayed: Handler = async (request) => {
    await new Promise((resolve) => setTimeout(resolve, delay * 1000));
    return handler(request);
  };
  const log = new LineLog(level);
  const before = running["server.ts"];
  const { promise, resolve } = Promise.withResolvers<Server>();
  running["server.ts"] = promise;
  await (await before)?.shutdown(0);
  let server: Server;
  try {
    server = serve(delay > 0 ? delayed : handler, { ...options, log });
  } catch (error) {
    const { hostname = "127.0.0.1", port = SETTINGS.port.value, unix } = options;
    const reason = whyNot((error as Error).cause ?? error, unix);
    const place = unix === undefined ? `--hostname ${hostname} --port ${port}` : `--unix ${unix}`;
    console.error(`Cannot listen at ${place}: ${reason}`);
    process.exit(1);
  }
  resolve(server);
  let stopping = false;
  const stop = () => {
    if (stopping) process.exit(1); // A second signal: at once.
    stopping = true;
    void server.shutdown();
  };
  let renewed = Promise.resolve();
  const renew = () => { // One after the other, lest what was read first is used last.
    renewed = renewed.then(readTls).then((tls) => server.renew(tls!)).catch(({ message }: Error) =>
      log.error?.(`Certificate not renewed: ${message.split("\n")[0]}`)
    );
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  if (readTls !== undefined) process.on("SIGHUP", renew);
  await server.finished;
  process.off("SIGINT", stop);
  process.off("SIGTERM", stop);
  process.off("SIGHUP", renew);
  if (running["server.ts"] !== promise) return; // Another has taken its place.
  await log.finish();
  process.exit(0);
}

// Without waiting for it: handlers.ts imports this file, which must have been evaluated by then.
if (import.meta.main) void main();
