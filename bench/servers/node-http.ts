// node:http, which Node.js, Deno and Bun all have.
import { Buffer } from "node:buffer";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import process from "node:process";
import { big, book, headers, isJson, page, port, withId } from "./app.ts";

const server = createServer(process.argv[3] === "bodies" ? bodiesApplication : application);
server.keepAliveTimeout = 255_000; // it is to hold idle connections, longer than the usual 5 s
server.listen(port, "127.0.0.1");

function application(request: IncomingMessage, response: ServerResponse): void {
  switch (request.method) {
    case "GET":
    case "HEAD":
      switch (request.url!.split("?")[0]) {
        case "/":
          return send(response, 200, headers.page, page);
        case "/book":
          return send(response, 200, headers.book, book);
        default:
          return send(response, 404, headers.text, "404 Not Found");
      }
    case "POST":
      return collect(request, (body) => {
        const type = request.headers["content-type"];
        const fields = headers.echo(type ?? null);
        if (!isJson(type)) return send(response, 200, fields, body);
        try {
          send(response, 200, fields, withId(body.toString()));
        } catch {
          send(response, 400, headers.text, "Invalid JSON");
        }
      });
    default:
      return send(response, 400, headers.wrongMethod, "Handles only GET/POST requests.");
  }
}

function bodiesApplication(request: IncomingMessage, response: ServerResponse): void {
  if (request.method === "GET") return send(response, 200, {}, Buffer.from(big.buffer));
  collect(request, (body) => send(response, 200, {}, `${body.length}`));
}

function collect(request: IncomingMessage, done: (body: Buffer) => void): void {
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => done(Buffer.concat(chunks)));
}

function send(
  response: ServerResponse,
  status: number,
  fields: Record<string, string>,
  body: string | Buffer,
): void {
  response.writeHead(status, { ...fields, "Content-Length": Buffer.byteLength(body) });
  response.end(body);
}
