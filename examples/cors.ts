// CORS: which pages of other origins may use this from a browser, with the user's cookies, as the Fetch
// standard has it (https://fetch.spec.whatwg.org/#http-cors-protocol).
// Try it: `curl -i -H 'Origin: https://app.example' http://127.0.0.1:8080/`, and with other origins.
import process from "node:process";
import { type Handler, type HttpResponse, serve } from "../server.ts";

interface Policy {
  /** As browsers write them: scheme, host, and the port if it is not the scheme's own. */
  origins: string[];
  methods: string[];
  /** Fields that a page may send, and read, besides the few that it always may. */
  headers: string[];
  exposed: string[];
  maxAge: number; // seconds for which a browser need not ask again
}

const cors = (policy: Policy) => (next: Handler): Handler => async (request) => {
  const origin = request.headers.get("Origin");
  // A cache must not give to one origin what was for another, so all answers say this.
  const fields: Record<string, string> = { Vary: "Origin" };
  const isAllowed = origin !== null && policy.origins.includes(origin);
  if (isAllowed) {
    fields["Access-Control-Allow-Origin"] = origin; // With credentials, "*" is not enough.
    fields["Access-Control-Allow-Credentials"] = "true";
  }
  // A preflight has no cookies: it is answered before anybody asks who it is.
  if (request.method === "OPTIONS" && request.headers.has("Access-Control-Request-Method")) {
    if (isAllowed) {
      fields["Access-Control-Allow-Methods"] = policy.methods.join(", ");
      fields["Access-Control-Allow-Headers"] = policy.headers.join(", ");
      fields["Access-Control-Max-Age"] = `${policy.maxAge}`;
    }
    return { status: 204, headers: fields };
  }
  if (isAllowed) fields["Access-Control-Expose-Headers"] = policy.exposed.join(", ");
  return add(await next(request), fields);
};
function add(
  { status, headers = {}, body }: HttpResponse | Response,
  more: Record<string, string>,
) {
  const fields = new Headers();
  for (const [name, value] of Symbol.iterator in headers ? headers : Object.entries(headers)) {
    for (const one of [value].flat()) fields.append(name, one);
  }
  for (const name in more) fields.append(name, more[name]);
  return { status, headers: fields, body };
}

const outside = cors({
  origins: ["https://app.example", "http://localhost:5173"],
  methods: ["GET", "PUT", "DELETE"],
  headers: ["Content-Type", "Authorization"],
  exposed: ["ETag"],
  maxAge: 600,
});
const app = outside(({ method }) => Response.json({ method }, { headers: { ETag: '"1"' } }));
const server = serve(app, { port: Number(process.argv[2] ?? 8080), log: console });
await server.finished;
