/**
 * The application of handlers.ts written for Fetch, for the servers that this one is compared with:
 * the same routes, header fields and checks. With `bodies` on the command line, an application that
 * sends and counts megabytes; with `hello` or `frozen`, one that says hello. With the files of a certificate and its key after that, over TLS.
 */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import process from "node:process";

export const port = Number(process.argv[2]);
const app = process.argv[3];
/** For a server that is to speak TLS: the certificate and its key, as PEM texts. */
export function tls(): { cert: string; key: string } | undefined {
  const [cert, key] = process.argv.slice(4).map((file) => readFileSync(file, "utf8"));
  return cert === undefined ? undefined : { cert, key };
}

const read = (name: string) => readFileSync(new URL(`../../${name}`, import.meta.url), "utf8");
const etag = (text: string) => `"${createHash("sha256").update(text).digest("base64")}"`;

export const book = read("book.json"), page = read("index.html");
const NOSNIFF = { "X-Content-Type-Options": "nosniff" };
const text = { "Content-Type": "text/plain; charset=utf-8", ...NOSNIFF };
export const headers = {
  book: {
    "Content-Type": "application/json",
    ...NOSNIFF,
    "ETag": etag(book),
    "Cache-Control": "no-cache",
  },
  page: {
    "Content-Type": "text/html; charset=utf-8",
    ...NOSNIFF,
    "ETag": etag(page),
    "Cache-Control": "no-cache",
  },
  text,
  wrongMethod: { ...text, "Allow": "GET, HEAD, POST" },
  echo: (type: string | null): Record<string, string> =>
    type === null ? NOSNIFF : { "Content-Type": type, ...NOSNIFF },
};
export const big = new Uint8Array(2 ** 20).fill(120);

/** What `Deno.serve` and `Bun.serve` call. */
export const fetch = app === "bodies"
  ? bodiesApplication
  : app === "hello" || app === "frozen"
  ? () => new Response("Hello\n")
  : application;

function application(request: Request): Response | Promise<Response> {
  switch (request.method) {
    case "GET":
    case "HEAD":
      switch (new URL(request.url).pathname) {
        case "/":
          return new Response(page, { headers: headers.page });
        case "/book":
          return new Response(book, { headers: headers.book });
        default:
          return new Response("404 Not Found", { status: 404, headers: headers.text });
      }
    case "POST":
      return post(request);
    default:
      return new Response("Handles only GET/POST requests.", {
        status: 400,
        headers: headers.wrongMethod,
      });
  }
}

async function post(request: Request): Promise<Response> {
  const type = request.headers.get("Content-Type");
  if (!isJson(type)) return new Response(await request.bytes(), { headers: headers.echo(type) });
  try {
    return new Response(withId(await request.text()), { headers: headers.echo(type) });
  } catch {
    return new Response("Invalid JSON", { status: 400, headers: headers.text });
  }
}

async function bodiesApplication(request: Request): Promise<Response> {
  if (request.method === "GET") return new Response(big);
  return new Response(`${(await request.bytes()).length}`);
}

export function isJson(type: string | null | undefined): boolean {
  const essence = type?.toLowerCase().split(";")[0].trim() ?? "";
  return essence === "application/json" || essence.endsWith("+json");
}

/** A JSON object with an id; throws if it is not one. */
export function withId(json: string): string {
  const value = JSON.parse(json);
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error();
  const added = indentation(value);
  if (added === Infinity) throw new Error("too deep");
  const space = added > MAX_INDENTATION * json.length + 1024 ? 0 : 2;
  return JSON.stringify({ ...value, id: 1 }, null, space);
}

// As handlers.ts has it: the comparison is of servers, so the application's own cost is the same.
const MAX_DEPTH = 1000, MAX_INDENTATION = 8;
function indentation(value: unknown, depth = 0): number {
  if (typeof value !== "object" || value === null) return 0;
  if (depth === MAX_DEPTH) return Infinity;
  const inner: unknown[] = Array.isArray(value) ? value : Object.values(value);
  let bytes = inner.length * (2 * depth + 3) + 2 * depth + 1;
  for (const one of inner) bytes += indentation(one, depth + 1);
  return bytes;
}
