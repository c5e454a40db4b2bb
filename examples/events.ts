// Server-sent events: all clients get the same ones, each no faster than it reads. One that comes
// back says what it saw last and gets what it missed; one that is too slow misses the oldest. A stop
// ends all streams at once; browsers then come back by themselves.
// Try it: `curl -N http://127.0.0.1:8080/`, also with `-H 'Last-Event-ID: 3'`.
import { EventEmitter, once } from "node:events";
import process from "node:process";
import { type HttpRequest, serve } from "../server.ts";

const KEPT = 100;
const encoder = new TextEncoder();

/** The last events, so that a slow client costs no memory of its own. */
const recent: Uint8Array[] = [];
let last = 0;
const news = new EventEmitter().setMaxListeners(0); // one listener a client

function publish(data: string): void {
  // Each line of the data needs its own field: a line break must not end the event.
  const lines = data.split(/\r\n|\r|\n/).map((line) => `data: ${line}\n`).join("");
  recent.push(encoder.encode(`id: ${++last}\n${lines}\n`));
  if (recent.length > KEPT) recent.shift();
  news.emit("event");
}

/** What comes after the event `seen`, until the client leaves or the server stops. */
async function* follow(seen: number, request: HttpRequest): AsyncGenerator<Uint8Array> {
  const signal = AbortSignal.any([request.signal, request.stopping]);
  yield encoder.encode("retry: 1000\n\n"); // so that the head leaves at once
  while (!signal.aborted) {
    if (seen < last) {
      seen = Math.max(seen, last - recent.length); // what is gone is skipped
      yield recent[recent.length - (last - seen++)];
    } else {
      await once(news, "event", { signal }).catch(() => {}); // rejects when it is over
    }
  }
  console.log("A stream has ended");
}

const clock = setInterval(() => publish(new Date().toISOString()), 1000);

const server = serve((request) => {
  if (request.path !== "/") return { status: 404 };
  const id = request.headers.get("Last-Event-ID") ?? "";
  // Only an id that was given here counts: after a restart they begin again.
  const seen = /^\d{1,15}$/.test(id) && Number(id) <= last ? Number(id) : last;
  return {
    headers: {
      "Content-Type": "text/event-stream",
      "Cache-Control": "no-store",
      "X-Accel-Buffering": "no", // lest nginx waits for more, if it is in front
    },
    body: request.method === "HEAD" ? "" : follow(seen, request),
  };
}, { port: Number(process.argv[2] ?? 8080), log: console });
process.once("SIGTERM", () => void server.shutdown());
await server.finished;
clearInterval(clock);
