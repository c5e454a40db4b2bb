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
  const [essence = ""] = type.split(";");
  return /^(application\/json|[!#-'*+.^-`|~\w-]+\/[!#-'*+.^-`|~\w-]+\+json)$/i.test(essence.trim());
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

/** What happened to which of a lab's clients, which are counted from 1. */
interface LabEvent {
  event: "permit" | "sent" | "received" | "log" | "closed" | "cut off";
  client?: number;
  /** Bytes that were sent or received. */
  size?: number;
  /** The first of them, one character each; or what explains the event. */
  text?: string;
}
type Tell = (event: LabEvent) => void;

/** Labs at a time, milliseconds that each may take, about how many characters it may tell. */
const MAX_LABS = 4, LAB_TIME = 6000, LAB_SIZE = 65536;
/** Clients in a lab, pieces that each sends, bytes in all of these. */
const MAX_CLIENTS = 6, MAX_PIECES = 8, MAX_SENT = 4096;
/** Milliseconds from one piece to the next. */
const PIECE_PAUSE = 400;
/** Bytes that are shown of what a client receives at a time. */
const MAX_SHOWN = 2048;

const NOT_HERE =
  "The lab is for clients on this machine, unless the server is started with --delay";
const isOpenToAll = process.argv.some((argument) => /^--delay(=|$)/.test(argument));
const COMMAND = process.versions["bun"] ? "bun server.ts" : "deno run --allow-net server.ts";

/** What GET tells: how this server is started, and why this client can have no lab. */
const [OFFER, NO_OFFER] = [undefined, NOT_HERE].map((refusal) =>
  fixed(200, "application/json", JSON.stringify({ command: COMMAND, refusal }), {
    "Cache-Control": "no-store",
  })
) as [HttpResponse, HttpResponse];
const TOO_MANY = fixed(503, TEXT, "503 Service Unavailable: Too many labs", { "Retry-After": "2" });

/** Whether a client is on this machine, and means it: a name of somebody else's may lead here, too (DNS
 * rebinding). A proxy is here, whoever it speaks for: most add such a field. */
function isLocal({ remoteAddress, url, headers }: HttpRequest): boolean {
  return /^((::ffff:)?127\..*|::1|)$/.test(remoteAddress) &&
    /^(localhost|127(\.\d+){3}|\[::1\])$/.test(new URL(url).hostname) &&
    !Array.from(headers).some(([name]) => /^(forwarded|via|x-real-ip|x-forwarded-.*)$/.test(name));
}

/** GET tells whether there is a lab for this client; POST takes a plan, and tells what happens as it
 * happens, in lines of JSON. */
async function lab(request: HttpRequest): Promise<HttpResponse> {
  const isOpen = isOpenToAll || isLocal(request);
  if (request.method.toUpperCase() !== "POST") return isOpen ? OFFER : NO_OFFER;
  if (!isOpen) throw new HttpError(403, NOT_HERE);
  // A page of another origin can't send this type: its browser would have to ask first.
  if (!isJson(request.headers.get("Content-Type") ?? "")) {
    throw new HttpError(415, "A plan is application/json");
  }
  const plan = readPlan(await request.json());
  if (Lab.running === MAX_LABS) return TOO_MANY;
  const { events, stop } = new Lab(plan);
  // A client that has only ended its side looks the same as one that left; so both end their lab.
  for (const end of [request.signal, request.stopping]) {
    if (end.aborted) void stop(); // It tells of it no more.
    else end.addEventListener("abort", stop);
  }
  return { headers: { "Content-Type": "application/x-ndjson", ...NOSNIFF }, body: events };
}

/** A plan is a server's options, the seconds that it holds each request, and what each client sends, in
 * pieces: texts of one character a byte. */
function readPlan(plan: unknown) {
  const { permits = MAX_CLIENTS, delay = 0, idleTimeout = 1, clients } = Object(plan);
  const check = (isSound: boolean, rule: string) => {
    if (!isSound) throw new HttpError(400, `Invalid plan: ${rule}`);
  };
  const isWithin = (value: unknown, least: number, most: number) =>
    typeof value === "number" && value >= least && value <= most;
  const isPieces = (value: unknown) =>
    Array.isArray(value) && value.length <= MAX_PIECES &&
    value.every((piece) => typeof piece === "string" && /^[\0-\xff]+$/.test(piece)) &&
    value.join("").length <= MAX_SENT;
  check(
    isWithin(permits, 1, MAX_CLIENTS) && permits % 1 === 0,
    `permits is a whole number from 1 to ${MAX_CLIENTS}`,
  );
  check(isWithin(delay, 0, 1), "delay is seconds from 0 to 1");
  check(isWithin(idleTimeout, 0.1, 2), "idleTimeout is seconds from 0.1 to 2");
  check(
    Array.isArray(clients) && isWithin(clients.length, 1, MAX_CLIENTS),
    `clients is a list of 1 to ${MAX_CLIENTS}`,
  );
  check(
    clients.every(isPieces),
    `a client is a list of up to ${MAX_PIECES} texts, one character a byte, ${MAX_SENT} in all`,
  );
  return { permits, delay, idleTimeout, clients } as {
    permits: number;
    delay: number;
    idleTimeout: number;
    clients: string[][];
  };
}

/** A server and its clients. All of it is as in server.ts but the sockets, which are memory. */
class Lab implements Listener {
  static running = 0;
  readonly addr = { hostname: "lab", port: 0 };
  readonly events: ReadableStream<Uint8Array>;
  readonly stop = (): Promise<void> => this.#stopped ??= this.#stop();
  #stopped: Promise<void> | undefined;
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  readonly #server;
  readonly #waiting: LabConnection[];
  readonly #closed = Promise.withResolvers<null>();
  readonly #timers: ReturnType<typeof setTimeout>[] = [];
  readonly #begun = performance.now();
  #open: number;
  #room = LAB_SIZE;

  constructor({ permits, delay, idleTimeout, clients }: ReturnType<typeof readPlan>) {
    Lab.running++;
    this.events = new ReadableStream({
      start: (controller) => void (this.#controller = controller),
      cancel: this.stop,
    });
    this.#open = clients.length;
    this.#waiting = clients.map((pieces, i) => {
      const connection = new LabConnection(i + 1, this.#tell);
      pieces.forEach((piece, j) => this.#after(PIECE_PAUSE * j, () => connection.send(piece)));
      return connection;
    });
    const delayed = async (request: HttpRequest) => {
      await new Promise<void>((resolve) => this.#after(1000 * delay, resolve));
      return application(request);
    };
    const info = (line: string) => {
      const [said, client] = /(?:^| \(from )lab:(\d)[ )]/.exec(line) ?? [];
      if (said === undefined) return;
      this.#tell({ event: "log", client: Number(client), text: line.replace(said, "") });
    };
    const options = { maxConnections: permits, idleTimeout, log: { info } };
    this.#server = serveOn(this, delay > 0 ? delayed : application, options);
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
    if (this.#stopped !== undefined) return;
    const line = JSON.stringify({ at: Math.round(performance.now() - this.#begun), ...event });
    this.#controller.enqueue(encoder.encode(line + "\n"));
    this.#room -= line.length;
    if (event.event === "closed" && --this.#open === 0) void this.stop();
    else if (this.#room < 0 && event.event !== "cut off") this.#cutOff("more than can be told");
  };
  #cutOff(text: string): void {
    this.#tell({ event: "cut off", text });
    void this.stop();
  }
  async #stop(): Promise<void> {
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
  readonly #unread: number[] = [];
  #wake = () => {};
  #isServed = false;
  #isOpen = true;

  constructor(client: number, tell: Tell) {
    this.remotePort = client;
    this.#tell = (event) => tell({ client, ...event });
  }
  send(text: string): void {
    if (!this.#isOpen) return;
    this.#tell({ event: "sent", size: text.length, text });
    this.#unread.push(...Array.from(text, (char) => char.charCodeAt(0)));
    this.#wake();
  }
  async read(buffer: Uint8Array): Promise<number | null> {
    if (!this.#isServed) this.#tell({ event: "permit" }); // A server reads as soon as there is one.
    this.#isServed = true;
    while (this.#isOpen && this.#unread.length === 0) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    const bytes = this.#unread.splice(0, buffer.length);
    buffer.set(bytes);
    return bytes.length || null;
  }
  write(bytes: Uint8Array): number {
    const text = String.fromCharCode(...bytes.subarray(0, MAX_SHOWN));
    this.#tell({ event: "received", size: bytes.length, text });
    return bytes.length;
  }
  closeWrite(): void {
    this.close();
  }
  close(): void {
    if (this.#isOpen) this.#tell({ event: "closed" });
    this.#isOpen = false;
    this.#wake();
  }
}
