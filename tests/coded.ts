/** A server for the tests of the companions for content codings: run it as server.ts. It takes `--port`,
 * `--unix`, `--tls-cert` and `--tls-key`, and a `--folder` with files. */

import { readFileSync } from "node:fs";
import process from "node:process";
import { compress } from "../extras/compress.ts";
import { decompress } from "../extras/decompress.ts";
import { files } from "../extras/files.ts";
import { serve } from "../server.ts";

const value = (flag: string) => {
  const at = process.argv.indexOf(flag);
  return at < 0 ? undefined : process.argv[at + 1];
};
const folder = value("--folder");
const site = folder === undefined ? () => ({ status: 404 }) : files(folder);
const line = (i: number) => `line ${i}: ${i * i % 977}\n`;
const lines = (count: number) => Array.from({ length: count }, (_, i) => line(i)).join("");
const page = lines(500), book = lines(50_000);
const typed = { "Content-Type": "text/plain", "ETag": '"x"' };
const frozen = Object.freeze({ headers: Object.freeze(typed), body: page });
let canceled = 0;
const next: (() => void)[] = [];

/** One event, and the next when somebody asks for it. */
async function* events() {
  try {
    for (let i = 0;; i++) {
      yield `data: ${i}\n\n`;
      await new Promise<void>((resolve) => next.push(resolve));
    }
  } finally {
    canceled++;
  }
}
/** Without an end, and with nothing to compress in it. */
async function* endless() {
  const piece = new Uint8Array(65_536);
  try {
    for (;;) {
      yield crypto.getRandomValues(piece).slice();
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  } finally {
    canceled++;
  }
}

const handler = compress(decompress(async (request) => {
  const stream = { "Content-Type": "text/event-stream" };
  switch (request.path) {
    case "/page":
      return { headers: typed, body: page };
    case "/frozen":
      return frozen;
    case "/book":
      return { headers: typed, body: book };
    case "/response":
      return new Response(page, { headers: typed });
    case "/events":
      return { headers: stream, body: events() };
    case "/next":
      next.splice(0).forEach((resolve) => resolve());
      return { status: 204 };
    case "/endless":
      return { headers: stream, body: endless() };
    case "/canceled":
      return { body: `${canceled}` };
    case "/memory":
      return { body: `${process.memoryUsage().rss >> 20}` };
    case "/length":
      return { body: `${(await request.bytes()).length}` };
    case "/form":
      return { body: `${[...(await request.toFetch().formData()).keys()]}` };
    case "/late": { // heeded only when it has failed
      const own = request.toFetch(), json = request.json();
      void own.text();
      await new Promise((resolve) => setTimeout(resolve, 20));
      return { body: JSON.stringify(await json) };
    }
    case "/begun": // left in the middle, when answered or during the answer
    case "/begun/stream": {
      const reader = request.body!.getReader();
      await reader.read();
      if (request.path === "/begun") return {};
      return {
        body: (async function* () {
          yield `${(await reader.read()).value!.length > 0}`;
          await new Promise((resolve) => setTimeout(resolve, 1));
          yield "!";
        })(),
      };
    }
    default:
      return site(request);
  }
}));

const cert = value("--tls-cert"), key = value("--tls-key"), port = value("--port");
const server = serve(handler, {
  port: port === undefined ? undefined : Number(port),
  unix: value("--unix"),
  tls: cert && key
    ? { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") }
    : undefined,
  log: { info: (message) => console.error(message), error: (message) => console.error(message) },
});
process.on("SIGTERM", () => void server.shutdown());
await server.finished;
