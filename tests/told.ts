/** A server that tells whom a request is from and what it is for. It takes `--port`, and `--proxy` with
 * the option as JSON. */

import process from "node:process";
import { parseArgs } from "node:util";
import { serve } from "../server.ts";

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: { port: { type: "string" }, proxy: { type: "string" } },
});
const server = serve({
  fetch: ({ url }, { remoteAddr }) => Response.json([remoteAddr.hostname, url]),
}, {
  port: Number(values.port),
  proxy: JSON.parse(values.proxy!),
  log: { info: console.error },
});
process.on("SIGTERM", () => void server.shutdown());
await server.finished;
process.exit(0);
