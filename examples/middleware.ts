// Middleware as plain functions: each takes a handler and returns one that does more.
// Try it: `curl -i http://127.0.0.1:8080/`, and `curl -i -u ann:secret http://127.0.0.1:8080/admin`.
import { createHash, timingSafeEqual } from "node:crypto";
import process from "node:process";
import { type Handler, HttpError, type HttpRequest, type HttpResponse, serve } from "../server.ts";

type Middleware = (next: Handler) => Handler;

/** A response with more fields, whichever of the two kinds it is. */
function add(response: HttpResponse | Response, fields: Record<string, string>) {
  if (!(response instanceof Response)) {
    return { ...response, headers: { ...response.headers, ...fields } };
  } // The headers of a fetched response can't be changed, those of a copy can.
  const headers = new Headers(response.headers);
  for (const name in fields) headers.set(name, fields[name]);
  return new Response(response.body, { status: response.status, headers });
}

const SAFE = { "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY" };
const secure: Middleware = (next) => async (request) => add(await next(request), SAFE);
const ids = new WeakMap<HttpRequest, string>(); // What a middleware knows, for those inside of it.
const requestId: Middleware = (next) => async (request) => {
  const given = request.headers.get("X-Request-Id") ?? "";
  const id = /^[\w-]{1,64}$/.test(given) ? given : crypto.randomUUID();
  ids.set(request, id);
  return add(await next(request), { "X-Request-Id": id });
};
const timing: Middleware = (next) => async (request) => {
  const start = performance.now();
  const response = await next(request);
  return add(response, { "Server-Timing": `app;dur=${(performance.now() - start).toFixed(1)}` });
};
/** Makes responses of errors that are answers, so that the middleware outside adds to them too. */
const errors: Middleware = (next) => async (request) => {
  try {
    return await next(request);
  } catch (error) {
    if (error instanceof HttpError) return { status: error.status, body: `${error.message}\n` };
    throw error;
  }
};
const digest = (text: string) => createHash("sha256").update(text).digest();
const basicAuth = (path: string, user: string): Middleware => (next) => (request) => {
  if (request.path !== path && !request.path.startsWith(`${path}/`)) return next(request);
  const given = (request.headers.get("Authorization") ?? "").replace(/^basic +/i, "");
  // Takes as long for a guess that is nearly right.
  if (timingSafeEqual(digest(given), digest(btoa(user)))) return next(request);
  return { status: 401, headers: { "WWW-Authenticate": 'Basic realm="admin"' } };
};
/** The first is the outermost. */
const stack = (...layers: Middleware[]): Middleware => (handler) =>
  layers.reduceRight((next, layer) => layer(next), handler);
const outside = stack(requestId, timing, secure, errors, basicAuth("/admin", "ann:secret"));
const app = outside((request) => {
  if (request.path !== "/" && request.path !== "/admin") throw new HttpError(404, "Not here");
  return { body: `${request.path}, request ${ids.get(request)}\n` };
});
const server = serve(app, { port: Number(process.argv[2] ?? 8080), log: console });
await server.finished;
