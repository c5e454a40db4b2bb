/** From samples to tables and a chart. */

import { median, outputOf } from "./measure.ts";
import { type Sample, type Server, SERVERS, TARGETS, WORKLOADS } from "./plan.ts";

const RUNTIMES = ["Deno", "Bun"] as const;
type Runtime = typeof RUNTIMES[number];

export class Results {
  readonly #samples = new Map<string, Partial<Sample>[]>();

  add(workload: string, server: string, sample: Partial<Sample>): void {
    const key = `${workload} ${server}`;
    this.#samples.set(key, [...this.#samples.get(key) ?? [], sample]);
  }
  /** The median of the rounds; NaN if there is none. */
  get(workload: string, server: Server | undefined, figure: keyof Sample): number {
    return median(this.#all(workload, server, figure));
  }
  /** The median of the rounds' ratios: what is measured one after the other has the same luck. */
  ratio(
    figure: keyof Sample,
    [workload, server]: [string, Server | undefined],
    [otherWorkload, other]: [string, Server | undefined],
  ): number {
    const mine = this.#all(workload, server, figure);
    const theirs = this.#all(otherWorkload, other, figure);
    if (mine.length !== theirs.length) return NaN;
    return median(mine.map((value, i) => theirs[i] > 0 ? value / theirs[i] : NaN));
  }
  #all(workload: string, server: Server | undefined, figure: keyof Sample): number[] {
    const samples = this.#samples.get(`${workload} ${server?.name}`) ?? [];
    return samples.map((sample) => sample[figure] ?? NaN);
  }
  has(workload: string, server: Server): boolean {
    return this.#samples.has(`${workload} ${server.name}`);
  }
}

/** The parts of results.md, each of which another program writes: how they begin. */
export const MAIN = "# What a request costs", FETCH = "## Applications written for Fetch";
export const FAIRNESS = "## Fairness", SCALING = "## Scaling";
export const WEBSOCKET = "## WebSocket";
const PARTS = [MAIN, FETCH, FAIRNESS, SCALING, WEBSOCKET];

/** Writes a part of results.md, and leaves the others as they are. */
export async function writePart(part: string, text: string): Promise<void> {
  const file = new URL("results.md", import.meta.url);
  const old = (await Deno.readTextFile(file)).split(
    /^(?=## (?:Applications written for Fetch|Fairness|Scaling|WebSocket)$)/m,
  );
  const parts = PARTS.map((one) =>
    one === part ? text : old.find((it) => it.startsWith(one)) ?? ""
  );
  await Deno.writeTextFile(file, parts.filter(Boolean).join("\n"));
  outputOf(Deno.execPath(), "fmt", file.pathname);
}

const find = (runtime: Runtime | undefined, role: Server["role"]) =>
  SERVERS.find((server) => server.runtime === runtime && server.role === role);
/** A number with as many digits as say something; a dash if there is none. */
export function show(
  number: number,
  digits = Math.abs(number) < 10 ? 2 : Math.abs(number) < 100 ? 1 : 0,
): string {
  return Number.isFinite(number) ? number.toFixed(digits) : "–";
}

export function table(rows: string[][]): string {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  const isText = widths.map((_, i) => i === 0 || /^[*`]*[A-Za-z]/.test(rows[1]?.[i] ?? ""));
  const cell = (text: string, i: number) =>
    isText[i] ? text.padEnd(widths[i]) : text.padStart(widths[i]);
  const line = (row: string[]) => `| ${row.map(cell).join(" | ")} |`;
  const rule = widths.map((width, i) =>
    isText[i] ? "-".repeat(width) : `${"-".repeat(width - 1)}:`
  );
  return [line(rows[0]), line(rule), ...rows.slice(1).map(line)].join("\n") + "\n";
}

function targetTable(results: Results): string {
  const rows = [["target", "runtime", "this", "other", "ratio", "bound", "met"]];
  for (const { title, workload, figure, against, bound } of TARGETS) {
    for (const runtime of RUNTIMES) {
      const own = find(runtime, "this");
      const other: [string, Server | undefined] = against === "get"
        ? ["get", own]
        : [workload, find(runtime, against)];
      const mine = results.get(workload, own, figure);
      const theirs = results.get(...other, figure);
      if (Number.isNaN(mine / theirs)) continue;
      const ratio = results.ratio(figure, [workload, own], other);
      const limit = bound[runtime], isLeast = figure === "rate";
      const isMet = isLeast ? ratio >= limit : ratio <= limit;
      const met = Number.isNaN(ratio) ? "–" : isMet ? "yes" : "**no**";
      const allowed = `${isLeast ? "≥" : "≤"} ${show(limit, 2)}`;
      const cells = [show(mine), show(theirs), show(ratio, 2), allowed, met];
      rows.push([title, runtime, ...cells]);
    }
  }
  return table(rows);
}

function workloadTable(results: Results, workload: string): string {
  const loaded = ["CPU, µs", "ratio", "requests/s", "p50, ms", "p99, ms"];
  const heads = {
    start: ["start, ms"],
    idle: ["CPU, µs", "ratio", "KiB each"],
    get: loaded,
    get512: loaded,
  }[workload] ?? ["CPU, µs", "ratio"];
  const rows = [["server", ...heads]];
  for (const server of SERVERS) {
    if (!results.has(workload, server)) continue;
    const get = (figure: keyof Sample) => results.get(workload, server, figure);
    const rival = find(server.runtime, "rival");
    const ratio = results.ratio("cpu", [workload, server], [workload, rival]);
    const cells: Record<string, string> = {
      "start, ms": show(get("start"), 0),
      "CPU, µs": show(get("cpu")),
      "ratio": show(ratio, 2),
      "requests/s": show(get("rate"), 0),
      "p50, ms": show(get("p50") / 1000, 2),
      "p99, ms": show(get("p99") / 1000, 2),
      "KiB each": show(get("perConnection") / 1024, 1),
    };
    rows.push([server.title, ...heads.map((head) => cells[head])]);
  }
  return table(rows);
}

export function machine(): string {
  const [, model] = /model name\s*:\s*(.*)/.exec(Deno.readTextFileSync("/proc/cpuinfo")) ?? [];
  const versions = [
    `Deno ${Deno.version.deno}`,
    ["Bun", outputOf("bun", "--version")],
    ["nginx", outputOf("nginx", "-v")],
    ["Python", outputOf("python3", "--version")],
    ["wrk", outputOf("wrk", "-v")],
  ].map((item) => {
    if (typeof item === "string") return item;
    const version = item[1]?.match(/\d+(\.\d+)+/)?.[0];
    return version && `${item[0]} ${version}`;
  }).filter(Boolean).join(", ");
  return `${
    model ?? Deno.build.arch
  }, ${navigator.hardwareConcurrency} cores, Linux ${Deno.osRelease()}.\n${versions}.`;
}

export function report(results: Results, { rounds, seconds }: Record<string, number>): string {
  let text = `# What a request costs

\`deno task bench\` wrote this on ${
    new Date().toISOString().slice(0, 10)
  }: each figure is the median
of ${rounds} rounds of ${seconds} s.

${machine()}

Each server runs on one core, and wrk, with one thread, on another. All are measured in turn, one
after the other in each round, and each time as a new process, after three seconds to warm up, since
the engines need two to compile what runs often; so a machine that is slower for a while is slower
for all. Before that, one answer is compared with what it should be: status, header fields and body.
A run in which wrk sees a failed request or another status than 200 does not count.

CPU is the server's own time a request, user and system, all threads (utime + stime in /proc). It is
the figure to compare: requests a second and latency are those of a server that is sent as much as
it can take, or as much as wrk can send; and where other programs share the machine, the 99th
percentile tells how long those had the core. The ratio is to the server that comes with the same
runtime: the median of each round's, since what is measured one after the other shares the machine's
moods. Ratios hold from machine to machine, better than other figures do.

## Targets

CPU time and latency in µs, memory in bytes, start in ms. The bound is the ratio's. "Other" is \`Deno.serve\` or \`Bun.serve\`,
where nothing else is said.

${targetTable(results)}
`;
  for (const { name, title } of WORKLOADS) {
    if (!SERVERS.some((server) => results.has(name, server))) continue;
    text += `## ${title}\n\n${workloadTable(results, name)}\n`;
  }
  return text + `## What is compared

- The log is off, but where it is said to be on; it goes to a file then.
- \`Deno.serve\`, \`Bun.serve\` and \`node:http\` run the application of \`handlers.ts\`, written for
  them (\`servers/app.ts\`, \`servers/node-http.ts\`). "Static routes" is Bun's way to give a response
  beforehand, for which no function is called; the application can't be written like that, since it
  looks at what is posted, so it is no rival but worth knowing.
- The floors answer every read with the same bytes and look at nothing. They are in the workloads in
  which a read is a request.
- nginx answers the same bytes from its configuration, and the megabyte from a file with sendfile.
  It runs as one process.
- The files lie in the page cache. This server serves them by \`extras/files.ts\`, which finds out where
  links lead and tells type, date and tag; the servers of the runtimes look at nothing but the name, and
  tell the length. \`Bun.serve\` and nginx leave the larger file to the kernel (sendfile).
- The pool of three threads in Python answers one request a connection, as such servers are taught:
  kept open, three connections would keep all others waiting. So it is in that workload alone.
- \`Bun.serve\` closes a connection as it is asked to, but its answer does not say \`Connection: close\`.
  wrk counts each such end as an error, which is overlooked in that workload.
- A workload's table has the figures that a target is set for, and no others.
- Connections are 64 where nothing else is said. An idle connection has had one answer before.
  The memory of one is what 6,000 add to 2,000, which got what memory the warm-up left.
- This server's limit of connections and its idle timeout are raised, since the others have none as
  low; everything else is as it comes.
`;
}

/** Bars: this server's CPU time, as a part of its rival's. Those beyond twice as much are cut off there:
 * the figures beside them tell. */
export function chart(results: Results): string {
  const rows = WORKLOADS.filter(({ name }) =>
    RUNTIMES.some((runtime) => results.get(name, find(runtime, "rival"), "cpu") > 0)
  );
  const ratios = rows.flatMap(({ name }) =>
    RUNTIMES.map((runtime) =>
      results.ratio("cpu", [name, find(runtime, "this")], [name, find(runtime, "rival")])
    )
  );
  const longest = Math.min(2, Math.max(1.1, ...ratios.filter(Number.isFinite)));
  const left = 290, right = left + 400, unit = 400 / longest, rowHeight = 52, top = 64;
  const width = right + 130, height = top + rows.length * rowHeight + 12;
  let bars = "";
  rows.forEach(({ name, title }, row) => {
    const y = top + row * rowHeight;
    bars += `<text x="${left - 12}" y="${y + 23}" text-anchor="end">${title}</text>\n`;
    RUNTIMES.forEach((runtime, i) => {
      const mine = results.get(name, find(runtime, "this"), "cpu");
      const theirs = results.get(name, find(runtime, "rival"), "cpu");
      const ratio = ratios[row * RUNTIMES.length + i];
      if (!(ratio > 0)) return;
      const length = Math.min(ratio, longest) * unit, at = y + 2 + i * 19;
      bars += `<rect class="${runtime}" x="${left}" y="${at}" width="${length.toFixed(1)}" ` +
        `height="17" rx="2"/>\n<text class="small" x="${right + 12}" ` +
        `y="${at + 13}">${show(mine)} / ${show(theirs)} µs</text>\n`;
    });
  });
  const one = (left + unit).toFixed(1);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="CPU time a request, this server to the runtime's own">
<style>
  text { font: 14px system-ui, sans-serif; fill: #1f2328; }
  .small { font-size: 12px; }
  .Deno { fill: #3d6fb4; } .Bun { fill: #d98b2b; }
  .back { fill: #fff; }
  line { stroke: #8b949e; stroke-dasharray: 4 3; }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3; } .back { fill: #0d1117; } }
</style>
<rect class="back" width="${width}" height="${height}"/>
<text x="12" y="24">CPU time a request, as a part of what the runtime's own server takes</text>
<rect class="Deno" x="12" y="38" width="12" height="12" rx="2"/><text class="small" x="30" y="49">on Deno, to Deno.serve</text>
<rect class="Bun" x="182" y="38" width="12" height="12" rx="2"/><text class="small" x="200" y="49">on Bun, to Bun.serve</text>
<text class="small" x="${one}" y="${top - 12}" text-anchor="middle">the same</text>
<line x1="${one}" y1="${top - 6}" x2="${one}" y2="${height - 8}"/>
${bars}</svg>
`;
}
