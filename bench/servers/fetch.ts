// An application written for Fetch, on this server or on the runtime's own:
// `fetch.ts PORT ours|own hono|plain`.
import process from "node:process";
import { Hono } from "hono@4";
import { serve } from "../../server.ts";
import { application, plain } from "./hono.js";

type Fetch = (request: Request) => Response | Promise<Response>;
declare const Bun: undefined | {
  serve(options: { hostname: string; port: number; fetch: Fetch }): void;
};

const [, , number, server, kind] = process.argv;
const port = Number(number), hostname = "127.0.0.1";
const app = (kind === "plain" ? plain : application(Hono)) as { fetch: Fetch };
const fetch: Fetch = (request) => app.fetch(request);
if (server === "ours") serve({ fetch }, { port });
else if (typeof Bun === "undefined") Deno.serve({ hostname, port, onListen() {} }, fetch);
else Bun.serve({ hostname, port, fetch });
