/**
 * Everything that is one byte away from what the parser knows: names of fields, methods, versions,
 * values, sizes of chunks. Each must be what the oracle says; and a name that is not exactly a known
 * one must never act like it, which is checked without the oracle.
 *
 * A server that takes `ContentXLength` for Content-Length, behind a front that does not, can be made
 * to answer requests that the front has never seen (9112 §11.2).
 */

import { assert, assertEquals } from "@std/assert";
import { compareHead, Differential, type Outcome } from "./differential.ts";
import { HttpHeaders } from "../server.ts";
import { VECTORS } from "./vectors.ts";

const BYTES = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte));

/** All texts that come of one by changing a byte to one of these, by adding one of them or removing
 * one, or by swapping two. */
export function* mutations(text: string, bytes = BYTES): Generator<string> {
  for (let at = 0; at <= text.length; at++) {
    const before = text.slice(0, at), after = text.slice(at), rest = text.slice(at + 1);
    for (const byte of bytes) {
      yield before + byte + after;
      if (at < text.length) yield before + byte + rest;
    }
    if (at < text.length) yield before + rest;
    if (at + 1 < text.length) yield before + text[at + 1] + text[at] + text.slice(at + 2);
  }
}

/** A field that means something to a server, in a head where that shows. */
interface Known {
  name: string;
  value: string;
  /** The head, with `#` in place of the field line. */
  head: string;
}
const GET = "GET / HTTP/1.1\r\nHost: a\r\n#\r\n\r\n";
const OLD = "GET / HTTP/1.0\r\n#\r\n\r\n";
const KNOWN: Known[] = [
  { name: "Host", value: "b", head: OLD },
  { name: "Content-Length", value: "37", head: GET },
  { name: "Content-Length", value: "x", head: GET },
  { name: "Transfer-Encoding", value: "chunked", head: GET },
  { name: "Transfer-Encoding", value: "gzip, chunked", head: GET },
  { name: "Content_Length", value: "37", head: GET },
  { name: "Transfer_Encoding", value: "chunked", head: GET },
  { name: "Connection", value: "close", head: GET },
  { name: "Connection", value: "keep-alive", head: OLD },
  { name: "Expect", value: "100-continue", head: GET.replace("#", "Content-Length: 5\r\n#") },
  { name: "Expect", value: "x", head: GET },
  { name: "If-Match", value: "*", head: GET },
  { name: "If-None-Match", value: "*", head: GET },
  { name: "If-Modified-Since", value: "Sat, 29 Oct 1994 19:43:31 GMT", head: GET },
  { name: "If-Unmodified-Since", value: "Sat, 29 Oct 1994 19:43:31 GMT", head: GET },
  { name: "If-Range", value: '"a"', head: GET },
  { name: "Range", value: "bytes=0-0", head: GET },
];
const NAMES = new Set(KNOWN.map(({ name }) => name.toLowerCase()));

/** What a head means, whatever its field lines look like. */
function meaningOf(outcome: Outcome): string {
  if (typeof outcome !== "object") return `${outcome}`;
  const { fields: _, size: __, ...meaning } = outcome;
  return JSON.stringify(meaning);
}

/** Checks what a name that is almost the one of a field makes of a head. */
function checkName({ name, value, head }: Known, mutated: string): void {
  const outcome = compareHead(head.replace("#", () => `${mutated}: ${value}`));
  if (NAMES.has(mutated.replace(/:[^]*/, "").toLowerCase())) return; // In another case, mostly.
  const unknown = compareHead(head.replace("#", () => `${"x".repeat(name.length)}: ${value}`));
  const meaning = meaningOf(outcome);
  assert(
    outcome === 400 || meaning === meaningOf(unknown),
    `${JSON.stringify(mutated)} acts like ${name}: ${meaning}`,
  );
}

/** Heads with `#` where each of the texts is put, and each that is one byte away from it. */
const PLACES: [head: string, texts: string[]][] = [
  ["# * HTTP/1.1\r\nHost: a\r\n\r\n", ["OPTIONS"]],
  ["# http://b HTTP/1.1\r\nHost: a\r\n\r\n", ["OPTIONS", "GET"]],
  ["# / HTTP/1.1\r\nHost: a\r\n\r\n", ["CONNECT", "\r\n", "\r\nG"]],
  ["OPTIONS # HTTP/1.1\r\nHost: a\r\n\r\n", ["*", "http://b", "https://[::1]:80", "/a?b"]],
  ["GET # HTTP/1.1\r\nHost: a\r\n\r\n", ["http://b.c:81?d", "HTTPS://b/c"]],
  ["GET / #\r\nHost: a\r\n\r\n", ["HTTP/1.1", "HTTP/1.0", "HTTP/2.0"]],
  ["GET / #\r\n\r\n", ["HTTP/1.1", "HTTP/1.0"]],
  ["#GET / HTTP/1.1\r\nHost: a\r\n\r\n", ["\r\n", "\r\n\r\n"]],
  ["GET / HTTP/1.1#Host: a\r\n\r\n", ["\r\n"]],
  ["GET / HTTP/1.1\r\nHost: a#", ["\r\n\r\n", "\r\nX: y\r\n\r\n"]],
  [GET, ["Transfer-Encoding: chunked", "Transfer-Encoding:gzip,\tchunked", "Content-Length: 37"]],
  [GET, ["Expect: 100-continue", "Connection: close", "Connection: x, close, y"]],
  [`POST${GET.slice(3).replace("#", "Content-Length: 5\r\n#")}`, ["Expect: 100-continue"]],
  [GET.replace("#", "Content-Length: #\r\nExpect: 100-continue"), ["1"]],
  [OLD, ["Connection: keep-alive", "Connection: x\r\nConnection:\tkeep-alive , y"]],
  [OLD, ["Host: a.b:80", "Host: [::ffff:1.2.3.4]:65535", "Host: [1:2:3:4:5:6:7:8]", "Host: %7a"]],
];

/** Messages with `#` where each of the texts is put, as above, which are tried on a server: what is
 * behind them is another request, or content. */
const POST = "POST / HTTP/1.1\r\nHost: a\r\n";
const NEXT = "GET /next HTTP/1.1\r\nHost: b\r\n\r\n";
const CHUNKED = `${POST}Transfer-Encoding: chunked\r\n\r\n`;
const CONTENTS: [message: string, text: string][] = [
  [`${CHUNKED}#${NEXT}`, "2\r\nhi\r\n0\r\n\r\n"],
  [`${CHUNKED}1#\r\nx\r\n0\r\n\r\n${NEXT}`, ' ;a="\\b"'],
  [`${CHUNKED}#\r\n${"x".repeat(16)}\r\n0\r\n\r\n${NEXT}`, "10"],
  [`${CHUNKED}0\r\n#\r\n\r\n${NEXT}`, "X:\t"],
  [`${CHUNKED}0\r\n#: 9\r\n\r\n${NEXT}`, "Content_Length"],
  [`${POST}#: chunked\r\n\r\n0\r\n\r\n${NEXT}`, "Transfer-Encoding"],
  [`${POST}Content-Length: 1#\r\n\r\n${NEXT}`, "0"],
];

/** Tests that need no permission. */
export const NEAR: [name: string, run: () => void | Promise<void>][] = [
  [
    "every row of vectors.ts is what the oracle says, whole, cut anywhere, and in pieces",
    async () => {
      await using trial = new Differential();
      for (const { send, name } of VECTORS) {
        if (send.length > 50_000) continue;
        try {
          compareHead(send, Array.from({ length: Math.min(send.length, 300) }, (_, i) => i));
          for (let end = 0; end < Math.min(send.length, 200); end++) {
            compareHead(
              send.slice(0, end),
            );
          }
          await trial.compare(send);
          await trial.compare(send, send.match(/[^]{1,5}/g)!);
        } catch (error) {
          throw new Error(name, { cause: error });
        }
      }
    },
  ],

  ["a handler finds a field by its name in any case, and by no other text", () => {
    const token = /[-!#$%&'*+.^_`|~0-9A-Za-z]/;
    const chars = Array.from({ length: 768 }, (_, code) => String.fromCharCode(code));
    for (const named of chars.filter((char) => char < "\x80" && token.test(char))) {
      const headers = new HttpHeaders(`X: y\r\nX${named}X: z\r\n`);
      for (const asked of [...chars, "\u2160", "\u212a"]) {
        const isSame = asked === named || (asked < "\x80" && /[a-z]/i.test(asked) &&
          asked.toLowerCase() === named.toLowerCase());
        assertEquals(headers.has(`x${asked}x`), isSame, `${asked} for ${named}`);
      }
    }
  }],

  ["a coding or a length that is one byte away is refused, or is no framing", () => {
    for (const coding of mutations("chunked")) {
      const outcome = compareHead(GET.replace("#", () => `Transfer-Encoding:${coding}`));
      const isChunked = typeof outcome === "object" && outcome.chunked;
      assertEquals(isChunked, /^[ \t]*chunked[ \t]*$/i.test(coding), JSON.stringify(coding));
    }
    for (const length of mutations("37")) {
      const outcome = compareHead(GET.replace("#", () => `Content-Length:${length}`));
      const found = typeof outcome === "object" ? outcome.contentLength : -1;
      const isLength = /^[ \t]*[0-9]+[ \t]*$/.test(length);
      assertEquals(found, isLength ? Number(length) : -1, JSON.stringify(length));
    }
  }],

  ["a field counts by its exact name, and no name one byte away acts like it", () => {
    for (const known of KNOWN) {
      // It does show what the field means.
      const line = `${known.name}: ${known.value}`;
      const outcome = compareHead(known.head.replace("#", () => line));
      const without = compareHead(known.head.replace("#", "X: y"));
      assert(meaningOf(outcome) !== meaningOf(without), line);
      for (const spelled of [known.name.toLowerCase(), known.name.toUpperCase()]) {
        const other = compareHead(known.head.replace("#", () => `${spelled}: ${known.value}`));
        assertEquals(meaningOf(other), meaningOf(outcome), spelled);
      }
      for (const mutated of mutations(known.name)) checkName(known, mutated);
    }
  }],

  ["one byte away from methods, targets, versions, line ends and values", () => {
    for (const [head, texts] of PLACES) {
      for (const text of texts) {
        for (const mutated of mutations(text)) compareHead(head.replace("#", () => mutated));
      }
    }
  }],

  ["what frames chunks may be as long as it may be, and not a byte longer", async () => {
    await using trial = new Differential();
    const size = "0".repeat(15);
    const last = 16384 - "X: \r\nY: \r\n\r\n".length;
    for (const more of [0, 1]) {
      for (
        const [content, status] of [
          [`${size}1;${"a".repeat(4095 + more)}\r\nx\r\n0\r\n\r\n`, 413],
          [`1;${"a".repeat(2000)}\r\nx\r\n0;${"b".repeat(2094 + more)}\r\n\r\n`, 413],
          [`0\r\nX: ${"x".repeat(99)}\r\nY: ${"y".repeat(last - 99 + more)}\r\n\r\n`, 431],
          [`0\r\n${"X: y\r\n".repeat(100 + more)}\r\n`, 431],
          [`0${"0".repeat(15 + more)}\r\n\r\n`, 400],
        ] as const
      ) {
        const statuses = await trial.compare(CHUNKED + content + NEXT);
        assertEquals(statuses, more === 0 ? [404, 404] : [status], content);
      }
    }
  }],

  ["one byte away from chunks, trailers and framing fields, on a connection", async () => {
    await using trial = new Differential();
    for (const [message, text] of CONTENTS) {
      for (const mutated of mutations(text)) {
        await trial.compare(message.replace("#", () => mutated));
      }
    }
  }],
];
