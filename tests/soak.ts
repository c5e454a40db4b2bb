/**
 * Good, bad, slow and broken clients, all at once and for as long as you like: every answer must be
 * right, memory flat after the first quarter, and in the end no descriptor and no permit lost.
 *
 * `deno task soak --seconds 120 --seed 7` (Linux: it reads /proc).
 */

import { parseArgs } from "node:util";
import { randomNumbers } from "./fuzz.ts";
import { parseResponses } from "./responses.ts";
import {
  Client,
  exchange,
  isInstalled,
  Process,
  reset,
  type Runtime,
  RUNTIMES,
} from "./sockets.ts";
import { get, pause, post } from "./tools.ts";

const CLIENTS = 24;
const PERMITS = 32;

type Random = (below: number) => number;
/** Talks to the server once, and says what was wrong with it. */
type Visit = (port: number, random: Random) => Promise<string | void>;

/** Whole numbers below the one that is asked for. */
function randomFrom(seed: number): Random {
  const next = randomNumbers(seed);
  return (below) => Math.floor(next() * below);
}
function text(size: number, random: Random): string {
  return String.fromCharCode(97 + random(26)).repeat(size);
}
/** Sends a message in pieces, and compares what comes back with what must. */
async function echo(port: number, message: string, bodies: string[], random: Random) {
  using client = await Client.connect(port);
  const sent = (async () => {
    for (let at = 0; at < message.length;) {
      const size = 1 + random(message.length);
      await client.send(message.slice(at, at + size));
      at += size;
      if (random(3) === 0) await pause(random(10));
    }
    await client.end();
  })();
  const received = parseResponses(await client.rest(), bodies.map(() => "POST"), true);
  await sent;
  const same = received.length === bodies.length &&
    received.every(({ status, body }, i) => status === 200 && body === bodies[i]);
  if (!same) return `${bodies.length} bodies came back as ${received.length} others`;
}
/** Sends it, and compares the status of the only answer. */
async function statusOf(port: number, message: string, wanted: number) {
  const received = parseResponses(await exchange(port, message), ["GET"], true);
  if (received.length !== 1 || received[0].status !== wanted) {
    return `${received.map(({ status }) => status)} in place of ${wanted}`;
  }
}

const VISITS: Record<string, Visit> = {
  async "keep-alive"(port, random) {
    using client = await Client.connect(port);
    for (let i = random(20); i >= 0; i--) {
      client.received = "";
      await client.send(get("/"));
      // One that is idle while others wait makes room for them.
      if (!/^HTTP\/1\.1 200 /.test(await client.until(/\r\n\r\n/))) {
        return client.received === "" && client.ended ? undefined : client.received;
      }
      if (random(4) === 0) await pause(random(20));
    }
  },
  "a body": (port, random) => {
    const body = text(random(100_000), random);
    return echo(port, post(body), [body], random);
  },
  "chunks": (port, random) => {
    const chunks = Array.from({ length: 1 + random(9) }, () => text(1 + random(9999), random));
    const lines = chunks.map((chunk) => `${chunk.length.toString(16)};a=b\r\n${chunk}\r\n`);
    const head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    return echo(port, `${head}${lines.join("")}0\r\n\r\n`, [chunks.join("")], random);
  },
  "a pipeline": (port, random) => {
    const bodies = Array.from({ length: 1 + random(30) }, () => text(random(999), random));
    return echo(port, bodies.map((body) => post(body)).join(""), bodies, random);
  },
  async "a slow reader"(port, random) {
    using client = await Client.connect(port);
    await client.send(get("/mib"));
    await client.end();
    for (let i = 0; i < 10; i++, await pause(random(50))) await client.read(1000);
    const [{ body }] = parseResponses(await client.rest(), ["GET"], true);
    if (body.length !== 1 << 20) return `${body.length} bytes`;
  },
  "nonsense": (port, random) => statusOf(port, `${text(1 + random(99), random)}\r\n\r\n`, 400),
  "a trickle": (port, random) => statusOf(port, get("/").slice(0, 1 + random(15)), 408),
  "a reset": async (port, random) => {
    const message = random(2) === 0 ? get("/big") : post(text(9999, random));
    await reset(port, message.slice(0, 1 + random(message.length)), random(20));
  },
  "a half": async (port, random) => {
    const message = post(text(999, random));
    using client = await Client.connect(port);
    await client.send(message.slice(0, 1 + random(message.length - 1)));
    await client.end();
    const [{ status }] = parseResponses(await client.rest(), ["POST"], true);
    if (status !== 400) return `${status} in place of 400`;
  },
  "an unread answer": async (port, random) => {
    using client = await Client.connect(port);
    await client.send(get("/big"));
    await pause(random(300));
  },
  "a client that leaves": async (port, random) => {
    using client = await Client.connect(port);
    await client.send(get("/slow"));
    await pause(random(300));
  },
  "a handler that throws": async (port) => {
    using client = await Client.connect(port);
    await client.send(get("/throw"));
    await client.end();
    const [{ status }] = parseResponses(await client.rest(), ["GET"], true);
    if (status !== 500) return `${status} in place of 500`;
  },
  "a broken stream": async (port) => {
    const received = await exchange(port, get("/broken"));
    if (!/chunked/.test(received) || received.endsWith("0\r\n\r\n")) return received;
  },
};

/** Throws when anything was wrong; else tells what was done, in a line. */
export async function soak(runtime: Runtime, seconds: number, seed: number): Promise<string> {
  const args = ["--max-connections", `${PERMITS}`, "--idle-timeout", "1"];
  await using server = await Process.start(runtime, args, "tests/app.ts");
  await server.closeLog(); // which is one more fault
  const { port } = server;
  await exchange(port, "GET / HTTP/1.0\r\n\r\n");
  const descriptors = await server.descriptors();

  const names = Object.keys(VISITS);
  const wrong: string[] = [];
  const end = performance.now() + seconds * 1000;
  let visits = 0;
  const work = async (random: Random) => {
    for (; performance.now() < end; visits++) {
      const name = names[random(names.length)];
      try {
        const what = await VISITS[name](port, random);
        if (what !== undefined) wrong.push(`${name}: ${what}`);
      } catch (error) {
        wrong.push(`${name}: ${error}`);
      }
    }
  };
  const sizes: number[] = [];
  const watch = async () => {
    for (; performance.now() < end; await pause(500)) sizes.push(await server.residentMiB());
  };
  await Promise.all([
    watch(),
    ...Array.from({ length: CLIENTS }, (_, i) => work(randomFrom(seed + i))),
  ]);
  if (wrong.length > 0) {
    throw new Error(`seed ${seed}: ${wrong.length} wrong:\n${wrong.slice(0, 9).join("\n")}`);
  }

  const quarter = Math.ceil(sizes.length / 4);
  const most = [0, 1, 2, 3].map((i) =>
    Math.round(Math.max(...sizes.slice(i * quarter, (i + 1) * quarter)))
  );
  if (most[3] > most[1] * 1.25 + 16) throw new Error(`memory grew: ${most} MiB`);

  // Each permit is still there: so many clients are asked for their content at the same time.
  const clients: Client[] = [];
  for (let i = 0; i < PERMITS; i++) {
    const client = await Client.connect(port);
    clients.push(client);
    await client.send(post("x").replace("\r\n\r\nx", "\r\nExpect: 100-continue\r\n\r\n"));
    if (!/ 100 Continue/.test(await client.until(/\r\n\r\n/))) {
      throw new Error(`permit ${i} is lost`);
    }
  }
  for (const client of clients) client.close();
  let left = await server.descriptors();
  for (let i = 0; i < 50 && left > descriptors; i++, left = await server.descriptors()) {
    await pause(100);
  }
  if (left > descriptors) throw new Error(`${left} descriptors in place of ${descriptors}`);
  return `${visits} visits in ${seconds} s, none wrong; ` +
    `memory ${most.join(", ")} MiB at most in its quarters; ${left} descriptors as before`;
}

if (import.meta.main) {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      seconds: { type: "string", default: "120" },
      seed: { type: "string", default: "1" },
    },
    allowPositionals: true, // "--", which some write before the flags
  });
  for (const runtime of RUNTIMES) {
    if (!await isInstalled(runtime.command)) continue;
    console.log(
      `${runtime.name}: ${await soak(runtime, Number(values.seconds), Number(values.seed))}`,
    );
  }
}
