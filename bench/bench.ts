/**
 * What a request costs: this server beside others, each pinned to one core and driven by wrk from
 * another, in turn. Writes `bench/results.md` and `bench/results.svg`.
 *
 * `deno task bench --help` (Linux; needs wrk and taskset, and leaves out what is not installed).
 */

import { parseArgs } from "node:util";
import {
  type Answer,
  ask,
  drive,
  freePort,
  IdleConnections,
  outputOf,
  ServerProcess,
  sleep,
  usableCores,
  WARM_UP,
} from "./measure.ts";
import {
  isInstalled,
  type Sample,
  type Server,
  SERVERS,
  type Workload,
  WORKLOADS,
} from "./plan.ts";
import { writeFiles } from "./servers/nginx.ts";
import { chart, MAIN, report, Results, writePart } from "./report.ts";

const USAGE = `Usage: deno task bench [options]

  --rounds NUMBER       how often everything is measured (5)
  --seconds NUMBER      how long each measurement takes (3)
  --only WORKLOAD,...   ${WORKLOADS.map(({ name }) => name).join(", ")}
  --servers NAME,...    ${SERVERS.map(({ name }) => name).join(", ")}
  --help                print this

With --only or --servers it prints what it finds, and leaves bench/results.* as they are.`;

/** Milliseconds until the memory of a server that has nothing to do is looked at. */
const SETTLE = 1000;

function readArguments(args: string[]) {
  const text = { type: "string" } as const;
  const options = { rounds: text, seconds: text, only: text, servers: text };
  const { values } = parseArgs({ args, options: { ...options, help: { type: "boolean" } } });
  const number = (name: "rounds" | "seconds", usual: number) => {
    const number = Number(values[name] || (values[name] === undefined ? usual : NaN));
    if (Number.isSafeInteger(number) && number > 0) return number;
    throw new Error(`--${name} must be a whole number from 1`);
  };
  const select = <T extends { name: string }>(flag: "only" | "servers", all: T[]) => {
    const names = values[flag]?.split(",");
    const unknown = names?.find((name) => !all.some((item) => item.name === name));
    if (unknown !== undefined) throw new Error(`--${flag}: there is no "${unknown}"`);
    return all.filter(({ name }) => names?.includes(name) ?? true);
  };
  return {
    rounds: number("rounds", 5),
    seconds: number("seconds", 3),
    workloads: select("only", WORKLOADS),
    servers: select("servers", SERVERS),
    partial: values.only !== undefined || values.servers !== undefined,
    help: values.help,
  };
}

/** Throws unless every answer is what the workload asks for. */
function check(answers: Answer[], { answer, count }: Workload): void {
  if (answers.length !== count) throw new Error(`${answers.length} answers, not ${count}`);
  for (const { status, headers, body } of answers) {
    if (status !== 200) throw new Error(`a wrong answer: status ${status}`);
    for (const [name, value] of Object.entries(answer.headers)) {
      if (headers.get(name) === value) continue;
      throw new Error(`a wrong answer: ${name}: ${headers.get(name)}, not ${value}`);
    }
    if (body !== answer.body) throw new Error(`a wrong answer: a body of ${body.length} bytes`);
  }
}

/** Starts a server, checks it, warms it up, measures it, and ends it. */
async function measure(
  server: Server,
  workload: Workload,
  seconds: number,
  [serverCore, clientCore]: number[],
  directory: string,
): Promise<Partial<Sample>> {
  const { request, connections } = workload;
  const port = freePort();
  await using process = new ServerProcess(
    server.command(port, workload, directory),
    `${serverCore}`,
    directory,
  );
  const start = await process.firstAnswer(port, request) * 1000;
  {
    using connection = await Deno.connect({ hostname: "127.0.0.1", port });
    check(await ask(connection, request, workload.count), workload);
  }
  if (workload.startOnly) return { start };

  const load = { port, request, connections, cores: `${clientCore}`, directory };
  await drive({ ...load, seconds: WARM_UP });
  // The first ones get the memory that the warm-up has left, and would seem to cost nothing.
  using _first = await IdleConnections.open(port, request, workload.idle / 4);
  if (workload.idle > 0) await sleep(SETTLE);
  const before = process.memory;
  using idle = await IdleConnections.open(port, request, workload.idle * 3 / 4);
  if (workload.idle > 0) await sleep(SETTLE);
  const perConnection = (process.memory - before) / idle.count;

  const cpuBefore = process.cpu;
  const { requests, seconds: took, p50, p99, errors, closed } = await drive({ ...load, seconds });
  const cpu = (process.cpu - cpuBefore) / requests * 1e6;
  const failed = workload.name === "close" ? errors : errors + closed; // it asked for that
  if (failed > 0) throw new Error(`wrk saw ${failed} errors in ${requests} requests`);
  const sample = { cpu, rate: requests / took, perConnection };
  return workload.count > 1 ? sample : { ...sample, p50, p99 }; // wrk gets those wrong
}

async function main(): Promise<void> {
  let settings;
  try {
    settings = readArguments(Deno.args);
  } catch (error) {
    console.error(`${(error as Error).message.split("\n")[0]}\n\n${USAGE}`);
    Deno.exit(2);
  }
  if (settings.help) return console.log(USAGE);
  for (const program of ["wrk", "taskset"]) {
    if (outputOf(program, "-h") !== undefined) continue;
    console.error(`bench needs ${program}: on Debian, apt-get install wrk util-linux`);
    Deno.exit(1);
  }
  const { rounds, seconds, workloads, partial } = settings;
  const servers = settings.servers.filter(isInstalled);
  const cores = usableCores();
  outputOf("taskset", "-a", "-p", "-c", `${cores[1]}`, `${Deno.pid}`); // off the server's core
  const directory = await Deno.makeTempDir();
  writeFiles(directory);
  const results = new Results();
  let failed = false;
  try {
    for (let round = 1; round <= rounds; round++) {
      for (const workload of workloads) {
        for (const server of servers) {
          if (!server.workloads.includes(workload.name)) continue;
          try {
            const sample = await measure(server, workload, seconds, cores, directory);
            results.add(workload.name, server.name, sample);
            const { cpu, rate, start } = sample;
            const figures = cpu === undefined
              ? `${start!.toFixed(0)} ms`
              : `${cpu.toFixed(2)} µs, ${rate!.toFixed(0)} a second`;
            console.error(`${round}/${rounds} ${workload.name} ${server.name}: ${figures}`);
          } catch (error) {
            failed = true;
            console.error(`${workload.name} ${server.name}: ${(error as Error).message}`);
          }
        }
      }
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
  const text = report(results, { rounds, seconds });
  console.log(text);
  if (!partial) {
    const svg = new URL("results.svg", import.meta.url);
    await Deno.writeTextFile(svg, chart(results));
    outputOf(Deno.execPath(), "fmt", svg.pathname);
    await writePart(MAIN, text);
  }
  if (failed) Deno.exit(1);
}

await main();
Deno.exit();
