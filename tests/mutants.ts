/**
 * Are the tests good enough? This makes mistakes in a copy of server.ts, one at a time, and tells which
 * of them no test notices: in all of chapter 3, and in what is {@linkcode DRAWN} of chapters 4 and 5.
 *
 * `deno task mutants` makes all of them. `--chapter 3` or `--lines 700-800` makes a part, and
 * `--sample 40 --seed 1` so many of them, by chance. `--list` only tells what they are.
 *
 * A mutant is run on all tests that need no permission, until one fails; with `--fast` only on those
 * that come {@linkcode FIRST}. The exit status is 1 if one survives that is not among the
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
  [
    /^\/\^\(\?:\\\[\(/,
    /\]\]\+\)|\(\[\^:\]\+\)|1,6\}|\(\[\^:\]\*:|:\[\^\]\*/,
    "no address and no port is such",
  ],
  [/^const address = readAddress/, /"x"/, "neither is an address"],
  [/^function schemeOf/, /"x"/, "neither is a scheme"],
  [
    /^if \(at > 0 && list\[at - 1\] !== "," &&/,
    />= 0|at > 1/,
    "what stands alone is malformed, too",
  ],
  [/^while \(end > 0 && isPart/, />= 0/, "there is nothing before a text"],
  [/^for \(let at = closing; at > 0;\)/, />= 0|> 1/, "what a list begins with is no value"],
  [
    /^const QUOTED_TEXT/,
    /\[\^\\\\\]/,
    "a text is looked for from its last quote to the one before",
  ],
  [/^return -1;$/, /^$|[02];$/, "there is no equals sign either"],
  [/^const slashes = at - /, /at \+/, "as odd, or as even"],
  [/^for \(let steps = 0; steps < STEPS_A_TURN/, /<= |= 1/, "one step more or less"],
  [/^content: "",$/, /"x"/, "it is set before it is read"],
  [/^if \(FIELD_KINDS\.size/, /^$|[<>]=/, "what is known of a name is only found out again"],
  [/^const dated = date === ""/, /"x"/, "whom the backlog refuses gets no date: a test of sockets"],
  [/^const parts = \/\^bytes=/, /\)\[(\\t| )\]\*\$/, "a value has no white space at its end"],
  [/^: parseDate\(ifRange\) === modified/, /<= Date|1001|999/, "a millisecond more or less"],
  [
    /^if \(first !== "" && last !== ""/,
    /first !== "x"/,
    "no number is below that of an empty text",
  ],
  [/^if \(text === null\) return NaN;$/, /^$/, "null is no date either"],
  [/^\[, (day|month) = "", /, /"x"/, "a date has as many parts"],
  [/^const \[hour = 0, /, /= 1/, "a date has as many parts"],
  [
    /^if \(index < 0 \|\| hour > 23/,
    /hour > 24/,
    "24:00 is of another day, which is looked at, too",
  ],
  [/^return new Date\(date - \(second/, /1001|999/, "a leap second is longer"],
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
  [/(?<![\w)\]])!(?=[\w(/])/g, ""],
  [/\btrue\b/g, "false"],
  [/\bfalse\b/g, "true"],
  [/\bTAB\b/g, "LF"],
  [/\bSPACE\b/g, "TAB"],
  [/\bCR\b/g, "LF"],
  [/\bLF\b/g, "CR"],
];
/** Statements on a line of their own, which are left out. Declarations are not. */
const STATEMENT =
  /^(if \(.*\) |while \(.*\) )?(?!const |let |readonly |static |export |type |#?\w+: [^=]*;$)[\w#.[\]]+.*;$/;

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
      const isType = /(\| |\b[A-Z]\w+\[|\w\)\[)$/.test(code.slice(0, from)) ||
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

/** The chapters that are mutated: which begins where. */
const CHAPTERS: [chapter: string, from: RegExp, to: RegExp][] = [
  ["3", /^\/\/ 3\. Parsing/, /^\/\/ 4\. Bodies/],
  ["4", /^\/\/ 4\. Bodies/, /^\/\/ 5\. Responses/],
  ["5", /^\/\/ 5\. Responses/, /^\/\/ 6\. The connection/],
];
/** What is mutated of a chapter, by the names of classes, functions and constants: where all mutants have
 * been looked at. Of chapter 4 these are the fields of a request, the framing of chunks, and what proxies
 * tell; of chapter 5 all but frozen answers. */
const DRAWN: Record<string, RegExp> = {
  "3": /^/,
  "4": RegExp(
    "^(HttpHeaders|isSameName|TOKENS|FIELD_|CHUNK|TRAILER|Chunk|tooExtended|badChunk|readTold|schemeOf|" +
      "authorityOf|clientOf|nodesOf|readNode|HIDDEN_NODE|QUOTED_TEXT|elementsOf|readElement|isBlank|" +
      "isTokenPart|startOf|openingQuote)",
  ),
  "5": /^(?!FROZEN|FrozenAnswer|frozenAnswer|isDeepFrozen)/,
};

function mutantsOf(lines: string[], chapter: string | undefined): Mutant[] {
  const mutants: Mutant[] = [];
  for (const [of, from, to] of CHAPTERS) {
    if (chapter !== undefined && chapter !== of) continue;
    const first = lines.findIndex((line) => from.test(line));
    const last = lines.findIndex((line) => to.test(line));
    if (first < 0 || last < first) throw new Error(`no part from ${from} to ${to}`);
    let isDrawn = true;
    for (let line = first; line < last; line++) {
      const code = lines[line];
      const declared = DECLARATION.exec(code);
      if (declared) isDrawn = !/interface|type/.test(declared[1]) && DRAWN[of].test(declared[2]);
      if (!isDrawn || /^\s*(\/\/|\/\*\*|\*)/.test(code)) continue;
      const others = new Set(mutationsOf(code));
      for (const to of others) mutants.push({ line, from: code.trim(), to: to.trim() });
    }
  }
  return mutants;
}
const DECLARATION = /^(?:export )?(?:async )?(class|function\*?|const|let|interface|type) (\w+)/;

function isEquivalent(mutant: Mutant): boolean {
  return EQUIVALENT.some(([from, to]) => from.test(mutant.from) && to.test(mutant.to));
}

/** The tests that find most mutants soon. They are run first. */
const FIRST = RegExp(
  "^(every row|9112 §[67]|9110 §(5\\.5|5\\.6|1[345])|header fields|statuses|fields as|every kind|" +
    "a response|an upgrade|an error that|content without|what a cond|what Fetch|the log explains|" +
    "preconditions|a stream is told|what is malf|a chain|a well-formed|whatever a client|only what the)",
);

/** The copy that mutants are put into. */
class Copy implements AsyncDisposable {
  readonly #folder: string;
  readonly #lines: string[];
  /** The names of tests in the order in which they are run. */
  #order: string[] = [];
  /** Milliseconds that each took when it was run first. */
  readonly #took = new Map<string, number>();

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
  async notices({ line, to }: Mutant, isFast = false): Promise<boolean> {
    await Deno.writeTextFile(`${this.#folder}/server.ts`, this.#lines.with(line, to).join("\n"));
    const [success, name] = await this.#run(isFast);
    if (success) return false;
    // What has noticed this one may notice the next.
    if (name !== "") this.#order = [name, ...this.#order.filter((one) => one !== name)];
    return true;
  }
  /** Runs tests until one fails, or does not end. Tells whether none did, and which was the last. */
  async #run(isFast: boolean): Promise<[success: boolean, last: string]> {
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--no-check",
        "--no-prompt",
        "--import-map=tests/offline.json",
        "tests/mutants.ts",
        "--run",
      ],
      cwd: this.#folder,
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const stdin = child.stdin.getWriter();
    const asked = new TextEncoder().encode(JSON.stringify({ order: this.#order, isFast }));
    await stdin.write(asked).then(() => stdin.close()).catch(() => {}); // It may have failed to load.
    let last = "", since = performance.now();
    const kill = () => child.kill("SIGKILL");
    const note = () => {
      if (last !== "" && !this.#took.has(last)) this.#took.set(last, performance.now() - since);
    };
    let timer = setTimeout(kill, 60_000);
    let rest = "";
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      for (const line of lines) {
        if (!line.startsWith(BEGINS)) continue;
        clearTimeout(timer);
        note();
        last = line.slice(BEGINS.length);
        since = performance.now();
        timer = setTimeout(kill, 2000 + 5 * (this.#took.get(last) ?? 5000));
      }
    }
    const { success } = await child.status;
    clearTimeout(timer);
    note();
    return [success, last];
  }
  /** Checks that the tests succeed as long as nothing is wrong, and finds out how long they take. */
  async rehearse(): Promise<void> {
    const [success, last] = await this.#run(true);
    if (!success) throw new Error(`${last}: it fails without any mutant`);
    this.#order = [...this.#took].sort((a, b) => a[1] - b[1]).map(([name]) => name);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.#folder, { recursive: true });
  }
}
const BEGINS = "begins: ";

/** Runs the tests, as `deno test` does that has no permissions. Ends the process at the first that fails. */
async function runTests(): Promise<never> {
  const tests = new Map<string, () => void | Promise<void>>();
  const test = (name: string, ...rest: unknown[]) => {
    if (rest.length === 2 && (rest[0] as Deno.TestDefinition).ignore) return;
    tests.set(name, rest.at(-1) as () => void);
  };
  Object.assign(Deno, { test });
  await import("../server_test.ts");
  const { order, isFast } = JSON.parse(await new Response(Deno.stdin.readable).text());
  const names = [...tests.keys()];
  const first = [...order, ...names.filter((name) => FIRST.test(name))];
  for (const name of new Set<string>([...first, ...(isFast ? [] : names)])) {
    Deno.stdout.writeSync(new TextEncoder().encode(`${BEGINS}${name}\n`));
    try {
      await tests.get(name)!();
    } catch (error) {
      console.error(error);
      process.exit(1);
    }
  }
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
      run: { type: "boolean" },
    },
  });
  if (values.run) await runTests();
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
  await copy.rehearse();
  let survivors = 0;
  for (const [i, mutant] of mutants.entries()) {
    if (i % 100 === 0) console.log(`${i} of ${mutants.length} mutants`);
    if (await copy.notices(mutant, values.fast)) continue;
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
