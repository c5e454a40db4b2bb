/** That the copied files pass every strict option of TypeScript, by its own compiler and by Deno's. */

import { assertEquals } from "@std/assert";
import { Folder, type Scenario, shell } from "./sockets.ts";

/** All that the compiler can be strict about, if Deno lets it be chosen ... */
const STRICT = {
  strict: true,
  allowUnreachableCode: false,
  allowUnusedLabels: false,
  erasableSyntaxOnly: true,
  exactOptionalPropertyTypes: true,
  noFallthroughCasesInSwitch: true,
  noImplicitOverride: true,
  noImplicitReturns: true,
  noPropertyAccessFromIndexSignature: true,
  noUncheckedIndexedAccess: true,
  noUnusedLocals: true,
  noUnusedParameters: true,
  verbatimModuleSyntax: true,
};
/** ... and if not, with what `bun init` sets besides. */
const PROJECT = {
  ...STRICT,
  noUncheckedSideEffectImports: true,
  isolatedDeclarations: true,
  declaration: true,
  target: "ESNext",
  module: "Preserve",
  moduleDetection: "force",
  moduleResolution: "bundler",
  allowImportingTsExtensions: true,
  noEmit: true,
  skipLibCheck: true,
};
const FILES = {
  alone: ["server.ts"],
  together: ["server.ts", "handlers.ts", "index.html", "book.json", "extras"],
};

/** A program that is as strict: it leaves options undefined, as settings that are not there are. */
const PROGRAM = `import { type HttpResponse, serve } from "./server.ts";
const response: HttpResponse = { status: undefined, headers: new Headers(), body: undefined };
const options = { port: undefined, tls: undefined, signal: undefined, onError: undefined };
export const server: object = serve(() => response, { ...options, log: console });
export const silent: object = serve(() => response, { log: { info: undefined } });
// @ts-expect-error: This is how strict the compiler is.
export const none: string = ["some"][1];
`;

/** A folder for each of {@linkcode FILES}, with the program beside them. */
async function project(): Promise<Folder> {
  const folder = await Folder.create();
  for (const [name, files] of Object.entries(FILES)) {
    const script =
      'at=$1; shift; mkdir "$at" && printf %s "$1" > "$at/main.ts"; shift; cp -r "$@" "$at"';
    await shell(script, `${folder.path}/${name}`, PROGRAM, ...files);
  }
  return folder;
}

export const TYPES: Scenario[] = [
  ["a copy passes every strict option of TypeScript, with Bun's types and without", async () => {
    await using folder = await project();
    const packages = [
      "five@npm:typescript@5",
      "newest@npm:typescript",
      "@types/bun",
      "@types/node",
    ];
    await shell(
      // What `npx` was told, within which these tests may run, is not for this npm.
      "unset npm_config_allow_scripts npm_config_package npm_config_local_prefix; " +
        'cd "$1" && shift && npm install --silent --no-audit --no-fund "$@"',
      folder.path,
      ...packages,
    );
    const dom = ["ESNext", "DOM", "DOM.Iterable"];
    const cases: [files: keyof typeof FILES, types: string, lib: string[]][] = [
      ["alone", "bun", ["ESNext"]],
      ["alone", "bun", dom],
      ["alone", "node", ["ESNext"]],
      ["alone", "node", dom],
      ["together", "bun", ["ESNext"]],
      ["together", "node", dom],
    ];
    const check = async (version: string) => {
      for (const [files, types, lib] of cases) {
        const config = JSON.stringify({
          compilerOptions: { ...PROJECT, types: [types], lib },
          include: ["*.ts", "extras/*.ts"],
        });
        const printed = await shell(
          `cd "$1/$2" && printf %s "$4" > "tsconfig.$3.json" &&
            node "../node_modules/$3/bin/tsc" --pretty false --project "tsconfig.$3.json" 2>&1 ||
            echo "(failed)"`,
          folder.path,
          files,
          version,
          config,
        );
        assertEquals(printed, "", `${version}, ${files}, ${types}, ${lib}`);
      }
    };
    await Promise.all(["five", "newest"].map(check));
  }, { only: "Deno", needs: "npm" }],

  ["a copy passes every strict option that Deno has", async () => {
    await using folder = await project();
    for (const files of Object.keys(FILES)) {
      const printed = await shell(
        `cd "$1/$2" && printf %s "$3" > deno.json && deno check --quiet . 2>&1 || echo "(failed)"`,
        folder.path,
        files,
        JSON.stringify({ compilerOptions: STRICT }),
      );
      assertEquals(printed, "", files);
    }
  }, { only: "Deno" }],
];
