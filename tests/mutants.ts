/**
 * Are the tests good enough? This makes mistakes in a copy of server.ts, one at a time, and tells which
 * of them no test notices: in chapter 3, and in what chapter 4 has to do with the end of a message.
 *
 * `deno task mutants` makes all of them. `--chapter 3` or `--lines 700-800` makes a part, and
 * `--sample 40 --seed 1` so many of them, by chance. `--list` only tells what they are.
 *
 * A mutant is run on the quick tests first, and if it survives, on all of those that need no
 * permission, unless there is `--fast`. The exit status is 1 if one survives that is not among the
 * {@linkcode EQUIVALENT}.
 */

import process from "node:process";
import { parseArgs } from "node:util";

/** Mutants that do the same as what they were made of: by the text of the line, that of the mutant, and
 * why. */
const EQUIVALENT: [from: RegExp, to: RegExp, why: string][] = [
  [/^const (CLASS|LOWER_CASE) = /, /257\);$/, "there is no such byte"],
  [/^for \(let byte = 0; byte < 256;/, /<= 256|257/, "there is no such byte"],
  [/^for \(let byte = 0; byte < 256;/, /= 1;/, "NUL is part of nothing"],
  [/^const FIELD_LF = 11, HEAD_LF = /, /13;$/, "a state by another number"],
  [/^const LOWER_CASE = /, /255\);$/, "nothing is no letter of a name, as 0xff is none"],
  [/^const KNOWN_TEXTS: /, /"x"/, "the bytes that it would have been read from are NUL"],
  [/^const size = to - from;$/, /\+/, "a text is remembered less often, or elsewhere"],
  [/^if \(size === 0 \|\| size > MAX/, /^return|!== 0|>=|=== 1/, "a text is remembered less often"],
  [/^const slot = /, /- size|3[02] \*|[68] \*|\d \+ |- [02]\]/, "a text is remembered elsewhere"],
  [/^while \(i < size && bytes/, /^$|[<>]= size|- i\]/, "a text is found less often"],
  [/^if \(i === size\) return known;$/, /^$/, "a text is never found"],
  [/^KNOWN_BYTES\.set/, /^$/, "a text is never found"],
  [/^#(methodAt|targetEnd|fieldsAt|nameAt|nameEnd) = 0;$/, /1;$/, "it is set before it is read"],
  [/^#protocol = "";$/, /"x"/, "it is set before it is read"],
  [/^(this\.)?#contentLength = -1;$/, /-2;$/, "any number below 0 is none"],
  [/^contentLength: this\.#contentLength < 0 \? 0/, /(<= 0|< 1) \?/, "0 is 0"],
  [
    /^(this\.#connection = this\.)?#(connection|expectation) = "";$/,
    /#connection.*"x"/,
    "no option",
  ],
  [/^const stop = end < limit/, /<= limit/, "they are equal then"],
  [/^this\.#nameEnd = i\+\+ - start;$/, /= i(--)? - start/, "what is read again may be in a value"],
  [/^while \(at < end && \(bytes\[at\]/, /<= end/, "CR is there"],
  [/^while \(at < end && \(bytes\[end - 1\]/, /<= end/, "a value with nothing in it stays empty"],
  [/^knownHost = authority;$/, /^$/, "it is only checked again"],
  [/^if \(this\.#expectation === ""/, /^$/, "a shortcut: what follows says the same"],
  [/^if \(this\.#connection === /, /^$|"x"/, "a shortcut: what follows says the same"],
  [/^const KNOWN_NAMES: /, /21/, "no name has the length"],
  [/^while \(i < name\.length && LOWER_CASE/, /<= name/, "what is behind a name is no number"],
  [/^while \(at < end && \(text/, /<= end/, "there is nothing behind a text"],
  [/^if \(protocol === "HTTP\/1\.1"\)/, /^$/, "a shortcut: what follows says the same"],
  [/^if \(parts === null \|\| Number\(parts\[2\]/, /\?\? 1/, "1 is a port as good as 0"],
  [/^if \(parts\[1\]!\[0\] !== "\["/, /parts\[0\]!\[0\]/, "they begin with the same character"],
  [/^const parts = \/\^https/, /\]\+\)/, "no authority is none either"],
  [/^const parts = \/\^https/, /\(\.\*\)\/i/, "a target has no line ends"],
  [/^(for|return) .*this\.#find\(name, 0\)/, /> 1/, "no name is empty"],
  [/^return 0;$/, /^$/, "undefined is not above 0 either"],
  [/^return lf < 0 \? this/, /(<= 0|< 1) \?/, "no line is empty"],
  [/^if \(letter !== /, /> 123/, "no name has { or ["],
  [/^(size = 0|done = false);$/, /^$|= 1;$/, "it is set before it is read, or as good as false"],
  [/^while \(start < end && this\.size/, /<= end/, "of nothing, nothing is read"],
  [/^this\.size = parseInt/, /match\[0\]/, "what is behind a size is no digit"],
  [/^return undefined;$/, /^$/, "it is what a function returns at its end"],
];

interface Mutant {
  /** Counted from 0. */
  line: number;
  from: string;
  to: string;
}

/** What is replaced in code outside of literals. */
const CODE: [pattern: RegExp, ...replacements: string[]][] = [
  [/ === /g, " !== "],
  [/ !== /g, " === "],
  [/ && /g, " || "],
  [/ \|\| /g, " && "],
  [/ \?\? /g, " && "],
  [/ < /g, " <= ", " >= "],
  [/ <= /g, " < ", " > "],
  [/ > /g, " >= ", " <= "],
  [/ >= /g, " > ", " < "],
  [/ \+ /g, " - "],
  [/ - /g, " + "],
  [/ \* /g, " + "],
  [/ & /g, " | "],
  [/ \|= /g, " &= "],
  [/ \+= /g, " -= "],
  [/ -= /g, " += "],
  [/\+\+/g, "--", ""],
  [/--/g, "++", ""],
  [/!(?=[\w(/])/g, ""],
  [/\btrue\b/g, "false"],
  [/\bfalse\b/g, "true"],
  [/\bTAB\b/g, "LF"],
  [/\bSPACE\b/g, "TAB"],
  [/\bCR\b/g, "LF"],
  [/\bLF\b/g, "CR"],
];
/** Statements on a line of their own, which are left out. Declarations are not. */
const STATEMENT =
  /^(if \(.*\) |while \(.*\) )?(?!const |let |readonly |static |export |type )[\w#.[\]]+.*;$/;

const STRING = String.raw`"(?:[^"\\]|\\.)*"|${"`"}(?:[^${"`"}\\]|\\.)*${"`"}`;
const REGEXP = String.raw`(?<=[=(,!]\s*|^\s*)/(?![/*])(?:\[(?:[^\]\\]|\\.)*\]|[^/\\]|\\.)+/[a-z]*`;
const COMMENT = "//.*$";

/** All mutants of a line of code. */
function mutationsOf(code: string): string[] {
  const found: string[] = [];
  const trimmed = code.trim();
  if (STATEMENT.test(trimmed.replace(/\s+\/\/.*$/, ""))) {
    found.push("");
    const body = /^(?:if|while) \(.*\) (?=(?:throw|return|this\.|[a-z]+(?:\+\+|--)))/.exec(trimmed);
    if (trimmed.startsWith("if ") && body) found.push(trimmed.slice(body[0].length)); // always
  }
  const put = (at: number, length: number, text: string) => {
    found.push(code.slice(0, at) + text + code.slice(at + length));
  };
  let at = 0;
  for (const literal of code.matchAll(new RegExp(`${COMMENT}|${STRING}|${REGEXP}`, "g"))) {
    inCode(code.slice(at, literal.index), at);
    if (!literal[0].startsWith("//")) inLiteral(literal[0], literal.index);
    at = literal.index + literal[0].length;
  }
  inCode(code.slice(at), at);
  return found;

  function inCode(part: string, from: number): void {
    for (const [pattern, ...replacements] of CODE) {
      for (const { index, 0: text } of part.matchAll(pattern)) {
        for (const replacement of replacements) put(from + index, text.length, replacement);
      }
    }
    inNumbers(part, from);
  }
  function inNumbers(part: string, from: number): void {
    for (const { index, 0: text } of part.matchAll(/(?<![\w.#\\])\d+(?![\w.])/g)) {
      for (const other of [Number(text) + 1, Number(text) - 1]) {
        if (other >= 0) put(from + index, text.length, `${other}`);
      }
    }
  }
  function inLiteral(literal: string, from: number): void {
    const isPattern = literal.startsWith("/") || /^[`"].*[\[(^]/.test(literal);
    if (!isPattern) {
      // What is said to people has spaces. A type is none of the program.
      const isType = /\| $/.test(code.slice(0, from)) ||
        /^ \|/.test(code.slice(from + literal.length)) &&
          !/^ \|\|/.test(code.slice(from + literal.length));
      if (literal.includes(" ") || isType) return;
      put(
        from,
        literal.length,
        literal === '""' ? '"x"' : `${literal.slice(0, -2)}~${literal.at(-1)}`,
      );
      return;
    }
    for (
      const { index, 0: text } of literal.matchAll(
        /\^(?!_)|\$(?![%{])|[+*](?=[)\]"/?$(:`]|$)|\/i$/g,
      )
    ) {
      if (/\[[^\]]*$/.test(literal.slice(0, index))) continue; // It is one of a class.
      const replacement = text === "+" ? "*" : text === "*" ? "+" : text === "/i" ? "/" : "";
      put(from + index, text.length, replacement);
    }
    for (const { index, 0: text } of literal.matchAll(/\{\d+(,\d+)?\}/g)) {
      inNumbers(text, from + index);
    }
    // A class without one of its members.
    for (const { index, 1: members } of literal.matchAll(/\[((?:[^\]\\]|\\.)+)\]/g)) {
      const pattern = /\\\\?x[0-9a-f]{2}(?:-\\\\?x[0-9a-f]{2})?|\\\\.|\\.|[^\\]-[^\\]|[^]/g;
      for (const member of members.matchAll(pattern)) {
        if (member[0] === "^" && member.index === 0) continue;
        put(from + index + 1 + member.index, member[0].length, "");
      }
    }
  }
}

/** Which lines are mutated: those from one text to another. */
const PARTS: [chapter: string, from: RegExp, to: RegExp][] = [
  ["3", /^\/\/ 3\. Parsing/, /^\/\/ 4\. Bodies/],
  ["4", /^export class HttpHeaders/, /^\/\*\* Buffers of the sizes/],
  ["4", /^const TOKENS/, /^\/\*\* What content, in or out/],
];

function mutantsOf(lines: string[], chapter: string | undefined): Mutant[] {
  const mutants: Mutant[] = [];
  for (const [of, from, to] of PARTS) {
    if (chapter !== undefined && chapter !== of) continue;
    const first = lines.findIndex((line) => from.test(line));
    const last = lines.findIndex((line) => to.test(line));
    if (first < 0 || last < first) throw new Error(`no part from ${from} to ${to}`);
    let isType = false;
    for (let line = first; line < last; line++) {
      const code = lines[line];
      if (/^(export )?interface /.test(code)) isType = true;
      if (code === "}") isType = false;
      if (isType || /^\s*(\/\/|\/\*\*|\*)/.test(code)) continue;
      const others = new Set(mutationsOf(code));
      for (const to of others) mutants.push({ line, from: code.trim(), to: to.trim() });
    }
  }
  return mutants;
}

function isEquivalent(mutant: Mutant): boolean {
  return EQUIVALENT.some(([from, to]) => from.test(mutant.from) && to.test(mutant.to));
}

/** The copy that mutants are put into. */
class Copy implements AsyncDisposable {
  readonly #folder: string;
  readonly #lines: string[];

  private constructor(folder: string, lines: string[]) {
    this.#folder = folder;
    this.#lines = lines;
  }
  static async make(lines: string[]): Promise<Copy> {
    const folder = await Deno.makeTempDir({ prefix: "mutants-" });
    const names = [...Deno.readDirSync(".")].map(({ name }) => name);
    const args = ["-r", ...names.filter((name) => !name.startsWith(".")), folder];
    await new Deno.Command("cp", { args }).output();
    return new Copy(folder, lines);
  }
  /** Whether a test notices that a line is another one. */
  async notices({ line, to }: Mutant, stages: Stage[]): Promise<boolean> {
    await Deno.writeTextFile(`${this.#folder}/server.ts`, this.#lines.with(line, to).join("\n"));
    for (const stage of stages) {
      if (!await this.#succeeds(stage)) return true;
    }
    return false;
  }
  async #succeeds({ args, most }: Stage): Promise<boolean> {
    const child = new Deno.Command(Deno.execPath(), {
      args,
      cwd: this.#folder,
      stdout: "null",
      stderr: "null",
    }).spawn();
    const timer = setTimeout(() => child.kill("SIGKILL"), most); // Some never end.
    const { success } = await child.status;
    clearTimeout(timer);
    return success;
  }
  /** Checks that the tests succeed as long as nothing is wrong, and finds out how long they take. */
  async rehearse(stages: Stage[]): Promise<void> {
    for (const stage of stages) {
      const started = performance.now();
      if (await this.notices({ line: 0, from: "", to: this.#lines[0] }, [stage])) {
        throw new Error(`${stage.args.join(" ")} fails without any mutant`);
      }
      stage.most = 2000 + 5 * (performance.now() - started);
    }
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.#folder, { recursive: true });
  }
}
/** Some of the tests: how they are run, and for how many milliseconds at most. */
interface Stage {
  args: string[];
  most: number;
}
const OFFLINE = ["--no-check", "--no-prompt", "--import-map=tests/offline.json"];
/** The first finds most of what never ends, which costs the most time. */
const QUICK: Stage[] = ["first", "second"].map((stage) => ({
  args: ["run", ...OFFLINE, "tests/mutants.ts", "--quick", stage],
  most: 60_000,
}));
const THOROUGH: Stage = {
  args: ["test", ...OFFLINE, "--quiet", "--fail-fast", "server_test.ts"],
  most: 300_000,
};

/** The tests that find most mutants, the fastest first. Ends the process at the first that fails. */
async function runQuickly(stage: string): Promise<never> {
  const { runCases, runHeads } = await import("./fuzz.ts");
  if (stage === "first") {
    runHeads(1, 2000);
    await runCases(1, 50);
    process.exit(0);
  }
  runHeads(2001, 18_000);
  const { NEAR } = await import("./names.ts");
  for (const [, run] of NEAR) await run();
  process.exit(0);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    args: process.argv.slice(2).filter((arg) => arg !== "--"),
    options: {
      chapter: { type: "string" },
      lines: { type: "string" },
      sample: { type: "string" },
      seed: { type: "string", default: "1" },
      list: { type: "boolean" },
      fast: { type: "boolean" },
      quick: { type: "string" },
    },
  });
  if (values.quick !== undefined) await runQuickly(values.quick);
  const { randomNumbers } = await import("./fuzz.ts");
  const lines = (await Deno.readTextFile("server.ts")).split("\n");
  const all = mutantsOf(lines, values.chapter);
  const [from, to] = (values.lines ?? "1-999999").split("-").map(Number);
  let mutants = all.filter(({ line }) => line + 1 >= from && line + 1 <= to);
  const known = mutants.filter(isEquivalent).length;
  mutants = mutants.filter((mutant) => !isEquivalent(mutant));
  if (values.sample !== undefined) {
    const random = randomNumbers(Number(values.seed));
    const drawn = mutants.map((mutant) => ({ mutant, lot: random() }));
    drawn.sort((a, b) => a.lot - b.lot).length = Math.min(drawn.length, Number(values.sample));
    mutants = drawn.map(({ mutant }) => mutant).sort((a, b) => a.line - b.line);
  }
  const show = ({ line, from, to }: Mutant) =>
    `server.ts:${line + 1}: ${from}\n  made ${to || "nothing"}`;
  if (values.list) return console.log(mutants.map(show).join("\n"));

  await using copy = await Copy.make(lines);
  await copy.rehearse(QUICK);
  const stages = values.fast ? QUICK : [...QUICK, THOROUGH];
  let survivors = 0;
  for (const [i, mutant] of mutants.entries()) {
    if (i % 100 === 0) console.log(`${i} of ${mutants.length} mutants`);
    if (await copy.notices(mutant, stages)) continue;
    survivors++;
    console.log(`survives: ${show(mutant)}`);
  }
  const stale = values.chapter === undefined
    ? EQUIVALENT.filter(([from, to]) => !all.some((one) => from.test(one.from) && to.test(one.to)))
    : [];
  for (const [from, to] of stale) console.log(`no such mutant any more: ${from}\n  made ${to}`);
  console.log(`${mutants.length} mutants, ${survivors} survive; ${known} more are equivalent`);
  if (survivors + stale.length > 0) process.exitCode = 1;
}

if (import.meta.main) await main();
