// Step 3: a request is read and understood: GET and POST, 404 and 400.
// Start it with `deno run --allow-net steps/3.ts` or `bun steps/3.ts`; a port may follow.
import process from "node:process";
import { type Connection, listen, writeAll } from "../server.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

interface Request {
  method: string;
  path: string;
  headers: Map<string, string>;
  body: string;
}
type Answer = [status: string, body: string];

/** Reads a head up to its empty line, and then as much of a body as the head has announced. */
async function readRequest(connection: Connection): Promise<Request> {
  const buffer = new Uint8Array(1024);
  let text = "", piece = "";
  do {
    const count = await connection.read(buffer);
    piece = decoder.decode(buffer.subarray(0, count ?? 0));
    text += piece;
  } while (!piece.includes("\r\n\r\n"));

  const [head = "", ...rest] = text.split("\r\n\r\n");
  const [requestLine = "", ...fields] = head.split("\r\n");
  const [method = "", path = ""] = requestLine.split(" ");
  const headers = new Map<string, string>();
  for (const field of fields) {
    const [name = "", value = ""] = field.split(": ");
    headers.set(name.toLowerCase(), value);
  }

  let body = rest.join("\r\n\r\n");
  const length = Number(headers.get("content-length") ?? 0);
  while (body.length < length) {
    const count = await connection.read(buffer);
    body += decoder.decode(buffer.subarray(0, count ?? 0));
  }
  return { method, path, headers, body };
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
    return ["200 OK", JSON.stringify({ ...JSON.parse(body), id: 1 }) + "\n"];
  } catch {
    return ["400 Bad Request", "Invalid JSON\n"];
  }
}

async function send(connection: Connection, [status, body]: Answer): Promise<void> {
  const content = encoder.encode(body);
  const head = `HTTP/1.1 ${status}\r\nContent-Length: ${content.length}\r\n\r\n`;
  await writeAll(connection, encoder.encode(head));
  await writeAll(connection, content);
}

async function serve(connection: Connection): Promise<void> {
  const request = await readRequest(connection);
  await send(connection, await answer(request));
  connection.close();
}

const listener = listen({ port: Number(process.argv[2] ?? 8080) });
console.log(`Listening at PORT ${listener.addr.port}...`);
for (;;) {
  const connection = await listener.accept();
  if (connection === null) break;
  await serve(connection);
}
