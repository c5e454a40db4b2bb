/**
 * What an echoed WebSocket message costs with the companion, beside `Deno.upgradeWebSocket` and `Bun.serve`.
 * Both of a runtime run at the same time, on one core, and are driven from another in turn, so that they
 * share the machine's moods. Writes a part of `bench/results.md`.
 *
 * `deno task bench:websocket --help` (Linux; needs Bun and taskset).
 */

import { parseArgs } from "node:util";
import {
  freePort,
  median,
  outputOf,
  ServerProcess,
  sleep,
  usableCores,
  WARM_UP,
} from "./measure.ts";
import { RUN } from "./plan.ts";
import { machine, show, table, WEBSOCKET, writePart } from "./report.ts";

const USAGE = `Usage: deno task bench:websocket [options]

  --rounds NUMBER       how often everything is measured (7)
  --seconds NUMBER      how long each measurement takes (1)
  --only WORKLOAD,...   some alone; then bench/results.md is left as it is
  --help                print this`;

interface Workload {
  name: string;
  title: string;
  /** What the clients are told: bench/echoes.ts. */
  flags: string[];
  isDeflated?: boolean;
  /** The CPU time of a message may be so many times that of the runtime's own. Both of those unmask,
   * look at UTF-8 and inflate in native code, which counts where a message is long or there are many. */
  bound: number;
}
const WORKLOADS: Workload[] = [
  { name: "echo", title: "64 bytes of text", flags: [], bound: 1 },
  { name: "binary", title: "64 bytes", flags: ["--binary"], bound: 1 },
  { name: "long", title: "16 KiB of text", flags: ["--size=16384"], bound: 3.5 },
  { name: "many", title: "16 messages of 64 bytes at once", flags: ["--at-once=16"], bound: 4 },
  {
    name: "deflated",
    title: "1 KiB of text, deflated",
    flags: ["--size=1024", "--deflated"],
    isDeflated: true,
    bound: 6,
  },
];

/** Lets the clients run, and gives the CPU time of the server for a message, in microseconds. */
async function drive(
  { port, process }: { port: number; process: ServerProcess },
  { flags }: Workload,
  seconds: number,
  core: number,
): Promise<number> {
  const client = [...RUN.Bun, new URL("echoes.ts", import.meta.url).pathname];
  const before = process.cpu;
  const { stdout, stderr, success } = await new Deno.Command("taskset", {
    args: ["-c", `${core}`, ...client, `--port=${port}`, `--seconds=${seconds}`, ...flags],
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  if (!success) throw new Error(text(stderr));
  return (process.cpu - before) / JSON.parse(text(stdout)).messages * 1e6;
}

/** Waits until somebody listens. */
async function listens(port: number): Promise<void> {
  for (let attempt = 0;; attempt++) {
    try {
      return (await Deno.connect({ hostname: "127.0.0.1", port })).close();
    } catch (error) {
      if (attempt > 200) throw error;
      await sleep(50);
    }
  }
}

async function main(): Promise<void> {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    args: Deno.args,
    options: { rounds: text, seconds: text, only: text, help: { type: "boolean" } },
  });
  if (values.help) return console.log(USAGE);
  const rounds = Number(values.rounds ?? 7), seconds = Number(values.seconds ?? 1);
  const only = values.only?.split(",");
  const [serverCore, clientCore] = usableCores();
  outputOf("taskset", "-a", "-p", "-c", `${clientCore}`, `${Deno.pid}`); // off the server's core
  const directory = await Deno.makeTempDir();
  const rows = [["message", "runtime", "this", "own", "ratio", "at most", "met"]];
  try {
    for (const workload of WORKLOADS) {
      if (only && !only.includes(workload.name)) continue;
      for (const runtime of ["Deno", "Bun"] as const) {
        const program = new URL("servers/websocket.ts", import.meta.url).pathname;
        // Deno's own does not speak permessage-deflate.
        if (workload.isDeflated && runtime === "Deno") continue;
        const running = ["ours", "own"].map((whose) => {
          const port = freePort();
          const deflated = workload.isDeflated ? ["deflated"] : [];
          const command = [...RUN[runtime], program, `${port}`, whose, ...deflated];
          const process = new ServerProcess(command, `${serverCore}`, directory);
          return { port, process, samples: [] as number[] };
        });
        try {
          for (const one of running) {
            await listens(one.port);
            await drive(one, workload, WARM_UP, clientCore);
          }
          for (let round = 0; round < rounds; round++) {
            for (const one of running) {
              one.samples.push(await drive(one, workload, seconds, clientCore));
            }
          }
        } finally {
          for (const { process } of running) await process[Symbol.asyncDispose]();
        }
        const [ours, own] = running.map(({ samples }) => samples);
        const ratio = median(ours.map((one, i) => one / own[i]));
        const { bound } = workload;
        rows.push([
          workload.title,
          runtime,
          show(median(ours)),
          show(median(own)),
          show(ratio, 2),
          show(bound, 2),
          ratio <= bound ? "yes" : "**no**",
        ]);
        console.error(rows.at(-1)!.join(" | "));
      }
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
  const report = `${WEBSOCKET}

\`deno task bench:websocket\` wrote this on ${
    new Date().toISOString().slice(0, 10)
  }: medians of ${rounds} rounds
of ${seconds} s, 64 connections. ${machine()}

CPU time of a message that is echoed, in µs. "Own" is \`Deno.upgradeWebSocket\` or \`Bun.serve\`; the
ratio is the median of each round's.

${table(rows)}`;
  console.log(report);
  if (!only) await writePart(WEBSOCKET, report);
}

await main();
Deno.exit();
