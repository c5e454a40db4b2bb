/**
 * The application: which request gets which response. It knows nothing of sockets.
 *
 * @module
 */

// @ts-ignore: To TypeScript itself, no file is text.
import html from "./index.html" with { type: "text" };
// @ts-ignore: as above
import json from "./book.json" with { type: "text" };
import { HttpError, type HttpRequest, type HttpResponse } from "./server.ts";

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

/** Answers a request to the application. Methods are matched in any case. */
export function handler(request: HttpRequest): HttpResponse | Promise<HttpResponse> {
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
