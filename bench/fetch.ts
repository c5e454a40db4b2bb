/**
 * What applications written for Fetch cost on this server, beside the runtime's own and beside Hono's
 * adapter for Node. All of a runtime run at the same time, on one core, and are driven from another in
 * turn, a second each, so that they share the machine's moods. Writes a part of `bench/results.md`.
 *
 * `deno task bench:fetch --help` (Linux; needs wrk, taskset, and for the adapter npm).
 */

import { parseArgs } from "node:util";
import {
  bytesOf,
  drive,
  freePort,
  median,
  outputOf,
  ServerProcess,
  sleep,
  usableCores,
  WARM_UP,
} from "./measure.ts";
import { RUN } from "./plan.ts";
import { FETCH, machine, show, table, writePart } from "./report.ts";

const USAGE = `Usage: deno task bench:fetch [options]

  --rounds NUMBER       how often everything is measured (7)
  --seconds NUMBER      how long each measurement takes (1)
  --only WORKLOAD,...   some alone; then bench/results.md is left as it is
  --help                print this`;

interface Workload {
  name: string;
  title: string;
  request: Uint8Array;
  /** What the content of each answer must be. */
  answer: string;
  kind: "hono" | "plain";
  /** The CPU time of a request may be so many times that of the runtime's own server. */
  bound: { Deno: number; Bun: number };
}

function get(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`;
}
function post(path: string, type: string, body: string): string {
  return `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: ${type}\r\n` +
    `Content-Length: ${body.length}\r\n\r\n${body}`;
}
function workload(
  name: string,
  title: string,
  request: string,
  answer: string,
  deno: number,
  bun: number,
  kind: Workload["kind"] = "hono",
): Workload {
  return { name, title, request: bytesOf(request), answer, kind, bound: { Deno: deno, Bun: bun } };
}
const JSON_BODY = JSON.stringify({ title: "Emma", author: "Jane Austen", rest: "x".repeat(40) });
const KIB = "x".repeat(1024);
const WORKLOADS = [
  workload("plain", "`() => new Response(text)`", get("/"), "Hello, World", 1.3, 1.4, "plain"),
  workload("hello", "Hono: a text", get("/hello"), "Hello, World", 1.4, 1.5),
  workload(
    "json",
    "Hono: a parameter and a query, JSON",
    get("/json/7?q=abc"),
    '{"id":"7","q":"abc"}',
    1.4,
    1.5,
  ),
  workload(
    "post",
    "Hono: 90 bytes of JSON, and back",
    post("/post", "application/json", JSON_BODY),
    JSON_BODY,
    1.3,
    1.5,
  ),
  workload("long", "Hono: a text of 10 KiB", get("/long"), KIB.repeat(10), 1.3, 1.5),
  workload("pieces", "Ten pieces of 1 KiB at once", get("/pieces"), KIB.repeat(10), 1.5, 1.5),
  workload("slow", "Ten pieces of 1 KiB, 1 ms apart", get("/slow"), KIB.repeat(10), 1.5, 1.5),
  workload("megabyte", "Hono: a text of 1 MiB", get("/megabyte"), "x".repeat(2 ** 20), 1.3, 1.3),
  workload(
    "upload",
    "Hono: an upload of 64 KiB",
    post("/upload", "text/plain", "x".repeat(65536)),
    "65536",
    1.3,
    1.3,
  ),
];

/** Installs Hono and its adapter for Node, and tells how it is started; nothing if that fails. */
async function nodeAdapter(directory: string): Promise<string[] | undefined> {
  const install = ["install", "--silent", "--prefix", directory, "hono@4", "@hono/node-server@1"];
  if (outputOf("node", "--version") === undefined) return undefined;
  if (outputOf("npm", ...install) === undefined) return undefined;
  const program = `
    import { Hono } from "hono";
    import { serve } from "@hono/node-server";
    import { application, plain } from ${JSON.stringify(import.meta.resolve("./servers/hono.js"))};
    const [, , port, kind] = process.argv;
    const { fetch } = kind === "plain" ? plain : application(Hono);
    serve({ fetch, port: Number(port), hostname: "127.0.0.1" });`;
  await Deno.writeTextFile(`${directory}/server.mjs`, program);
  return ["node", `${directory}/server.mjs`];
}

interface Running {
  name: string;
  port: number;
  process: ServerProcess;
  samples: number[];
}

/** Measures the servers in turn, and gives the CPU time of a request of each, in microseconds. */
async function measure(
  commands: [name: string, command: (port: number) => string[]][],
  { request, answer }: Workload,
  { rounds, seconds }: { rounds: number; seconds: number },
  [serverCore, clientCore]: number[],
  directory: string,
): Promise<Map<string, number[]>> {
  const running: Running[] = [];
  try {
    for (const [name, command] of commands) {
      const port = freePort();
      const process = new ServerProcess(command(port), `${serverCore}`, directory);
      running.push({ name, port, process, samples: [] });
      await check(port, request, answer, name);
    }
    const load = { request, connections: 64, cores: `${clientCore}`, directory };
    for (const { port } of running) await drive({ ...load, port, seconds: WARM_UP });
    for (let round = 0; round < rounds; round++) {
      for (const { name, port, process, samples } of running) {
        const before = process.cpu;
        const { requests, errors, closed } = await drive({ ...load, port, seconds });
        if (errors + closed > 0) throw new Error(`${name}: wrk saw ${errors + closed} errors`);
        samples.push((process.cpu - before) / requests * 1e6);
      }
    }
    return new Map(running.map(({ name, samples }) => [name, samples]));
  } finally {
    for (const { process } of running) await process[Symbol.asyncDispose]();
  }
}

/** One answer, whatever its framing, once the server is there. */
async function check(port: number, request: Uint8Array, answer: string, name: string) {
  for (let attempt = 0;; attempt++) {
    try {
      using connection = await Deno.connect({ hostname: "127.0.0.1", port });
      const closing = new TextDecoder().decode(request)
        .replace("\r\n", "\r\nConnection: close\r\n");
      const bytes = bytesOf(closing);
      for (let sent = 0; sent < bytes.length;) sent += await connection.write(bytes.subarray(sent));
      const received = await new Response(connection.readable).text();
      const [head, ...rest] = received.split("\r\n\r\n");
      let body = rest.join("\r\n\r\n");
      if (/\r\ntransfer-encoding: chunked/i.test(head)) {
        body = body.replace(/(^|\r\n)[0-9a-f]+\r\n/gi, "").replace(/\r\n$/, "");
      }
      if (/^HTTP\/1\.1 200 /.test(head) && body === answer) return;
      throw new Error(`${name}: a wrong answer: ${received.slice(0, 200)}`);
    } catch (error) {
      if (!(error instanceof Deno.errors.ConnectionRefused) || attempt > 200) throw error;
      await sleep(50);
    }
  }
}

const ratioOf = (some: number[], others: number[]) => median(some.map((one, i) => one / others[i]));

async function main(): Promise<void> {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    args: Deno.args,
    options: { rounds: text, seconds: text, only: text, help: { type: "boolean" } },
  });
  if (values.help) return console.log(USAGE);
  const rounds = Number(values.rounds ?? 7), seconds = Number(values.seconds ?? 1);
  const only = values.only?.split(",");
  const directory = await Deno.makeTempDir();
  const cores = usableCores();
  outputOf("taskset", "-a", "-p", "-c", `${cores[1]}`, `${Deno.pid}`); // off the server's core
  const rows = [["application", "runtime", "this", "own", "ratio", "at most", "met", "Node"]];
  try {
    const node = await nodeAdapter(directory);
    for (const workload of WORKLOADS) {
      if (only && !only.includes(workload.name)) continue;
      for (const runtime of ["Deno", "Bun"] as const) {
        const program = new URL("servers/fetch.ts", import.meta.url).pathname;
        const command = (server: string) => (port: number) => [
          ...RUN[runtime],
          program,
          `${port}`,
          server,
          workload.kind,
        ];
        const commands: [string, (port: number) => string[]][] = [
          ["ours", command("ours")],
          ["own", command("own")],
        ];
        if (node) commands.push(["node", (port) => [...node, `${port}`, workload.kind]]);
        const found = await measure(commands, workload, { rounds, seconds }, cores, directory);
        const ours = found.get("ours")!, own = found.get("own")!, nodes = found.get("node") ?? [];
        const ratio = ratioOf(ours, own), bound = workload.bound[runtime];
        const row = [
          workload.title,
          runtime,
          show(median(ours)),
          show(median(own)),
          show(ratio, 2),
          show(bound, 2),
          ratio <= bound ? "yes" : "**no**",
          nodes.length === 0 ? "–" : show(median(nodes)),
        ];
        rows.push(row);
        console.error(row.join(" | "));
      }
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
  const report = `${FETCH}

\`deno task bench:fetch\` wrote this on ${
    new Date().toISOString().slice(0, 10)
  }: medians of ${rounds} rounds
of ${seconds} s, 64 connections. ${machine()}

CPU time a request in µs. "Own" is \`Deno.serve\` or \`Bun.serve\`, with the same application; the ratio
is the median of each round's. "Node" is the same application with Hono's adapter for Node, which
this server is to stay below.

${table(rows)}`;
  console.log(report);
  if (!only) await writePart(FETCH, report);
}

await main();
Deno.exit();
