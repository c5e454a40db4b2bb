/** Applications written for Fetch get from this server what they get from the runtime's own. */

import { assertEquals } from "@std/assert";
import {
  ANSWERS,
  CHUNKED,
  FAILED,
  FORWARDED,
  GUESSED,
  type Outcome,
  SIGHTS,
  STREAMED,
  UNASKED,
} from "./fetched/differences.ts";
import { contentOf, KINDS, random, SIZES } from "./fetched/contents.ts";
import { ENDLESS_NAMES, SIGNAL_NAMES } from "./fetched/leaving.ts";
import { ADDRESSES } from "./fetched/addresses.ts";
import { hostOf, LOOKS, wireOf } from "./fetched/requests.ts";
import { BUNS, RESPONSES } from "./fetched/responses.ts";
import { SIZED, TOUCHES, UNREAD } from "./fetched/touched.ts";
import { startUpstream } from "./fetched/upstream.ts";
import { bytesOf, textOf } from "./memory.ts";
import { parseResponses, type Received } from "./responses.ts";
import { Client, Process, type Runtime, type Scenario } from "./sockets.ts";
import { pause } from "./tools.ts";

/** A server with the cases. It is started again when one of them has ended it. */
class Served implements AsyncDisposable {
  /** After which cases that was. */
  readonly deaths: string[] = [];
  #last = "";

  private constructor(readonly restart: () => Promise<Process>, public process: Process) {}
  static async start(runtime: Runtime, name: string, ...args: string[]): Promise<Served> {
    const more = runtime.name === "Deno" ? ["--allow-read", "--allow-env"] : [];
    const how = { ...runtime, args: [...runtime.args, ...more] };
    const start = async () => {
      const process = Process.spawn(how, `tests/fetched/${name}.ts`, args);
      process.port = Number(await process.printed(/Listening at PORT (\d+)/));
      return process;
    };
    return new Served(start, await start());
  }
  async connect(): Promise<Client> {
    try {
      return await Client.connect(this.process.port);
    } catch {
      this.deaths.push(this.#last);
      await this.process[Symbol.asyncDispose]();
      this.process = await this.restart();
      return await Client.connect(this.process.port);
    }
  }
  /** Sends a request, and reads until the server closes. */
  async ask(wire: string, name: string): Promise<Outcome> {
    using client = await this.connect();
    this.#last = name;
    await client.send(wire);
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      client.close();
    }, 5000);
    const text = await client.rest();
    clearTimeout(timer);
    if (isLate) throw new Error(`no end of the answer to ${name}: ${JSON.stringify(text)}`);
    return outcomeOf(text, wire.slice(0, wire.indexOf(" ")));
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]();
  }
}

function outcomeOf(text: string, method: string): Outcome {
  // Bun leaves Date out of some.
  const dated = /^date: /im.test(text) ? text : text.replace("\r\n", `\r\n${SOME_DATE}\r\n`);
  try {
    const [answer, ...more] = parseResponses(dated, [method], true);
    if (answer === undefined || more.length > 0) throw new Error("not one answer");
    return { status: answer.status, fields: fieldsOf(answer), content: answer.body, isCut: false };
  } catch {
    const [head, ...content] = text.split("\r\n\r\n");
    const status = Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1] ?? 0);
    return { status, fields: [], content: content.join("\r\n\r\n"), isCut: true };
  }
}
const SOME_DATE = "Date: Sun, 06 Nov 1994 08:49:37 GMT";

/** Without those of the connection; types as Deno and Bun write them, and without what is random. */
function fieldsOf({ fields }: Received): string[] {
  return fields.filter(([name]) => !/^(date|connection|keep-alive|transfer-encoding)$/.test(name))
    .map(([name, value]) => `${name}: ${name === "content-type" ? typeOf(value) : value}`).sort();
}
function typeOf(value: string): string {
  return value.replace(/boundary=.*/, "boundary=(random)").replace(
    /; charset=utf-8$/i,
    ";charset=utf-8",
  )
    .replace(/;charset=UTF-8$/, ";charset=utf-8");
}

function has(outcome: Outcome, name: string): boolean {
  return outcome.fields.some((field) => field.startsWith(`${name}: `));
}
function without(outcome: Outcome, ...names: string[]): Outcome {
  const fields = outcome.fields.filter((field) => !names.includes(field.split(":")[0]));
  return { ...outcome, fields };
}

/** Everything that is wrong, at once. */
class Findings {
  readonly #found: string[] = [];
  check(what: string, seen: unknown, expected: unknown): void {
    try {
      assertEquals(seen, expected);
    } catch {
      this.add(`${what}: ${shown(seen)}, not ${shown(expected)}`);
    }
  }
  add(what: string): void {
    this.#found.push(what);
  }
  end(): void {
    if (this.#found.length > 0) throw new Error(this.#found.join("\n"));
  }
}
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "undefined";
  return text.length > 1500 ? `${text.slice(0, 1500)}…` : text;
}

const here = (where: string, { name }: Runtime) => where === "both" || where === name;

/** What is sent for a case of a response, in the way named. */
const WAYS: Record<string, (path: string, name: string) => string> = {
  "GET": (path, name) =>
    /^an echo|^a? ?bad/.test(name)
      ? `POST ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello`
      : `GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`,
  "HEAD": (path) => `HEAD ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`,
  "HTTP/1.0": (path) => `GET ${path} HTTP/1.0\r\nHost: a\r\n\r\n`,
  "a range": (path) =>
    `GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nRange: bytes=0-1\r\n\r\n`,
  "a range if the same": (path) =>
    `GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nRange: bytes=0-1\r\n` +
    'If-Range: "tag"\r\n\r\n',
  "if another": (path) =>
    `GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nIf-None-Match: "tag"\r\n\r\n`,
};
async function askFor(server: Served, name: string, way: string): Promise<Outcome> {
  const wire = WAYS[way](`/response/${encodeURIComponent(name)}`, name);
  return sameBoundary(await server.ask(wire, name));
}

/** The random boundary of a form is in the content, too. */
function sameBoundary(outcome: Outcome): Outcome {
  const content = outcome.content.replace(/--(-{4}\w+)/g, "--(random)");
  return { ...outcome, content };
}

/** What the server should have sent where the reference has sent this. */
function expected(name: string, native: Outcome, ours: Outcome, runtime: Runtime): Outcome {
  const isRuntimes = /^(Internal Server Error|Something went wrong!)$/.test(native.content);
  const base = native.status === 500 && isRuntimes ? { ...native, ...FAILED } : native;
  const row = ANSWERS.find(([, where, names]) => here(where, runtime) && names.includes(name));
  const outcome = { ...base, ...row?.[3] };
  // The reference may break off at any point; so may we.
  return outcome.isCut ? { ...outcome, content: ours.content, fields: ours.fields } : outcome;
}

/** Whether browsers must not guess what content without a type from the application is. */
function isSafe(ours: Outcome): boolean {
  if (ours.content === "" || ours.isCut || has(ours, "x-content-type-options")) return true;
  if (!ours.fields.includes("content-type: text/plain;charset=utf-8")) {
    return has(ours, "content-type");
  }
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytesOf(ours.content));
    return true;
  } catch {
    return false;
  }
}

async function compareResponses(runtime: Runtime, upstream: string, findings: Findings) {
  await using held = await Served.start(runtime, "ours", upstream);
  await using unheld = await Served.start(runtime, "ours", upstream, "unheld");
  await using native = await Served.start(runtime, "native", upstream);
  for (const name of namesOn(runtime)) {
    for (let times = name.startsWith("the same") ? 2 : 1; times > 0; times--) {
      const asked = UNASKED.includes(name) ? [held, unheld] : [held, unheld, native];
      const [ours, streamed, reference = NONE] = await Promise.all(
        asked.map((server) => askFor(server, name, "GET")),
      );
      const wanted = expected(name, reference, ours, runtime);
      const hidden = [
        ...isTypeOurs(name, wanted, reference, runtime) ? TYPES : [],
        ...isLengthOurs(name, wanted, runtime) ? ["content-length"] : [],
      ];
      findings.check(name, without(ours, ...hidden), without(wanted, ...hidden));
      if (!isSafe(ours)) findings.add(`${name}: browsers guess its type`);
      if (STREAMED.includes(name)) continue;
      // The types differ, since that of text is not to be had; and what is large has no length.
      const same = ours.isCut ? { ...ours, content: streamed.content } : ours;
      findings.check(
        `${name}, with its content as a stream`,
        without(streamed, ...TYPES, "content-length"),
        without(same, ...TYPES, "content-length"),
      );
    }
  }
  for (const server of [held, unheld, native]) findings.check("ended by", server.deaths, []);
}
const NONE: Outcome = { status: 0, fields: [], content: "", isCut: false };
const TYPES = ["content-type", "x-content-type-options"];

/** Whether the reference, unlike the server, leaves it to browsers to guess the type. */
function isTypeOurs(name: string, wanted: Outcome, reference: Outcome, { name: on }: Runtime) {
  if (wanted.status !== reference.status) return false;
  if (!has(wanted, "content-type")) return true;
  return on === "Bun" &&
    (GUESSED.includes(name) || wanted.fields.includes("content-type: application/octet-stream"));
}
/** Whether the server may know more, or less, of the length than the reference. */
function isLengthOurs(name: string, wanted: Outcome, runtime: Runtime): boolean {
  return !has(wanted, "content-length") ||
    CHUNKED.some(([, where, names]) => here(where, runtime) && names.includes(name));
}

/** Whether it is a matter of time what of the content is there at once. */
function isByChance(name: string): boolean {
  return CHUNKED[0][2].includes(name);
}

function namesOn({ name }: Runtime): string[] {
  return Object.keys(name === "Bun" ? { ...RESPONSES, ...BUNS } : RESPONSES);
}

/** The ways to ask that the server answers by itself: each must fit what GET gets. */
async function compareWays(runtime: Runtime, upstream: string, findings: Findings) {
  await Promise.all([[], ["unheld"]].map(async (how) => {
    await using server = await Served.start(runtime, "ours", upstream, ...how);
    for (const name of namesOn(runtime)) {
      if (/^(an echo|bad|a bad|the same|fetched|FormData)/.test(name)) continue;
      if (STREAMED.includes(name) || isByChance(name)) continue;
      const whole = await askFor(server, name, "GET");
      if (whole.isCut) continue; // It may be cut off anywhere.
      for (const [way, fits] of Object.entries(FITS)) {
        const seen = await askFor(server, name, way);
        const why = fits(seen, whole, name);
        if (why === "") continue;
        findings.add(`${name}, ${way} ${how}: ${why}: ${shown(seen)} for ${shown(whole)}`);
      }
    }
    findings.check("ended by", server.deaths, []);
  }));
}
/** What is wrong with an answer, if GET gets that whole one; "" if nothing is. */
const FITS: Record<string, (seen: Outcome, whole: Outcome, name: string) => string> = {
  "HEAD": (seen, whole, name) => {
    if (seen.content !== "") return "it has content";
    if (FAILS_LATE.includes(name)) return seen.status === 200 ? "" : "another status";
    const length = seen.fields.find((field) => field.startsWith("content-length: "));
    const isTold = name === "null with a length"; // by the application, for HEAD alone
    if (length !== undefined && !isTold && !whole.fields.includes(length)) return "another length";
    // Streams are not read, so that nobody knows whether they are empty.
    const hidden = whole.content === "" ? [...TYPES, "content-length"] : ["content-length"];
    return same(without(seen, ...hidden), { ...without(whole, ...hidden), content: "" });
  },
  "HTTP/1.0": (seen, whole) =>
    same(without(seen, "content-length"), without(whole, "content-length")),
  "a range": (seen, whole) => {
    const { status, content } = whole;
    const size = content.length;
    // What is not known to be all of it can't be served in part.
    const isPossible = status === 200 && has(whole, "content-length");
    if (seen.status === 200 || !isPossible) return has(whole, "etag") ? same(seen, whole) : "";
    if (size === 0) return seen.status === 416 ? "" : "another status";
    const range = `content-range: bytes 0-${Math.min(size, 2) - 1}/${size}`;
    if (!seen.fields.includes(range)) return "another Content-Range";
    return same(without(seen, "content-range", "content-length"), {
      ...without(whole, "content-length"),
      status: 206,
      content: content.slice(0, 2),
    });
  },
  "a range if the same": (seen, whole, name) =>
    whole.fields.includes(TAG) ? FITS["a range"](seen, whole, name) : same(seen, whole),
  "if another": (seen, whole) =>
    whole.status === 200 && whole.fields.includes(TAG)
      ? same(without(seen, "x-content-type-options"), {
        ...whole,
        status: 304,
        content: "",
        fields: [TAG],
      })
      : same(seen, whole),
};
const TAG = 'etag: "tag"';
/** Streams that are not pulled for HEAD, so that they don't fail. */
const FAILS_LATE = ANSWERS.find(([why]) => why.startsWith("what fails before"))![2];

function same(seen: Outcome, whole: Outcome): string {
  return JSON.stringify(seen) === JSON.stringify(whole) ? "" : "not the same";
}

/** Random contents of each kind, pipelined on one connection: the framing must not slip anywhere. */
async function compareContents(runtime: Runtime, upstream: string, findings: Findings) {
  await Promise.all([[], ["unheld"]].map(async (how) => {
    await using server = await Served.start(runtime, "ours", upstream, ...how);
    for (const [i, kind] of KINDS.entries()) {
      using client = await server.connect();
      const rows = SIZES.map((size, j) => ({ size, seed: 1000 * i + j }));
      const asked = rows.map(({ size, seed }, j) =>
        `GET /content/${
          encodeURIComponent(kind)
        }?size=${size}&seed=${seed} HTTP/1.1\r\nHost: a\r\n` +
        `${j === rows.length - 1 ? "Connection: close\r\n" : ""}\r\n`
      );
      await client.send(asked.join(""));
      const answers = parseResponses(await client.rest(), rows.map(() => "GET"), true);
      findings.check(`${kind}, how many answers ${how}`, answers.length, rows.length);
      for (const [j, { size, seed }] of rows.entries()) {
        const [, bytes] = contentOf(kind, size, seed);
        if (answers[j]?.body !== textOf(bytes)) findings.add(`${kind} of ${size}, ${seed} ${how}`);
      }
    }
  }));
}

async function compareRequests(runtime: Runtime, upstream: string, findings: Findings) {
  for (const how of ["application", "handler"]) {
    await using server = await Served.start(runtime, "ours", upstream, how);
    for (const [name, sent] of LOOKS) {
      const host = hostOf(sent) === "(upstream)" ? new URL(upstream).host : hostOf(sent);
      const { status, content } = await server.ask(wireOf(name, { ...sent, host }), name);
      if (status !== 200) {
        findings.add(`${name}: ${status} ${content}`);
        continue;
      }
      const { seen, real } = JSON.parse(new TextDecoder().decode(bytesOf(content)));
      const row = SIGHTS.find(([, where, known]) => here(where, runtime) && known === name);
      findings.check(`${name}, ${how}`, seen, row?.[3] ?? tolerated(seen, real, name));
      if (row !== undefined && shown(seen) === shown(real)) findings.add(`${name}: needs no row`);
    }
    findings.check("ended by", server.deaths, []);
  }
}
/** What a real request shows, but for what always differs. An HttpError in place of the runtime's own
 * makes a client's mistake a 400, if the application does not catch it. */
function tolerated(seen: unknown, real: unknown, name: string): unknown {
  if (Array.isArray(real) && Array.isArray(seen)) {
    return real.map((one, i) => tolerated(seen[i], one, name));
  }
  const isMistake = real === "throws SyntaxError" || real === "throws TypeError";
  if (isMistake && seen === "throws HttpError") return seen;
  return FORWARDED.test(name) && real === "9" && seen === null ? null : real;
}

/** The method and the URL that applications are told, and of whom the request is. */
async function compareAddresses(runtime: Runtime, upstream: string, findings: Findings) {
  await using server = await Served.start(runtime, "ours", upstream);
  for (const [line, host, told] of ADDRESSES) {
    const fields = `Host: ${host}\r\nX-Case: about\r\nConnection: close\r\n`;
    const { status, content } = await server.ask(`${line} HTTP/1.1\r\n${fields}\r\n`, line);
    const wanted = Array.isArray(told) ? told[runtime.name === "Deno" ? 0 : 1] : told;
    const seen = status === 200 ? content : status;
    const whole = typeof wanted === "string" ? `${wanted} of 127.0.0.1` : wanted;
    findings.check(`${line}, Host: ${host}`, seen, whole);
  }
  const { content } = await server.ask("GET /x HTTP/1.0\r\nX-Case: about\r\n\r\n", "HTTP/1.0");
  findings.check("without a Host", content, "GET http://localhost/x of 127.0.0.1");
  findings.check("ended by", server.deaths, []);
}

/** Content that comes back must be the same, of whatever size, and however it was sent. */
async function compareEchoes(runtime: Runtime, upstream: string, findings: Findings) {
  await using server = await Served.start(runtime, "ours", upstream);
  const next = random(7);
  for (const name of Object.keys(RESPONSES).filter((name) => name.startsWith("an echo"))) {
    for (const size of [0, 5, 9000, 40_000, 300_000]) {
      const range = name === "an echo of text" ? 128 : 256;
      const bytes = Uint8Array.from({ length: size }, () => next() * range);
      for (const how of ["a length", "chunks", "100-continue"]) {
        if (size === 0 && name === "an echo, piped") continue; // It has no body to pipe.
        using client = await server.connect();
        const field = how === "chunks" ? "Transfer-Encoding: chunked" : `Content-Length: ${size}`;
        const expects = how === "100-continue" && size > 0 ? "Expect: 100-continue\r\n" : "";
        await client.send(
          `POST /response/${
            encodeURIComponent(name)
          } HTTP/1.1\r\nHost: a\r\nConnection: close\r\n` +
            `${expects}${field}\r\n\r\n`,
        );
        if (expects !== "") await client.until(/^HTTP\/1\.1 100 Continue\r\n\r\n/);
        const sending = client.send(how === "chunks" ? chunked(bytes, next) : bytes);
        const answers = parseResponses(await client.rest(), ["POST"], true);
        await sending;
        const { status, body } = answers[answers.length - 1];
        if (status !== 200 || body !== textOf(bytes)) {
          findings.add(`${name}, ${size} bytes, ${how}: ${status}, ${body.length} bytes`);
        }
      }
    }
  }
  findings.check("ended by", server.deaths, []);
}
/** In chunks of random sizes. */
function chunked(bytes: Uint8Array, next: () => number): string {
  const text = textOf(bytes);
  let sent = "";
  for (let at = 0; at < text.length;) {
    const piece = text.slice(at, at + 1 + Math.floor(next() * 30000));
    sent += `${piece.length.toString(16)}\r\n${piece}\r\n`;
    at += piece.length;
  }
  return `${sent}0\r\n\r\n`;
}

/** Content, how it is sent, and what those who read it in some way are answered: what comes before
 * makes no difference. Behind it comes a second request, if that can be told from the content. */
const CONTENTS: [what: string, type: string, content: string, reads: string[], answer: string][] = [
  ["JSON", "application/json", '{"a":1}', ["json"], '{"a":1}'],
  ["bad JSON", "application/json", "{", ["json"], "400"],
  ["a form", "application/x-www-form-urlencoded", "a=1&b=2", ["form"], "a,b"],
  ["a bad form", "multipart/form-data; boundary=x", "x", ["form"], "400"],
  ["chunks", "text/plain", "hello", SIZED, "5"],
  ["bad chunks", "text/plain", "hello", SIZED, "400"],
  ["an early end", "text/plain", "hello", SIZED, "400"],
  ["100 KiB", "text/plain", "x".repeat(102400), SIZED, "102400"],
  ["little that is not read", "text/plain", "hello", UNREAD, ""],
  ["much that is not read", "text/plain", "x".repeat(102400), UNREAD, ""],
  ["chunks", "text/plain", "hello", UNREAD, ""],
  ["bad chunks", "text/plain", "hello", ["none", "none, later"], ""],
  ["an early end", "text/plain", "hello", UNREAD, ""],
];
async function compareTouched(runtime: Runtime, upstream: string, findings: Findings) {
  await using server = await Served.start(runtime, "ours", upstream);
  for (const [what, type, content, reads, answer] of CONTENTS) {
    for (const read of reads) {
      for (const touch of Object.keys(TOUCHES)) {
        const isLast = what === "bad chunks" || what === "an early end";
        const { length } = content;
        const framed: Record<string, [field: string, sent: string]> = {
          "chunks": [
            "Transfer-Encoding: chunked",
            `${length.toString(16)}\r\n${content}\r\n0\r\n\r\n`,
          ],
          "bad chunks": ["Transfer-Encoding: chunked", `5\r\n${content}xx`],
          "an early end": [`Content-Length: ${length + 1}`, content],
        };
        const [field, sent] = framed[what] ?? [`Content-Length: ${length}`, content];
        const path = `/touch/${encodeURIComponent(touch)}?read=${encodeURIComponent(read)}`;
        using client = await server.connect();
        await client.send(
          `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Type: ${type}\r\n${field}\r\n\r\n${sent}` +
            (isLast ? "" : "GET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        );
        if (isLast) await client.end();
        const answers = parseResponses(await client.rest(), ["POST", "GET"], true);
        const [first, second] = answers.map(({ status, body }) =>
          status === 200 ? body : `${status}`
        );
        const where = `${what}, ${touch}, ${read}`;
        findings.check(where, first, answer || (read === "a piece" ? read : "unread"));
        // It is not worth it to read a lot that nobody wants.
        const mayClose = isLast || what.startsWith("much");
        if (second !== undefined || !mayClose) findings.check(`${where}, next`, second, "404");
      }
    }
  }
  findings.check("ended by", server.deaths, []);
}

/** What applications learn when clients leave. */
async function compareLeaving(runtime: Runtime, upstream: string, findings: Findings) {
  await using server = await Served.start(runtime, "ours", upstream);
  const wanted: Record<string, unknown> = {};
  for (const name of SIGNAL_NAMES) {
    wanted[name] = [true, "AbortError"];
    using client = await server.connect();
    await client.send(`GET /signal/${encodeURIComponent(name)} HTTP/1.1\r\nHost: a\r\n\r\n`);
    await pause(50);
  }
  for (const name of ENDLESS_NAMES) {
    wanted[name] = "canceled";
    const isHead = name.endsWith("HEAD");
    using client = await server.connect();
    await client.send(
      `${isHead ? "HEAD" : "GET"} /endless/${encodeURIComponent(name)} HTTP/1.1\r\nHost: a\r\n\r\n`,
    );
    await client.until(isHead ? /\r\n\r\n/ : /\r\n\r\n[^]+/);
    if (isHead) findings.check(`${name}, at once`, (await toldBy(server))[name], "canceled");
  }
  for (const [name, outcome] of [["all of it", "completed"], ["part of it", "rejected"]]) {
    wanted[name] = outcome;
    using client = await server.connect();
    await client.send(`GET /completed/${encodeURIComponent(name)} HTTP/1.1\r\nHost: a\r\n\r\n`);
    await client.until(/\r\n\r\n[^]+/);
  }
  let told: Record<string, unknown> = {};
  for (let i = 0; i < 200 && Object.keys(told).length < Object.keys(wanted).length; i++) {
    await pause(20);
    told = await toldBy(server);
  }
  for (const name of Object.keys(wanted)) findings.check(name, told[name], wanted[name]);
  findings.check("ended by", server.deaths, []);
}

async function toldBy(server: Served): Promise<Record<string, unknown>> {
  const asked = "GET /told HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
  return JSON.parse((await server.ask(asked, "told")).content);
}

/** An upload that is larger than what the process may grow by. */
async function compareUpload(runtime: Runtime, upstream: string, findings: Findings) {
  await using server = await Served.start(runtime, "ours", upstream);
  const before = await server.process.residentMiB();
  const piece = new Uint8Array(65536).fill(97), count = 3000;
  using client = await server.connect();
  const size = piece.length * count;
  await client.send(
    `POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: ${size}\r\n\r\n`,
  );
  for (let i = 0; i < count; i++) await client.send(piece);
  const { content } = outcomeOf(await client.rest(), "POST");
  findings.check("bytes that arrived", content, String(size));
  const grown = await server.process.residentMiB() - before;
  if (grown > 100) findings.add(`${size / 2 ** 20} MiB took ${grown} MiB`);
}

/** Runs with an upstream, and tells everything that was found. */
function compared(
  run: (runtime: Runtime, upstream: string, findings: Findings) => Promise<void>,
): Scenario[1] {
  return async (runtime) => {
    await using upstream = startUpstream();
    const findings = new Findings();
    await run(runtime, `http://127.0.0.1:${upstream.addr.port}`, findings);
    findings.end();
  };
}

export const FETCHED: Scenario[] = [
  ["a request for Fetch is like a real one", compared(compareRequests)],
  ["a Response is sent as the runtime sends it", compared(compareResponses)],
  ["HEAD, HTTP/1.0, ranges and conditions for each Response", compared(compareWays)],
  ["addresses and methods that Fetch is told", compared(compareAddresses)],
  ["content that is sent back", compared(compareEchoes)],
  ["content is read or not, whatever was done before", compared(compareTouched)],
  ["applications learn that clients leave", compared(compareLeaving)],
  ["an upload that is larger than memory", compared(compareUpload)],
  ["random contents of each kind, one after the other", compared(compareContents)],
];
