/** What tests in memory are made of: a server, requests as text, a log that remembers. */

import {
  type FetchApplication,
  type Handler,
  type Logger,
  serveOn,
  type ServeOptions,
} from "../server.ts";
import type { FakeClock } from "./clock.ts";
import { bytesOf, MemoryListener, textOf } from "./memory.ts";
import { methodsOf, parseResponses } from "./responses.ts";

/** A server in memory. */
export function start(handler: Handler | FetchApplication, options: ServeOptions = {}) {
  const listener = new MemoryListener();
  const server = serveOn(listener, handler, options);
  return {
    connect: (appetite?: number) => listener.connect(appetite),
    /** The next accept fails. */
    fail: (error: Error) => listener.fail(error),
    shutdown: (grace?: number) => server.shutdown(grace),
    finished: server.finished,
    get stats() {
      return server.stats;
    },
    [Symbol.asyncDispose]: () => server.shutdown(0),
  };
}

/** A log that remembers: its lines by level; those above debug in order; and all of them in order,
 * with their levels. */
export function recorder() {
  const all: string[] = [], debug: string[] = [], info: string[] = [], error: string[] = [];
  const lines: string[] = [];
  const add = (level: string, ones: string[]) => (message: string) => {
    ones.push(message);
    if (level !== "DEBUG") lines.push(message);
    all.push(`${level} ${message}`);
  };
  const log = { debug: add("DEBUG", debug), info: add("INFO", info), error: add("ERROR", error) };
  return { all, lines, debug, info, error, log: log satisfies Logger };
}

/** Sends it, or its pieces, on a new connection, and returns the answers once the server wants more
 * or ends. */
export async function ask(
  handler: Handler | FetchApplication,
  send: string | string[],
  options: ServeOptions = {},
) {
  await using server = start(handler, options);
  const client = server.connect();
  const pieces = [send].flat();
  for (const piece of pieces) client.send(piece);
  await client.settled();
  return parseResponses(client.text, methodsOf(pieces.join("")), client.ended || client.closed);
}

/** A request without content. */
export function get(path = "/", fields = "", method = "GET", version = "1.1"): string {
  return `${method} ${path} HTTP/${version}\r\nHost: a\r\n${fields}\r\n`;
}
/** A request with content, which is text of one character a byte. */
export function post(body: string, fields = "", path = "/"): string {
  return `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Length: ${body.length}\r\n${fields}\r\n${body}`;
}

export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
/** How many seconds pass until `run` has finished. */
export async function secondsOf(run: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await run();
  return (performance.now() - start) / 1000;
}

/** Whole numbers below the one that is asked for. They look random, and are the same for each seed. */
export function dice(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * below);
  };
}
/** The text in UTF-8, as text of one character a byte. */
export function utf8(text: string): string {
  return textOf(new TextEncoder().encode(text));
}

/** A body of these pieces. */
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
