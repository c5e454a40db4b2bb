/** A server that stands behind a front which marks the requests that it passes on: it prints the mark,
 * method and target of each request that it gets whole, and answers with the mark. It takes `--port`.
 * The content of GET is left unread. */

import process from "node:process";
import { serve } from "../server.ts";

const server = serve(async (request) => {
  const mark = request.headers.get("X-Mark") ?? "none";
  if (request.method !== "GET") await request.bytes();
  console.log(JSON.stringify([mark, request.method, request.target]));
  return { headers: { "X-Seen": mark }, body: "ok" };
}, {
  port: Number(process.argv[process.argv.indexOf("--port") + 1]),
  requestTimeout: 2,
  log: { info: console.error },
});
process.on("SIGTERM", () => void server.shutdown());
await server.finished;
process.exit(0);
