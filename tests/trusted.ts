/** Behind a proxy: who is believed, in memory. */

import { isIPv6 } from "node:net";
import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  type Handler,
  HttpError,
  type ProxyField,
  type ProxyOptions,
  serve,
  serveOn,
  type ServeOptions,
} from "../server.ts";
import { FakeClock } from "./clock.ts";
import { bytesOf, MemoryListener, textOf } from "./memory.ts";
import { parseResponses } from "./responses.ts";
import { dice } from "./tools.ts";

// ── Tools ────────────────────────────────────────────────────────────────────────────────────

const PEER = "192.0.2.1"; // every client in memory has it
const XFF: ProxyField = "X-Forwarded-For";

function start(options: ServeOptions, handler: Handler = tell) {
  const listener = new MemoryListener();
  const server = serveOn(listener, handler, options);
  return {
    connect: () => listener.connect(),
    shutdown: () => server.shutdown(0),
    finished: server.finished,
    [Symbol.asyncDispose]: () => server.shutdown(0),
  };
}
/** Answers with what a request tells of its client and itself, also as a request for Fetch. */
const tell: Handler = (request) => {
  const { remoteAddress, remotePort, url } = request;
  assertEquals(new URL(url).href, request.toFetch().url);
  return { body: JSON.stringify([remoteAddress, remotePort, url]) };
};
type Told = [address: string, port: number, url: string];

/** What the server takes requests with these fields for, many on a connection. */
async function told(proxy: ProxyOptions | undefined, requests: string[]): Promise<Told[]> {
  await using server = start({ proxy });
  const answers: Told[] = [];
  for (let at = 0; at < requests.length; at += 50) {
    const some = requests.slice(at, at + 50);
    const client = server.connect();
    for (const fields of some) client.send(`GET /x HTTP/1.1\r\nHost: own\r\n${fields}\r\n`);
    await client.settled();
    for (const { status, body } of parseResponses(client.text, some.map(() => "GET"), false)) {
      assertEquals(status, 200, body);
      answers.push(JSON.parse(body));
    }
  }
  assertEquals(answers.length, requests.length);
  return answers;
}
async function toldOf(proxy: ProxyOptions | undefined, fields: string): Promise<Told> {
  return (await told(proxy, [fields]))[0];
}

/** Numbers that look random and are the same each time. */
class Dice {
  /** From 0 to below the number of sides. */
  readonly roll: (sides: number) => number;
  constructor(seed: number) {
    this.roll = dice(seed);
  }
  one<T>(of: readonly T[]): T {
    return of[this.roll(of.length)];
  }
}

// ── Fields ───────────────────────────────────────────────────────────────────────────────────

const BY_LIST: ProxyOptions["trusted"] = [PEER, "10.0.0.0/8", "2001:db8:aa::/48"];

Deno.test("by default, and by a peer that is not trusted, nobody is told anything", async () => {
  const fields = "Forwarded: for=6.6.6.6;proto=https;host=evil\r\nX-Forwarded-For: 6.6.6.6\r\n" +
    "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n";
  const trusted = ["192.0.2.0/32", "192.0.2.2", "::/0", "unix"];
  const own: Told = [PEER, 50000, "http://own/x"];
  assertEquals(await toldOf(undefined, fields), own);
  assertEquals(await toldOf({ trusted, says: ["Forwarded"] }, fields), own);
  const says: ProxyField[] = [XFF, "X-Forwarded-Proto", "X-Forwarded-Host"];
  assertEquals(await toldOf({ trusted, says }, fields), own);
});

Deno.test("only what the proxies say that they write is looked at", async () => {
  const all = "Forwarded: for=6.6.6.1;proto=https;host=f\r\nX-Forwarded-For: 6.6.6.2\r\n" +
    "X-Forwarded-Proto: https\r\nX-Forwarded-Host: h\r\nX_Forwarded_For: 6.6.6.6\r\n";
  const of = (...says: ProxyField[]) => toldOf({ trusted: 1, says }, all);
  assertEquals(await of("Forwarded"), ["6.6.6.1", 0, "https://f/x"]);
  assertEquals(await of(XFF), ["6.6.6.2", 0, "http://own/x"]);
  assertEquals(await of("X-Forwarded-Proto"), [PEER, 50000, "https://own/x"]);
  assertEquals(await of("X-Forwarded-Host"), [PEER, 50000, "http://h/x"]);
  assertEquals(await of(XFF, "X-Forwarded-Host", "X-Forwarded-Proto"), [
    "6.6.6.2",
    0,
    "https://h/x",
  ]);
});

/** Fields, and what is told by them, of 10.0.0.0/8 and 2001:db8:aa::/48 and the peer. */
const CHAINS: [
  says: ProxyField,
  fields: string,
  address: string,
  port?: number,
  origin?: string,
][] = [
  [XFF, "X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.1.1.1", "1.2.3.4"],
  [
    XFF,
    "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 10.1.1.1",
    "1.2.3.4",
  ],
  [XFF, "X-Forwarded-For: 10.3.3.3, 10.2.2.2 ,10.1.1.1", "10.3.3.3"],
  [XFF, "X-Forwarded-For: evil, 1.2.3.4:81", "1.2.3.4", 81],
  [XFF, "X-Forwarded-For: 1.2.3.4,\t10.0.0.1:65535,,", "1.2.3.4"],
  [XFF, "X-Forwarded-For: 2001:DB8:0:0::1, 2001:db8:aa:0::5", "2001:db8::1"],
  [XFF, "X-Forwarded-For: [2001:DB8:0:0::1]:9, [2001:db8:aa::5]:7", "2001:db8::1", 9],
  [XFF, "X-Forwarded-For: [::ffff:1.2.3.4]:9, ::ffff:a00:1", "1.2.3.4", 9],
  [XFF, "X-Forwarded-For: ::1.2.3.4", "::102:304"],
  [XFF, "X-Forwarded-For: 1.2.3.4:_a.b-c", "1.2.3.4"], // RFC 7239 §6
  ["Forwarded", "Forwarded: for=1.2.3.4;a=x", "1.2.3.4"],
  ["Forwarded", 'Forwarded: for="_a.b-c:_d.e-f";host=a', PEER, 50000, "http://a"], // §6.3
  ["Forwarded", 'Forwarded: for="unknown:65535";host=a', PEER, 50000, "http://a"],
  ["Forwarded", 'Forwarded: for="UNKNOWN:1";host=a', PEER, 50000, "http://a"],
  ["Forwarded", 'Forwarded: for=1.2.3.4;a="\\\\\\"x"', "1.2.3.4"],
  ["Forwarded", "Forwarded: for=192.0.2.43, for=10.1.1.1", "192.0.2.43"], // RFC 7239 §7.1, mostly
  ["Forwarded", 'Forwarded: For="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17", 4711], // §4
  [
    "Forwarded",
    "Forwarded: for=192.0.2.60;proto=http;by=203.0.113.43",
    "192.0.2.60",
    0,
    "http://own",
  ],
  [
    "Forwarded",
    'Forwarded: for="1.2.3.4:_x";PROTO=HTTPS;hOst="a.b:81";x="\\"", for=10.0.0.1;proto=http;host=in',
    "1.2.3.4",
    0,
    "https://a.b:81",
  ],
  [
    "Forwarded",
    "Forwarded: for=1.2.3.4;host=a\r\nForwarded: for=10.1.1.1;host=b",
    "1.2.3.4",
    0,
    "http://a",
  ],
  // Who it is is kept secret: the last that is known, and what has been said with it.
  [
    "Forwarded",
    "Forwarded: for=6.6.6.6, for=unknown;host=a, for=10.1.1.1;host=b",
    "10.1.1.1",
    0,
    "http://a",
  ],
  ["Forwarded", "Forwarded: for=6.6.6.6, for=_hidden;proto=https", PEER, 50000, "https://own"],
  ["Forwarded", 'Forwarded: for=6.6.6.6, for="_SEVKISEK:_y"', PEER, 50000],
  ["Forwarded", "Forwarded: for=6.6.6.6, proto=https", PEER, 50000, "https://own"],
  ["Forwarded", "Forwarded: for=1.2.3.4;;proto=https;, ;,", "1.2.3.4", 0, "https://own"],
  [
    "X-Forwarded-Proto",
    "X-Forwarded-Proto: ftp, http\r\nX-Forwarded-Proto: http, HTTPS",
    PEER,
    50000,
    "https://own",
  ],
  [
    "X-Forwarded-Host",
    "X-Forwarded-Host: evil\r\nX-Forwarded-Host: evil, good:8",
    PEER,
    50000,
    "http://good:8",
  ],
];

Deno.test("a chain of proxies is followed from its end to the first that is not trusted", async () => {
  for (const [says, fields, address, port = 0, origin = "http://own"] of CHAINS) {
    const proxy = { trusted: BY_LIST, says: [says] };
    assertEquals(await toldOf(proxy, `${fields}\r\n`), [address, port, `${origin}/x`], fields);
  }
});

Deno.test("of a number of proxies, the first has told the client", async () => {
  const fields = "X-Forwarded-For: 6.6.6.6, 1.1.1.1, 2.2.2.2\r\n";
  const found = [];
  for (const trusted of [1, 2, 3, 4, 100]) {
    found.push((await toldOf({ trusted, says: [XFF] }, fields))[0]);
  }
  assertEquals(found, ["2.2.2.2", "1.1.1.1", "6.6.6.6", "6.6.6.6", "6.6.6.6"]);
  assertEquals(await toldOf({ trusted: 2, says: [XFF] }, ""), [PEER, 50000, "http://own/x"]);
});

Deno.test("what is malformed where it has to be looked at is ignored as a whole", async () => {
  const own: Told = [PEER, 50000, "http://own/x"];
  const addresses = [
    "unknown",
    "_x",
    "a",
    "1.2.3",
    "1.2.3.4.5",
    "01.2.3.4",
    "1.2.3.256",
    "1.2.3.4:",
    "x:1.2.3.4",
    "x[::1]",
    "1.2.3.4:_",
    "_",
    "unknown:_",
    "unknown:",
    "unknown:123456",
    "xunknown",
    "unknownx",
    "0x1.2.3.4",
  ]
    .concat(
      "1.2.3.4:65536",
      "1.2.3.4:123456",
      "1.2.3.4:-1",
      "[1.2.3.4]",
      "[::1",
      "::1]",
      "[::1]x",
      "[::1]:",
    )
    .concat(
      ":::",
      "::1::",
      "1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7:8:9",
      "::g",
      "fe80::1%eth0",
      "[fe80::1%25eth0]",
    )
    .concat(
      "1.2.3.4 5.6.7.8",
      '"1.2.3.4"',
      "::1.2.3",
      "1.2.3.4/32",
      "[]",
      "::ffff:1.2.3.400",
      "1.2.3.4:80:90",
    );
  for (const address of addresses) {
    for (const fields of [`${address}`, `${address}, 10.1.1.1`, `1.2.3.4, ${address}`]) {
      const line = `X-Forwarded-For: ${fields}\r\n`;
      assertEquals(await toldOf({ trusted: BY_LIST, says: [XFF] }, line), own, line);
    }
    if (/^(unknown|_x)$/.test(address)) continue;
    const line = `Forwarded: host=h;proto=https;for="${address.replaceAll('"', '\\"')}"\r\n`;
    assertEquals(await toldOf({ trusted: BY_LIST, says: ["Forwarded"] }, line), own, line);
  }
  const elements = [
    "for=",
    "=1.2.3.4",
    "for",
    "for=1.2.3.4;",
    'for="1.2.3.4',
    'for=1.2.3.4"',
    "for = 1.2.3.4",
  ]
    .concat(
      "for=[::1]",
      'for="::1"',
      "for=1.2.3.4:80",
      "for=1.2.3.4;for=1.2.3.4",
      "for=1.2.3.4;FOR=5.6.7.8",
    )
    .concat(
      "for=1.2.3.4 proto=https",
      'for="1.2.3.4"x',
      'x"1.2.3.4"',
      'for=x"1.2.3.4"',
      '"',
      '""',
      'for="1.2.3.4\\"',
    )
    .concat(
      "for=1.2.3.4;proto",
      "for=1.2.3.4;proto=",
      "for=1.2.3.4;a=b=c",
      "for=1.2.3.4;a=(b)",
      'for=1.2.3.4;a="\\"',
      "for=1.2.3.4;a\u00e9=b",
    );
  for (const element of elements) {
    if (element.endsWith(";")) continue; // which is allowed
    for (const list of [element, `${element}, for=10.1.1.1`, `for=5.5.5.5, ${element};host=h`]) {
      const line = `Forwarded: ${list}\r\n`;
      assertEquals(await toldOf({ trusted: BY_LIST, says: ["Forwarded"] }, line), own, line);
    }
  }
  // What is told besides is ignored by itself.
  for (const host of ["", "a b", "a,", "u@h", "[::g]", "a:99999", "a/b", ":80", "a\u00e9"]) {
    const line =
      `X-Forwarded-Host: ${host}\r\nX-Forwarded-Proto: ${host}\r\nX-Forwarded-For: 1.2.3.4\r\n`;
    const says: ProxyField[] = ["X-Forwarded-Host", XFF, "X-Forwarded-Proto"];
    assertEquals(await toldOf({ trusted: 1, says }, line), ["1.2.3.4", 0, "http://own/x"], line);
    const element = `Forwarded: for=1.2.3.4;proto=ftp;host="${host}"\r\n`;
    const found = await toldOf({ trusted: 1, says: ["Forwarded"] }, element);
    assertEquals(found, ["1.2.3.4", 0, "http://own/x"], element);
  }
});

/** What a client may put in front of what proxies add. */
function garbage(dice: Dice, name: string): string[] {
  const pieces = [
    "6.6.6.6",
    "10.6.6.6",
    "[::1]",
    "for=",
    "for=6.6.6.6",
    'for="',
    "proto=https",
    'host="evil"',
    "unknown",
  ]
    .concat(
      ...'"",,;;==\\\\ \t:[]_-.ax0%()<>@'.split(""),
      'x="\\',
      '\\"',
      "\xe9",
      ", ",
      '"[2001:db8:aa::6]"',
    );
  return Array.from({ length: dice.roll(3) }, () => {
    let text = "";
    for (let length = dice.roll(8); length > 0; length--) text += dice.one(pieces);
    return `${name}: ${text}`;
  });
}
/** Adds a member to the last line, or in a line of its own; some proxies replace all others. */
function append(dice: Dice, lines: string[], name: string, member: string): void {
  const last = lines.at(-1);
  if (last === undefined || dice.roll(2) === 0) lines.push(`${name}: ${member}`);
  else lines[lines.length - 1] = `${last}${dice.one([",", ", ", " ,\t"])}${member}`;
}

Deno.test("whatever a client puts there itself changes nothing", async () => {
  const dice = new Dice(7);
  const CLIENTS = [["1.2.3.4", "1.2.3.4"], ["2001:DB8::0:7", "2001:db8::7"], [
    "::FFFF:102:304",
    "1.2.3.4",
  ]];
  const PROXIES = ["10.0.0.1", "10.255.1.1", "2001:db8:aa::8", "::ffff:10.9.9.9"];
  const HOSTS = ["a.example", "a:81", "a;y=1", "'a'", "a;for=6.6.6.6;b", "[::1]:8", "(a)"];
  for (const name of [XFF, "Forwarded"] as const) {
    for (let proxies = 1; proxies <= 4; proxies++) {
      const requests: string[] = [], expected: Told[] = [];
      for (let i = 0; i < 1500; i++) {
        const [client, canonical] = dice.one(CLIENTS);
        const host = dice.one(HOSTS), proto = dice.one(["http", "https"]);
        const port = dice.roll(2) === 0 ? 0 : 1 + dice.roll(65535);
        const lines = garbage(dice, name);
        for (let p = 0; p < proxies; p++) { // p is how many proxies the request has passed
          const address = p === 0 ? client : dice.one(PROXIES);
          const isBracketed = address.includes(":");
          const node = (p > 0 || port === 0)
            ? (isBracketed && (name !== XFF || dice.roll(2) === 0) ? `[${address}]` : address)
            : `${isBracketed ? `[${address}]` : address}:${port}`;
          if (name === XFF) {
            append(dice, lines, name, node);
          } else {
            const isToken = /^[\w.]+$/.test(node) && dice.roll(2) === 0;
            const pairs = [`for=${isToken ? node : `"${node}"`}`, `proto=${proto}`];
            pairs.push(
              `host="${p === 0 ? host : "inner"}"`,
              ...(dice.roll(4) ? [] : ['by="\\"_x\\\\"']),
            );
            if (dice.roll(2) === 0) pairs.reverse();
            append(dice, lines, name, pairs.join(";"));
          }
        }
        requests.push(`${lines.join("\r\n")}\r\n`);
        const url = name === XFF ? "http://own/x" : `${proto}://${host}/x`;
        expected.push([canonical, port, url]);
      }
      for (const trusted of [BY_LIST, proxies]) {
        const found = await told({ trusted, says: [name] }, requests);
        for (const [i, one] of found.entries()) assertEquals(one, expected[i], requests[i]);
      }
    }
  }
});

Deno.test("a well-formed Forwarded is read backwards as it is forwards", async () => {
  // The oracle reads forwards, as the grammar of RFC 7239 §4 is written.
  const dice = new Dice(11);
  const token = /^[!#$%&'*+\-.^_`|~\w]+/, quoted = /^"((?:[^"\\]|\\.)*)"/;
  const forwards = (list: string): string[] | undefined => {
    const found: string[] = [];
    let names: string[] = [], isFor = false;
    for (let rest = list;;) {
      rest = rest.replace(/^[ \t]+/, "");
      const name = token.exec(rest)?.[0];
      if (name !== undefined) {
        if (rest[name.length] !== "=" || names.includes(name.toLowerCase())) return undefined;
        names.push(name.toLowerCase());
        rest = rest.slice(name.length + 1);
        const value = quoted.exec(rest) ?? token.exec(rest);
        if (value === null) return undefined;
        rest = rest.slice(value[0].length).replace(/^[ \t]+/, "");
        if (name.toLowerCase() === "for") {
          found.push((value[1] ?? value[0]).replace(/\\(.)/g, "$1"));
          isFor = true;
        }
      }
      if (rest[0] === ";") rest = rest.slice(1);
      else if (rest === "" || rest[0] === ",") {
        if (names.length > 0 && !isFor) found.push("none");
        if (rest === "") return found;
        names = [];
        isFor = false;
        rest = rest.slice(1);
      } else return undefined;
    }
  };
  const pieces = [
    "for=10.1.1.1",
    'for="10.2.2.2"',
    'fOr="1\\0.3.3.3"',
    "for=1.2.3.4",
    "a=b",
    'b="',
    '"',
    "\\",
    '\\"',
  ]
    .concat('c=",;\\\\"', ",", ",", ",", ";", ";", " ", "=", 'd="\\""');
  const lists = Array.from({ length: 20_000 }, () => {
    let list = "";
    for (let length = 1 + dice.roll(9); length > 0; length--) list += dice.one(pieces);
    return list.trim();
  });
  const found = await told(
    { trusted: [PEER, "10.0.0.0/8"], says: ["Forwarded"] },
    lists.map((list) => `Forwarded: ${list}\r\n`),
  );
  let sound = 0;
  for (const [i, list] of lists.entries()) {
    const nodes = forwards(list);
    if (nodes === undefined) continue;
    sound++;
    let expected = PEER;
    for (const node of nodes.reverse()) {
      if (node === "none") break;
      expected = node;
      if (!node.startsWith("10.")) break;
    }
    assertEquals(found[i][0], expected, list);
  }
  assert(sound > 3000, `${sound} were sound`);
});

Deno.test("a long field is no long work", async () => {
  const lists: [ProxyField, string][] = [
    [XFF, `${"10.1.1.1,".repeat(1700)}1.2.3.4`],
    [XFF, ",".repeat(15000)],
    [XFF, ":".repeat(15000)],
    [XFF, `[${":".repeat(15000)}`],
    [XFF, `${":".repeat(15000)}]`],
    ["Forwarded", `for="[${":".repeat(15000)}"`],
    ["Forwarded", `${'"\\'.repeat(7000)}"`],
    ["Forwarded", `a="${"\\\\".repeat(7000)}"`],
    ["Forwarded", `a="${'\\"'.repeat(7000)}"`],
    ["Forwarded", `${"for=10.1.1.1,".repeat(1200)}for=1.2.3.4`],
    ["Forwarded", "a=b;".repeat(4000)],
    ["Forwarded", `a${" ".repeat(15000)}b`],
  ];
  for (const [name, list] of lists) {
    const began = performance.now();
    const requests = new Array(20).fill(`${name}: ${list}\r\n`);
    await told({ trusted: BY_LIST, says: [name] }, requests);
    const each = (performance.now() - began) / requests.length;
    assert(each < 50, `${each} ms for ${list.slice(0, 20)}`);
  }
});

Deno.test("a listener that has read a PROXY header leaves no second one to be read", async () => {
  const proxy: ProxyOptions = { trusted: [PEER], says: ["PROXY"] };
  for (const reads of [true, false]) {
    const listener = Object.assign(new MemoryListener(), { readsProxyHeader: reads });
    const server = serveOn(listener, tell, { proxy });
    const client = listener.connect();
    client.send("PROXY TCP4 6.6.6.6 5.5.5.5 1 2\r\nGET /x HTTP/1.1\r\nHost: own\r\n\r\n");
    await client.settled();
    assertMatch(client.text, reads ? /^HTTP\/1\.1 400 / : /6\.6\.6\.6/);
    await server.shutdown(0);
  }
});

Deno.test("the log names the client of a request, and the peer of a connection", async () => {
  const lines: string[] = [];
  const add = (line: string) => void lines.push(line);
  const proxy: ProxyOptions = { trusted: [PEER], says: [XFF] };
  await using server = start({ proxy, log: { info: add, error: add, debug: add } }, (request) => {
    if (request.path === "/fail") throw new Error("on purpose");
    if (request.path === "/422") throw new HttpError(422, "no");
    return {};
  });
  const client = server.connect();
  for (const path of ["/", "/fail", "/422"]) {
    client.send(`GET ${path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n`);
    await client.settled();
  }
  client.send("nonsense\r\n");
  await client.settled();
  const told = (line: string) => line.includes("1.2.3.4") && !line.includes(PEER);
  assertEquals(lines.filter(told).length, 3 * 3 + 1, lines.join("\n"));
  assertMatch(lines.join("\n"), /^1\.2\.3\.4 "GET \/ HTTP\/1\.1" 200 /m);
  assertMatch(lines.join("\n"), /^GET \/fail \(from 1\.2\.3\.4\)/m);
  assertMatch(lines.join("\n"), /^192\.0\.2\.1:50000 "" 400: /m);
  assertMatch(lines[2], /Client Connected \(from 192\.0\.2\.1:50000\)/);
});

Deno.test("in the log, IPv6 has brackets, and a port is told if it is known", async () => {
  for (
    const [forwarded, shown] of [
      ["1.2.3.4", "1.2.3.4"],
      ["1.2.3.4:0", "1.2.3.4"],
      ["1.2.3.4:81", "1.2.3.4:81"],
      ["2001:db8::1", "[2001:db8::1]"],
      ["[2001:db8::1]:81", "[2001:db8::1]:81"],
    ]
  ) {
    const lines: string[] = [];
    const log = { info: (line: string) => void lines.push(line) };
    await using server = start({ proxy: { trusted: [PEER], says: [XFF] }, log }, () => ({}));
    const client = server.connect();
    client.send(`GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: ${forwarded}\r\n\r\n`);
    await client.settled();
    assertEquals(lines.at(-1)!.split(' "')[0], shown);
  }
});

Deno.test("whom to believe is checked before the port is taken", () => {
  const refused: [unknown, RegExp][] = [
    [{ trusted: [PEER] }, /proxy\.says must be a list/],
    [{ trusted: [PEER], says: [] }, /proxy\.says must be a list/],
    [{ trusted: [PEER], says: "PROXY" }, /proxy\.says must be a list/],
    [{ trusted: [PEER], says: ["X-Real-IP"] }, /X-Real-IP is none of/],
    [{ trusted: [PEER], says: ["Forwarded", XFF] }, /Forwarded stands alone/],
    [{ trusted: [PEER], says: ["X-Forwarded-Proto", "PROXY"] }, /PROXY stands alone/],
    [{ says: [XFF] }, /proxy\.trusted must be/],
    [{ trusted: [], says: [XFF] }, /proxy\.trusted must be/],
    [{ trusted: "10.0.0.0/8", says: [XFF] }, /proxy\.trusted must be/],
    ...[0, -1, 1.5, NaN, Infinity, 101].map((trusted): [unknown, RegExp] => [
      { trusted, says: [XFF] },
      /proxy\.trusted must be from 1 to 100/,
    ]),
    ...[
      "",
      "localhost",
      "10.0.0.0/33",
      "10.0.0.0/",
      "10.0.0.0/-1",
      "::/129",
      "1.2.3",
      "Unix",
      "*",
    ]
      .concat(
        "10.0.0.0/255.0.0.0",
        "10.0.0.0/8/8",
        "[::1]",
        "fe80::1%eth0",
        "10.0.0.0/08",
        "::ffff:0:0/95",
      )
      .map((
        one,
      ): [unknown, RegExp] => [{ trusted: [PEER, one], says: [XFF] }, /no IP address, no prefix/]),
  ];
  for (const [proxy, why] of refused) {
    let message = "";
    try {
      void serve(tell, { proxy, port: 0 } as ServeOptions).shutdown(0);
    } catch (error) {
      ({ message } = error as Error);
    }
    assertMatch(message, why);
    assert(message.startsWith("proxy.") && !message.includes("\n"), message);
  }
});

// ── PROXY ────────────────────────────────────────────────────────────────────────────────────

const PROXY: ProxyOptions = { trusted: [PEER], says: ["PROXY"] };
const GET = "GET /x HTTP/1.1\r\nHost: own\r\n\r\n";

const SIGNATURE = "\r\n\r\n\0\r\nQUIT\n";
const number16 = (number: number) => String.fromCharCode(number >> 8, number & 255);
/** A header of version 2. */
function binary(command: number, family: number, data: string, length = data.length): string {
  return SIGNATURE + String.fromCharCode(command, family) + number16(length) + data;
}
const V4 = "\x01\x02\x03\x04\x0a\x00\x00\x01" + number16(4711) + number16(80);
const V6 = "\x20\x01\x0d\xb8" + "\0".repeat(11) + "\x01" + "\0".repeat(16) + number16(65535) +
  "\0\x50";
const MAPPED = "\0".repeat(10) + "\xff\xff\x01\x02\x03\x04" + "\0".repeat(16) + number16(1) +
  "\0\x50";

/** Headers, and whom they tell; without an address, it is the peer. */
const HEADERS: [header: string, address?: string, port?: number][] = [
  ["PROXY TCP4 1.2.3.4 10.0.0.1 4711 80\r\n", "1.2.3.4", 4711],
  ["PROXY TCP4 255.255.255.255 0.0.0.0 0 65535\r\n", "255.255.255.255", 0],
  ["PROXY TCP6 2001:DB8::1 ::1 65535 80\r\n", "2001:db8::1", 65535],
  ["PROXY TCP6 ::ffff:1.2.3.4 ::ffff:10.0.0.1 1 80\r\n", "1.2.3.4", 1],
  ["PROXY UNKNOWN\r\n"],
  ["PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"],
  [`PROXY UNKNOWN ${"x".repeat(107 - 16)}\r\n`],
  [binary(0x21, 0x11, V4), "1.2.3.4", 4711],
  [binary(0x21, 0x12, V4), "1.2.3.4", 4711], // over UDP, as of HTTP/3
  [binary(0x21, 0x21, V6), "2001:db8::1", 65535],
  [binary(0x21, 0x21, MAPPED), "1.2.3.4", 1],
  [binary(0x21, 0x11, V4 + "\x04\x00\x03abc"), "1.2.3.4", 4711],
  [binary(0x21, 0x11, V4 + "x".repeat(2048 - 16 - 12)), "1.2.3.4", 4711],
  [binary(0x21, 0x31, "\0".repeat(216))],
  [binary(0x21, 0x00, "")],
  [binary(0x21, 0x01, "xyz")],
  [binary(0x21, 0x10, V4)],
  [binary(0x20, 0x11, V4)], // LOCAL
  [binary(0x20, 0x00, "")],
  [binary(0x20, 0xff, "x")],
];

/** What comes back for pieces that are sent one after the other, each once the one before was taken. */
async function piecesTold(server: ReturnType<typeof start>, pieces: string[]): Promise<Told> {
  const client = server.connect();
  for (const piece of pieces) {
    client.send(piece);
    await Promise.resolve();
  }
  await client.settled();
  const [answer] = parseResponses(client.text, ["GET"], client.ended || client.closed);
  client.end();
  return JSON.parse(answer.body);
}

Deno.test("a PROXY header tells the client, in whatever pieces it comes", async () => {
  await using server = start({ proxy: PROXY });
  for (const [header, address = PEER, port = 50000] of HEADERS) {
    const expected: Told = [address, port, "http://own/x"];
    const all = header + GET;
    for (const trusted of [1, ["192.0.2.0/24"]]) {
      await using server = start({ proxy: { trusted, says: ["PROXY"] } });
      assertEquals(await piecesTold(server, [all]), expected, header);
    }
    const step = Math.ceil(header.length / 200);
    for (let at = 1; at <= header.length + 1; at += step) {
      assertEquals(
        await piecesTold(server, [all.slice(0, at), all.slice(at)]),
        expected,
        `${header} at ${at}`,
      );
    }
    if (header.length > 250) continue;
    assertEquals(await piecesTold(server, all.split("")), expected, header); // byte by byte
  }
});

/** What the server does with what it can't take: no answer, an end, and a line. */
async function refusedProxy(send: string, isOver = false): Promise<string[]> {
  const lines: string[] = [];
  await using server = start({ proxy: PROXY, log: { info: (line) => void lines.push(line) } });
  const client = server.connect();
  client.send(send);
  if (isOver) client.end();
  await client.until(() => client.closed);
  assertEquals(client.received.length, 0, send);
  return lines.filter((line) => /from /.test(line));
}
const REFUSED = / \(from 192\.0\.2\.1:50000\)$/;

Deno.test("a PROXY header that is cut short ends the connection, without an answer", async () => {
  assertEquals(await refusedProxy("", true), []); // as those do who look whether the port is open
  for (const [header] of HEADERS) {
    const step = Math.ceil(header.length / 200);
    for (let at = 1; at < header.length; at += step) {
      const lines = await refusedProxy(header.slice(0, at), true);
      assertEquals(lines.length, 1);
      assertMatch(lines[0], /^PROXY header refused: it ended early/);
      assertMatch(lines[0], REFUSED);
    }
  }
});

Deno.test("a malformed PROXY header ends the connection, without an answer", async () => {
  const line = "PROXY TCP4 1.2.3.4 10.0.0.1 4711 80\r\n";
  const malformed = [
    GET,
    "X",
    "\r\n\r\n\0\r\nQUIT\r",
    "\x16\x03\x01",
    line.toLowerCase(),
    line.replace("TCP4", "TCP6"),
    line.replace("TCP4", "TCP"),
    line.replace("TCP4", "UDP4"),
    line.replace("TCP4", "UNKNOWNX"),
    line.replace("1.2.3.4", "1.2.3.4.5"),
    line.replace("1.2.3.4", "::1"),
    line.replace("1.2.3.4", "01.2.3.4"),
    line.replace("10.0.0.1", "x"),
    line.replace("4711", "65536"),
    line.replace("4711", "04711"),
    line.replace("4711", "-1"),
    line.replace("80", "65536"),
    line.replace("80", ""),
    line.replace(" 80", ""),
    line.replace("80", "80 "),
    line.replace("80", "80 9"),
    line.replaceAll(" ", "  "),
    line.replaceAll(" ", "\t"),
    line.replace("\r\n", "\n"),
    line.replace("\r\n", "\r\r\n"),
    `PROXY UNKNOWN ${"x".repeat(107 - 15)}\r\n`,
    "PROXY " + "x".repeat(101),
    ...[0x11, 0x31, 0x01, 0x22, 0x2f, 0xff, 0x00].map((command) => binary(command, 0x11, V4)),
    ...[0x13, 0x1f, 0x41, 0xf1, 0x04].map((family) => binary(0x21, family, V6.repeat(7))),
    binary(0x21, 0x11, V4.slice(1)),
    binary(0x21, 0x21, V6.slice(1)),
    binary(0x21, 0x21, V4),
    binary(0x21, 0x31, "x".repeat(215)),
    binary(0x21, 0x11, ""),
    ...[2033, 4096, 65535].map((length) => binary(0x21, 0x11, V4, length)), // at once
    binary(0x20, 0x00, "", 65535),
  ];
  for (const header of malformed) {
    const lines = await refusedProxy(header === GET || header.length < 20 ? header : header + GET);
    assertEquals(lines.length, 1, JSON.stringify(header));
    assertMatch(lines[0], /^PROXY header refused: (there is none|it is malformed|it is too long)/);
    assertMatch(lines[0], REFUSED);
  }
});

/** What the specification says of a header, read in another way: its length and whom it tells, if that is
 * not the peer; undefined if it must be refused. */
function judged(text: string): { size: number; address?: string; port?: number } | undefined {
  const bytes = bytesOf(text), view = new DataView(bytes.buffer);
  if (text.startsWith(SIGNATURE)) {
    const data = bytes.subarray(16), length = view.getUint16(14), size = 16 + length;
    if (size > 2048) return undefined;
    if (bytes[12] === 0x20) return { size };
    if (bytes[12] !== 0x21) return undefined;
    switch (bytes[13]) {
      case 0x00:
      case 0x01:
      case 0x02:
        return { size };
      case 0x10:
      case 0x11:
      case 0x12:
        if (length < 12) return undefined;
        if (bytes[13] === 0x10) return { size };
        return { size, address: data.slice(0, 4).join("."), port: view.getUint16(24) };
      case 0x20:
      case 0x21:
      case 0x22: {
        if (length < 36) return undefined;
        if (bytes[13] === 0x20) return { size };
        if (textOf(data.subarray(0, 12)) === "\0".repeat(10) + "\xff\xff") {
          return { size, address: data.slice(12, 16).join("."), port: view.getUint16(48) };
        }
        const groups = Array.from({ length: 8 }, (_, i) => view.getUint16(16 + 2 * i).toString(16));
        const { hostname } = new URL(`http://[${groups.join(":")}]/`);
        return { size, address: hostname.slice(1, -1), port: view.getUint16(48) };
      }
      case 0x30:
      case 0x31:
      case 0x32:
        return length < 216 ? undefined : { size };
    }
    return undefined;
  }
  const end = text.slice(0, 107).search(/[\r\n]/);
  if (end < 0 || end > 105 || text.slice(end, end + 2) !== "\r\n") return undefined;
  const [proxy, version, source, destination, port, toPort, ...more] = text.slice(0, end).split(
    " ",
  );
  if (proxy !== "PROXY") return undefined;
  const size = end + 2;
  if (version === "UNKNOWN") return { size };
  const isNumber = (one: string, most: number) =>
    String(Number(one)) === one && Number(one) <= most;
  const is4 = (one: string) =>
    one.split(".").length === 4 &&
    one.split(".").every((part) => /^\d+$/.test(part) && isNumber(part, 255));
  const is6 = (one: string) => isIPv6(one) && !one.includes("%");
  const isAddress = version === "TCP4" ? is4 : version === "TCP6" ? is6 : () => false;
  if (toPort === undefined || more.length > 0) return undefined;
  if (![port, toPort].every((one) => /^\d+$/.test(one) && isNumber(one, 65535))) return undefined;
  if (!isAddress(source) || !isAddress(destination)) return undefined;
  if (version === "TCP4") return { size, address: source, port: Number(port) };
  const plain = new URL(`http://[${source}]/`).hostname.slice(1, -1);
  const mapped = /^::ffff:(\w+):(\w+)$/.exec(plain)?.slice(1).map((group) => parseInt(group, 16));
  const address = mapped?.flatMap((group) => [group >> 8, group & 255]).join(".") ?? plain;
  return { size, address, port: Number(port) };
}

Deno.test("whatever byte of a PROXY header is another, it is judged as specified", async () => {
  let refused = 0, others = 0;
  const lines: string[] = [];
  const log = { info: (line: string) => void lines.push(line) };
  await using server = start({ proxy: PROXY, log });
  for (const [header] of HEADERS.filter(([header]) => header.length < 120)) {
    for (let at = 0; at < header.length; at++) {
      for (const char of "\0\x01\x10\x12\x20\x21\x32 \r\n059:.Xf\xff") {
        const text = header.slice(0, at) + char + header.slice(at + 1) + GET;
        const found = judged(text);
        const client = server.connect();
        client.send(text);
        client.end();
        await client.until(() => client.closed || client.ended);
        const [answer] = parseResponses(client.text, ["GET"], true);
        if (found === undefined) {
          refused++;
          assertEquals(client.received.length, 0, text);
        } else if (text.slice(found.size) === GET) {
          others++;
          const { address = PEER, port = 50000 } = found;
          assertEquals(answer?.status, 200, JSON.stringify(text));
          assertEquals(JSON.parse(answer.body), [address, port, "http://own/x"], text);
        }
      }
    }
  }
  assert(refused > 1000 && others > 500, `${refused} refused, ${others} others`);
  assert(lines.filter((line) => /PROXY header refused/.test(line)).length < 200, "bounded");
});

Deno.test("the PROXY header of one who is not trusted is no request", async () => {
  for (const trusted of [["192.0.2.2"], ["10.0.0.0/8", "::/0", "unix"]]) {
    await using server = start({ proxy: { trusted, says: ["PROXY"] } });
    for (const [header] of HEADERS) {
      const client = server.connect();
      client.send(header + GET);
      await client.until(() => client.ended || client.closed);
      assertMatch(client.text, /^HTTP\/1\.1 400 /);
    }
    const client = server.connect();
    client.send(GET);
    await client.settled();
    assertMatch(client.text, /\["192\.0\.2\.1",50000,/);
  }
});

Deno.test("a PROXY header that trickles is waited for no longer than idleTimeout in all", async () => {
  using clock = new FakeClock();
  const lines: string[] = [];
  const log = { info: (line: string) => void lines.push(line) };
  const server = start({ proxy: PROXY, idleTimeout: 10, log });
  for (const header of [HEADERS[0][0], binary(0x21, 0x11, V4 + "x".repeat(1000))]) {
    const client = server.connect();
    const began = clock.seconds;
    for (const char of header) {
      client.send(char);
      await clock.advance(1);
      if (client.closed) break;
    }
    assert(client.closed && clock.seconds - began <= 12, `closed after ${clock.seconds - began}`);
    assertEquals(client.received.length, 0);
  }
  assertEquals(lines.filter((line) => /idle timeout \(from 192/.test(line)).length, 2);
  void server.shutdown();
  await clock.advance(20);
  await server.finished;
});

Deno.test("what follows a PROXY header is kept: a body, further requests", async () => {
  const sizes: number[] = [];
  await using server = start({ proxy: PROXY, maxBodySize: 1e6 }, async (request) => {
    sizes.push((await request.bytes()).length);
    return { body: request.remoteAddress };
  });
  const client = server.connect();
  const post = (size: number) =>
    `POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${size}\r\n\r\n${"x".repeat(size)}`;
  client.send(bytesOf(HEADERS[0][0] + post(1500) + post(3) + post(100_000)));
  await client.settled();
  assertEquals(sizes, [1500, 3, 100_000]);
  assertEquals(textOf(client.received).match(/1\.2\.3\.4/g)?.length, 3);
});
