// CORS: which pages of other origins may use this from a browser, with the user's cookies, as the Fetch
// standard has it (https://fetch.spec.whatwg.org/#http-cors-protocol).
// Try it: `curl -i -H 'Origin: https://app.example' http://127.0.0.1:8080/`, and with other origins.
import process from "node:process";
import { type Handler, HttpError, type HttpResponse, serve } from "../server.ts";

export interface Policy {
  /** As browsers write them: scheme, host, and the port if it is not the scheme's own. */
  origins: string[];
  methods: string[];
  /** Fields that a page may send, and read, besides the few that it always may. */
  headers: string[];
  exposed: string[];
  maxAge: number; // seconds for which a browser need not ask again
}

export const cors = (policy: Policy) => (next: Handler): Handler => async (request) => {
  const origin = request.headers.get("Origin");
  const rules: Record<string, string> = {};
  const isAllowed = origin !== null && policy.origins.includes(origin);
  if (isAllowed) {
    rules["Access-Control-Allow-Origin"] = origin; // With credentials, "*" is not enough.
    rules["Access-Control-Allow-Credentials"] = "true";
  }
  // A preflight has no cookies: it is answered before anybody asks who it is.
  if (request.method === "OPTIONS" && request.headers.has("Access-Control-Request-Method")) {
    if (isAllowed) {
      rules["Access-Control-Allow-Methods"] = policy.methods.join(", ");
      rules["Access-Control-Allow-Headers"] = policy.headers.join(", ");
      rules["Access-Control-Max-Age"] = `${policy.maxAge}`;
    }
    return add(rules, { status: 204 });
  }
  if (isAllowed) rules["Access-Control-Expose-Headers"] = policy.exposed.join(", ");
  const response = await Promise.resolve(request).then(next).catch((error) => {
    if (!(error instanceof HttpError)) throw error;
    return { status: error.status, body: error.message }; // The page may read it, too.
  });
  return add(rules, response);
};
function add(rules: Record<string, string>, response: HttpResponse | Response): HttpResponse {
  const { status, headers = {}, body, upgrade } = response as HttpResponse;
  const fields = new Headers();
  for (const [name, value] of Symbol.iterator in headers ? headers : Object.entries(headers)) {
    for (const one of [value].flat()) fields.append(name, one);
  }
  // A cache must not give to one origin what was for another, so all answers say this.
  fields.append("Vary", "Origin");
  for (const name in rules) fields.set(name, rules[name]!); // in place of the handler's own
  return { status, headers: fields, body, ...upgrade && { upgrade } };
}

if (import.meta.main) {
  const outside = cors({
    origins: ["https://app.example", "http://localhost:5173"],
    methods: ["GET", "PUT", "DELETE"],
    headers: ["Content-Type", "Authorization"],
    exposed: ["ETag"],
    maxAge: 600,
  });
  const app = outside(({ method }) => Response.json({ method }, { headers: { ETag: '"1"' } }));
  await serve(app, { port: Number(process.argv[2] ?? 8080), log: console }).finished;
}
