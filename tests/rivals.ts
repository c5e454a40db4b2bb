/** What docs/comparison.md says of other servers is tried on them: each cell of its comparison. */

import { assertEquals, assertMatch } from "@std/assert";
import { Client, Process, type Runtime, type Scenario } from "./sockets.ts";

/** What the others run: the same little application, as their own documentation has it. */
const FETCH = `(request) => request.text().then(() => new Response("hello", {
  headers: { "ETag": '"a"' } }))`;
const RIVALS: Record<string, [command: string, args: string[]]> = {
  "`Deno.serve`": ["deno", [
    "eval",
    `Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: ({ port }) =>
      console.log("Listening at PORT " + port + ".") }, ${FETCH});`,
  ]],
  "`Bun.serve`": ["bun", [
    "-e",
    `console.log("Listening at PORT " +
      Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: ${FETCH} }).port + ".");`,
  ]],
  "its static routes": ["bun", [
    "-e",
    `const answer = new Response("hello");
    console.log("Listening at PORT " + Bun.serve({ hostname: "127.0.0.1", port: 0,
      routes: { "/": answer, "/book": answer } }).port + ".");`,
  ]],
  "its `Bun.file`": ["bun", [
    "-e",
    `const answer = () => new Response(Bun.file("book.json"));
    console.log("Listening at PORT " + Bun.serve({ hostname: "127.0.0.1", port: 0,
      fetch: answer }).port + ".");`,
  ]],
  "`node:http`": ["node", [
    "-e",
    `const server = require("node:http").createServer((request, response) => {
      request.resume().on("end", () => response.setHeader("ETag", '"a"').end("hello"));
    }).listen(0, "127.0.0.1", () => console.log("Listening at PORT " + server.address().port + "."));`,
  ]],
};

const REFUSED = /^HTTP\/1\.1 [45]\d\d |^$/;
/** What is sent, and what shows that the answer is yes. */
const PROBES: Record<string, [send: string, yes: RegExp]> = {
  "two Host fields are refused": ["GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", REFUSED],
  "no Host field is refused": ["GET / HTTP/1.1\r\n\r\n", REFUSED],
  "a Host with a space is refused": ["GET / HTTP/1.1\r\nHost: a b\r\n\r\n", REFUSED],
  "LF alone as a line end is refused": ["GET / HTTP/1.1\nHost: a\n\n", REFUSED],
  "`Transfer-Encoding: gzip, chunked` is refused": [
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    REFUSED,
  ],
  "Transfer-Encoding in HTTP/1.0 is refused": [
    "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    REFUSED,
  ],
  "Content-Length beside Transfer-Encoding is refused": [
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    REFUSED,
  ],
  "an unknown expectation gets 417": [
    "GET / HTTP/1.1\r\nHost: a\r\nExpect: a miracle\r\n\r\n",
    /^HTTP\/1\.1 417 /,
  ],
  "`HTTP/2.0` in a request line gets 505": [
    "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    /^HTTP\/1\.1 505 /,
  ],
  "a body of 1 TB gets 413 before it is sent": [
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n",
    /^HTTP\/1\.1 413 /,
  ],
  "a matching `If-None-Match` gets 304 by itself": [
    'GET /book HTTP/1.1\r\nHost: a\r\nIf-None-Match: "a"\r\n\r\n',
    /^HTTP\/1\.1 304 /,
  ],
  "a range gets 206 by itself": [
    "GET /book HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n\r\n",
    /^HTTP\/1\.1 206 /,
  ],
};

async function probe(port: number, send: string): Promise<string> {
  using client = await Client.connect(port);
  await client.send(send);
  const timer = setTimeout(() => client.close(), 500); // no answer is an answer too: none
  await client.until(/\r\n\r\n/);
  clearTimeout(timer);
  return client.received || (client.ended === "closed" ? "" : "nothing");
}

export const COMPARED: Scenario[] = [
  ["the comparison with other servers", async (runtime) => {
    const text = await Deno.readTextFile("docs/comparison.md");
    for (const tool of (await Deno.readTextFile("README.md")).match(/\b(deno|bun)@[\d.]+/g)!) {
      const [name, version] = tool.split("@");
      assertMatch(text, new RegExp(`^${name} ${version}\\b|, ${name} ${version}\\b`, "im"));
    }
    const servers: Record<string, Process> = { "server.ts": await Process.start(runtime) };
    for (const [name, [command, args]] of Object.entries(RIVALS)) {
      servers[name] = Process.spawn({ command, args } as unknown as Runtime, "", []);
      servers[name].port = Number(await servers[name].printed(/PORT (\d+)\./));
    }
    try {
      const names = Object.keys(servers);
      for (const [what, [send, yes]] of Object.entries(PROBES)) {
        const found = await Promise.all(names.map(async (name) => {
          const { port } = servers[name];
          const book = await probe(port, "GET /book HTTP/1.0\r\n\r\n");
          const tag = /ETag: (.*)\r/i.exec(book)?.[1] ?? '"a"';
          return yes.test(await probe(port, send.replace('"a"', tag))) ? "yes" : "no";
        }));
        const row = text.split("\n").find((line) => line.startsWith(`| ${what} `)) ?? "";
        const stated = row.split("|").slice(2, -1).map((cell) => cell.trim());
        assertEquals(stated, found, what);
      }
    } finally {
      for (const server of Object.values(servers)) await server[Symbol.asyncDispose]();
    }
  }, { needs: "node", plain: true }],
];
