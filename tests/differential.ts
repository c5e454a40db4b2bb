/** server.ts beside the oracle: the same bytes must get the same verdict from both. */

import { Buffer } from "node:buffer";
import { type Head, HeadParser, HttpError, HttpHeaders, serveOn } from "../server.ts";
import { type MemoryClient, MemoryListener, textOf } from "./memory.ts";
import {
  type Bounds,
  judgeConnection,
  judgeContent,
  type Judged,
  judgeHead,
  valuesOf,
} from "./oracle.ts";
import { parseResponses, type Received } from "./responses.ts";

/** What both say of a head: that it is not whole yet, the status that refuses it, or what it means. */
export type Outcome = "unfinished" | number | (Head & { size: number });

function outcomeOf(head: Judged): Head & { size: number } {
  const { is: _, lines: __, framing, ...rest } = head;
  const chunked = framing === "chunked";
  return { ...rest, chunked, contentLength: typeof framing === "number" ? framing : 0 };
}
/** All of a head that there is to compare. */
function textFor(head: Head & { size: number }): string {
  const { size, method, target, protocol, resource, authority, version } = head;
  const { contentLength, chunked, keepAlive, expectsContinue, conditional, fields } = head;
  return JSON.stringify([
    ...[size, method, target, protocol, resource, authority, version],
    ...[contentLength, chunked, keepAlive, expectsContinue, conditional, fields],
  ]);
}

const JUNK = "GET "; // what the buffer holds before the head
const BEHIND = "\r\n\r\n"; // and what it holds from before, behind what has come
/** One that has served a head, and is used for the next. */
let spare: HeadParser | undefined;

/** What the parser says of `text`, which comes in pieces that end at `ends`, and then whole. */
function parse(text: string, ends: number[], bounds?: Bounds): string {
  const bytes = Buffer.from(JUNK + text + BEHIND, "latin1");
  const start = JUNK.length;
  const parser = (bounds === undefined ? spare : undefined) ?? new HeadParser(bounds);
  spare = undefined;
  try {
    for (const end of [...ends, text.length]) {
      const head = parser.parse(bytes, start, start + end);
      if (head === undefined) continue;
      const { size } = parser;
      parser.reset();
      if (bounds === undefined) spare = parser;
      return textFor({ ...head, size });
    }
    return parser.begun ? "it has begun" : "nothing has begun";
  } catch (error) {
    if (!(error instanceof HttpError)) throw error;
    return `${error.name} ${error.status} to ${parser.seenIn(bytes, start).method}`;
  }
}

/** Checks that the parser says the same of a head as the oracle, whole; and if it comes in pieces that
 * end at `ends`, in these too, and of each field. */
export function compareHead(text: string, ends: number[] = [], bounds?: Bounds): Outcome {
  const verdict = judgeHead(text, bounds);
  let wanted: string;
  if (verdict.is === "head") wanted = textFor(outcomeOf(verdict));
  else if (verdict.is === "refused") wanted = `HttpError ${verdict.status} to ${verdict.method}`;
  else wanted = verdict.begun ? "it has begun" : "nothing has begun";
  for (const pieces of ends.length === 0 ? [[]] : [[], ends]) {
    const found = parse(text, pieces, bounds);
    if (found === wanted) continue;
    throw new Error(
      `${JSON.stringify(text)}, in pieces up to [${pieces}]: the parser says ${found}, ` +
        `the oracle ${wanted}`,
    );
  }
  if (verdict.is === "refused") return verdict.status;
  if (verdict.is === "unfinished") return "unfinished";
  if (ends.length > 0) compareFields(verdict);
  return outcomeOf(verdict);
}

/** Checks that a handler finds the fields of a head as the oracle does, by their names and by those
 * of others. */
function compareFields({ fields, lines }: Judged): void {
  const headers = new HttpHeaders(fields);
  const found: unknown[] = [...headers], wanted: unknown[] = [...lines];
  for (const name of ["host", "X", ...lines.map(([name]) => name)]) {
    for (const asked of [name, name.toUpperCase(), name.slice(1), `${name}s`]) {
      const values = valuesOf(lines, asked.toLowerCase());
      found.push([asked, headers.has(asked), headers.get(asked), headers.getAll(asked)]);
      wanted.push([asked, values.length > 0, values.length > 0 ? values.join(", ") : null, values]);
    }
  }
  if (JSON.stringify(found) === JSON.stringify(wanted)) return;
  throw new Error(`the fields of ${JSON.stringify(fields)}: ${JSON.stringify({ found, wanted })}`);
}

/** The same for each head on a connection. */
export function compareHeads(text: string): void {
  for (let rest = text;;) {
    const head = compareHead(rest);
    if (typeof head !== "object") return;
    rest = rest.slice(head.size);
    const content = judgeContent(rest, head.chunked ? "chunked" : head.contentLength);
    if (content.is !== "content") return;
    rest = rest.slice(content.size);
  }
}

/** Waits for something, but not for ever. */
export async function soon<T>(promise: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const hang = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("it hangs")), 5000);
  });
  try {
    return await Promise.race([promise, hang]);
  } finally {
    clearTimeout(timer);
  }
}

/** The answers to requests of these methods, the last of which may be one more that was refused
 * before anybody saw its method: then it may have been HEAD. */
export function answersTo(methods: string[], client: MemoryClient, sent: string): Received[] {
  const isFinal = ({ status }: Received) => status >= 200;
  try {
    return parseResponses(client.text, methods, true).filter(isFinal);
  } catch (error) {
    if (!sent.includes("HEAD ")) throw error;
    return parseResponses(client.text, [...methods, "HEAD"], true).filter(isFinal);
  }
}

/** A server in memory whose handler reads all content, beside the oracle. */
export class Differential implements AsyncDisposable {
  #requests: unknown[] = [];
  #contents: string[] = [];
  #methods: string[] = [];
  readonly #listener = new MemoryListener();
  readonly #server = serveOn(this.#listener, async (request) => {
    const { method, target, path, url } = request;
    this.#methods.push(method);
    this.#requests.push([method, target, path, url]);
    this.#contents.push(textOf(await request.bytes()));
    return { status: 404 }; // which no precondition and no range concerns (9110 §13.2.1)
  });

  /** Checks that as many requests are served of a connection as the oracle says, and the same ones,
   * with the same contents, and the same refusal after them. Returns the statuses. */
  async compare(text: string, pieces = [text]): Promise<number[]> {
    this.#methods = [];
    this.#requests = [];
    this.#contents = [];
    const client = this.#listener.connect();
    for (const piece of pieces) client.send(piece);
    client.end();
    await soon(client.until(() => client.closed));
    const statuses = answersTo(this.#methods, client, text).map(({ status }) => status);
    const { requests, contents, refusal } = judgeConnection(text);
    const expected = JSON.stringify({
      requests: requests.map(({ method, target, resource, authority }) => {
        const path = resource.replace(/\?.*/, "");
        const shown = resource === "*" ? "" : resource;
        return [method, target, path, `http://${authority || "localhost"}${shown}`];
      }),
      contents,
      statuses: [...contents.map(() => 404), ...(refusal === 0 ? [] : [refusal])],
    });
    const found = JSON.stringify({ requests: this.#requests, contents: this.#contents, statuses });
    if (found !== expected) {
      throw new Error(
        `${JSON.stringify(text)} in ${pieces.length} pieces:\nthe server ${found}\n` +
          `the oracle ${expected}`,
      );
    }
    return statuses;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown(0);
  }
}
