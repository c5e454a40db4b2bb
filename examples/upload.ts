// Uploads, written to disk as they arrive: `PUT /name` makes a file in a folder (default: uploads).
// Try it: `curl -T server.ts http://127.0.0.1:8080/copy.ts`.
// Deno needs `--allow-net --allow-read --allow-write`; the folder is the second argument.
import { lstat, mkdir, open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { HttpError, type HttpRequest, type HttpResponse, serve } from "../server.ts";

const GIB = 2 ** 30;
const folder = process.argv[3] ?? "uploads";
await mkdir(folder, { recursive: true });

async function upload(request: HttpRequest): Promise<HttpResponse> {
  if (request.method !== "PUT") return { status: 405, headers: { Allow: "PUT" } };
  // What is allowed is listed, not what is forbidden: no separator, no "%", no dot in front.
  const name = /^\/([\w-][\w.-]{0,99})$/.exec(request.path)?.[1];
  if (name === undefined) throw new HttpError(400, "A name is letters, digits and _ - . within");
  if (request.headers.has("Content-Range")) throw new HttpError(400, "Send the whole file");
  const path = join(folder, name);
  const old = await lstat(path).catch(() => undefined);
  if (old !== undefined && !old.isFile()) throw new HttpError(409, "This name is taken");

  // Nobody sees half a file. The dot in front keeps this name apart from all that can be sent.
  const partial = join(folder, `.${crypto.randomUUID()}`);
  let size = 0;
  try {
    {
      await using file = await open(partial, "wx");
      for await (const piece of request.body ?? []) { // The next is read when this is written.
        await file.appendFile(piece);
        size += piece.length;
      }
    }
    await rename(partial, path);
  } catch (error) { // The disk is full, the client has left, the content is malformed or too large.
    await rm(partial, { force: true });
    throw error; // What the client did wrong is answered by the server.
  }
  return { status: old === undefined ? 201 : 200, body: `${size} bytes\n` };
}

const server = serve(upload, {
  port: Number(process.argv[2] ?? 8080),
  maxBodySize: 4 * GIB,
  requestTimeout: 3600, // A whole upload; one that stalls is ended by the idle timeout.
  log: console,
});
await server.finished;
