/** WebSocket, as a client on plain sockets sees it: the cases of the Autobahn test suite's groups 1 to 7, 9,
 * 10, 12 and 13, written afresh; handshakes; hostile clients; clients that others wrote. In memory; and, as
 * `WEBSOCKETS`, from outside. `deno task websocket` runs groups 9, 12 and 13 in full size. */

import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { constants, deflateRawSync, inflateRawSync } from "node:zlib";
import { webSocket, WebSocketError } from "../extras/websocket.ts";
import { WebDriver } from "./browser.ts";
import {
  Client,
  isSecured,
  output,
  Process,
  reset,
  type Runtime,
  RUNTIMES,
  type Scenario,
} from "./sockets.ts";
import { pause, start } from "./tools.ts";
import { sockets } from "./websocketed.ts";

// ── A client's frames, and a server's ────────────────────────────────────────────────────────

const CONTINUED = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10;

interface Shape {
  fin?: boolean;
  rsv?: number;
  /** Bytes for the length, where that is not what is shortest. */
  lengthIn?: 0 | 2 | 8;
  unmasked?: boolean;
}
/** One frame (RFC 6455 §5.2), masked with a key that differs from frame to frame. */
function frame(opcode: number, payload: string | Uint8Array = "", shape: Shape = {}): Buffer {
  const content = typeof payload === "string" ? Buffer.from(payload) : payload;
  const { fin = true, rsv = 0, unmasked = false } = shape;
  const size = content.length;
  const lengthIn = shape.lengthIn ?? (size < 126 ? 0 : size < 65536 ? 2 : 8);
  const head = [(fin ? 0x80 : 0) + rsv * 0x10 + opcode];
  head.push((unmasked ? 0 : 0x80) + (lengthIn === 0 ? size : lengthIn === 2 ? 126 : 127));
  for (let i = lengthIn - 1; i >= 0; i--) head.push(Math.floor(size / 256 ** i) % 256);
  if (unmasked) return Buffer.concat([Buffer.from(head), content]);
  const key = Buffer.from([size * 7 + 1, opcode * 31 + 5, size * 3 + 170, 255 - opcode]);
  const masked = Buffer.allocUnsafe(size);
  for (let i = 0; i < size; i++) masked[i] = content[i] ^ key[i % 4];
  return Buffer.concat([Buffer.from(head), key, masked]);
}
function closing(code: number, reason: string | Uint8Array = ""): Buffer {
  return frame(CLOSE, Buffer.concat([Buffer.from([code >> 8, code % 256]), Buffer.from(reason)]));
}
/** A message in frames whose payloads have so many bytes at most. */
function fragments(opcode: number, content: Uint8Array, size: number, rsv = 0): Buffer[] {
  const frames: Buffer[] = [];
  for (let at = 0; at === 0 || at < content.length; at += size) {
    const fin = at + size >= content.length;
    const first = at === 0;
    frames.push(frame(first ? opcode : CONTINUED, content.subarray(at, at + size), {
      fin,
      rsv: first ? rsv : 0,
    }));
  }
  return frames;
}
/** Everything in pieces of so many bytes. */
function chopped(size: number, ...frames: Uint8Array[]): Uint8Array[] {
  const all = Buffer.concat(frames);
  return Array.from(
    { length: Math.ceil(all.length / size) },
    (_, i) => all.subarray(i * size, (i + 1) * size),
  );
}

/** What a frame is in a comparison: its content is told by its beginning, its length and its digest. */
function shown(opcode: number, payload: Uint8Array | string = ""): string {
  const content = Buffer.from(payload as string);
  if (opcode === CLOSE) return content.length < 2 ? "close" : `close ${content.readUInt16BE()}`;
  const name = { [TEXT]: "text", [BINARY]: "binary", [PING]: "ping", [PONG]: "pong" }[opcode]!;
  const digest = createHash("sha1").update(content).digest("hex").slice(0, 8);
  return `${name} ${content.length} ${JSON.stringify(content.toString("latin1", 0, 16))} ${digest}`;
}
/** The server's frames, each checked to be as §5.2 and §5.5 have it; deflated ones only if that was agreed. */
function framesOf(bytes: Buffer, windowBits = 0): string[] {
  const found: string[] = [];
  for (let at = 0; at < bytes.length;) {
    const first = bytes[at], short = bytes[at + 1];
    assert(
      (first & 0x80) === 0x80 && (first & 0x30) === 0 && short < 128,
      `a frame: ${first} ${short}`,
    );
    const opcode = first & 15;
    const head = short === 127 ? 10 : short === 126 ? 4 : 2;
    let length = short;
    if (head === 4) length = bytes.readUInt16BE(at + 2);
    if (head === 10) length = Number(bytes.readBigUInt64BE(at + 2));
    assertEquals(head, length < 126 ? 2 : length < 65536 ? 4 : 10, "the shortest form of a length");
    assert(at + head + length <= bytes.length, "a frame is cut short");
    let payload = bytes.subarray(at + head, at + head + length);
    if ((first & 0x40) !== 0) {
      assert(windowBits > 0 && opcode < 8, "RSV1");
      const whole = Buffer.concat([payload, Buffer.from([0, 0, 255, 255])]);
      payload = inflateRawSync(whole, { windowBits, finishFlush: constants.Z_SYNC_FLUSH });
    }
    found.push(shown(opcode, payload));
    at += head + length;
  }
  return found;
}

/** The example of §1.3. */
const KEY = "dGhlIHNhbXBsZSBub25jZQ==", ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
function handshake(path: string, fields = ""): string {
  return `GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n` +
    `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${KEY}\r\n${fields}\r\n`;
}

// ── The cases ────────────────────────────────────────────────────────────────────────────────

/** One case: what is sent, in which pieces, and what comes back. If the last of that is "close 1000", the client
 * is the one who closes, and it is sent behind the rest. */
interface Case {
  id: string;
  pieces: Uint8Array[];
  answers: string[];
  path?: string;
  fields?: string;
  windowBits?: number;
}
const CASES: Case[] = [];
const OK = "close 1000", BAD = "close 1002", NO_TEXT = "close 1007";
function add(id: string, pieces: Uint8Array[], ...answers: string[]): void {
  const all = answers.at(-1) === OK ? [...pieces, closing(1000)] : pieces;
  CASES.push({ id, pieces: all, answers });
}
const KINDS = [TEXT, BINARY];
/** The same in one piece, frame by frame, and byte by byte. */
function addChopped(ids: string[], frames: Uint8Array[], ...answers: string[]): void {
  const end = answers.at(-1) === OK ? [closing(1000)] : [];
  const ways = [
    [Buffer.concat([...frames, ...end])],
    [...frames, ...end],
    chopped(1, ...frames, ...end),
  ];
  for (const [i, id] of ids.entries()) CASES.push({ id, pieces: ways[i % 3], answers });
}

// 1: framing
for (const [k, kind] of KINDS.entries()) {
  for (const [i, size] of [0, 125, 126, 127, 128, 65535, 65536].entries()) {
    const content = "*".repeat(size);
    add(`1.${k + 1}.${i + 1}`, [frame(kind, content)], shown(kind, content), OK);
  }
  const content = "*".repeat(65536);
  add(`1.${k + 1}.8`, chopped(997, frame(kind, content)), shown(kind, content), OK);
}
// 2: pings and pongs
const ODD = Buffer.from("00fffefdfcfb00ff", "hex"), FULL = Buffer.alloc(125, 0xfe);
for (const [i, content] of ["", "Hello, world!", ODD, FULL].entries()) {
  add(`2.${i + 1}`, [frame(PING, content)], shown(PONG, content), OK);
}
add("2.5", [frame(PING, Buffer.alloc(126, 0xfe))], BAD);
add("2.6", chopped(1, frame(PING, FULL)), shown(PONG, FULL), OK);
add("2.7", [frame(PONG)], OK);
add("2.8", [frame(PONG, "unsolicited")], OK);
add("2.9", [frame(PONG, "unsolicited"), frame(PING, "ping")], shown(PONG, "ping"), OK);
const TEN = Array.from({ length: 10 }, (_, i) => `payload-${i}`);
const PINGS = TEN.map((text) => frame(PING, text)), PONGS = TEN.map((text) => shown(PONG, text));
add("2.10", PINGS, ...PONGS, OK);
add("2.11", chopped(1, ...PINGS), ...PONGS, OK);
// 3: reserved bits
const HELLO = frame(TEXT, "Hello"), HELLO_BACK = shown(TEXT, "Hello"), AFTER = frame(PING);
add("3.1", [frame(TEXT, "x", { rsv: 1 })], BAD);
for (const [i, chop] of [Infinity, 0, 1].entries()) {
  const frames = [HELLO, frame(TEXT, "x", { rsv: i + 2 }), AFTER];
  const pieces = chop === 0 ? frames : chopped(Math.min(chop, 1e6), ...frames);
  add(`3.${i + 2}`, pieces, HELLO_BACK, BAD);
}
add("3.5", [frame(BINARY, ODD, { rsv: 5 })], BAD);
add("3.6", [frame(PING, "x", { rsv: 6 })], BAD);
add("3.7", [frame(CLOSE, "", { rsv: 7 })], BAD);
// 4: reserved opcodes
for (const [g, base] of [3, 11].entries()) {
  add(`4.${g + 1}.1`, [frame(base)], BAD);
  add(`4.${g + 1}.2`, [frame(base + 1, "reserved")], BAD);
  add(`4.${g + 1}.3`, [HELLO, frame(base + 2), AFTER], HELLO_BACK, BAD);
  add(`4.${g + 1}.4`, [HELLO, frame(base + 3, "reserved"), AFTER], HELLO_BACK, BAD);
  add(`4.${g + 1}.5`, chopped(1, HELLO, frame(base + 4, "reserved"), AFTER), HELLO_BACK, BAD);
}
// 5: fragments
const part = (opcode: number, text: string, fin: boolean) => frame(opcode, text, { fin });
const ONE = part(TEXT, "fragment1", false), TWO = part(CONTINUED, "fragment2", true);
const BOTH = shown(TEXT, "fragment1fragment2"), PONGED = shown(PONG, "ping");
add("5.1", [part(PING, "fragment1", false), TWO], BAD);
add("5.2", [part(PONG, "fragment1", false), TWO], BAD);
addChopped(["5.3", "5.4", "5.5"], [ONE, TWO], BOTH, OK);
addChopped(["5.6", "5.7", "5.8"], [ONE, frame(PING, "ping"), TWO], PONGED, BOTH, OK);
addChopped(["5.9", "5.10", "5.11"], [part(CONTINUED, "lost", true), HELLO], BAD);
addChopped(["5.12", "5.13", "5.14"], [part(CONTINUED, "lost", false), HELLO], BAD);
add("5.15", [ONE, TWO, part(CONTINUED, "lost", false), HELLO], BOTH, BAD);
const LOST = [part(CONTINUED, "lost", false), ONE, TWO];
add("5.16", [...LOST, ...LOST], BAD);
const LAST = [part(CONTINUED, "lost", true), ONE, TWO];
add("5.17", [...LAST, ...LAST], BAD);
add("5.18", [ONE, part(TEXT, "fragment2", true)], BAD);
const FIVE = ["1", "2", "3", "4", "5"].map((text, i) =>
  part(i === 0 ? TEXT : CONTINUED, text, i === 4)
);
const WITH_PINGS = [
  ...FIVE.slice(0, 2),
  frame(PING, "ping"),
  ...FIVE.slice(2, 4),
  frame(PING, "ping"),
  FIVE[4],
];
add("5.19", [Buffer.concat(WITH_PINGS)], PONGED, PONGED, shown(TEXT, "12345"), OK);
add("5.20", WITH_PINGS, PONGED, PONGED, shown(TEXT, "12345"), OK);
// 6: UTF-8. That a text is valid is for a decoder to say that others wrote.
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
function addText(id: string, content: Uint8Array): void {
  let isValid = true;
  try {
    utf8.decode(content);
  } catch {
    isValid = false;
  }
  add(id, [frame(TEXT, content)], ...(isValid ? [shown(TEXT, content), OK] : [NO_TEXT]));
}
const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");
const KOSME = Buffer.from("κόσμε"), WORLD = Buffer.from("Hello-µ@ßöäüàá-UTF-8!!");
const EMPTY = (
  middle: string,
) => [part(TEXT, "", false), part(CONTINUED, middle, false), part(CONTINUED, "", true)];
add("6.1.1", [frame(TEXT)], shown(TEXT), OK);
add("6.1.2", EMPTY(""), shown(TEXT), OK);
add("6.1.3", EMPTY("middle"), shown(TEXT, "middle"), OK);
add("6.2.1", [frame(TEXT, WORLD)], shown(TEXT, WORLD), OK);
add("6.2.2", fragments(TEXT, WORLD, 12), shown(TEXT, WORLD), OK);
add("6.2.3", fragments(TEXT, WORLD, 1), shown(TEXT, WORLD), OK);
add("6.2.4", fragments(TEXT, KOSME, 1), shown(TEXT, KOSME), OK);
const BROKEN = Buffer.concat([KOSME, hex("eda080"), Buffer.from("edited")]);
add("6.3.1", [frame(TEXT, BROKEN)], NO_TEXT);
add("6.3.2", fragments(TEXT, BROKEN, 1), NO_TEXT);
// It fails with the first frame that is wrong, though the message has not ended: nothing more is sent.
add(
  "6.4.1",
  fragments(TEXT, Buffer.concat([KOSME, hex("f4908080"), KOSME]), 11).slice(0, 2),
  NO_TEXT,
);
add(
  "6.4.2",
  fragments(TEXT, Buffer.concat([KOSME, hex("f490"), KOSME, KOSME]), 12).slice(0, 2),
  NO_TEXT,
);
const HALF = frame(TEXT, Buffer.concat([KOSME, hex("f4908080"), KOSME]));
// In one frame it may fail at the end of that.
add("6.4.3", [HALF.subarray(0, 17), HALF.subarray(17, 21), HALF.subarray(21)], NO_TEXT);
add("6.4.4", chopped(1, HALF), NO_TEXT);
const prefixes = Array.from({ length: 11 }, (_, i) => KOSME.toString("hex", 0, i + 1));
const nonCharacters = Array.from(
  { length: 17 },
  (_, plane) =>
    [0xfffe, 0xffff].map((low) =>
      Buffer.from(String.fromCodePoint(plane * 65536 + low)).toString("hex")
    ),
).flat();
const UTF8: Record<number, string[]> = {
  5: ["ceba", "cebae1bdb9", "cebae1bdb9cf83", "cebae1bdb9cf83cebc", KOSME.toString("hex")],
  6: prefixes,
  7: ["00", "c280", "e0a080", "f0908080"], // the first of each length
  8: ["f888808080", "fc8480808080"],
  9: ["7f", "dfbf", "efbfbf", "f48fbfbf"], // the last of each length
  10: ["f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf"],
  11: ["ed9fbf", "ee8080", "efbfbd", "f48fbfbf", "f4908080"],
  12: ["80", "bf", "80bf", "80bf80", "80bf80bf", "80bf80bf80", "80bf80bf80bf", "80".repeat(63)], // continuations
  13: ["c020c120c220df20", "e020e120ed20ef20", "f020f120f420f720", "f820f920fa20fb20", "fc20fd20"], // alone
  14: [
    "c0",
    "e080",
    "f08080",
    "f8808080",
    "fc80808080",
    "df",
    "efbf",
    "f7bfbf",
    "fbbfbfbf",
    "fdbfbfbfbf",
  ],
  15: ["c0e080f08080f8808080fc80808080dfefbff7bfbffbbfbfbffdbfbfbfbf"],
  16: ["fe", "ff", "fefeffff"],
  17: ["c0af", "e080af", "f08080af", "f8808080af", "fc80808080af"], // overlong
  18: ["c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf"],
  19: ["c080", "e08080", "f0808080", "f880808080", "fc8080808080"],
  20: ["eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf"], // surrogates
  21: [
    "a080b080",
    "a080bfbf",
    "adbfb080",
    "adbfbfbf",
    "ae80b080",
    "ae80bfbf",
    "afbfb080",
    "afbfbfbf",
  ].map(
    (pair) => `ed${pair.slice(0, 4)}ed${pair.slice(4)}`,
  ),
  22: nonCharacters,
  23: ["efbfbc", "efbfbd", "efbfbe", "efbfbf", "efbfb9", "efbfba", "efbfbb"],
};
for (const [group, rows] of Object.entries(UTF8)) {
  for (const [i, row] of rows.entries()) addText(`6.${group}.${i + 1}`, hex(row));
}
// 7: closing. What comes behind a Close is not heeded.
const END = closing(1000);
add("7.1.1", [HELLO], HELLO_BACK, OK);
add("7.1.2", [END], OK);
add("7.1.3", [END, frame(PING)], OK);
add("7.1.4", [END, HELLO], OK);
add("7.1.5", [ONE, END, TWO], OK);
const LONG = "B".repeat(262144);
add("7.1.6", [frame(TEXT, LONG), HELLO, END, frame(PING)], shown(TEXT, LONG), HELLO_BACK, OK);
add("7.3.1", [frame(CLOSE)], "close");
add("7.3.2", [frame(CLOSE, "a")], BAD);
add("7.3.3", [END], OK);
add("7.3.4", [closing(1000, "Hello World!")], OK);
add("7.3.5", [closing(1000, "*".repeat(123))], OK);
add("7.3.6", [closing(1000, "*".repeat(124))], BAD);
add("7.5.1", [closing(1000, BROKEN)], NO_TEXT);
const GOOD_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
const BAD_CODES = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999];
for (const [i, code] of GOOD_CODES.entries()) add(`7.7.${i + 1}`, [closing(code)], `close ${code}`);
for (const [i, code] of BAD_CODES.entries()) add(`7.9.${i + 1}`, [closing(code)], BAD);
for (const [i, code] of [5000, 65535].entries()) add(`7.13.${i + 1}`, [closing(code)], BAD);
// 10: one message in many frames
const MANY = "*".repeat(65536);
add("10.1.1", fragments(TEXT, Buffer.from(MANY), 1300), shown(TEXT, MANY), OK);

/** 9: sizes and numbers. `scale` is 1 for all of it. */
function* limits(scale: number): Generator<Case> {
  const K = 1024, M = 1048576 / scale, count = Math.ceil(1000 / scale);
  for (const [k, kind] of KINDS.entries()) {
    const row = (id: string, pieces: Uint8Array[], echoes: string[]): Case => (
      { id, pieces: [...pieces, END], answers: [...echoes, OK] }
    );
    for (const [i, size] of [M / 16, M / 4, M, 4 * M, 8 * M, 16 * M].entries()) {
      const content = "*".repeat(size);
      yield row(`9.${k + 1}.${i + 1}`, [frame(kind, content)], [shown(kind, content)]);
    }
    const large = Buffer.alloc(4 * M, "*"), middle = Buffer.alloc(M, "*");
    for (const [i, size] of [64, 256, K, 4 * K, 16 * K, 64 * K, M / 4, M, 4 * M].entries()) {
      yield row(`9.${k + 3}.${i + 1}`, chopped(65536, ...fragments(kind, large, size)), [
        shown(kind, large),
      ]);
    }
    for (const [i, size] of [64, 128, 256, 512, 1024, 2048].entries()) {
      yield row(`9.${k + 5}.${i + 1}`, chopped(size, frame(kind, middle)), [shown(kind, middle)]);
    }
    for (const [i, size] of [0, 16, 64, 256, 1024, 4096].entries()) {
      const content = "*".repeat(size);
      yield row(
        `9.${k + 7}.${i + 1}`,
        new Array(count).fill(frame(kind, content)),
        new Array(count).fill(shown(kind, content)),
      );
    }
  }
}
/** 12 and 13: compression, of five kinds of content, and as seven offers have it. */
function* compressed(scale: number): Generator<Case> {
  const read = (name: string) => readFileSync(new URL(`../${name}`, import.meta.url));
  const book = read("book.json"), page = read("index.html");
  const pixels = Buffer.from(Uint8Array.from({ length: 65536 }, (_, i) => (i * i >> 7) ^ (i >> 3)));
  const kinds: [Buffer, number][] = [
    [book, TEXT],
    [pixels, BINARY],
    [Buffer.from(JSON.parse(book.toString()).chapters?.join(". ") ?? book.toString()), TEXT],
    [page, TEXT],
    [Buffer.concat([page, book]), TEXT],
  ];
  const sizes: [size: number, fragment?: number][] = [
    ...[16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072].map((size): [number] => [size]),
    ...[8192, 16384, 32768, 65536, 131072].map((size): [number, number] => [size, 256]),
    [131072, 1024],
    [131072, 4096],
    [131072, 32768],
  ];
  const offers: [string, number][] = [
    ["permessage-deflate; client_no_context_takeover; client_max_window_bits", 15],
    ["permessage-deflate", 15],
    ["permessage-deflate; server_no_context_takeover", 15],
    ["permessage-deflate; server_max_window_bits=9", 9],
    ["permessage-deflate; server_max_window_bits=15", 15],
    ["permessage-deflate; server_no_context_takeover; server_max_window_bits=9", 9],
    ["permessage-deflate; server_no_context_takeover; server_max_window_bits=15", 15],
    [
      "permessage-deflate; server_no_context_takeover; server_max_window_bits=8, " +
      "permessage-deflate; server_no_context_takeover, permessage-deflate",
      15,
    ],
  ];
  const groups = [
    ...kinds.map((kind, i) => [`12.${i + 1}`, kind, offers[0]] as const),
    ...offers.slice(1).map((offer, i) => [`13.${i + 1}`, kinds[0], offer] as const),
  ];
  const count = Math.max(2, Math.ceil(1000 / scale));
  for (const [group, [content, kind], [offer, windowBits]] of groups) {
    for (const [i, [size, fragment = Infinity]] of sizes.entries()) {
      const messages = Array.from({ length: count }, (_, n) => {
        const repeated = Buffer.alloc(size + 8, content.subarray((n * 13) % 100));
        let from = 0, to = size; // without half a character at either end
        while (kind === TEXT && (repeated[from] & 0xc0) === 0x80) from++;
        while (kind === TEXT && (repeated[to] & 0xc0) === 0x80) to--;
        return repeated.subarray(from, to);
      });
      const pieces = messages.flatMap((message) => {
        const deflated = deflateRawSync(message, { finishFlush: constants.Z_SYNC_FLUSH });
        return fragments(kind, deflated.subarray(0, -4), fragment, 4);
      });
      yield {
        id: `${group}.${i + 1}`,
        path: "/deflate",
        fields: `Sec-WebSocket-Extensions: ${offer}\r\n`,
        windowBits,
        pieces: [Buffer.concat([...pieces, END])],
        answers: [...messages.map((message) => shown(kind, message)), OK],
      };
    }
  }
}

/** Numbers of cases by group. */
type Counts = Record<string, number>;
function count(counts: Counts, { id }: Case): void {
  const group = id.split(".")[0];
  counts[group] = (counts[group] ?? 0) + 1;
}
/** Those of the suite, group by group. */
const COUNTS: Counts = {
  1: 16,
  2: 11,
  3: 7,
  4: 10,
  5: 20,
  6: 145,
  7: 37,
  9: 54,
  10: 1,
  12: 90,
  13: 126,
};

function checkCase({ id, answers, windowBits }: Case, received: Buffer): void {
  const end = received.indexOf("\r\n\r\n") + 4, head = received.toString("latin1", 0, end);
  assertMatch(head, /^HTTP\/1\.1 101 /, id);
  assert(head.includes(`Sec-WebSocket-Accept: ${ACCEPT}\r\n`), id);
  assertEquals(/permessage-deflate/.test(head), windowBits !== undefined, id);
  assertEquals(framesOf(received.subarray(end), windowBits), answers, id);
}
async function runCase(port: number, one: Case): Promise<void> {
  using client = await Client.connect(port);
  await client.send(handshake(one.path ?? "/echo", one.fields));
  await client.until(/\r\n\r\n/);
  const sending = (async () => {
    for (const piece of one.pieces) await client.send(piece);
  })().catch(() => {}); // The server may have closed before the last of it.
  await client.rest();
  await sending;
  checkCase(one, Buffer.from(client.received, "latin1"));
}
/** Runs cases, so many side by side. */
async function runCases(
  port: number,
  cases: Iterable<Case>,
  counts: Counts = {},
  width = 8,
): Promise<Counts> {
  const iterator = cases[Symbol.iterator]();
  await Promise.all(Array.from({ length: width }, async () => {
    for (let next; !(next = iterator.next()).done;) {
      await runCase(port, next.value);
      count(counts, next.value);
    }
  }));
  return counts;
}

// ── In memory ────────────────────────────────────────────────────────────────────────────────

/** What the server answers to a handshake and pieces, and how its socket ended. */
async function inMemory(pieces: Uint8Array[], path = "/echo", fields = "") {
  let ended = "";
  await using server = start((request) => sockets(request, (how) => ended = how));
  const client = server.connect();
  client.send(handshake(path, fields));
  for (const piece of pieces) client.send(piece);
  await client.until(() => client.ended || client.closed);
  client.end();
  return { received: Buffer.from(client.received), ended };
}

for (
  const group of Object.keys(COUNTS).filter((group) =>
    CASES.some(({ id }) => id.startsWith(`${group}.`))
  )
) {
  const cases = CASES.filter(({ id }) => id.startsWith(`${group}.`));
  Deno.test(`WebSocket, group ${group}: ${cases.length} cases`, async () => {
    assertEquals(cases.length, COUNTS[group], "as many as the suite has");
    for (const one of cases) checkCase(one, (await inMemory(one.pieces)).received);
  });
}

Deno.test("WebSocket: a session that is cut at any place, or at two, gives the same", async () => {
  const deflated = deflateRawSync("Grüße, deflated", { finishFlush: constants.Z_SYNC_FLUSH });
  const session = Buffer.concat([
    frame(TEXT, "Grüße"),
    frame(PING, "a"),
    part(BINARY, "fragment", false),
    frame(PONG),
    part(CONTINUED, "", false),
    part(CONTINUED, "s", true),
    frame(TEXT, deflated.subarray(0, -4), { rsv: 4 }),
    frame(BINARY, Buffer.alloc(200, 7)),
    closing(3001, "end"),
  ]);
  const answers = [
    shown(TEXT, "Grüße"),
    shown(PONG, "a"),
    shown(BINARY, "fragments"),
    shown(TEXT, "Grüße, deflated"),
    shown(BINARY, Buffer.alloc(200, 7)),
    "close 3001",
  ];
  const fields = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
  for (let at = 0; at < session.length; at++) {
    const other = (at * 7919) % session.length;
    const [from, to] = at < other ? [at, other] : [other, at];
    const pieces = [session.subarray(0, from), session.subarray(from, to), session.subarray(to)];
    const { received, ended } = await inMemory(pieces, "/deflate", fields);
    checkCase({ id: `cut at ${from} and ${to}`, pieces, answers, windowBits: 15 }, received);
    assertEquals(ended, "/deflate clean 3001 end");
  }
});

/** Handshakes (§4.2), from one that is good: field lines that replace others of that name, and the status. */
const HANDSHAKES: [name: string, replaced: string[], status: number, told?: string][] = [
  ["as it is", [], 101, `Sec-WebSocket-Accept: ${ACCEPT}`],
  ["several tokens, any case", ["Connection: close-not, uPGRADE", "Upgrade: WEBSOCKET"], 101],
  ["no Connection", ["Connection:"], 426, "Upgrade: websocket"],
  ["another Connection", ["Connection: upgrades"], 426],
  ["no Upgrade", ["Upgrade:"], 426],
  ["another protocol", ["Upgrade: h2c"], 426, "Sec-WebSocket-Version: 13"],
  ["another version", ["Sec-WebSocket-Version: 8"], 426, "Sec-WebSocket-Version: 13"],
  ["two versions", ["Sec-WebSocket-Version: 13, 8"], 426],
  ["no version", ["Sec-WebSocket-Version:"], 426],
  ["no key", ["Sec-WebSocket-Key:"], 400],
  ["a key of 15 bytes", ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"], 400],
  ["a key of 17 bytes", ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE="], 400],
  ["a key with bits beyond", ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR=="], 400],
  ["a key that is not base64", ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j_Q=="], 400],
  ["two keys", [`Sec-WebSocket-Key: ${KEY}, ${KEY}`], 400],
  ["POST", ["POST"], 405, "Allow: GET"],
  ["a page of this host", ["Origin: http://a"], 101],
  ["a page of this host over TLS", ["Origin: https://a"], 101],
  ["a page of another port", ["Origin: http://a:81"], 403],
  ["a page of another host", ["Origin: http://b"], 403],
  ["a page without an origin", ["Origin: null"], 403],
  ["a protocol that nobody chooses", ["Sec-WebSocket-Protocol: v1"], 101],
  ["no list of protocols", ["Sec-WebSocket-Protocol: v1;v2"], 400],
  ["a protocol twice", ["Sec-WebSocket-Protocol: v1, v1"], 400],
  ["no list of extensions", ["Sec-WebSocket-Extensions: a; =1"], 400],
  ["an extension's value that is no token", ['Sec-WebSocket-Extensions: a; b="c d"'], 400],
  ["an unknown extension", ["Sec-WebSocket-Extensions: foo; bar=1"], 101],
];

async function answerTo(path: string, replaced: string[]) {
  await using server = start((request) => sockets(request, () => {}));
  const client = server.connect();
  let text = handshake(path);
  for (const line of replaced) {
    if (line === "POST") text = text.replace("GET", "POST");
    const name = line.split(":")[0];
    text = text.replace(new RegExp(`^${name}:.*\r\n`, "m"), "");
    if (/: ./.test(line)) text = text.replace("\r\n\r\n", `\r\n${line}\r\n\r\n`);
  }
  client.send(text);
  client.send(closing(1000));
  client.end();
  await client.until(() => client.closed);
  return { head: client.text.slice(0, client.text.indexOf("\r\n\r\n") + 2) };
}

Deno.test(`WebSocket, §4.2: ${HANDSHAKES.length} handshakes`, async () => {
  for (const [name, replaced, status, told = ""] of HANDSHAKES) {
    const { head } = await answerTo("/echo", replaced);
    assertEquals(Number(head.slice(9, 12)), status, name);
    assert(head.includes(`\r\n${told}`), `${name}: ${head}`);
    assert(status === 101 || !head.includes("Sec-WebSocket-Accept"), name);
    assert(!/Sec-WebSocket-(Protocol|Extensions)/.test(head), name);
  }
});

Deno.test("WebSocket: the application chooses subprotocol and origins", async () => {
  const ask = (...replaced: string[]) => answerTo("/chosen", replaced);
  assertMatch(
    (await ask("Sec-WebSocket-Protocol: chat, v1, v2")).head,
    /^Sec-WebSocket-Protocol: v2\r$/m,
  );
  assert(!(await ask("Sec-WebSocket-Protocol: chat")).head.includes("-Protocol"));
  assertMatch((await ask("Origin: https://friend.example")).head, / 101 /);
  assertMatch((await ask("Origin: http://a")).head, / 403 /);
});

/** Offers of permessage-deflate (RFC 7692 §7.1) and what is agreed, behind what always is. */
const OFFERS: [offer: string, agreed: string | undefined][] = [
  ["permessage-deflate", ""],
  ["permessage-deflate; client_max_window_bits", ""],
  ["permessage-deflate; client_max_window_bits=8", ""],
  ['permessage-deflate; client_max_window_bits="15"', ""],
  [
    "permessage-deflate;server_max_window_bits = 10 ;client_no_context_takeover",
    "; server_max_window_bits=10",
  ],
  [
    "permessage-deflate; server_max_window_bits=15; server_no_context_takeover", // §7.1.2.1
    "; server_max_window_bits=15",
  ],
  [
    "foo, permessage-deflate; unknown, permessage-deflate; server_max_window_bits=9",
    "; server_max_window_bits=9",
  ],
  ["permessage-deflate; server_max_window_bits=8", undefined],
  ["permessage-deflate; server_max_window_bits", undefined],
  ["permessage-deflate; server_max_window_bits=16", undefined],
  ["permessage-deflate; server_max_window_bits=010", undefined],
  ["permessage-deflate; client_max_window_bits=7", undefined],
  ["permessage-deflate; client_max_window_bits=08", undefined],
  ["permessage-deflate; client_no_context_takeover=1", undefined],
  ["permessage-deflate; server_no_context_takeover=true", undefined],
  ["permessage-deflate; client_max_window_bits; client_max_window_bits", undefined],
  ["permessage-deflate; server_max_window_bits=10; server_max_window_bits=10", undefined],
  ["x-webkit-deflate-frame", undefined],
];

Deno.test(`RFC 7692, §7.1: ${OFFERS.length} offers`, async () => {
  for (const [offer, agreed] of OFFERS) {
    const { head } = await answerTo("/deflate", [`Sec-WebSocket-Extensions: ${offer}`]);
    const [, answer] = /^Sec-WebSocket-Extensions: (.*)\r$/m.exec(head) ?? [];
    const always = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assertEquals(answer, agreed === undefined ? undefined : always + agreed, offer);
  }
});

/** What is wrong besides, and how it ends. */
const deflate = (content: Uint8Array | string) =>
  deflateRawSync(content, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4);
const WRONG: [name: string, path: string, pieces: Buffer[], answers: string[]][] = [
  ["not masked", "/echo", [frame(TEXT, "x", { unmasked: true })], [BAD]],
  ["a length in 2 bytes too many", "/echo", [frame(TEXT, "x".repeat(125), { lengthIn: 2 })], [BAD]],
  ["a length in 8 bytes too many", "/echo", [frame(TEXT, "x".repeat(65535), { lengthIn: 8 })], [
    BAD,
  ]],
  ["a ping with a length in 2 bytes", "/echo", [frame(PING, "x", { lengthIn: 2 })], [BAD]],
  ["a length with the first bit", "/echo", [Buffer.from("82ffffffffffffffffffffffffff", "hex")], [
    BAD,
  ]],
  ["a length beyond all numbers", "/echo", [Buffer.from("82ff7fffffffffffffffffffffff", "hex")], [
    "close 1009",
  ]],
  ["just short enough", "/small", [frame(TEXT, "x".repeat(1000))], [
    shown(TEXT, "x".repeat(1000)),
    OK,
  ]],
  ["too long", "/small", [frame(TEXT, "x".repeat(1001))], ["close 1009"]],
  ["too long in fragments", "/small", fragments(BINARY, Buffer.alloc(1001), 500), ["close 1009"]],
  ["half a character at the end", "/echo", [frame(TEXT, hex("ceba").subarray(0, 1))], [NO_TEXT]],
  ["half a character at the end of fragments", "/echo", fragments(TEXT, hex("61e1bd"), 2), [
    NO_TEXT,
  ]],
  ["a byte-order mark", "/echo", [frame(TEXT, "\ufeffx")], [shown(TEXT, "\ufeffx"), OK]],
  ["a byte-order mark in fragments", "/echo", fragments(TEXT, Buffer.from("\ufeffx"), 1), [
    shown(TEXT, "\ufeffx"),
    OK,
  ]],
  ["RSV1 without compression", "/deflate", [frame(TEXT, deflate("x"), { rsv: 4 })], [BAD]],
];
const DEFLATED: [name: string, pieces: Buffer[], answers: string[]][] = [
  ["not compressed", [frame(TEXT, "x")], [shown(TEXT, "x"), OK]],
  ["of no length", [frame(TEXT, deflate(""), { rsv: 4 })], [shown(TEXT), OK]],
  ["the example of §7.2.3.1", [frame(TEXT, hex("f248cdc9c90700"), { rsv: 4 })], [
    shown(TEXT, "Hello"),
    OK,
  ]],
  ["a block without compression, §7.2.3.3", [
    frame(TEXT, hex("000500faff48656c6c6f00"), { rsv: 4 }),
  ], [shown(TEXT, "Hello"), OK]],
  ["a last block, §7.2.3.4", [frame(TEXT, hex("f348cdc9c9070000"), { rsv: 4 })], [
    shown(TEXT, "Hello"),
    OK,
  ]],
  ["two blocks, §7.2.3.5", [frame(TEXT, hex("f248050000 00ffffcac9c90700"), { rsv: 4 })], [
    shown(TEXT, "Hello"),
    OK,
  ]],
  ["more behind a last block", [frame(TEXT, hex("f348cdc9c907000000"), { rsv: 4 })], [NO_TEXT]],
  ["in fragments with a ping", [
    frame(TEXT, hex("f248cd"), { rsv: 4, fin: false }),
    frame(PING),
    frame(CONTINUED, hex("c9c90700")),
  ], [shown(PONG), shown(TEXT, "Hello"), OK]],
  ["RSV1 of a ping", [frame(PING, "x", { rsv: 4 })], [BAD]],
  ["RSV1 of a later fragment", [part(TEXT, "x", false), frame(CONTINUED, "y", { rsv: 4 })], [BAD]],
  ["RSV2", [frame(TEXT, deflate("x"), { rsv: 6 })], [BAD]],
  ["not DEFLATE", [frame(TEXT, hex("ffffffff"), { rsv: 4 })], [NO_TEXT]],
  ["not UTF-8", [frame(TEXT, deflate(hex("c0af")), { rsv: 4 })], [NO_TEXT]],
  ["just short enough", [frame(BINARY, deflate(Buffer.alloc(1 << 20)), { rsv: 4 })], [
    shown(BINARY, Buffer.alloc(1 << 20)),
    OK,
  ]],
  ["a bomb", [frame(BINARY, deflate(Buffer.alloc(1 << 28)).subarray(0, 1 << 19), { rsv: 4 })], [
    "close 1009",
  ]],
];

Deno.test(`WebSocket, §5 and RFC 7692: ${WRONG.length + DEFLATED.length} more cases`, async () => {
  const fields = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
  const all = [
    ...WRONG.map((row) => [...row, ""] as const),
    ...DEFLATED.map(([name, ...row]) => [name, "/deflate", ...row, fields] as const),
  ];
  for (const [name, path, pieces, answers, fields] of all) {
    const sent = answers.at(-1) === OK ? [...pieces, END] : pieces;
    const { received, ended } = await inMemory(sent, path, fields);
    checkCase({ id: name, pieces, answers, ...(fields ? { windowBits: 15 } : {}) }, received);
    const isClean = answers.at(-1) === OK;
    assertMatch(
      ended,
      new RegExp(`^${path} ${isClean ? "clean" : "broken"} ${answers.at(-1)!.slice(6)}`),
    );
  }
});

Deno.test("WebSocket: what a session is told, and may do", async () => {
  const told: unknown[] = [];
  const tell = (error: unknown) => {
    assert(error instanceof WebSocketError);
    told.push([error.code, error.message]);
  };
  await using server = start((request) =>
    webSocket(request, async (socket) => {
      assertEquals([socket.protocol, socket.bufferedAmount], ["", 0]);
      for (const code of [999, 1004, 1005, 1006, 1015, 2999, 5000, NaN]) {
        assertThrows(() => socket.close(code), RangeError, "is not a close code");
      }
      assertThrows(() => socket.close(1000, "ä".repeat(62)), RangeError, "too long");
      const reading = socket.next();
      await assertRejects(() => socket.next(), Error, "waited for already");
      told.push((await reading).value);
      await socket.next().catch(tell);
      await socket.next().catch(tell); // It stays so.
      void socket.send("to nobody"); // This rejects, too; nobody has to heed it.
      await Promise.resolve(socket.send("to nobody")).catch(tell);
      const { code, reason, wasClean } = await socket.closed;
      told.push({ code, reason, wasClean });
    })
  );
  const client = server.connect();
  client.send(handshake("/"));
  await client.settled();
  client.send(frame(TEXT, "one"));
  client.end();
  await client.until(() => client.closed);
  const lost = "The connection was lost";
  assertEquals(told, [
    "one",
    ...new Array(3).fill([1006, lost]),
    { code: 1006, reason: lost, wasClean: false },
  ]);
});

Deno.test("WebSocket: what answers messages that came together leaves together", async () => {
  await using server = start((request) => sockets(request, () => {}));
  const client = server.connect();
  const { write } = client.connection;
  let writes = 0;
  client.connection.write = (bytes) => {
    writes++;
    return write(bytes);
  };
  client.send(handshake("/echo"));
  await client.until(() => client.text.includes("\r\n\r\n"));
  await client.settled();
  writes = 0;
  client.send(Buffer.concat([HELLO, frame(PING), HELLO, HELLO, frame(TEXT, "H").subarray(0, 3)]));
  await client.settled();
  const received = Buffer.from(client.received);
  const frames = framesOf(received.subarray(received.indexOf("\r\n\r\n") + 4));
  assertEquals(frames, [HELLO_BACK, shown(PONG), HELLO_BACK, HELLO_BACK]);
  assertEquals(writes, 1);
  client.end();
  await client.until(() => client.closed);
});

Deno.test("WebSocket: each send is taken before the next, whatever the client takes", async () => {
  const sizes = [0, 1, 125, 126, 65535, 65536, 200_000, 3];
  await using server = start((request) =>
    webSocket(request, async (socket) => {
      for (const size of sizes) {
        await socket.send("x".repeat(size));
        assert(socket.bufferedAmount <= 65536);
      }
    })
  );
  const client = server.connect(777); // bytes of each write
  client.send(handshake("/"));
  client.send(END);
  await client.until(() => client.ended || client.closed);
  const received = Buffer.from(client.received);
  const frames = framesOf(received.subarray(received.indexOf("\r\n\r\n") + 4));
  assertEquals(frames, [...sizes.map((size) => shown(TEXT, "x".repeat(size))), OK]);
  client.end();
});

Deno.test("WebSocket: answers to messages that came together wait for the client, too", async () => {
  const most: number[] = [];
  await using server = start((request) =>
    webSocket(request, async (socket) => {
      for await (const _ of socket) {
        await socket.send(Buffer.alloc(200_000));
        most.push(socket.bufferedAmount);
      }
    })
  );
  const client = server.connect(10_000); // bytes of each write
  client.send(handshake("/"));
  await client.until(() => client.text.includes("\r\n\r\n"));
  client.send(Buffer.concat([...Array.from({ length: 10 }, () => frame(TEXT, "x")), END]));
  await client.until(() => client.ended || client.closed);
  assertEquals(most, Array(10).fill(0));
  client.end();
});

Deno.test("WebSocket: one message can be waited for at a time, also while sends wait", async () => {
  const outcomes: string[] = [];
  await using server = start((request) =>
    webSocket(request, async (socket) => {
      void socket.send(Buffer.alloc(300_000));
      const [first, second] = [socket.next(), socket.next()];
      outcomes.push(await second.then(() => "a message", String));
      outcomes.push(await first.then(({ value }) => String(value), String));
    })
  );
  const client = server.connect(10_000);
  client.send(handshake("/"));
  client.send(frame(TEXT, "hi"));
  client.send(END);
  await client.until(() => client.ended || client.closed);
  assertEquals(outcomes, ["Error: A message is being waited for already", "hi"]);
  client.end();
});

Deno.test("WebSocket: a client with much to be done lets others have their turn", async () => {
  const zeros = deflate(Buffer.alloc(1 << 20));
  const heaps: [what: string, piece: Buffer, count: number, inATurn: number][] = [
    ["messages that inflate", frame(BINARY, zeros, { rsv: 4 }), 100, 1],
    ["empty messages", frame(TEXT, ""), 50_000, 130],
    ["pings", frame(PING, ""), 50_000, 130],
  ];
  for (const [what, piece, count, inATurn] of heaps) {
    let turns = 0;
    await using server = start((request) =>
      webSocket(request, async (socket) => {
        for await (const _ of socket);
      }, { compressFrom: 1 })
    );
    const client = server.connect();
    client.send(handshake("/", "Sec-WebSocket-Extensions: permessage-deflate\r\n"));
    await client.until(() => client.text.includes("\r\n\r\n"));
    let turn = setImmediate(function others() {
      turns++;
      turn = setImmediate(others);
    });
    client.send(Buffer.concat([...Array.from({ length: count }, () => piece), END]));
    await client.until(() => client.ended || client.closed);
    clearImmediate(turn);
    client.end();
    assert(turns >= count / inATurn, `${what}: ${turns} turns`);
  }
});

// ── From outside ─────────────────────────────────────────────────────────────────────────────

function startSockets(runtime: Runtime, args: string[] = []): Promise<Process> {
  return Process.start(runtime, args, "tests/websocketed.ts");
}
/** A client that has shaken hands. */
async function open(port: number, path: string, fields = ""): Promise<Client> {
  const client = await Client.connect(port);
  await client.send(handshake(path, fields));
  assertMatch(await client.until(/\r\n\r\n/), /^HTTP\/1\.1 101 /);
  return client;
}
/** What matches such bytes. */
function holding(...bytes: number[]): RegExp {
  return new RegExp(String.fromCharCode(...bytes));
}
/** The frames that it has got when the server closes. */
async function framesUntilEnd(client: Client): Promise<string[]> {
  const received = Buffer.from(await client.rest(), "latin1");
  assertEquals(client.ended, "closed");
  return framesOf(received.subarray(received.indexOf("\r\n\r\n") + 4));
}
function describeCounts(counts: Counts): string {
  return Object.entries(counts).map(([group, number]) => `${group}: ${number}`).join(", ");
}

/** A program for each runtime whose `WebSocket` is tried: it prints what it gets, and how it ends. */
const PROGRAM = `
const socket = new WebSocket("ws://127.0.0.1:PORT/deflate", ["v1", "v2"]);
socket.binaryType = "arraybuffer";
const messages = ["hello", "Grüße ☃ 💩", "", "x".repeat(70000), new Uint8Array(300).fill(7)];
socket.onopen = () => messages.forEach((message) => socket.send(message));
const got = [];
socket.onmessage = ({ data }) => {
  got.push(typeof data === "string" ? data.length + " " + data.slice(0, 12) : "bytes " + data.byteLength);
  if (got.length === messages.length) socket.close(3001, "bye");
};
socket.onclose = ({ code, reason, wasClean }) => {
  console.log(JSON.stringify([...got, code, reason, wasClean, socket.protocol]));
};
`;
const GOT = [
  "5 hello",
  "10 Grüße ☃ 💩",
  "0 ",
  "70000 xxxxxxxxxxxx",
  "bytes 300",
  3001,
  "bye",
  true,
  "v1",
];

/** Python's `websockets`, which speaks permessage-deflate. */
const PYTHON = `
import asyncio, sys, websockets
async def main():
    async with websockets.connect(f"ws://127.0.0.1:{sys.argv[1]}/deflate", max_size=None) as socket:
        print([type(one).__name__ for one in socket.extensions])
        for message in ["hello", "Grüße", "", "x" * 70000, bytes(300)]:
            await socket.send(message)
            assert await socket.recv() == message
        await socket.send(["frag", "ments"])
        print(await socket.recv())
        await (await socket.ping())
        await socket.close(3001, "bye")
        print(socket.close_code, socket.close_reason)
asyncio.run(main())
`;

/** The name of a program that can run so; else one that nobody has, and what needs it is ignored. */
function able(program: string, ...args: string[]): string {
  if (Deno.permissions.querySync({ name: "run" }).state !== "granted") return program;
  try {
    const options = { args, stdout: "null", stderr: "null" } as const;
    if (new Deno.Command(program, options).outputSync().success) return program;
  } catch { /* There is no such program. */ }
  return [program, ...args].join(" ");
}
const NODE = able("node", "--experimental-websocket", "--version");
const PYTHON3 = able("/usr/bin/python3", "-c", "import websockets");

const PEERS: [name: string, needs: string, command: string[]][] = [
  ["Deno", "deno", ["deno", "eval", "--ext=js"]],
  ["Bun", "bun", ["bun", "-e"]],
];

export const WEBSOCKETS: Scenario[] = [
  ["WebSocket: the Autobahn suite's cases", async (runtime) => {
    await using server = await startSockets(runtime);
    const counts = await runCases(server.port, CASES);
    const isShort = { scale: isSecured() ? 64 : 16 };
    await runCases(server.port, limits(isShort.scale), counts);
    await runCases(server.port, compressed(500), counts);
    assertEquals(counts, COUNTS);
    console.log(`      ${runtime.name}, cases by group: ${describeCounts(counts)}`);
  }],

  ["WebSocket: a session that throws, returns or closes", async (runtime) => {
    await using server = await startSockets(runtime);
    for (const [path, code] of [["/throws", 1011], ["/returns", 1000], ["/bye", 4000]] as const) {
      using client = await open(server.port, path);
      await client.send(frame(TEXT, "not heeded"));
      await client.send(closing(code));
      assertEquals(await framesUntilEnd(client), [`close ${code}`]);
      await server.printed(new RegExp(`(${path} clean ${code})`));
    }
    await server.logged(/a mistake/);
    assertEquals(server.log.match(/Error:/g)?.length, 1, "the only one that is logged");
  }],

  ["WebSocket: a client that leaves is told apart from one that closes", async (runtime) => {
    await using server = await startSockets(runtime);
    using client = await open(server.port, "/echo");
    await client.send(frame(TEXT, "half of it").subarray(0, 9));
    await client.end();
    await client.rest();
    await server.printed(/(\/echo broken 1006)/);
    if (!isSecured()) {
      await reset(server.port, handshake("/small"), 50);
      await server.printed(/(\/small broken 1006)/);
    }
    assert(!/error/i.test(server.log), server.log);
  }],

  ["WebSocket: silent clients get a ping, and are dropped if they stay silent", async (runtime) => {
    await using server = await startSockets(runtime);
    using client = await open(server.port, "/quick");
    using other = await open(server.port, "/quick");
    await other.until(holding(0x89, 0));
    for (let i = 0; i < 16; i++) { // longer than the other may be silent
      await pause(100);
      await client.send(frame(PONG));
    }
    await other.rest();
    await client.send(closing(1000));
    const frames = await framesUntilEnd(client);
    assertEquals(frames.at(-1), OK);
    await server.printed(/(\/quick broken 1006 The client is silent)/);
    await server.printed(/(\/quick clean 1000)/);
  }],

  ["WebSocket: clients that do not read are dropped", async (runtime) => {
    await using server = await startSockets(runtime);
    for (const path of ["/waits", "/heedless"]) {
      using _client = await open(server.port, path);
      await server.printed(new RegExp(`(${path} broken 1006 The client does not read)`));
    }
    assert(await server.residentMiB() < 300);
  }],

  ["WebSocket: pings without end, whose answers nobody reads, are not taken", async (runtime) => {
    await using server = await startSockets(runtime);
    using client = await open(server.port, "/echo");
    const pings = Buffer.concat(new Array(2000).fill(frame(PING, FULL)));
    let sent = 0, isStuck = false;
    while (!isStuck && sent < 500) {
      const sending = client.send(pings).then(() => sent++).catch(() => {});
      isStuck = await Promise.race([sending.then(() => false), pause(1000).then(() => true)]);
    }
    assert(isStuck, "it takes them all");
    assert(await server.residentMiB() < 300);
  }],

  ["WebSocket: a message costs the same in many fragments as in few", async (runtime) => {
    await using server = await startSockets(runtime);
    const content = Buffer.alloc(1 << 22, "x");
    const cost = async (size: number) => {
      const before = await server.processorSeconds();
      const pieces = chopped(65536, ...fragments(BINARY, content, size), END);
      await runCase(server.port, { id: `${size}`, pieces, answers: [shown(BINARY, content), OK] });
      return await server.processorSeconds() - before;
    };
    await cost(64); // for the compilers
    const seconds = await cost(64);
    assert(seconds < 3, `${seconds} s`); // and not a copy of all that has come for each
  }, { plain: true }],

  ["WebSocket: a stop closes with 1001, in each state", async (runtime) => {
    await using server = await startSockets(runtime, ["--grace", "2"]);
    using idle = await open(server.port, "/echo");
    using middle = await open(server.port, "/echo");
    await middle.send(frame(TEXT, "half of it").subarray(0, 9));
    using fragment = await open(server.port, "/echo");
    await fragment.send(ONE);
    using busy = await open(server.port, "/busy");
    await busy.send(frame(TEXT, "work"));
    using deaf = await open(server.port, "/echo");
    using closed = await open(server.port, "/bye");
    await Promise.all([idle, fragment].map(async (client) => {
      await client.send(frame(PING));
      await client.until(holding(0x8a, 0));
    }));
    await closed.until(holding(0x88, 5));
    server.signal("SIGTERM");
    await Promise.all([idle, middle, fragment, busy].map(async (client) => {
      await client.until(holding(0x03, 0xe9));
      if (client === middle) await client.send(frame(TEXT, "half of it").subarray(9));
      await client.send(closing(1001));
      const frames = await framesUntilEnd(client);
      assertEquals(frames.at(-1), "close 1001");
    }));
    await deaf.rest();
    assertEquals(await server.ended(), 0);
  }],

  ...PEERS.map(([name, needs, [command, ...args]]): Scenario => [
    `WebSocket: the client of ${name}`,
    async (runtime) => {
      await using server = await startSockets(runtime);
      const printed = await output(command, [...args, PROGRAM.replace("PORT", `${server.port}`)]);
      assertEquals(JSON.parse(printed), GOT);
    },
    { needs, plain: true },
  ]),

  ["WebSocket: the client of Node", async (runtime) => {
    await using server = await startSockets(runtime);
    const printed = await output(NODE, [
      "--experimental-websocket",
      "--no-warnings",
      "-e",
      PROGRAM.replace("PORT", `${server.port}`),
    ]);
    assertEquals(JSON.parse(printed.trim()), GOT);
  }, { needs: NODE, plain: true }],

  ["WebSocket: the client of Python's websockets", async (runtime) => {
    await using server = await startSockets(runtime);
    const printed = await output(PYTHON3, ["-c", PYTHON, `${server.port}`]);
    assertEquals(printed, "['PerMessageDeflate']\nfragments\n3001 bye\n");
    await server.printed(/(\/deflate clean 3001 bye)/);
  }, { needs: PYTHON3, plain: true }],

  ["examples/chat.ts: a client that does not read holds nobody up", async (runtime) => {
    await using chat = Process.spawn(runtime, "examples/chat.ts", ["0"]);
    chat.port = Number(await chat.printed(/Listening at PORT (\d+)/));
    using ada = await open(chat.port, "/?name=Ada");
    using _deaf = await open(chat.port, "/?name=Deaf");
    await ada.until(/Deaf has come/);
    const line = "x".repeat(4000);
    let sent = 0;
    for (; !/Deaf has gone/.test(ada.received) && sent < 5000; sent++) {
      ada.received = ada.received.slice(-100);
      await ada.send(frame(TEXT, line));
      await ada.until(/Ada: x+[^x]*$/);
    }
    assertMatch(ada.received, /Deaf has gone/);
    await ada.send(frame(BINARY, "x"));
    await ada.until(holding(1003 >> 8, 1003 & 255));
  }, { plain: true }],

  ["examples/websocket-hono.ts", async (runtime) => {
    await using example = Process.spawn(
      {
        ...runtime,
        args: [
          ...runtime.args,
          ...runtime.name === "Deno" ? ["--allow-env", "--import-map=tests/offline.json"] : [],
        ],
      },
      "examples/websocket-hono.ts",
      ["0"],
    );
    example.port = Number(await example.printed(/Listening at PORT (\d+)/));
    using client = await open(example.port, "/echo");
    await client.send(frame(TEXT, "Grüße"));
    await client.send(frame(BINARY, ODD));
    await client.send(closing(3001, "bye"));
    assertEquals(await framesUntilEnd(client), [
      shown(TEXT, "Hello"),
      shown(TEXT, "Grüße"),
      shown(BINARY, ODD),
      "close 3001",
    ]);
    await example.printed(/(Closed with 3001 bye)/);
    using other = await Client.connect(example.port);
    await other.send("GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n");
    assertMatch(await other.until(/\r\n\r\n/), /^HTTP\/1.1 (426|404) /);
  }, { plain: true, needs: "npm" }],

  ["WebSocket: Chromium", async (runtime) => {
    await using server = await startSockets(runtime);
    await using browser = await WebDriver.start();
    // A page of this host, though it is only an error.
    await browser.open(`http://127.0.0.1:${server.port}/echo`);
    await browser.run(
      `${PROGRAM.replace("PORT", `${server.port}`)}
      console.log = (line) => document.body.innerText = "GOT " + line + socket.extensions;`,
    );
    const shown = await browser.shows("body", /^GOT /);
    assertEquals(JSON.parse(shown.slice(4, shown.lastIndexOf("]") + 1)), GOT);
    assertMatch(shown, /permessage-deflate; .*client_no_context_takeover/);
    // A page of another host.
    await browser.open(`http://localhost:${server.port}/echo`);
    await browser.run(`new WebSocket("ws://127.0.0.1:${server.port}/echo").onerror = () =>
      document.body.innerText = "REFUSED"`);
    await browser.shows("body", /^REFUSED$/);
  }, { needs: "chromedriver", plain: true }],
];

/** `deno task websocket`: every case in full size, but for the messages of groups 12 and 13, which are 50
 * in place of 1000. */
if (import.meta.main) {
  for (const runtime of RUNTIMES) {
    await using server = await startSockets(runtime);
    const counts = await runCases(server.port, CASES);
    console.log(`${runtime.name}: groups 9, 12 and 13 take a minute or two`);
    await runCases(server.port, limits(1), counts, 1);
    await runCases(server.port, compressed(20), counts, 2);
    console.log(`${runtime.name}, cases that pass, by group: ${describeCounts(counts)}`);
  }
}
