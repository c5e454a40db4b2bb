/** A server for the tests that need other handlers than the application's: run it as server.ts. It
 * takes `--port`, `--max-connections`, `--backlog`, `--idle-timeout`, `--request-timeout`,
 * `--tls-cert`, `--tls-key` and `--log-level debug`, `--grace SECONDS` for a stop, and `--stay` not to
 * end the process after it, which then has to end by itself. */

import { readFileSync } from "node:fs";
import process from "node:process";
import { type Exchange, HttpError, type HttpResponse, serve, writeAll } from "../server.ts";

const MIB = 1 << 20;
const big = new Uint8Array(20 * MIB).map((_, i) => i % 251);
const BYE = new TextEncoder().encode("bye");
const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function* broken() {
  yield new Uint8Array(1000);
  await pause(1);
  throw new Error("a broken stream");
}

/** All there at once: none has to be waited for. */
async function* pieces() {
  const piece = Uint8Array.of(120);
  for (let i = 0; i < 2_000_000; i++) yield piece;
}

async function* three() {
  for (const piece of ["one", "two", "three"]) {
    await pause(0);
    yield new TextEncoder().encode(piece);
  }
}

async function* endless() {
  for (;;) {
    yield new Uint8Array(65_536);
    await pause(0);
  }
}

let running = 0, most = 0, turn = 0;
const told: Exchange[] = [];

const server = serve(async (request): Promise<HttpResponse | Response> => {
  switch (request.path) {
    case "/big":
      return { body: big };
    case "/mib":
      return { body: big.subarray(0, MIB) };
    case "/count": {
      let size = 0;
      for await (const piece of request.body ?? []) size += piece.length;
      return { body: `${size}` };
    }
    case "/pieces":
      return { body: pieces() };
    case "/work": // takes a tenth of a millisecond: more than its client needs to ask
      for (const start = performance.now(); performance.now() < start + 0.1;);
      return { body: "done" };
    case "/block": // nobody else is served meanwhile
      for (const start = performance.now(); performance.now() < start + 300;);
      return { body: "done" };
    case "/throw":
      throw new Error("a secret");
    case "/reject": // not an error at all
      return await Promise.reject(undefined);
    case "/nonsense":
      return 42 as HttpResponse;
    case "/split":
      return { headers: { "X": "a\r\nb: c" } };
    case "/broken":
      return { body: broken() };
    case "/three":
      return { body: three() };
    case "/endless":
      return { body: endless() };
    case "/fetched": // from a server at the port that the query names
      return await fetch(
        `http://127.0.0.1:${request.query.get("port")}${request.query.get("path")}`,
      );
    case "/signal":
      await new Promise((resolve) => request.signal.addEventListener("abort", resolve));
      throw request.signal.reason;
    case "/refused": // what a client brings about, though it is a handler that says so
      throw new HttpError(404, `No such thing: ${request.query.get("name")}`);
    case "/never":
      return await new Promise<never>(() => {});
    case "/slow":
      await pause(300);
      return { body: "slow" };
    case "/turn": { // says how many were served before, and how many at a time at most
      const mine = turn++;
      most = Math.max(most, ++running);
      await pause(5);
      running--;
      return { body: `${mine} ${most}` };
    }
    case "/gone":
      await new Promise((resolve) => request.signal.addEventListener("abort", resolve));
      console.error("Gone");
      return {};
    case "/told": // what became of the requests before, and what is going on
      return Response.json({ told, stats: server.stats });
    case "/last": // says much, and leaves
      return {
        headers: { Upgrade: "shout" },
        upgrade: (connection) => writeAll(connection, big.subarray(0, MIB)),
      };
    case "/half": // ends its side first, then tells how the client has ended
      return {
        headers: { Upgrade: "shout" },
        async upgrade(connection) {
          await writeAll(connection, BYE);
          await connection.closeWrite();
          const buffer = new Uint8Array(1000);
          let size = 0;
          try {
            for (let count; (count = await connection.read(buffer)) !== null;) size += count;
            console.error(`Half: ${size} and its end`);
          } catch {
            console.error("Half: broken");
          }
          await connection.closeWrite(); // does nothing
        },
      };
    case "/shout": // what comes, in capitals, until a stop
      return {
        headers: { Upgrade: "shout" },
        async upgrade(connection) {
          const { stopping } = request;
          stopping.addEventListener("abort", () => void writeAll(connection, BYE).catch(() => {}));
          const buffer = new Uint8Array(1000);
          try {
            for (let count; (count = await connection.read(buffer)) !== null;) {
              for (let i = 0; i < count; i++) if (buffer[i] >= 97) buffer[i] -= 32;
              await writeAll(connection, buffer.slice(0, count));
            }
          } finally {
            await connection.closeWrite();
          }
        },
      };
    default:
      return { body: await request.bytes() };
  }
}, {
  tls: value("--tls-cert") === undefined ? undefined : {
    cert: readFileSync(value("--tls-cert")!, "utf8"),
    key: readFileSync(value("--tls-key")!, "utf8"),
  },
  port: argument("--port"),
  unix: value("--unix"),
  maxConnections: argument("--max-connections"),
  backlog: argument("--backlog"),
  idleTimeout: argument("--idle-timeout"),
  requestTimeout: argument("--request-timeout"),
  maxBodySize: 64 * MIB,
  onExchange: (exchange) => told.push(exchange) > 1000 && told.shift(),
  log: {
    debug: value("--log-level") === "debug" ? line("DEBUG") : undefined,
    info: line("INFO"),
    error: line("ERROR"),
  },
});
const stop = () => void server.shutdown(argument("--grace"));
process.on("SIGTERM", stop);
await server.finished;
process.off("SIGTERM", stop);
if (!process.argv.includes("--stay")) process.exit(0);

function line(level: string): (message: string) => void {
  return (message) => console.error(`${level} - ${message}`);
}

function value(flag: string): string | undefined {
  const at = process.argv.indexOf(flag);
  return at < 0 ? undefined : process.argv[at + 1];
}
function argument(flag: string): number | undefined {
  const text = value(flag);
  return text === undefined ? undefined : Number(text);
}
