/**
 * How evenly a server serves many clients that are all busy: this server beside the runtime's own, and
 * nginx, driven by `busy.ts`. Writes its section of `bench/results.md`.
 *
 * `deno task bench:fairness --help` (Linux; needs Bun, taskset and openssl).
 */

import { parseArgs } from "node:util";
import { certify } from "../tests/sockets.ts";
import {
  bytesOf,
  drive,
  freePort,
  median,
  outputOf,
  ServerProcess,
  usableCores,
  WARM_UP,
} from "./measure.ts";
import { commandOf, isInstalled, RUN, type Server, SERVERS } from "./plan.ts";
import { FAIRNESS, show, table, writePart } from "./report.ts";

/** What the clients do, and with how many connections if that is not said. */
interface Load {
  name: string;
  title: string;
  flags: string[];
  connections: number[];
}
const EVERY = [64, 128, 129, 200, 256, 300, 384, 512, 1000, 2000], FEW = [64, 256, 1000];
const POST = ["--post", "1024"], SLOW = ["--slow", "0.1"], TLS = ["--tls"];
/** These are measured if nothing else is asked for. */
const USUAL = ["get", "post", "tls", "slow"];
const LOADS: Load[] = [
  { name: "get", title: "GET", flags: [], connections: EVERY },
  { name: "post", title: "POST of 1 KiB", flags: POST, connections: FEW },
  { name: "tls", title: "GET over TLS", flags: TLS, connections: FEW },
  { name: "slow", title: "GET, a tenth are slow", flags: SLOW, connections: FEW },
  { name: "post-tls", title: "POST over TLS", flags: [...POST, ...TLS], connections: FEW },
  { name: "post-slow", title: "POST, a tenth slow", flags: [...POST, ...SLOW], connections: FEW },
  { name: "tls-slow", title: "TLS, a tenth slow", flags: [...TLS, ...SLOW], connections: FEW },
  {
    name: "post-tls-slow",
    title: "POST over TLS, a tenth slow",
    flags: [...POST, ...TLS, ...SLOW],
    connections: FEW,
  },
];
/** This server and the runtime's own stand next to each other, so that they share the machine's moods. */
const COMPARED = SERVERS.filter(({ name, role }) =>
  role === "this" || role === "rival" || name === "nginx"
);
const RUNTIMES = ["Deno", "Bun"] as const;

/** From how many connections on the rate counts. */
const MANY = 256;
/** Above this share of its core, the client may be what held things up. */
const ALL_OF_IT = 0.97;
/** An earlier server.ts is compared with so many connections, in so many pairs of runs. */
const EARLIER = [1, 64, 100, 128], PAIRS = 5;

const USAGE = `Usage: deno task bench:fairness [options]

  --only LOAD,...           ${LOADS.map(({ name }) => name).join(", ")}, against
                            (${USUAL.join(", ")})
  --connections NUMBER,...  how many are busy (${EVERY} for get,
                            ${FEW} for the others)
  --servers NAME,...        ${COMPARED.map(({ name }) => name).join(", ")}
  --seconds NUMBER          how long each measurement takes (4)
  --against DIRECTORY       another checkout, with whose server.ts this one is compared
  --help                    print this

With --only, --connections or --servers it prints what it finds, and leaves bench/results.md as it is.`;

function readArguments() {
  const text = { type: "string" } as const;
  const options = { only: text, connections: text, servers: text, seconds: text, against: text };
  const { values } = parseArgs({ options: { ...options, help: { type: "boolean" } } });
  const { only, connections, servers, against } = values;
  const names = (flag: string, list: string, known: string[]) => {
    const unknown = list.split(",").find((name) => !known.includes(name));
    if (unknown !== undefined) throw new Error(`--${flag}: there is no "${unknown}"`);
    return list.split(",");
  };
  const number = (flag: string, text: string) => {
    if (/^[1-9]\d*$/.test(text)) return Number(text);
    throw new Error(`--${flag} takes whole numbers from 1`);
  };
  const loads = names("only", only ?? `${USUAL}`, [...LOADS.map(({ name }) => name), "against"]);
  const all = COMPARED.map(({ name }) => name);
  const compared = names("servers", servers ?? `${all}`, all);
  if (loads.includes("against") && against === undefined) throw new Error("--against is missing");
  return {
    loads: LOADS.filter(({ name }) => loads.includes(name)),
    connections: connections?.split(",").map((text) => number("connections", text)),
    servers: COMPARED.filter(({ name }) => compared.includes(name)),
    seconds: number("seconds", values.seconds ?? "4"),
    against,
    partial: [only, connections, servers].some((value) => value !== undefined),
    help: values.help,
  };
}

// ── Measuring ────────────────────────────────────────────────────────────────────────────────

/** What busy.ts prints. */
interface Run {
  rate: number;
  least: number;
  most: number;
  p50: number;
  p99: number;
  p999: number;
  longest: number;
  longestNewcomer: number;
  failed: number;
  failure?: string;
  busy: number;
}
interface Machine {
  serverCore: string;
  clientCore: string;
  /** Has cert.pem, key.pem and ca.pem. */
  directory: string;
}

const GET = bytesOf("GET /book HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
const tlsFiles = (directory: string) => ({
  cert: `${directory}/cert.pem`,
  key: `${directory}/key.pem`,
});

/** Starts a server, lets a crowd at it, and ends it. */
async function measure(
  server: Server,
  load: Load,
  connections: number,
  seconds: number,
  { serverCore, clientCore, directory }: Machine,
): Promise<Run> {
  const secure = load.flags.includes("--tls");
  const port = freePort();
  const how = { app: "book", log: false, tls: secure ? tlsFiles(directory) : undefined } as const;
  await using process = new ServerProcess(
    server.command(port, how, directory),
    serverCore,
    directory,
  );
  const authority = secure ? await Deno.readTextFile(`${directory}/ca.pem`) : undefined;
  await process.firstAnswer(port, GET, authority);
  const client = new URL("busy.ts", import.meta.url).pathname;
  const numbers = ["--port", port, "--connections", connections, "--seconds", seconds].map(String);
  const { success, stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", 'ulimit -n "$(ulimit -Hn)"; exec taskset -c "$@"', "sh", clientCore]
      .concat(RUN.Bun, client, numbers, "--newcomers", load.flags),
    signal: AbortSignal.timeout(60_000 + 3000 * seconds),
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  const run = JSON.parse(new TextDecoder().decode(stdout)) as Run;
  if (run.failed > 0) throw new Error(`${run.failed} connections failed: ${run.failure}`);
  return run;
}

/** Runs by load, connections and server. */
class Runs {
  readonly #runs = new Map<string, Run>();
  set(load: Load, connections: number, server: Server, run: Run): void {
    this.#runs.set(`${load.name} ${connections} ${server.name}`, run);
  }
  get(load: Load, connections: number, server: Server | undefined): Run | undefined {
    return this.#runs.get(`${load.name} ${connections} ${server?.name}`);
  }
}

/** What this server does, and what an earlier one does right before or after. */
interface Pair {
  rate: [now: number, before: number];
  cpu: [now: number, before: number];
}

/** Lets wrk drive this server and an earlier one in turn, with each number of connections; the one of
 * `order` goes first. */
async function compare(
  runtime: "Deno" | "Bun",
  earlier: string,
  seconds: number,
  order: number[],
  { serverCore, clientCore, directory }: Machine,
): Promise<Map<number, Pair>> {
  const programs = [new URL("../server.ts", import.meta.url).pathname, `${earlier}/server.ts`];
  await using processes = new AsyncDisposableStack();
  const servers: { process: ServerProcess; port: number }[] = [];
  for (const program of programs) {
    const port = freePort();
    const command = commandOf(runtime, program, port, { app: "book", log: false });
    const process = processes.use(new ServerProcess(command, serverCore, directory));
    await process.firstAnswer(port, GET);
    servers.push({ process, port });
  }
  const run = async (index: number, connections: number, seconds: number) => {
    const { process, port } = servers[index];
    const before = process.cpu;
    const { requests, seconds: took, errors, closed } = await drive({
      port,
      request: GET,
      connections,
      seconds,
      cores: clientCore,
      directory,
    });
    if (errors + closed > 0) throw new Error(`wrk saw ${errors + closed} errors`);
    return { rate: requests / took, cpu: (process.cpu - before) / requests * 1e6 };
  };
  for (const index of order) await run(index, 64, WARM_UP);
  const pairs = new Map<number, Pair>();
  for (const connections of EARLIER) {
    const pair: Pair = { rate: [0, 0], cpu: [0, 0] };
    for (const index of order) {
      const { rate, cpu } = await run(index, connections, seconds);
      pair.rate[index] = rate;
      pair.cpu[index] = cpu;
    }
    pairs.set(connections, pair);
  }
  return pairs;
}

// ── Reporting ────────────────────────────────────────────────────────────────────────────────

/** Something that must hold for each number of connections; `other` is the runtime's own server. */
interface Target {
  title: string;
  from: number;
  /** The figures, and the bound of the first. */
  check(run: Run, other: Run): Check[];
  /** What a run says without another's. */
  alone?: boolean;
}
interface Check {
  mine: number;
  bound: number;
  least?: boolean;
}
const TARGETS: Target[] = [
  {
    title: "least to most answers: at least 0.5",
    from: 1,
    check: ({ least, most }) => [{ mine: least / most, bound: 0.5, least: true }],
    alone: true,
  },
  {
    title: "longest wait, ms: at most 3 times the other's, and 50",
    from: 1,
    check: (run, other) => [{ mine: run.longest, bound: 3 * other.longest + 50 }],
  },
  {
    title: "a newcomer's longest wait, ms: the same",
    from: 1,
    check: (run, other) => [{ mine: run.longestNewcomer, bound: 3 * other.longestNewcomer + 50 }],
  },
  {
    title: "p50, p99 and p99.9, ms: at most 1.5 times the other's, and 10",
    from: 1,
    check: (run, other) =>
      (["p50", "p99", "p999"] as const)
        .map((name) => ({ mine: run[name], bound: 1.5 * other[name] + 10 })),
  },
  {
    title: `requests a second, ${MANY} and more: at least 0.9 of the other's`,
    from: MANY,
    check: (run, other) => [{ mine: run.rate, bound: 0.9 * other.rate, least: true }],
  },
];
/** How far it is from its bound: above 1 it has crossed it. */
const share = ({ mine, bound, least }: Check) => least ? bound / mine : mine / bound;

type Settings = ReturnType<typeof readArguments>;
const countsOf = ({ connections }: Settings, load: Load) => connections ?? load.connections;

/** A row for each target, load and runtime: for how many of the numbers of connections it is met, and
 * the one where it is nearest to its bound, or the farthest beyond. */
function targetTable(settings: Settings, runs: Runs): string {
  const rows = [["target", "load", "runtime", "met for", "nearest at", "this", "bound", "met"]];
  for (const { title, from, check, alone } of TARGETS) {
    for (const load of settings.loads) {
      for (const runtime of RUNTIMES) {
        const find = (role: Server["role"]) =>
          settings.servers.find((server) => server.runtime === runtime && server.role === role);
        const own = find("this"), rival = find("rival");
        const counts = countsOf(settings, load).filter((count) => count >= from);
        if (own === undefined || rival === undefined && !alone || counts.length === 0) continue;
        const checked = counts.flatMap((count) => {
          const run = runs.get(load, count, own), other = runs.get(load, count, rival);
          if (run === undefined) return { count, worst: undefined, full: false }; // it has failed
          if (other === undefined && !alone) return [];
          const [worst] = check(run, other ?? run).toSorted((a, b) => share(b) - share(a));
          return { count, worst, full: Math.max(run.busy, other?.busy ?? 0) > ALL_OF_IT };
        });
        const distance = ({ worst }: typeof checked[number]) => worst ? share(worst) : Infinity;
        const [nearest] = checked.toSorted((a, b) => distance(b) - distance(a));
        if (nearest === undefined) continue;
        const met = checked.filter((one) => distance(one) <= 1).length;
        const { worst } = nearest;
        rows.push([
          title,
          load.title,
          runtime,
          `${met} of ${checked.length}`,
          `${nearest.count}${nearest.full ? " (client full)" : ""}`,
          show(worst?.mine ?? NaN),
          worst ? `${worst.least ? "≥" : "≤"} ${show(worst.bound)}` : "–",
          met === checked.length ? "yes" : "**no**",
        ]);
      }
    }
  }
  return table(rows);
}

function loadTable(settings: Settings, load: Load, runs: Runs): string {
  const heads = ["requests/s", "least", "most", "p50", "p99", "p99.9", "longest", "newcomer"];
  const rows = [["N", "server", ...heads, "client"]];
  for (const count of countsOf(settings, load)) {
    for (const server of settings.servers) {
      if (!takesPart(server, load)) continue;
      const run = runs.get(load, count, server);
      if (run === undefined) {
        rows.push([`${count}`, `${server.title}: failed`, ...heads.map(() => "–"), "–"]);
        continue;
      }
      const { rate, least, most, p50, p99, p999, longest, longestNewcomer, busy } = run;
      rows.push([
        `${count}`,
        server.title,
        ...[rate, least, most].map((number) => show(number, 0)),
        ...[p50, p99, p999, longest, longestNewcomer].map((number) => show(number)),
        busy > ALL_OF_IT ? `**${show(busy, 2)}, full**` : show(busy, 2),
      ]);
    }
  }
  return table(rows);
}
const takesPart = ({ name }: Server, load: Load) => name !== "nginx" || load.name === "get";

function earlierTable(pairs: Map<string, Map<number, Pair>[]>): string {
  const rows = [["figure", "runtime", "N", "this", "earlier", "ratio", "bound", "met"]];
  for (const [figure, title] of [["rate", "requests/s"], ["cpu", "CPU a request, µs"]] as const) {
    for (const [runtime, rounds] of pairs) {
      for (const count of EARLIER) {
        // At 100 and 128 a request costs what it does at 64, so it has no line of its own.
        if (figure === "cpu" && count !== 1 && count !== 64) continue;
        const found = rounds.map((round) => round.get(count)![figure]);
        const ratio = median(found.map(([now, before]) => now / before));
        const isMet = figure === "rate" ? ratio >= 0.95 : ratio <= 1.02;
        rows.push([
          title,
          runtime,
          `${count}`,
          ...[0, 1].map((i) =>
            show(median(found.map((pair) => pair[i])), figure === "rate" ? 0 : 2)
          ),
          show(ratio, 3),
          figure === "rate" ? "≥ 0.95" : "≤ 1.02",
          isMet ? "yes" : "**no**",
        ]);
      }
    }
  }
  return table(rows);
}

function report(settings: Settings, runs: Runs, pairs: Map<string, Map<number, Pair>[]>): string {
  let text = `${FAIRNESS}

\`deno task bench:fairness\` wrote this on ${
    new Date().toISOString().slice(0, 10)
  }: N connections, each
of which sends its next request as soon as it has its answer, for ${settings.seconds} s after a warm-up. Each server
runs on one core, and the clients (\`busy.ts\`), which know each other apart, on another. A newcomer
connects and asks once, twenty times a second; its wait is from connecting to its answer. Slow clients
think for 20 ms between an answer and the next request; least and most answers are those of the
others. Waits are in ms; one that has not ended when the time is over counts as far as it got.

How is the client sure that it was not what held things up? It runs on a core of its own, and the last
column is the share of the time in which it ran, or would have run if no other program had had that
core, as the kernel counts it. Where that is at most ${ALL_OF_IT}, it had time left in which nothing had come
that it could have read: it waited for the server. Where it is more, the row says "full": the client
may have been what held things up, and the server could perhaps do more.

`;
  if (settings.loads.length > 0) {
    text += `### Targets of fairness

"Other" is \`Deno.serve\` or \`Bun.serve\`, with the same load and as many connections. The row tells for
how many numbers of connections the target is met, and where it is nearest to its bound, or the
farthest beyond it.

${targetTable(settings, runs)}
`;
  }
  if (pairs.size > 0) {
    text += `### Beside an earlier server.ts

GETs from wrk: ${PAIRS} pairs of runs of ${settings.seconds} s, each pair with new processes, now this server first and now
the other. The ratio is the median of the pairs' ratios.

${earlierTable(pairs)}
`;
  }
  for (const load of settings.loads) {
    text += `### ${load.title}, N busy connections\n\n${loadTable(settings, load, runs)}\n`;
  }
  return text;
}

async function main(): Promise<void> {
  let settings;
  try {
    settings = readArguments();
  } catch (error) {
    console.error(`${(error as Error).message.split("\n")[0]}\n\n${USAGE}`);
    Deno.exit(2);
  }
  if (settings.help) return console.log(USAGE);
  const programs = [["bun", "-v"], ["taskset", "-h"], ["openssl", "version"]];
  if (settings.against !== undefined) programs.push(["wrk", "-v"]);
  for (const [program, flag] of programs) {
    if (outputOf(program, flag) !== undefined) continue;
    console.error(`bench:fairness needs ${program}`);
    Deno.exit(1);
  }
  settings.servers = settings.servers.filter(isInstalled);
  const { loads, servers, seconds, against, partial } = settings;
  const [serverCore, clientCore] = usableCores().map(String);
  outputOf("taskset", "-a", "-p", "-c", clientCore, `${Deno.pid}`); // off the server's core
  const directory = await Deno.makeTempDir();
  const machine = { serverCore, clientCore, directory };
  const runs = new Runs();
  const pairs = new Map<string, Map<number, Pair>[]>();
  let failed = false;
  try {
    await certify(directory);
    for (const load of loads) {
      for (const count of countsOf(settings, load)) {
        for (const server of servers) {
          if (!takesPart(server, load)) continue;
          const what = `${load.name} ${count} ${server.name}`;
          try {
            const run = await measure(server, load, count, seconds, machine);
            runs.set(load, count, server, run);
            console.error(`${what}: ${JSON.stringify(run)}`);
          } catch (error) {
            failed = true;
            console.error(`${what}: ${(error as Error).message}`);
          }
        }
      }
    }
    for (let pair = 1; against !== undefined && pair <= PAIRS; pair++) {
      const order = pair % 2 === 1 ? [0, 1] : [1, 0];
      for (const runtime of RUNTIMES) {
        if (!servers.some((one) => one.role === "this" && one.runtime === runtime)) continue;
        const found = await compare(runtime, against, seconds, order, machine);
        pairs.set(runtime, [...pairs.get(runtime) ?? [], found]);
        console.error(`against ${pair}/${PAIRS} ${runtime}: ${JSON.stringify([...found])}`);
      }
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
  const text = report(settings, runs, pairs);
  console.log(text);
  if (!partial) await writePart(FAIRNESS, text);
  if (failed) Deno.exit(1);
}

await main();
Deno.exit();
