/** The lab of the page: a server in memory that tells what happens. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { handler as application } from "../handlers.ts";
// @ts-ignore: To TypeScript itself, no file is text.
import page from "../index.html" with { type: "text" };
import { FakeClock } from "./clock.ts";
import { bytesOf } from "./memory.ts";
import { parseResponses, type Received } from "./responses.ts";
import { Client, exchange, Process, type Scenario } from "./sockets.ts";
import { ask, get, pause, post, start, stop } from "./tools.ts";

interface Told {
  at: number;
  event: string;
  client?: number;
  size?: number;
  text?: string;
}

const html = page as unknown as string;
const JSON_TYPE = "Content-Type: application/json\r\n";
const CLOSE = "Connection: close\r\n";
const SHORT = get("/nothing", CLOSE);

const requestOf = (plan: unknown, fields = "") => {
  const escaped = (char: string) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
  const json = JSON.stringify(plan).replace(/[\x80-\uffff]/g, escaped);
  return here(post(json, JSON_TYPE + CLOSE + fields, "/lab"));
};
/** A lab is for those who name this machine. */
function here(request: string): string {
  return request.replace("Host: a\r", "Host: localhost:8080\r");
}

/** A client on the server's own machine. */
function connect(server: ReturnType<typeof start>, remoteAddress = "127.0.0.1") {
  const client = server.connect();
  Object.assign(client.connection, { remoteAddress });
  return client;
}
/** Asks for something from an address. */
async function askFrom(address: string, request: string): Promise<Received> {
  await using server = start(application);
  const client = connect(server, address);
  client.send(here(request));
  await client.settled();
  const [answer] = parseResponses(client.text, [request.split(" ")[0]], client.ended);
  return answer;
}
function linesOf(bytes: string): Told[] {
  const body = new TextDecoder().decode(bytesOf(bytes));
  assert(body.endsWith("\n"), body);
  return body.split("\n").slice(0, -1).map((line) => JSON.parse(line));
}
/** What a lab tells, whose seconds take no time. */
async function run(plan: unknown): Promise<Told[]> {
  using clock = new FakeClock();
  const server = start(application);
  const client = connect(server);
  client.send(requestOf(plan));
  await clock.advance(8);
  const [answer] = parseResponses(client.text, ["POST"], client.ended);
  await stop(server, clock);
  assertEquals(answer.status, 200, answer.body);
  return linesOf(answer.body);
}
const textOf = (told: Told[], event: string, client = 1) =>
  told.filter((one) => one.event === event && one.client === client).map(({ text }) => text).join(
    "",
  );
const timesOf = (told: Told[], event: string) =>
  told.filter((one) => one.event === event).map(({ at }) => at);

Deno.test("a lab tells byte for byte what the server reads and writes", async () => {
  const pieces = [get("/book").slice(0, 11), get("/book").slice(11)];
  const told = await run({ clients: [pieces] });
  assertEquals(
    told.map(({ event }) => event),
    ["permit", "sent", "sent", "received", "log", "log", "closed"],
  );
  assertEquals(told.filter(({ event }) => event === "sent").map(({ text }) => text), pieces);
  assertEquals(timesOf(told, "sent"), [0, 400]);
  const [answer] = parseResponses(textOf(told, "received"), ["GET"], true);
  assertEquals(answer.raw, (await ask(application, get("/book")))[0].raw);
  assertMatch(told[4].text!, /^"GET \/book HTTP\/1\.1" 200 481 \d+ ms$/);
  assertEquals(told[5].text, "Connection closed due to idle timeout");
});

Deno.test("a lab's answers to pipelined requests are in order, and leave in one write", async () => {
  const told = await run({ clients: [[get("/book", "", "HEAD") + get("/nothing")]] });
  assertEquals(timesOf(told, "received").length, 1);
  const answers = parseResponses(textOf(told, "received"), ["HEAD", "GET"], true);
  assertEquals(answers.map(({ status }) => status), [200, 404]);
});

Deno.test("a lab's server says why it refuses a request", async () => {
  const rows: [send: string, status: number, why: RegExp][] = [
    ["GET / HTTP/1.1\nHost: a\n\n", 400, /the version is not followed by CRLF/],
    ["GET / HTTP/1.1\r\n\r\n", 400, /Host/],
    [get("/", "Content-Length : 5\r\n"), 400, /field/],
    [get("/", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400, /Content-Length/],
    ["GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, /version/i],
  ];
  for (const [send, status, why] of rows) {
    const told = await run({ clients: [[send]] });
    const [answer] = parseResponses(textOf(told, "received"), ["GET"], true);
    assertEquals(answer.status, status, send);
    assertMatch(answer.body, why);
    const reason = answer.body.slice(answer.body.indexOf(": ") + 2);
    assert(textOf(told, "log").endsWith(`${status}: ${reason}`), textOf(told, "log"));
    assertEquals(told.at(-1)!.event, "closed");
    assert(told.at(-1)!.at < 100, `closed after ${told.at(-1)!.at} ms`);
  }
});

Deno.test("a lab serves no more clients at a time than it has permits", async () => {
  for (const permits of [1, 2, 3, 6]) {
    const told = await run({ permits, delay: 0.5, clients: Array(6).fill([SHORT]) });
    let served = 0, most = 0;
    for (const { event } of told) {
      if (event === "permit") most = Math.max(most, ++served);
      if (event === "received") served--; // which is when the permit is free
    }
    assertEquals([served, most], [0, permits]);
    // In a wave, all that have a permit are answered; the next one begins then.
    const waves = timesOf(told, "received").map((at) => at / 500);
    assertEquals(waves, [0, 1, 2, 3, 4, 5].map((i) => 1 + Math.floor(i / permits)));
  }
});

Deno.test("a lab's clients who say too little are sent away", async () => {
  const told = await run({ idleTimeout: 0.5, clients: [[], ["GET / HT"], [get()]] });
  assertEquals(textOf(told, "received", 1), "");
  assertMatch(textOf(told, "received", 2), /^HTTP\/1\.1 408 /);
  assertMatch(textOf(told, "received", 3), /^HTTP\/1\.1 200 /);
  assertEquals(textOf(told, "log", 1), "Connection closed due to idle timeout");
  assertMatch(textOf(told, "log", 2), /^"GET \/" 408: /);
  assertEquals(told.filter(({ event }) => event === "closed").length, 3);
  for (const at of timesOf(told, "closed")) assert(at >= 500 && at <= 800, `${at} ms`);
});

Deno.test("a lab's time and its words are bounded", async () => {
  const late = await run({ permits: 1, delay: 1, idleTimeout: 2, clients: [[get().repeat(9)]] });
  assertEquals(late.at(-1), { at: 6000, event: "cut off", text: "6 seconds are over" });

  const long = await run({ clients: Array(6).fill(Array(8).fill(get("/book").repeat(16))) });
  assertEquals([long.at(-1)!.event, long.at(-1)!.text], ["cut off", "more than can be told"]);
  const size = long.map((line) => JSON.stringify(line).length).reduce((sum, one) => sum + one);
  assert(size >= 65_536 - 4096 && size < 80_000, `${size} characters`);

  const [page] = (await run({ clients: [[get()]] })).filter(({ event }) => event === "received");
  assertEquals(page.text!.length, 2048); // though it is longer
  assert(page.size! > 20_000);
});

Deno.test("a plan that is malformed is 400, and one line says why", async () => {
  const client = [get()];
  const rows: [plan: unknown, why: string][] = [
    [null, "clients is a list of 1 to 6"],
    ["GET", "clients is a list of 1 to 6"],
    [{}, "clients is a list of 1 to 6"],
    [{ clients: [] }, "clients is a list of 1 to 6"],
    [{ clients: { length: 1 } }, "clients is a list of 1 to 6"],
    [{ clients: Array(7).fill(client) }, "clients is a list of 1 to 6"],
    [{ clients: [client], permits: 0 }, "permits is a whole number from 1 to 6"],
    [{ clients: [client], permits: 1.5 }, "permits is a whole number from 1 to 6"],
    [{ clients: [client], permits: 7 }, "permits is a whole number from 1 to 6"],
    [{ clients: [client], permits: "3" }, "permits is a whole number from 1 to 6"],
    [{ clients: [client], permits: null }, "permits is a whole number from 1 to 6"],
    [{ clients: [client], delay: -1 }, "delay is seconds from 0 to 1"],
    [{ clients: [client], delay: 1.1 }, "delay is seconds from 0 to 1"],
    [{ clients: [client], idleTimeout: 0 }, "idleTimeout is seconds from 0.1 to 2"],
    [{ clients: [client], idleTimeout: 3 }, "idleTimeout is seconds from 0.1 to 2"],
  ];
  const sent = "a client is a list of up to 8 texts, one character a byte, 4096 in all";
  const bad = ["", [""], [1], [["a"]], [null], ["\u0100"], Array(9).fill("a"), ["a".repeat(4097)]];
  for (const one of bad) rows.push([{ clients: [client, one] }, sent]);
  rows.push([{ clients: [["a".repeat(2048), "b".repeat(2049)]] }, sent]);
  let nested: unknown = [];
  for (let i = 0; i < 3000; i++) nested = [nested];
  rows.push([{ clients: [nested] }, sent]);
  for (const [plan, why] of rows) {
    const { status, body } = await askFrom("127.0.0.1", requestOf(plan));
    const shown = JSON.stringify(plan).slice(0, 99);
    assertEquals([status, body], [400, `400 Bad Request: Invalid plan: ${why}`], shown);
  }
  const invalid = await askFrom("127.0.0.1", post("{", JSON_TYPE, "/lab"));
  assertEquals([invalid.status, invalid.body], [400, "400 Bad Request: Invalid JSON"]);
  const types = [
    "text/plain",
    "text/plain,a+json",
    "a/b;x=/a+json",
    "/a+json",
    "a+json",
    "a/b/c+json",
  ];
  for (const type of types) {
    const { status } = await askFrom("127.0.0.1", post("{}", `Content-Type: ${type}\r\n`, "/lab"));
    assertEquals(status, 415, type);
  }
});

Deno.test("what a client of a lab may send, all bytes among it", async () => {
  const all = String.fromCharCode(...Array(256).keys());
  const told = await run({ clients: [["a".repeat(4096)], Array(8).fill("a"), [all]] });
  assertEquals(textOf(told, "sent", 3), all);
  assertEquals(told.filter(({ event }) => event === "closed").length, 3);
});

Deno.test("a lab is for clients on the server's own machine", async () => {
  const rows: [address: string, fields: string, status: number][] = [
    ["127.0.0.1", "", 200],
    ["127.1.2.3", "", 200],
    ["::1", "", 200],
    ["::ffff:127.0.0.1", "", 200],
    ["", "", 200], // by a Unix socket
    ["192.0.2.1", "", 403],
    ["1.127.0.1", "", 403],
    ["::127", "", 403],
    ["2001:db8::1", "", 403],
    ["127.0.0.1", "X-Forwarded-For: 127.0.0.1\r\n", 403],
    ["127.0.0.1", "Forwarded: for=192.0.2.1\r\n", 403],
    ["127.0.0.1", "via: 1.1 a\r\n", 403],
    ["::1", "X-Real-IP: 192.0.2.1\r\n", 403],
    ["", "X-Forwarded-For: 192.0.2.1\r\n", 403],
    ["127.0.0.1", "X-Forwarded-Host: localhost\r\n", 403],
    ["127.0.0.1", "X-FORWARDED-PROTO: https\r\n", 403],
    ["127.0.0.1", "X-Forwarded: x\r\n", 200],
  ];
  for (const [address, fields, status] of rows) {
    const plan = { clients: [["?\r\n"]] };
    const shown = `${address} ${fields}`;
    const { status: answered, body } = await askFrom(address, requestOf(plan, fields));
    assertEquals(answered, status, shown);
    const offer = JSON.parse((await askFrom(address, get("/lab", fields))).body);
    assertEquals(offer.command, "deno run --allow-net server.ts");
    if (status === 200) assertEquals(offer.refusal, undefined, shown);
    else assertEquals(body, `403 Forbidden: ${offer.refusal}`, shown);
  }
  const hosts: [host: string, status: number][] = [
    ["localhost", 200],
    ["LocalHost:8080", 200],
    ["127.0.0.1:8080", 200],
    ["127.1.2.3", 200],
    ["[::1]:8080", 200],
    ["evil.example", 403], // whose address is 127.0.0.1
    ["localhost.evil.example", 403],
    ["127.0.0.1.evil.example", 403],
    ["192.0.2.1", 403],
    ["[::2]", 403],
  ];
  for (const [host, status] of hosts) {
    const request = requestOf({ clients: [["?\r\n"]] }).replace(/Host: .*/, `Host: ${host}`);
    assertEquals((await askFrom("127.0.0.1", request)).status, status, host);
  }
  assertEquals((await askFrom("127.0.0.1", get("/lab", "", "PUT"))).status, 400);
  const inside = textOf(await run({ clients: [[get("/lab", CLOSE)]] }), "received");
  assertMatch(inside, /^HTTP\/1\.1 404 /); // It has none of its own.
});

Deno.test("four labs at a time, and one more when one has ended", async () => {
  using clock = new FakeClock();
  const server = start(application);
  const plan = { delay: 0.5, clients: [[SHORT]] };
  const asked = () => {
    const client = connect(server);
    client.send(requestOf(plan));
    return client;
  };
  const clients = Array.from({ length: 5 }, asked);
  await clock.advance(0.1);
  const [refused] = parseResponses(clients[4].text, ["POST"], clients[4].ended);
  assertEquals(refused.status, 503);
  assert(refused.fields.some(([name, value]) => name === "retry-after" && value === "2"));
  await clock.advance(1);
  const again = asked();
  await clock.advance(1);
  for (const client of [...clients.slice(0, 4), again]) {
    const [answer] = parseResponses(client.text, ["POST"], client.ended);
    assertEquals(linesOf(answer.body).at(-1)!.event, "closed");
  }
  await stop(server, clock);
});

// Here timers are real: one that is left would be noticed.
Deno.test("a lab ends with its client, and leaves nothing behind", async () => {
  const plan = { delay: 1, idleTimeout: 2, clients: Array(6).fill([SHORT, "a"]) };
  for (let i = 0; i < 6; i++) { // more than there may be at a time
    await using server = start(application);
    const client = connect(server);
    client.send(requestOf(plan));
    await client.until(() => /permit|^HTTP\/1\.1 503/.test(client.text));
    assertMatch(client.text, /^HTTP\/1\.1 200 /);
    if (i % 2 === 0) client.reset();
    else client.end();
    await pause(20);
  }
});

Deno.test("a lab ends with its server", async () => {
  const server = start(application);
  const client = connect(server);
  client.send(requestOf({ delay: 1, clients: [[SHORT]] }));
  await client.until(() => client.text.includes("permit"));
  const begun = performance.now();
  await server.shutdown();
  assert(performance.now() - begun < 900);
  parseResponses(client.text, ["POST"], client.ended); // which is whole
});

Deno.test("a lab of which the plan comes after the stop has begun ends with it", async () => {
  const server = start(application);
  const client = connect(server);
  const request = requestOf({ delay: 1, clients: [[SHORT]] });
  client.send(request.slice(0, -1));
  await client.settled();
  const begun = performance.now();
  const stopped = server.shutdown();
  await pause(5);
  client.send(request.slice(-1));
  await stopped;
  assert(performance.now() - begun < 900);
  const [{ status }] = parseResponses(client.text, ["POST"], client.ended);
  assertEquals(status, 200);
});

/** A function of the page's script, with what it uses. */
function ofPage(name: string, ...more: string[]) {
  const functions = [name, ...more].map((name) =>
    new RegExp(`^    function ${name}\\([^]*?^    }$`, "m").exec(html)?.[0] ?? `no ${name}`
  );
  const make = (tag: string, _: object, text: string) => `<${tag}>${text}</${tag}>`;
  return new Function("make", `${functions.join("\n")} return ${name};`)(make);
}

Deno.test("the page shows each byte, and nothing that can't be seen", () => {
  const visible = ofPage("visible");
  const rows: [bytes: string, shown: string][] = [
    ["a\r\nb\tc\0\x7f", "a<em>\\r\\n</em>\nb<em>\\t</em>c<em>\\x00\\x7f</em>"],
    ["\xc3\xbc\xe2\x82\xac\xf0\x9f\x90\x87", "ü€🐇"],
    ["\xef\xbb\xbfa", "<em>\\u{feff}</em>a"],
    ["a\xe2\x80\xaeb", "a<em>\\u{202e}</em>b"],
    ["a\xe2\x80\x8bb", "a<em>\\u{200b}</em>b"],
    ["a\xc2\xadb\xc2\xa0c d", "a<em>\\u{ad}</em>b<em>\\u{a0}</em>c d"],
    ["\xe2\x80\xa8", "<em>\\u{2028}</em>"],
    ["\xc2\x85\x85", "<em>\\u{85}\\x85</em>"],
    ["\xc3\xbc\xff\xc3\xbc", "ü<em>\\xff</em>ü"],
    ["\xc3\xbc\x80", "ü<em>\\x80</em>"],
    ["\xc3\xbc\xe2\x82", "ü<em>\\xe2\\x82</em>"], // cut
    [
      "\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80",
      "<em>\\xc0\\xaf\\xed\\xa0\\x80\\xf4\\x90\\x80\\x80</em>",
    ],
  ];
  for (const [bytes, shown] of rows) assertEquals(visible(bytes).join(""), shown);
});

Deno.test("the page counts answers, and not what looks like one", async () => {
  const outcomes = ofPage("outcomes", "statusesOf");
  const echo = (body: string) => post(body, "Content-Type: text/plain\r\n");
  const rows: [send: string, statuses: string[]][] = [
    [echo("HTTP/1.1 500 x\r\n\r\n") + get("/nothing"), ["200 OK", "404 Not Found"]],
    [get("/book", "", "HEAD") + get("/nothing"), ["200 OK", "404 Not Found"]],
    [get("/", "", "PUT"), ["400 Bad Request"]],
    [get("/") + echo("x"), ["200 OK", "200 OK"]], // of which the first is not all shown
    ["GET / HT", ["408 Request Timeout"]],
    ["", []],
  ];
  for (const [send, statuses] of rows) {
    const told = await run({ clients: [send === "" ? [] : [send]] });
    assertEquals(outcomes(told, 1)[0].statuses, statuses, send);
  }
});

export const LAB: Scenario[] = [
  [
    "a lab tells what happens while it happens, and to whom --delay or the place allows",
    async (runtime) => {
      await using server = await Process.start(runtime);
      using client = await Client.connect(server.port);
      const begun = performance.now();
      await client.send(requestOf({ permits: 1, delay: 0.6, clients: [[SHORT], [SHORT]] }));
      await client.until(/"received"/);
      assert(performance.now() - begun < 1200, "the first answer was told with the second");
      const [answer] = parseResponses(await client.rest(), ["POST"], true);
      const times = timesOf(linesOf(answer.body), "received");
      assert(times[0] >= 590 && times[1] >= 1190, `${times}`);

      for (let i = 0; i < 6; i++) { // more than there may be at a time
        using leaver = await Client.connect(server.port);
        await leaver.send(requestOf({ delay: 1, clients: [[SHORT]] }));
        assertMatch(await leaver.until(/permit|^HTTP\/1\.1 503/), /^HTTP\/1\.1 200 /);
        leaver.close();
        await pause(100);
      }

      const { command } = JSON.parse(
        (await exchange(server.port, get("/lab", CLOSE))).split("\r\n\r\n")[1],
      );
      assertMatch(command, runtime.name === "Bun" ? /^bun server\.ts$/ : /^deno run .*server\.ts$/);
      const proxied = requestOf({ clients: [["?"]] }, "X-Forwarded-For: 192.0.2.1\r\n");
      assertMatch(await exchange(server.port, proxied), /^HTTP\/1\.1 403 /);
      await using open = await Process.start(runtime, ["--delay", "0.01"]);
      assertMatch(await exchange(open.port, proxied), /^HTTP\/1\.1 200 /);
    },
  ],
];
