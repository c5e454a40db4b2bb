/**
 * A seeded fuzzer on connections in memory: valid messages, mutated and cut, in pieces of random
 * sizes. No case may hang or throw; what comes back is well-formed HTTP; and it does not depend on
 * how the bytes were split.
 *
 * `deno task fuzz --seed 1 --cases 100000`; a failure prints the seed that repeats it.
 */

import process from "node:process";
import { parseArgs } from "node:util";
import { handler as application } from "../handlers.ts";
import { serveOn } from "../server.ts";
import { MemoryListener } from "./memory.ts";
import { parseResponses, type Received } from "./responses.ts";
import { VECTORS } from "./vectors.ts";

/** Numbers from 0 up to 1, the same ones for the same seed. */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => { // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** What breaks parsers. */
const PARTS = [
  "\r\n",
  "\n",
  "\r",
  "\r\n\r\n",
  " ",
  "\t",
  ":",
  ",",
  ";",
  "\0",
  "\x7f",
  "\xff",
  "0",
  "-1",
  "+1",
  "ffffffffffffffff",
  "0\r\n\r\n",
  "chunked",
  "Content-Length: 3\r\n",
  "Transfer-Encoding: chunked\r\n",
  "Host: b\r\n",
  "Connection: close\r\n",
  "Expect: 100-continue\r\n",
  "Range: bytes=0-1\r\n",
  "HTTP/1.0",
  "GET /book HTTP/1.1\r\nHost: a\r\n\r\n",
  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab",
]; // deno-fmt-ignore

/** One case: some messages on one connection, with a few things wrong. */
export function makeCase(seed: number): string {
  const random = randomNumbers(seed);
  const below = (limit: number) => Math.floor(random() * limit);
  const pick = <T>(list: readonly T[]) => list[below(list.length)];
  let text = "";
  for (let count = 1 + below(3); count > 0; count--) text += pick(SHORT).send;
  for (let count = below(4); count > 0; count--) {
    const at = below(text.length + 1), end = Math.min(text.length, at + below(12));
    const [before, cut, after] = [text.slice(0, at), text.slice(at, end), text.slice(end)];
    const char = String.fromCharCode(below(256));
    text = pick([
      () => before + char + text.slice(at + 1),
      () => before + after,
      () => before + cut + cut + after,
      () => before + pick(PARTS) + text.slice(at),
      () => before + pick(PARTS) + after,
      () => after + before,
      () => before,
    ])();
  }
  return text;
}
const SHORT = VECTORS.filter(({ send }) => send.length < 2000);

/** The server that is tried, and what it does with a text that comes in certain pieces. */
class Trial implements AsyncDisposable {
  #methods: string[] = [];
  readonly #listener = new MemoryListener();
  readonly #server = serveOn(this.#listener, (request) => {
    this.#methods.push(request.method);
    return application(request);
  });

  async outcome(pieces: string[]): Promise<string[]> {
    this.#methods = [];
    const client = this.#listener.connect();
    for (const piece of pieces) client.send(piece);
    client.end();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const hang = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error("it hangs")), 5000);
    });
    try {
      await Promise.race([client.until(() => client.closed), hang]);
    } finally {
      clearTimeout(timer);
    }
    let received: Received[];
    try {
      received = parseResponses(client.text, this.#methods, true);
    } catch (error) { // What was refused before the handler saw it may have been a HEAD.
      if (!pieces.join("").includes("HEAD ")) throw error;
      received = parseResponses(client.text, [...this.#methods, "HEAD"], true);
    }
    return received.filter(({ status }) => status >= 200).map(({ raw }) => raw);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown(0);
  }
}

/** Runs cases, each in four ways. Throws when something is wrong with one. */
export async function runCases(first: number, count: number): Promise<void> {
  await using trial = new Trial();
  for (let seed = first; seed < first + count; seed++) {
    const text = makeCase(seed);
    const random = randomNumbers(~seed);
    const split = (largest: number) => {
      const pieces: string[] = [];
      for (let at = 0; at < text.length;) {
        const end = at + 1 + Math.floor(random() * largest);
        pieces.push(text.slice(at, end));
        at = end;
      }
      return pieces;
    };
    try {
      const whole = await trial.outcome([text]);
      for (const largest of [1, 20, 300]) {
        const again = await trial.outcome(split(largest));
        // Whether a client that expects 100 (Continue) still waits for it depends on the split.
        if (/expect/i.test(text) || JSON.stringify(again) === JSON.stringify(whole)) continue;
        throw new Error(`split: ${JSON.stringify(again)}\nwhole: ${JSON.stringify(whole)}`);
      }
    } catch (error) {
      throw new Error(`--seed ${seed} --cases 1: ${JSON.stringify(text)}`, { cause: error });
    }
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    args: process.argv.slice(2).filter((arg) => arg !== "--"),
    options: {
      seed: { type: "string", default: "1" },
      cases: { type: "string", default: "100000" },
    },
  });
  const first = Number(values.seed), cases = Number(values.cases);
  for (let done = 0; done < cases; done += 10_000) {
    await runCases(first + done, Math.min(10_000, cases - done));
    console.log(`${Math.min(done + 10_000, cases)} cases`);
  }
  console.log(`${cases} cases from seed ${first}: nothing found`);
}
