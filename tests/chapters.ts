/** The chapters of server.ts: each uses only the ones before it, apart from types. */

import { assertEquals } from "@std/assert";
import module from "node:module";
// @ts-ignore: To TypeScript itself, no file is text.
import server from "../server.ts" with { type: "text" };

const SERVER: string = server;
/** What stands before the title of a chapter. */
const HEADING = /^\/\/ ─+\n\/\/ (?=\d+\. )/m;

/** The names in a piece of JavaScript, but for those of members: what is a comment, a string, the
 * text of a template or a regular expression has none. */
function* namesIn(code: string): Generator<[name: string, index: number]> {
  const comment = /\/\/.*|\/\*[^]*?\*\//, string = /"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'/;
  const pattern = /(?<=[(,=:[!&|?{};]\s*)\/(?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\\n])+\//;
  const name = /(?<!(?<!\.\.)\.|[#\w$])[A-Za-z_$][\w$]*/, brace = /[`{}]/;
  const parts = [comment, string, pattern, name, brace].map(({ source }) => source);
  const token = new RegExp(parts.join("|"), "g"), text = /(?:\\.|(?!\$\{)[^`\\])*(?:`|\$\{)/y;
  const open: string[] = [];
  for (let found; (found = token.exec(code)) !== null;) {
    const [part] = found;
    if (part === "{") open.push(part);
    if (part === "`" || part === "}" && open.pop() === "`") {
      text.lastIndex = token.lastIndex;
      if (text.exec(code)![0].endsWith("{")) open.push("`");
      token.lastIndex = text.lastIndex;
    } else if (/^[\w$]/.test(part)) {
      yield [part, found.index];
    }
  }
}

/** The lines that use what a later chapter declares, each with its chapter and the name. */
function forwardUses(typescript: string): string[] {
  const [, ...chapters] = module.stripTypeScriptTypes(typescript).split(HEADING);
  const declared = new Map<string, number>();
  for (const [i, code] of chapters.entries()) {
    const declarations = /^(?:export )?(?:async )?(?:const|let|function\*?|class) (\w+)/gm;
    for (const [, name] of code.matchAll(declarations)) declared.set(name, i);
  }
  return chapters.flatMap((code, i) => {
    // A variable of a chapter's own may be named as something later is.
    const own = Array.from(code.matchAll(/\b(?:const|let) ([^=;]*)/g), ([, names]) => names);
    const isOwn = new Set(own.join().match(/\w+/g));
    return Array.from(namesIn(code)).filter(([name]) => declared.get(name)! > i && !isOwn.has(name))
      .map(([name, index]) => {
        const line = code.slice(code.lastIndexOf("\n", index) + 1).split("\n", 1)[0];
        return `${i + 1}, ${name}: ${line.trim()}`;
      });
  });
}

/** Deno 2.8 can't tell types from the rest. */
const TYPED = { ignore: module.stripTypeScriptTypes === undefined };

Deno.test("each chapter uses only the ones before it, apart from types", TYPED, () => {
  assertEquals(forwardUses(SERVER), []);
});

Deno.test("a use of a later chapter is found, and nothing else is taken for one", TYPED, () => {
  const line = `// ${"─".repeat(93)}`;
  const chapter = (number: number, code: string) =>
    `${line}\n// ${number}. A title\n${line}\n${code}\n`;
  const first = [
    "interface Early { late: Late }",
    "const early = (late: Late): Early => ({ ...late.made });",
    "// made(), /* made() */",
    "const texts = ['made', \"made\", `made ${`${early}`} made`, /[/]made`/, early.made];",
    "const uses = () => `${made()} made`;",
    "function call() { const own = new Late(...all); }",
  ];
  const second = [
    "class Late {}",
    "export function made() {}",
    "let all: Late[] = [], own = early;",
  ];
  assertEquals(forwardUses(chapter(1, first.join("\n")) + chapter(2, second.join("\n"))), [
    "1, made: const uses = () => `${made()} made`;",
    "1, Late: function call() { const own = new Late(...all); }",
    "1, all: function call() { const own = new Late(...all); }",
  ]);
});

Deno.test("the chapters are those that the beginning of server.ts lists", () => {
  const titles = SERVER.split(HEADING).slice(1).map((chapter) => chapter.split("\n", 1)[0]);
  const listed = Array.from(SERVER.matchAll(/^ \* (\d+\. [^:]+):/gm), ([, title]) => title);
  assertEquals(titles, listed);
  assertEquals(titles.map((title) => parseInt(title)), [1, 2, 3, 4, 5, 6, 7, 8]);
});
