// Step 4: what has come is kept as bytes until it is whole, and a client that fails ends only itself.
// Start it with `deno run --allow-net steps/4.ts` or `bun steps/4.ts`; a port may follow.
import { Buffer } from "node:buffer";
import process from "node:process";
import { type Connection, listen, writeAll } from "../server.ts";

const decoder = new TextDecoder();

interface Request {
  method: string;
  path: string;
  headers: Map<string, string>;
  body: Uint8Array;
}
type Answer = [status: string, body: string | Uint8Array];

/** Reads a request; what has come of it is kept as bytes until it is whole. */
class Reader {
  readonly #connection: Connection;
  readonly #buffer = new Uint8Array(1024);
  #bytes = Buffer.alloc(0);

  constructor(connection: Connection) {
    this.#connection = connection;
  }
  async #readMore(): Promise<void> {
    const count = await this.#connection.read(this.#buffer);
    if (count === null) throw new Error("the client has left early");
    this.#bytes = Buffer.concat([this.#bytes, this.#buffer.subarray(0, count)]);
  }
  async next(): Promise<Request> {
    let end: number;
    while ((end = this.#bytes.indexOf("\r\n\r\n")) < 0) await this.#readMore();
    const [requestLine = "", ...fields] = this.#bytes.toString("latin1", 0, end).split("\r\n");
    const [method = "", path = ""] = requestLine.split(" ");
    const headers = new Map<string, string>();
    for (const field of fields) {
      const [name = "", value = ""] = field.split(": ");
      headers.set(name.toLowerCase(), value);
    }

    const start = end + 4, length = Number(headers.get("content-length") ?? 0);
    while (this.#bytes.length < start + length) await this.#readMore();
    return { method, path, headers, body: this.#bytes.subarray(start, start + length) };
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

async function send(connection: Connection, [status, body]: Answer): Promise<void> {
  const content = Buffer.from(body);
  const head = `HTTP/1.1 ${status}\r\nContent-Length: ${content.length}\r\n\r\n`;
  await writeAll(connection, Buffer.concat([Buffer.from(head), content]));
}

async function serve(connection: Connection): Promise<void> {
  const reader = new Reader(connection);
  try {
    const request = await reader.next();
    await send(connection, await answer(request));
  } catch (error) {
    console.log(`${connection.remoteAddress} ${(error as Error).message}`);
  }
  connection.close();
}

const listener = listen({ port: Number(process.argv[2] ?? 8080) });
console.log(`Listening at PORT ${listener.addr.port}...`);
for (;;) {
  const connection = await listener.accept();
  if (connection === null) break;
  await serve(connection);
}
