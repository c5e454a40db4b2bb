/**
 * Content that goes wrong once the answer has begun: it is too late for a status then, and whatever
 * else was sent would be taken for a part of the answer. So the client gets an answer that is cut
 * off, which it can tell, since it lacks its end (9112 §8). What goes wrong at once is answered with
 * its status alone.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { type Handler, serveOn, type ServeOptions } from "../server.ts";
import { FakeClock } from "./clock.ts";
import { MemoryListener } from "./memory.ts";

const CHUNKED = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const SIZED = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n";
const OLD = "POST /echo HTTP/1.0\r\nContent-Length: 100\r\nConnection: keep-alive\r\n\r\n";
const HELLO = "5\r\nhello\r\n";
/** What comes behind it, if the client does not know yet: no answer to it may follow. */
const NEXT = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

/** Messages whose content goes wrong after "hello", or before. */
const WRONG: [name: string, head: string, content: string][] = [
  ["a bad first chunk", CHUNKED, `x\r\n${NEXT}`],
  ["a bad second chunk", CHUNKED, `${HELLO}x\r\n${NEXT}`],
  ["a second chunk with LF alone", CHUNKED, `${HELLO}5\nhello\r\n0\r\n\r\n${NEXT}`],
  ["a bad extension", CHUNKED, `${HELLO}5;\r\nhello\r\n0\r\n\r\n${NEXT}`],
  ["extensions that are too long", CHUNKED, `${HELLO}5;${"x".repeat(5000)}\r\nhello\r\n${NEXT}`],
  ["more data than the chunk's size", CHUNKED, `5\r\nhello${NEXT}`],
  ["a second chunk that is too large", CHUNKED, `${HELLO}400\r\n${"x".repeat(1024)}\r\n${NEXT}`],
  ["a size of 2^64 - 1", CHUNKED, `${HELLO}ffffffffffffffff\r\n${NEXT}`],
  ["a trailer line that is no field", CHUNKED, `${HELLO}0\r\nGET / HTTP/1.1\r\n\r\n${NEXT}`],
  ["a trailer line with LF alone", CHUNKED, `${HELLO}0\r\nX: y\n\r\n${NEXT}`],
  ["a trailer field with an underscore", CHUNKED, `${HELLO}0\r\nContent_Length: 5\r\n\r\n${NEXT}`],
  ["too many trailer fields", CHUNKED, `${HELLO}0\r\n${"X: y\r\n".repeat(4)}\r\n${NEXT}`],
  ["a trailer that is too long", CHUNKED, `${HELLO}0\r\nX: ${"y".repeat(300)}\r\n\r\n${NEXT}`],
];
/** Messages of which the rest is missing. */
const SHORT: [name: string, head: string, content: string][] = [
  ["no content", CHUNKED, ""],
  ["half a chunk", CHUNKED, `${HELLO}5\r\nhe`],
  ["half a size", CHUNKED, `${HELLO}5`],
  ["no last chunk", CHUNKED, HELLO],
  ["no end of the trailer", CHUNKED, `${HELLO}0\r\nX: y\r\n`],
  ["half of a length", SIZED, "hello"],
  ["half of a length in HTTP/1.0", OLD, "hello"],
];

/** Ways to answer with what comes. */
const WAYS: [name: string, handler: Handler][] = [
  ["body", (request) => ({ body: request.body! })],
  ["body of a length", (request) => ({
    headers: { "Content-Length": "100" },
    body: request.body!,
  })],
  ["Response", (request) => new Response(request.body)],
  ["toFetch", (request) => new Response(request.toFetch().body)],
  ["generator", (request) => ({
    body: async function* () {
      yield* request.body!;
    }(),
  })],
];
const OPTIONS: ServeOptions = {
  maxBodySize: 1000,
  maxHeaderSize: 300,
  maxHeaderCount: 3,
  requestTimeout: 2,
  idleTimeout: 5,
};

/** The application: what is answered before and behind the message is complete. */
function start(answer: Handler) {
  const listener = new MemoryListener();
  const server = serveOn(listener, (request) => {
    return request.path === "/echo" ? answer(request) : { body: "other" };
  }, OPTIONS);
  const client = listener.connect();
  return { client, server, [Symbol.asyncDispose]: () => server.shutdown(0) };
}

/** Checks that all there is, is one good answer, and another that is cut off. */
function checkCutOff(text: string, why: string): void {
  const [first, second, ...more] = text.split(/(?=HTTP\/1\.1 \d{3} )/);
  assertEquals(more, [], why);
  assertMatch(first, /^HTTP\/1\.1 200 [^]*\r\n\r\nother$/, why);
  if (/^HTTP\/1\.1 4/.test(second)) { // It was found in time: nothing had been sent.
    assertMatch(second, /\r\nConnection: close\r\n(?:[^\r]+\r\n)*\r\n\d{3} [^]+$/, why);
    return;
  }
  assertMatch(second, /^HTTP\/1\.1 200 /, why);
  const end = second.indexOf("\r\n\r\n") + 4;
  const head = second.slice(0, end).toLowerCase();
  let data = second.slice(end);
  if (head.includes("\r\ntransfer-encoding: chunked\r\n")) {
    assertMatch(data, /^([1-9]\r\n[a-z]+\r\n)*$/, why); // without the last chunk
    data = data.replace(/[1-9]\r\n([a-z]+)\r\n/g, "$1");
  } else {
    assert(/\r\n(content-length: 100|connection: close)\r\n/.test(head), why);
  }
  assert("hellohe".startsWith(data), why);
}

export const CUT_OFF: [name: string, run: () => Promise<void>][] = [
  ["content that turns out bad cuts the answer off that is made of it", async () => {
    for (const [way, answer] of WAYS) {
      for (const [name, head, content] of WRONG) {
        for (const pieces of [[NEXT + head + content], [NEXT, head, ...content]]) {
          await using started = start(answer);
          const { client } = started;
          for (const piece of pieces) client.send(piece);
          await client.until(() => client.closed || client.ended);
          checkCutOff(client.text, `${name}, ${way}: ${JSON.stringify(client.text)}`);
        }
      }
    }
  }],

  ["content that ends early cuts the answer off that is made of it", async () => {
    for (const [way, answer] of WAYS) {
      for (const [name, head, content] of SHORT) {
        await using started = start(answer);
        const { client } = started;
        client.send(NEXT + head + content);
        client.end();
        await client.until(() => client.closed || client.ended);
        checkCutOff(client.text, `${name}, ${way}: ${JSON.stringify(client.text)}`);
      }
    }
  }],

  ["content that is late cuts the answer off that is made of it: no 408", async () => {
    for (const [way, answer] of WAYS) {
      for (const [name, head, content] of SHORT) {
        using clock = new FakeClock();
        const { client, server } = start(answer);
        client.send(NEXT + head + content);
        for (let i = 0; i < 100 && !client.closed; i++) await clock.advance(0.1);
        assert(client.closed, `${name}, ${way}`);
        assert(clock.seconds >= 2 && clock.seconds < 3, `${name}, ${way}: ${clock.seconds} s`);
        checkCutOff(client.text, `${name}, ${way}: ${JSON.stringify(client.text)}`);
        void server.shutdown();
        await clock.advance(20);
        await server.finished;
      }
    }
  }],
];
