// Step 7: a connection is kept for the next request, which may have come already.
// Start it with `deno run --allow-net steps/7.ts` or `bun steps/7.ts`; a port may follow.
import { Buffer } from "node:buffer";
import process from "node:process";
import { type Connection, listen, writeAll } from "../server.ts";

const MAX_CONNECTIONS = 3;
const MAX_HEAD = 16384, MAX_BODY = 1048576; // bytes
const IDLE_TIME = 3000; // milliseconds that a client may take to send or take something

const decoder = new TextDecoder();

interface Request {
  method: string;
  path: string;
  headers: Map<string, string>;
  body: Uint8Array;
  persists: boolean;
}
type Answer = [status: string, body: string | Uint8Array];

/** So many connections have a permit at a time; the others wait for one in a queue. */
class Semaphore {
  #free = MAX_CONNECTIONS;
  readonly #queue: (() => void)[] = [];

  async acquire(): Promise<void> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#queue.push(resolve));
  }
  release(): void {
    const next = this.#queue.shift();
    if (next !== undefined) next(); // The permit goes from hand to hand.
    else this.#free++;
  }
}

/** A request that is refused: the message is the status that says why. */
class Refusal extends Error {}

/** Waits for a client, but not for ever: then its connection is closed, and what waits is rejected. */
async function inTime<T>(connection: Connection, work: T | Promise<T>): Promise<T> {
  const timer = setTimeout(() => connection.close(), IDLE_TIME);
  try {
    return await work;
  } finally {
    clearTimeout(timer);
  }
}

/** Reads one request after another; what has come of the next one stays for the next time. */
class Reader {
  readonly #connection: Connection;
  readonly #buffer = new Uint8Array(1024);
  #bytes = Buffer.alloc(0);

  constructor(connection: Connection) {
    this.#connection = connection;
  }
  async #readMore(): Promise<void> {
    const count = await inTime(this.#connection, this.#connection.read(this.#buffer));
    if (count === null) throw new Error("the client has ended");
    this.#bytes = Buffer.concat([this.#bytes, this.#buffer.subarray(0, count)]);
  }
  async next(): Promise<Request> {
    let end: number;
    while ((end = this.#bytes.indexOf("\r\n\r\n")) < 0 && this.#bytes.length <= MAX_HEAD) {
      await this.#readMore();
    }
    if (end < 0 || end > MAX_HEAD) throw new Refusal("431 Request Header Fields Too Large");
    const [requestLine = "", ...fields] = this.#bytes.toString("latin1", 0, end).split("\r\n");
    const [method = "", path = "", version = ""] = requestLine.split(" ");
    const headers = new Map<string, string>();
    for (const field of fields) {
      const [name = "", value = ""] = field.split(": ");
      headers.set(name.toLowerCase(), value);
    }

    const start = end + 4, length = Number(headers.get("content-length") ?? 0);
    if (!(length <= MAX_BODY)) throw new Refusal("413 Content Too Large");
    while (this.#bytes.length < start + length) await this.#readMore();
    const body = this.#bytes.subarray(start, start + length);
    this.#bytes = this.#bytes.subarray(start + length);
    const persists = version === "HTTP/1.1" && headers.get("connection")?.toLowerCase() !== "close";
    return { method, path, headers, body, persists };
  }
}

/** The application: which request gets which answer. */
async function answer({ method, path, headers, body }: Request): Promise<Answer> {
  if (method === "GET") {
    switch (path) {
      case "/":
        return ["200 OK", "Hello\n"];
      case "/slow": // as if a database took its time
        await new Promise((resolve) => setTimeout(resolve, 5000));
        return ["200 OK", "At last\n"];
      case "/compute": // takes the processor for as long, and gives it to nobody
        for (const start = Date.now(); Date.now() - start < 5000;);
        return ["200 OK", "Done\n"];
      default:
        return ["404 Not Found", "404 Not Found\n"];
    }
  }
  if (method !== "POST") return ["400 Bad Request", "Handles only GET/POST requests.\n"];
  if (headers.get("content-type") !== "application/json") return ["200 OK", body];
  try {
    return ["200 OK", JSON.stringify({ ...JSON.parse(decoder.decode(body)), id: 1 }) + "\n"];
  } catch {
    return ["400 Bad Request", "Invalid JSON\n"];
  }
}

async function send(connection: Connection, [status, body]: Answer, persists: boolean) {
  const content = Buffer.from(body);
  const close = persists ? "" : "Connection: close\r\n";
  const head = `HTTP/1.1 ${status}\r\nContent-Length: ${content.length}\r\n${close}\r\n`;
  await inTime(connection, writeAll(connection, Buffer.concat([Buffer.from(head), content])));
}

async function serve(connection: Connection): Promise<void> {
  const log = (line: string) => console.log(`${connection.remoteAddress} ${line}`);
  const reader = new Reader(connection);
  try {
    for (let persists = true; persists;) {
      const request = await reader.next();
      const reply = await answer(request);
      log(`${request.method} ${request.path} ${reply[0]}`);
      persists = request.persists;
      await send(connection, reply, persists);
    }
  } catch (error) {
    const { message } = error as Error;
    log(message);
    if (error instanceof Refusal) await send(connection, [message, message], false).catch(() => {});
  } finally {
    connection.close();
    permits.release();
  }
}

const permits = new Semaphore();
const listener = listen({ port: Number(process.argv[2] ?? 8080) });
console.log(`Listening at PORT ${listener.addr.port}...`);
for (;;) {
  const connection = await listener.accept();
  if (connection === null) break;
  await permits.acquire();
  void serve(connection); // Not awaited: the loop goes on to the next client.
}
