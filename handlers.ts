/**
 * The application: which request gets which response. It knows nothing of sockets. Below it is the
 * lab, in which its page tries the server out.
 *
 * @module
 */

import process from "node:process";

// @ts-ignore: To TypeScript itself, no file is text.
import html from "./index.html" with { type: "text" };
// @ts-ignore: as above
import json from "./book.json" with { type: "text" };
import {
  type Connection,
  HttpError,
  type HttpRequest,
  type HttpResponse,
  type Listener,
  serveOn,
} from "./server.ts";

const page: string = html as unknown as string, book: string = json as unknown as string;

const TEXT = "text/plain; charset=utf-8";
/** Levels of nesting that are taken: what comes back must be made again by a recursive function. */
const MAX_DEPTH = 1000;
/** What comes back is indented only as long as that adds no more bytes than so many times those that
 * came, and a kilobyte: brackets alone, nested to the limit, would become a thousand times as long. */
const MAX_INDENTATION = 8;
/** Every response says that its Content-Type is meant: an echo must not become a page. */
const NOSNIFF = { "X-Content-Type-Options": "nosniff" };

const encoder = new TextEncoder();
const utf8 = new TextDecoder();
const strictUtf8 = new TextDecoder("utf-8", { fatal: true });

/** The SHA-256 of a text, in base64. */
async function digest(text: string): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", encoder.encode(text));
  return btoa(String.fromCharCode(...new Uint8Array(hash)));
}

/** The policy that allows a page its own style and script, by what is in them, and nothing else. */
async function contentSecurityPolicy(html: string): Promise<string> {
  const hashes = async (tag: string) => {
    const found = html.matchAll(new RegExp(`<${tag}[^>]*>([^]*?)</${tag}>`, "g"));
    return (await Promise.all(Array.from(found, (match) => digest(match[1]!))))
      .map((hash) => `'sha256-${hash}'`).join(" ");
  };
  return `default-src 'none'; script-src ${await hashes("script")}; ` +
    `style-src ${await hashes("style")}; connect-src 'self'; img-src data:; ` +
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
}

/** A response that never changes; being frozen, it is encoded once. */
function fixed(status: number, type: string, body: string, headers = {}): HttpResponse {
  return Object.freeze({
    status,
    headers: Object.freeze({ "Content-Type": type, ...NOSNIFF, ...headers }),
    body,
  });
}

const PAGE = fixed(200, "text/html; charset=utf-8", page, {
  "ETag": `"${await digest(page)}"`,
  "Cache-Control": "no-cache",
  "Content-Security-Policy": await contentSecurityPolicy(page),
  "Referrer-Policy": "no-referrer",
});
const BOOK = fixed(200, "application/json", book, {
  "ETag": `"${await digest(book)}"`,
  "Cache-Control": "no-cache",
});
const NOT_FOUND = fixed(404, TEXT, "404 Not Found");
const WRONG_METHOD = fixed(400, TEXT, "Handles only GET/POST requests.", {
  "Allow": "GET, HEAD, POST",
});

/** Answers a request to the application or to its lab. Methods are matched in any case. */
export function handler(request: HttpRequest): HttpResponse | Promise<HttpResponse> {
  return request.path === "/lab" && /^(GET|HEAD|POST)$/i.test(request.method)
    ? lab(request)
    : application(request);
}

function application(request: HttpRequest): HttpResponse | Promise<HttpResponse> {
  switch (request.method.toUpperCase()) {
    case "GET":
    case "HEAD":
      return get(request.path);
    case "POST":
      return post(request);
    default:
      return WRONG_METHOD;
  }
}

function get(path: string): HttpResponse {
  switch (path) {
    case "/":
      return PAGE;
    case "/book":
      return BOOK;
    default:
      return NOT_FOUND;
  }
}

/** Echoes what was posted; a JSON object comes back with an id. */
async function post(request: HttpRequest): Promise<HttpResponse> {
  const type = request.headers.get("Content-Type");
  const body = await request.bytes();
  const headers = type === null ? NOSNIFF : { "Content-Type": type, ...NOSNIFF };
  if (body.length === 0 || type === null || !isJson(type)) return { headers, body };
  const object = parseObject(body);
  const added = indentation(object);
  if (added === Infinity) throw new HttpError(400, "Invalid JSON: it is nested too deep");
  const space = added > MAX_INDENTATION * body.length + 1024 ? 0 : 2;
  return { headers, body: JSON.stringify({ ...object, id: 1 }, null, space) };
}

/** `application/json`, or any type that is JSON underneath (RFC 6839 §3.1). */
function isJson(type: string): boolean {
  const [essence = ""] = type.toLowerCase().split(";");
  return essence.trim() === "application/json" || essence.trim().endsWith("+json");
}

function parseObject(bytes: Uint8Array): object {
  let value: unknown;
  try {
    value = JSON.parse(decode(bytes));
  } catch (error) {
    // What an engine has to say about it differs from one to the next: it is for the log alone.
    throw new HttpError(400, "Invalid JSON", { cause: error });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw new HttpError(400, "Invalid JSON: it is not an object");
}

/** Decodes UTF-8, and throws if it is none. To be strict costs some times as much on Deno, so that
 * is left for what may not be UTF-8. */
function decode(bytes: Uint8Array): string {
  const text = utf8.decode(bytes);
  return text.includes("\ufffd") ? strictUtf8.decode(bytes) : text;
}

/** Bytes that indenting adds to a value from JSON; Infinity if it is nested too deep. */
function indentation(value: unknown, depth = 0): number {
  if (typeof value !== "object" || value === null) return 0;
  if (depth === MAX_DEPTH) return Infinity;
  const inner: unknown[] = Array.isArray(value) ? value : Object.values(value);
  // Two spaces a level and a line break for each, and again for the bracket at the end.
  let bytes = inner.length * (2 * depth + 3) + 2 * depth + 1;
  for (const one of inner) bytes += indentation(one, depth + 1);
  return bytes;
}

// ── The lab ──────────────────────────────────────────────────────────────────────────────────

/** What is to be tried out: a server with these options, and clients, each with what it sends. */
interface Plan {
  permits: number;
  /** Seconds that each request is held. */
  delay: number;
  idleTimeout: number;
  connections: Uint8Array[][];
}

/** What happened in a lab; `lab` adds at how many milliseconds. */
interface LabEvent {
  event: "sent" | "permit" | "received" | "closed" | "log" | "cut off";
  /** Counted from 1. */
  connection?: number;
  /** Bytes that were sent or received. */
  size?: number;
  /** The first of them, one character each; or what explains the event. */
  text?: string;
}
type Tell = (event: LabEvent) => void;

/** Labs at a time, milliseconds that each may take, and about how many characters it may tell. */
const MAX_LABS = 4, LAB_TIME = 6000, LAB_SIZE = 65536;
/** Clients in a lab, pieces that each sends, bytes in all of these. */
const MAX_CLIENTS = 6, MAX_PIECES = 8, MAX_SENT = 4096;
/** Milliseconds from one piece to the next. */
const PIECE_PAUSE = 400;
/** Bytes that are shown of what a client receives at a time. */
const MAX_SHOWN = 2048;

const NOT_HERE = "The lab is for clients on the server's own machine, unless it runs with --delay";
const isOpenToAll = process.argv.some((argument) => /^--delay(=|$)/.test(argument));
const COMMAND = process.versions["bun"] ? "bun server.ts" : "deno run --allow-net server.ts";

/** Whether a client is on this machine. A proxy is, whoever it speaks for: most add such a field. */
function isLocal({ remoteAddress, headers }: HttpRequest): boolean {
  return /^((::ffff:)?127\..*|::1|)$/.test(remoteAddress) &&
    !["Forwarded", "Via", "X-Forwarded-For", "X-Real-IP"].some((name) => headers.has(name));
}

/** GET tells the command that starts this server, and whether it has a lab for this client; POST takes
 * a plan, and tells what happens as it happens, in lines of JSON. */
async function lab(request: HttpRequest): Promise<HttpResponse> {
  const isOpen = isOpenToAll || isLocal(request);
  if (request.method.toUpperCase() !== "POST") {
    const body = JSON.stringify({ command: COMMAND, refusal: isOpen ? undefined : NOT_HERE });
    return fixed(200, "application/json", body, { "Cache-Control": "no-store" });
  }
  if (!isOpen) throw new HttpError(403, NOT_HERE);
  // A page of another origin can't send this type: its browser would have to ask first.
  if (!isJson(request.headers.get("Content-Type") ?? "")) {
    throw new HttpError(415, "A plan is application/json");
  }
  const plan = readPlan(await request.json());
  if (Lab.running >= MAX_LABS) {
    return fixed(503, TEXT, "503 Service Unavailable: Too many labs", { "Retry-After": "2" });
  }
  const { events, stop } = new Lab(plan);
  request.stopping.addEventListener("abort", stop, { once: true });
  return { headers: { "Content-Type": "application/x-ndjson", ...NOSNIFF }, body: events };
}

function readPlan(plan: unknown): Plan {
  const given = Object(plan);
  const number = (name: string, otherwise: number, least: number, most: number): number => {
    const value = given[name] ?? otherwise;
    if (typeof value === "number" && value >= least && value <= most) return value;
    throw new HttpError(400, `Invalid plan: ${name} must be a number from ${least} to ${most}`);
  };
  const list = (value: unknown, name: string, least: number, most: number): unknown[] => {
    if (Array.isArray(value) && value.length >= least && value.length <= most) return value;
    throw new HttpError(400, `Invalid plan: ${name} must be a list of ${least} to ${most}`);
  };
  const permits = number("permits", MAX_CLIENTS, 1, MAX_CLIENTS);
  if (permits % 1 !== 0) throw new HttpError(400, "Invalid plan: permits must be a whole number");
  return {
    permits,
    delay: number("delay", 0, 0, 1),
    idleTimeout: number("idleTimeout", 1, 0.1, 2),
    connections: list(given.connections, "connections", 1, MAX_CLIENTS).map((client) => {
      const pieces = list(client, "a connection", 0, MAX_PIECES);
      if (pieces.every((piece) => typeof piece === "string" && /^[\0-\xff]+$/.test(piece))) {
        const bytes = pieces.map((piece) =>
          Uint8Array.from(piece as string, (c) => c.charCodeAt(0))
        );
        if (bytes.reduce((sum, { length }) => sum + length, 0) <= MAX_SENT) return bytes;
      }
      throw new HttpError(
        400,
        `Invalid plan: a connection sends texts of one character a byte, up to ${MAX_SENT} bytes`,
      );
    }),
  };
}

/** A server of its own for some clients in memory: all of it is that of server.ts, but the sockets. */
class Lab implements Listener {
  static running = 0;
  readonly addr = { hostname: "lab", port: 0 };
  readonly events: ReadableStream<Uint8Array>;
  /** Ends it before its time. */
  readonly stop = (): Promise<void> => this.#finished ??= this.#finish();
  #finished: Promise<void> | undefined;
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  readonly #begun = performance.now();
  readonly #timers: ReturnType<typeof setTimeout>[] = [];
  readonly #waiting: LabConnection[];
  readonly #closed = Promise.withResolvers<null>();
  readonly #server;
  #open: number;
  #room = LAB_SIZE;

  constructor({ permits, delay, idleTimeout, connections }: Plan) {
    Lab.running++;
    this.events = new ReadableStream({
      start: (controller) => void (this.#controller = controller),
      cancel: this.stop,
    });
    const clients = connections.map((_, i) => new LabConnection(i + 1, this.#tell));
    this.#open = clients.length;
    this.#waiting = [...clients];
    const held = async (request: HttpRequest) => {
      if (delay > 0) await new Promise<void>((resolve) => this.#after(1000 * delay, resolve));
      return application(request);
    };
    const info = (line: string) => {
      const [said, client] = /(?:^| \(from )lab:(\d)[ )]/.exec(line) ?? [];
      if (said === undefined) return;
      this.#tell({ event: "log", connection: Number(client), text: line.replace(said, "") });
    };
    this.#server = serveOn(this, held, { maxConnections: permits, idleTimeout, log: { info } });
    clients.forEach((client, i) =>
      connections[i]!.forEach((piece, j) => this.#after(PIECE_PAUSE * j, () => client.send(piece)))
    );
    this.#after(LAB_TIME, () => this.#cutOff(`${LAB_TIME / 1000} seconds are over`));
  }
  accept(): Promise<Connection | null> {
    return Promise.resolve(this.#waiting.shift() ?? this.#closed.promise);
  }
  close(): void {
    this.#closed.resolve(null);
  }
  #after(milliseconds: number, run: () => void): void {
    this.#timers.push(setTimeout(run, milliseconds));
  }
  #tell: Tell = (event) => {
    if (this.#finished !== undefined) return;
    const line = JSON.stringify({ at: Math.round(performance.now() - this.#begun), ...event });
    this.#controller.enqueue(encoder.encode(line + "\n"));
    this.#room -= line.length;
    if (event.event === "closed" && --this.#open === 0) void this.stop();
    else if (this.#room < 0 && event.event !== "cut off") this.#cutOff("there is more than fits");
  };
  #cutOff(text: string): void {
    this.#tell({ event: "cut off", text });
    void this.stop();
  }
  async #finish(): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    await this.#server.shutdown(0);
    Lab.running--;
    try {
      this.#controller.close();
    } catch { /* Nobody reads it any more. */ }
  }
}

/** A connection in memory, whose client takes all that comes, and closes when the server does. */
class LabConnection implements Connection {
  readonly remoteAddress = "lab";
  readonly remotePort: number;
  readonly #tell: Tell;
  readonly #pieces: Uint8Array[] = [];
  #wake = () => {};
  #isServed = false;
  #isOpen = true;

  constructor(number: number, tell: Tell) {
    this.remotePort = number;
    this.#tell = tell;
  }
  send(piece: Uint8Array): void {
    if (!this.#isOpen) return;
    this.#tellBytes("sent", piece);
    this.#pieces.push(piece);
    this.#wake();
  }
  async read(buffer: Uint8Array): Promise<number | null> {
    if (!this.#isServed) this.#tell({ event: "permit", connection: this.remotePort });
    this.#isServed = true;
    while (this.#isOpen && this.#pieces.length === 0) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    const piece = this.#pieces.shift();
    if (piece === undefined) return null;
    const count = Math.min(piece.length, buffer.length);
    buffer.set(piece.subarray(0, count));
    if (count < piece.length) this.#pieces.unshift(piece.subarray(count));
    return count;
  }
  write(bytes: Uint8Array): number {
    if (!this.#isOpen) throw new Error("closed");
    this.#tellBytes("received", bytes);
    return bytes.length;
  }
  closeWrite(): void {
    this.close();
  }
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#tell({ event: "closed", connection: this.remotePort });
    this.#wake();
  }
  #tellBytes(event: "sent" | "received", bytes: Uint8Array): void {
    const text = String.fromCharCode(...bytes.subarray(0, MAX_SHOWN));
    this.#tell({ event, connection: this.remotePort, size: bytes.length, text });
  }
}
