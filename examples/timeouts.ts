// A time limit for each route, and no work for a client that has left. The backend is a second
// server here, which takes as long as it is told to.
// Try it: `curl -i 'http://127.0.0.1:8080/report?ms=100'`, then with 9000, and with Ctrl-C.
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { type Handler, HttpError, type HttpRequest, type HttpResponse, serve } from "../server.ts";

type Work = (request: HttpRequest, signal: AbortSignal) => Promise<HttpResponse | Response>;

/** Gives `work` a signal that aborts when the time is over or the client has left. */
function within(milliseconds: number, status: number, work: Work): Handler {
  return async (request) => {
    const limit = AbortSignal.timeout(milliseconds);
    const signal = AbortSignal.any([request.signal, limit]);
    try {
      return await work(request, signal);
    } catch (error) {
      if (!signal.aborted) throw error;
      // Whoever has left does not read this. One that has only ended its sending side does.
      if (!limit.aborted) throw new HttpError(503, "Stopped, as the client seemed to have left");
      throw new HttpError(status, `Not done within ${milliseconds} ms`, { cause: error });
    }
  };
}

const backend = serve(async ({ query, signal }) => {
  try {
    await sleep(Number(query.get("ms")), undefined, { signal });
    return { body: "The report\n" };
  } catch {
    console.log("The backend has stopped early");
    return { status: 503 };
  }
}, { port: 0 });

/** Asks the backend; a fetch that is aborted closes its connection, so the backend learns of it. */
const report = within(1000, 504, async ({ query }, signal) => {
  const ms = encodeURIComponent(query.get("ms") ?? "0");
  const response = await fetch(`http://127.0.0.1:${backend.addr.port}/?ms=${ms}`, { signal });
  // Read whole: a stream could still fail when the status is sent already.
  return { status: response.status, body: await response.text() };
});
/** Work that is done here, in steps, and looks at the signal between them. */
const sum = within(200, 503, async ({ query }, signal) => {
  let total = 0;
  for (let i = 1; i <= Number(query.get("to") ?? 1e6); i++) {
    total += i;
    if (i % 100_000 === 0) await sleep(1, undefined, { signal });
  }
  return { body: `${total}\n` };
});

const routes: Record<string, Handler> = { "/report": report, "/sum": sum };
const server = serve(
  (request) => routes[request.path]?.(request) ?? { status: 404 },
  { port: Number(process.argv[2] ?? 8080), log: console },
);
await server.finished;
