// Graceful shutdown: at SIGINT or SIGTERM nothing new is accepted, what runs is finished (10 s at
// most), and the process ends by itself. A second signal ends it at once.
// Try it: `curl http://127.0.0.1:8080/slow`, or `/count`, and Ctrl-C here before the answer comes.
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { type HttpRequest, type HttpResponse, serve } from "../server.ts";

const stop = new AbortController();
for (const name of ["SIGINT", "SIGTERM"]) {
  process.on(name, () => {
    if (stop.signal.aborted) process.exit(1);
    console.log(`${name}: stopping`);
    stop.abort();
  });
}

/** What would never end by itself has to look at the signal, else it is cut off after 10 s. */
async function* count(signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for (let i = 1; !signal.aborted; i++) {
    yield new TextEncoder().encode(`${i}\n`);
    await sleep(500, undefined, { signal }).catch(() => {});
  }
}

async function handler({ path, signal, stopping }: HttpRequest): Promise<HttpResponse> {
  if (path === "/count") return { body: count(AbortSignal.any([signal, stopping])) };
  if (path === "/slow") await sleep(2000);
  return { body: "Done\n" };
}

const port = Number(process.argv[2] ?? 8080);
const server = serve(handler, { port, signal: stop.signal, log: console });
await server.finished;
console.log("All requests were answered"); // Here databases and files are closed.
