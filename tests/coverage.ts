/**
 * How much of server.ts do the tests run? `deno task coverage` runs those that need no permission, prints
 * the share of lines and branches of each chapter that ran, and names each line that did not, in whole or
 * in part. The exit status is 1 if a test fails, if such a line is not among the {@linkcode ELSEWHERE} and
 * {@linkcode UNTESTED}, or if one of these exceptions matches no such line any more.
 *
 * `deno task coverage:whole` runs all tests, with the servers that they start as processes on Deno, and
 * names what even these do not run; then the exit status is 1 only if a test fails. What only Bun runs is
 * not measured: of Bun's commands, `bun test` alone tells its coverage, and it runs none of these tests.
 *
 * All other arguments are passed on to `deno test`.
 */

import process from "node:process";

/** What the tests without permissions can't reach: from a line that matches one to the next that matches
 * the other, and which tests run it. */
const ELSEWHERE: [from: RegExp, to: RegExp, tests: string][] = [
  [/^\/\/ 2\. Transport$/, /^\/\/ 3\. Parsing$/, "blackbox.ts, fronts.ts, hostile.ts, unix.ts"],
  [
    /^ {2}if \(proxy !== undefined\) new Proxies/,
    /^ {2}return server;$/,
    "server_test.ts, blackbox.ts, unix.ts",
  ],
  [/^function whyNot\(/, /^}$/, "blackbox.ts, unix.ts"],
  [/^ {2}noteRefused\(/, /^ {2}}$/, "service.ts, on Bun"],
  [/^\/\/ 8\. Command line$/, /^if \(import\.meta\.main\)/, "blackbox.ts, hostile.ts, unix.ts"],
];

/** Lines that they do not run in whole either, by their text, and why. */
const UNTESTED: [line: RegExp, why: string][] = [
  [/parser\.size < bytes\.length\) throw badLine\(/, "what was checked has one end"],
  [/^close\(\) {},$/, "nobody closes the connection of a request of plain values"],
  [/^(\[INSPECT\]\(\): |return this\[OWN\];)/, "Bun shows it by this: tests/fetched.ts"],
  [/^else if \(this\.length === 0\) this\.#leaving/, "an answer is put before its end"],
  [/error instanceof TlsError/, "sockets over TLS: tests/blackbox.ts"],
  [/ \?\? NOTHING_SEEN;$/, "what is refused was seen by a parser"],
  [
    /\$\{status \|\| "-"\}\$\{because\}`;$/,
    "Bun closes what waits behind the backlog: tests/service.ts",
  ],
];

/** How often each line ran, and each of the branches that begin in it. The numbers count from 1. */
interface Counts {
  lines: Map<number, number>;
  branches: [line: number, count: number][];
}

/** Runs the tests. @returns what they ran of server.ts, and whether they succeeded. */
async function measure(args: string[]): Promise<{ counts: Counts; success: boolean }> {
  const folder = await Deno.makeTempDir({ prefix: "coverage-" });
  try {
    const flags = [`--coverage=${folder}`, "--coverage-raw-data-only", "--no-prompt"];
    const test = new Deno.Command(Deno.execPath(), {
      args: ["test", "--quiet", ...flags, ...args],
    });
    const { success } = await test.spawn().status;
    const report = new Deno.Command(Deno.execPath(), {
      args: ["coverage", "--lcov", `--include=^${import.meta.resolve("../server.ts")}$`, folder],
      stderr: "inherit",
    });
    const { stdout } = await report.output();
    return { counts: countsIn(new TextDecoder().decode(stdout)), success };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Reads LCOV, of one file. */
function countsIn(lcov: string): Counts {
  const lines = new Map<number, number>();
  const branches: Counts["branches"] = [];
  for (const [, line, count] of lcov.matchAll(/^DA:(\d+),(\d+)/gm)) {
    lines.set(Number(line), Number(count));
  }
  for (const [, line, count] of lcov.matchAll(/^BRDA:(\d+),\d+,\d+,(\d+|-)$/gm)) {
    branches.push([Number(line), Number(count) || 0]);
  }
  if (lines.size === 0) throw new Error("no coverage of server.ts");
  return { lines, branches };
}

/** The numbers of the lines between two that match, and of both. */
function range(source: string[], from: RegExp, to: RegExp): [first: number, last: number] {
  const first = source.findIndex((line) => from.test(line));
  const last = source.findIndex((line, i) => i > first && to.test(line));
  if (first < 0 || last < 0) throw new Error(`server.ts has no part from ${from} to ${to}`);
  return [first + 1, last + 1];
}

/** Prints what share of each chapter ran. */
function printShares(source: string[], { lines, branches }: Counts): void {
  const headings = source.flatMap((line, i) => /^\/\/ \d+\. /.test(line) ? [i + 1] : []);
  for (const [i, first] of headings.entries()) {
    const isIn = ([line]: [number, number]) => line > first && line < (headings[i + 1] ?? Infinity);
    const share = (all: [number, number][]) => {
      const ran = all.filter(([, count]) => count > 0).length;
      return (all.length === 0 ? 100 : 100 * ran / all.length).toFixed(1).padStart(5);
    };
    const [ofLines, ofBranches] = [share([...lines].filter(isIn)), share(branches.filter(isIn))];
    const title = source[first - 1].slice(3).padEnd(24);
    console.log(`${title} ${ofLines} % of lines, ${ofBranches} % of branches`);
  }
}

async function main(): Promise<void> {
  const args = process.argv.slice(2);
  const whole = args.includes("--whole");
  const { counts, success } = await measure(args.filter((arg) => arg !== "--whole"));
  const source = (await Deno.readTextFile(new URL("../server.ts", import.meta.url))).split("\n");
  printShares(source, counts);

  const missed = [...counts.lines, ...counts.branches].filter(([, count]) => count === 0)
    .map(([line]) => line).filter((line) => !/^[\s)}\];,]*$/.test(source[line - 1]));
  const parts = ELSEWHERE.map(([from, to]) => range(source, from, to));
  const isElsewhere = (line: number) => parts.some(([from, to]) => line >= from && line <= to);
  const isUntested = (line: number) =>
    UNTESTED.some(([text]) => text.test(source[line - 1].trim()));
  const open = [...new Set(missed)].sort((a, b) => a - b)
    .filter((line) => whole || !isElsewhere(line) && !isUntested(line));
  for (const line of open) console.log(`not run: server.ts:${line}: ${source[line - 1].trim()}`);
  const stale = whole ? [] : [
    ...ELSEWHERE.filter((_, i) =>
      !missed.some((line) => line >= parts[i][0] && line <= parts[i][1])
    ),
    ...UNTESTED.filter(([text]) => !missed.some((line) => text.test(source[line - 1].trim()))),
  ];
  for (const [text] of stale) console.log(`an exception that is not needed: ${text}`);
  console.log(`${open.length} lines are not run, in whole or in part`);
  if (!success || !whole && open.length + stale.length > 0) process.exitCode = 1;
}

if (import.meta.main) await main();
