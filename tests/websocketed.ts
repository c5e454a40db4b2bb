/** A server of WebSockets for the tests: `/echo`, and others that are told of below. Run it as server.ts; it takes
 * `--port`, `--tls-cert`, `--tls-key` and `--grace SECONDS`, and prints how each socket has ended. */

import { readFileSync } from "node:fs";
import process from "node:process";
import { parseArgs } from "node:util";
import { webSocket, type WebSocketConnection, type WebSocketOptions } from "../extras/websocket.ts";
import { type HttpRequest, type HttpResponse, serve } from "../server.ts";

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function echo(socket: WebSocketConnection): Promise<void> {
  for await (const message of socket) await socket.send(message);
}
const MIB = new Uint8Array(1 << 20);
/** What each path does with a socket, and what it allows. */
const SESSIONS: Record<string, [(socket: WebSocketConnection) => unknown, WebSocketOptions?]> = {
  "/echo": [echo, { maxMessageSize: 1 << 24 }],
  "/deflate": [echo, { compressFrom: 1, protocols: ["v1"] }],
  "/small": [echo, { maxMessageSize: 1000, compressFrom: 1 }],
  "/chosen": [echo, {
    protocols: ["v2", "v1"],
    allowOrigin: (origin) => origin === "https://friend.example",
  }],
  "/quick": [echo, { idleTimeout: 1 }],
  "/throws": [() => {
    throw new Error("a mistake");
  }],
  "/bye": [(socket) => socket.close(4000, "bye")],
  "/returns": [() => {}],
  /** Waits for each to be taken. */
  "/waits": [async (socket) => {
    for (;;) await socket.send(MIB);
  }, { idleTimeout: 0.4 }],
  /** Waits for nothing. */
  "/heedless": [async (socket) => {
    for (let i = 0; i < 100; i++, await pause(1)) void socket.send(MIB);
  }],
  /** Works on each message for a while. */
  "/busy": [async (socket) => {
    for await (const message of socket) {
      await pause(300);
      await socket.send(message);
    }
  }],
};

/** Answers for {@linkcode SESSIONS}; how each socket has ended is told to `ended`. */
export function sockets(request: HttpRequest, ended: (how: string) => void): HttpResponse {
  const [session, options] = SESSIONS[request.path]!;
  return webSocket(request, async (socket) => {
    void socket.closed.then(({ code, reason, wasClean }) =>
      ended(`${request.path} ${wasClean ? "clean" : "broken"} ${code} ${reason}`)
    );
    await session(socket);
  }, options);
}

if (import.meta.main) {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    options: {
      "port": text,
      "unix": text,
      "grace": text,
      "tls-cert": text,
      "tls-key": text,
    },
  });
  const read = (name: string) => readFileSync(name, "utf8");
  const tls = values["tls-cert"] &&
    { cert: read(values["tls-cert"]), key: read(values["tls-key"]!) };
  const place = values.unix ? { unix: values.unix } : { port: Number(values.port) };
  const server = serve((request) => sockets(request, (how) => console.log(how)), {
    ...place,
    ...(tls ? { tls } : {}),
    log: { info: console.error, error: console.error },
  });
  process.on("SIGTERM", () => void server.shutdown(Number(values.grace ?? 10)));
  await server.finished;
}
