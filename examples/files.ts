// Serves the files of a folder (default: this one) and nothing outside of it.
// Try it: `curl -i http://127.0.0.1:8080/README.md -r 0-99`.
// Deno needs `--allow-net --allow-read`; the folder is the second argument.
import { createReadStream } from "node:fs";
import { readFile, realpath, stat } from "node:fs/promises";
import { extname, join, sep } from "node:path";
import process from "node:process";
import { HttpError, type HttpRequest, type HttpResponse, serve } from "../server.ts";

const WHOLE = 8 << 20; // Larger files are streamed; of those a range gets the whole.
const TYPES: Record<string, string> = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".md": "text/markdown; charset=utf-8",
  ".png": "image/png",
};
const root = await realpath(process.argv[3] ?? ".");
const inside = root.endsWith(sep) ? root : root + sep;
/** What is really there, wherever symbolic links lead. */
async function find(path: string) {
  const real = await realpath(path).catch(() => ""); // Whatever the reason, it can't be served.
  if (real !== root && !real.startsWith(inside)) throw new HttpError(404, "No such file");
  return { real, info: await stat(real) };
}
/** One name of a path: an encoded slash separates nothing. */
function decode(text: string): string {
  try {
    text = decodeURIComponent(text);
  } catch {
    throw new HttpError(400, "Malformed percent-encoding");
  } // A dot in front is "..", or hides a file, such as .git.
  if (/^\.|[/\\\0]/.test(text)) throw new HttpError(404, "No such file");
  return text;
}
async function* pieces(path: string, size: number): AsyncGenerator<Uint8Array> {
  yield* createReadStream(path, { end: size - 1 }); // Not opened before a piece is asked for.
}
async function files({ method, path }: HttpRequest): Promise<HttpResponse> {
  if (!/^(GET|HEAD)$/.test(method)) return { status: 405, headers: { Allow: "GET, HEAD" } };
  const isFolder = path.endsWith("/");
  const names = path.split("/").map(decode);
  const { real, info } = await find(join(root, ...names, isFolder ? "index.html" : ""));
  if (info.isDirectory() && !isFolder) { // Without the slash, a page's links would lead elsewhere.
    return { status: 308, headers: { Location: `./${path.split("/").pop()}/` } };
  }
  if (!info.isFile()) throw new HttpError(404, "No such file"); // A pipe would never end.
  const { size, mtimeMs } = info;
  const headers = {
    "Content-Length": `${size}`,
    "Content-Type": TYPES[extname(real).toLowerCase()] ?? "application/octet-stream",
    "ETag": `"${size.toString(36)}-${Math.floor(mtimeMs).toString(36)}"`,
    "Last-Modified": new Date(Math.min(mtimeMs, Date.now())).toUTCString(),
    "X-Content-Type-Options": "nosniff",
  };
  if (method === "HEAD") return { headers };
  return { headers, body: size > WHOLE ? pieces(real, size) : await readFile(real) };
}
await serve(files, { port: Number(process.argv[2] ?? 8080), log: console }).finished;
