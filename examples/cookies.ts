// Cookies with signed values: a session that needs no store, and that nobody can make up or change, though
// its client can read it; and new keys without anybody being logged out.
// Try it: `curl -i -c jar 'http://127.0.0.1:8080/login?user=ann'`, then `curl -b jar http://127.0.0.1:8080/`.
import { Buffer } from "node:buffer";
import { createHmac, timingSafeEqual } from "node:crypto";
import process from "node:process";
import { type HttpRequest, type HttpResponse, serve } from "../server.ts";

/** Secrets, each from `openssl rand -base64 32`. The first one signs, and all of them are good: a new one
 * goes in front, and an old one can go once all that it has signed has expired. */
const keys = (process.argv[3] ?? "only for trying it out: not a secret").split(",");
if (keys.some((key) => key.length < 32)) throw new Error("A key has 32 characters or more");
const MAX_AGE = 7 * 24 * 3600; // seconds

/** Of the name, too, or a value could be moved to another cookie; and of the time when it expires, since
 * clients can keep it for longer than they are told. */
const signature = (key: string, text: string) =>
  createHmac("sha256", key).update(text).digest("base64url");

function sign(name: string, value: string): string {
  const end = Math.floor(Date.now() / 1000) + MAX_AGE;
  const text = `${Buffer.from(value).toString("base64url")}.${end}`; // What RFC 6265 §4.1.1 allows.
  return `${text}.${signature(keys[0], `${name}=${text}`)}`;
}
function verify(name: string, cookie: string): string | undefined {
  const [, text, value, end, given] = /^(([\w-]*)\.(\d{1,15}))\.([\w-]{43})$/.exec(cookie) ?? [];
  if (text === undefined || Number(end) < Date.now() / 1000) return undefined;
  const isGood = (key: string) =>
    // It takes as long for a guess that is nearly right.
    timingSafeEqual(Buffer.from(signature(key, `${name}=${text}`)), Buffer.from(given));
  return keys.some(isGood) ? Buffer.from(value, "base64url").toString() : undefined;
}

/** The first one of that name, which has the longest path (RFC 6265 §5.4). */
function cookieOf(request: HttpRequest, name: string): string | undefined {
  const pairs = (request.headers.get("Cookie") ?? "").split(";").map((pair) => pair.trim());
  return pairs.find((pair) => pair.startsWith(`${name}=`))?.slice(name.length + 1);
}
/** HttpOnly: scripts can't read it. SameSite: forms of other sites don't send it. With this prefix to its
 * name, a browser takes it only if it is Secure and for this host alone, so no subdomain can set it. */
const SESSION = "__Host-session";
const setCookie = (value: string, age: number) =>
  `${SESSION}=${value}; Max-Age=${age}; Path=/; Secure; HttpOnly; SameSite=Lax`;

const server = serve((request): HttpResponse => {
  const user = verify(SESSION, cookieOf(request, SESSION) ?? "");
  switch (request.path) {
    case "/login": { // where a real one would ask for a password
      const headers = {
        "Set-Cookie": setCookie(sign(SESSION, request.query.get("user") ?? ""), MAX_AGE),
      };
      return { status: 303, headers: { ...headers, Location: "/" } };
    }
    case "/logout":
      return { status: 303, headers: { "Set-Cookie": setCookie("", 0), Location: "/" } };
  }
  // 401 is for the Authorization field alone (9110 §15.5.2).
  if (user === undefined) return { status: 403, body: "Who are you?\n" };
  return { headers: { "Cache-Control": "private" }, body: `Hello, ${user}\n` };
}, { port: Number(process.argv[2] ?? 8080), log: console });
await server.finished;
