/** What tests in memory are made of: a server, requests as text, a log that remembers. */

import {
  type FetchApplication,
  type Handler,
  type Logger,
  serveOn,
  type ServeOptions,
} from "../server.ts";
import type { FakeClock } from "./clock.ts";
import { bytesOf, MemoryListener } from "./memory.ts";
import { parseResponses } from "./responses.ts";

/** A server in memory. */
export function start(handler: Handler | FetchApplication, options: ServeOptions = {}) {
  const listener = new MemoryListener();
  const server = serveOn(listener, handler, options);
  return {
    connect: (appetite?: number) => listener.connect(appetite),
    shutdown: (grace?: number) => server.shutdown(grace),
    finished: server.finished,
    get stats() {
      return server.stats;
    },
    [Symbol.asyncDispose]: () => server.shutdown(0),
  };
}
/** A log that remembers: its lines by level, and all of them in order, with their levels. */
export function recorder() {
  const all: string[] = [], debug: string[] = [], info: string[] = [], error: string[] = [];
  const add = (level: string, lines: string[]) => (message: string) => {
    lines.push(message);
    all.push(`${level} ${message}`);
  };
  const log = { debug: add("DEBUG", debug), info: add("INFO", info), error: add("ERROR", error) };
  return { all, debug, info, error, log: log satisfies Logger };
}
/** Sends it on a new connection, and returns the answers once the server wants more or ends. */
export async function ask(
  handler: Handler | FetchApplication,
  send: string,
  options: ServeOptions = {},
) {
  await using server = start(handler, options);
  const client = server.connect();
  client.send(send);
  await client.settled();
  const methods = Array.from(send.matchAll(/^(\S+) \S+ HTTP\/1\.\d\r$/gm), (match) => match[1]);
  return parseResponses(client.text, methods, client.ended || client.closed);
}
export function get(path = "/", fields = "", method = "GET", version = "1.1"): string {
  return `${method} ${path} HTTP/${version}\r\nHost: a\r\n${fields}\r\n`;
}
export function post(body: string, fields = "", path = "/"): string {
  return `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Length: ${body.length}\r\n${fields}\r\n${body}`;
}
export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
export async function* generate(pieces: string[], wait = 0, end = () => {}) {
  for (const piece of pieces) {
    if (wait > 0) await pause(wait);
    yield bytesOf(piece);
  }
  end();
}
/** Ends a server that lives by a clock of ours. */
export async function stop(server: ReturnType<typeof start>, clock: FakeClock): Promise<void> {
  void server.shutdown(0);
  await clock.advance(20);
  await server.finished;
}
