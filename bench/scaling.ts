/**
 * How the cost of a request grows with the connections that are open, and what a second process on
 * the same port brings. Writes its section of `bench/results.md`.
 *
 * `deno task bench:scaling [--rounds 3] [--seconds 3]`
 */

import { parseArgs } from "node:util";
import {
  ask,
  bytesOf,
  drive,
  freePort,
  IdleConnections,
  median,
  outputOf,
  ServerProcess,
  sleep,
  usableCores,
  WARM_UP,
} from "./measure.ts";
import { isInstalled, RUN, SERVERS } from "./plan.ts";
import { SCALING, show, table, writePart } from "./report.ts";

const USAGE = "Usage: deno task bench:scaling [--rounds NUMBER (3)] [--seconds NUMBER (3)]";
const CONNECTIONS = [1, 10, 100, 1000, 10000];
/** How many of them send requests, at most; the others only have to be borne. */
const BUSY = 64;
const request = bytesOf("GET /book HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");

function readArguments() {
  const text = { type: "string" } as const;
  const { values } = parseArgs({ args: Deno.args, options: { rounds: text, seconds: text } });
  const numbers = [Number(values.rounds ?? 3), Number(values.seconds ?? 3)];
  if (numbers.every((number) => Number.isSafeInteger(number) && number > 0)) return numbers;
  throw new Error("--rounds and --seconds must be whole numbers from 1");
}

interface Run {
  cpu: number;
  rate: number;
  /** What part of the CPU time the first process had. */
  share: number;
}

/** Runs one process for each of `cores`, all on the same port, and drives them. */
async function measure(
  runtime: "Deno" | "Bun",
  cores: string[],
  clients: string,
  connections: number,
  seconds: number,
  directory: string,
): Promise<Run> {
  const port = freePort();
  const program = new URL("../server.ts", import.meta.url).pathname;
  const flags = [`--port=${port}`, "--reuse-port", "--log-level=silent"];
  flags.push("--max-connections=20000", "--idle-timeout=255");
  await using processes = new AsyncDisposableStack();
  const servers = cores.map((core) =>
    processes.use(new ServerProcess([...RUN[runtime], program, ...flags], core, directory))
  );
  await servers[0].firstAnswer(port, request);
  if (servers.length > 1) await sleep(2000); // which of them answers first can't be told
  using connection = await Deno.connect({ hostname: "127.0.0.1", port });
  const [{ status }] = await ask(connection, request);
  if (status !== 200) throw new Error(`a wrong answer: status ${status}`);
  const busy = Math.min(connections, BUSY);
  const load = { port, request, connections: busy, cores: clients, directory };
  await drive({ ...load, seconds: WARM_UP });
  using _ = await IdleConnections.open(port, request, connections - busy);
  const before = servers.map(({ cpu }) => cpu);
  const { requests, seconds: took, errors, closed } = await drive({ ...load, seconds });
  const used = servers.map(({ cpu }, i) => cpu - before[i]);
  if (errors + closed > 0) {
    throw new Error(`wrk saw ${errors + closed} errors in ${requests} requests`);
  }
  const all = used.reduce((sum, cpu) => sum + cpu);
  return { cpu: all / requests * 1e6, rate: requests / took, share: used[0] / all };
}

let settings;
try {
  settings = readArguments();
} catch (error) {
  console.error(`${(error as Error).message.split("\n")[0]}\n\n${USAGE}`);
  Deno.exit(2);
}
if (outputOf("wrk", "-v") === undefined) {
  console.error("bench needs wrk: on Debian, apt-get install wrk");
  Deno.exit(1);
}
const [rounds, seconds] = settings;
const [first, second, ...others] = usableCores();
const rest = others.length > 0 ? others.join() : `${first},${second}`;
const runtimes = SERVERS.filter((server) => server.role === "this" && isInstalled(server))
  .map(({ runtime }) => runtime!);
const directory = await Deno.makeTempDir();
const runs = new Map<string, Run[]>();

async function add(key: string, ...args: Parameters<typeof measure>) {
  try {
    const run = await measure(...args);
    runs.set(key, [...runs.get(key) ?? [], run]);
    console.error(`${key}: ${run.cpu.toFixed(2)} µs, ${run.rate.toFixed(0)} a second`);
  } catch (error) {
    console.error(`${key}: ${(error as Error).message}`);
  }
}
for (let round = 1; round <= rounds; round++) {
  for (const count of CONNECTIONS) {
    for (const runtime of runtimes) {
      await add(
        `${runtime} ${count}`,
        runtime,
        [`${first}`],
        `${second}`,
        count,
        seconds,
        directory,
      );
    }
  }
  for (const runtime of runtimes) {
    for (const cores of [[`${first}`], [`${first}`, `${second}`]]) {
      await add(`${runtime} x${cores.length}`, runtime, cores, rest, BUSY, seconds, directory);
    }
  }
}
await Deno.remove(directory, { recursive: true });

const figure = (key: string, name: keyof Run) =>
  median((runs.get(key) ?? []).map((run) => run[name]));
const byConnections = table([
  ["connections", ...runtimes.map((runtime) => `${runtime}, µs`)],
  ...CONNECTIONS.map((count) => [
    `${count}`,
    ...runtimes.map((runtime) => show(figure(`${runtime} ${count}`, "cpu"))),
  ]),
]);
const byProcesses = table([
  ["", "CPU, µs", "requests/s", "the first's part"],
  ...runtimes.flatMap((runtime) =>
    [1, 2].map((count) => {
      const key = `${runtime} x${count}`;
      const percent = `${show(figure(key, "share") * 100, 0)} %`;
      const title = `${runtime}, ${count} ${count > 1 ? "processes" : "process"}`;
      return [title, show(figure(key, "cpu")), show(figure(key, "rate"), 0), percent];
    })
  ),
]);
const shared = others.length > 0
  ? "wrk runs on the other cores."
  : "This machine has no more than two cores, so wrk takes its time from the same two: requests a\n" +
    "second can't double here. What tells is that a request costs no more CPU time than with one.";
const text = `${SCALING}

\`deno task bench:scaling\`, ${rounds} rounds of ${seconds} s. CPU time of a GET, by the number of
connections that are open. Up to ${BUSY} of them are busy, the others idle:

${byConnections}
Two processes with \`--reuse-port\` on two cores, against one; ${BUSY} connections.
${shared}

${byProcesses}`;
console.log(text);
await writePart(SCALING, text);
Deno.exit();
