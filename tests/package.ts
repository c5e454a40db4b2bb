/** What users get is whole: the copied file, the example in the README, one binary, the package. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { methodsOf, parseResponses } from "./responses.ts";
import { Client, Folder, output, Process, type Runtime, type Scenario, shell } from "./sockets.ts";
import { VECTORS } from "./vectors.ts";

/** Starts a command in another folder than the tests' own. */
function within(folder: Folder, { name, command, args }: Runtime): Runtime {
  return {
    name,
    command: "sh",
    args: ["-c", 'cd "$0" && exec "$@"', folder.path, command, ...args],
  };
}

/** A program beside a copy of server.ts, which its types agree with, in an otherwise empty folder. */
async function start(
  runtime: Runtime,
  folder: Folder,
  program: string,
  stream: "printed" | "logged" = "printed",
): Promise<Process> {
  await shell('cp server.ts "$1" && printf %s "$2" > "$1/main.ts"', folder.path, program);
  const args = runtime.name === "Deno" ? [...runtime.args, "--check"] : runtime.args;
  const process = Process.spawn(within(folder, { ...runtime, args }), "main.ts");
  const found = await process[stream](/Listening at PORT (\d+)/);
  process.port = Number(typeof found === "string" ? found : found[1]);
  return process;
}

/** Asks for a path, and returns the status and the content of the answer. */
async function ask(port: number, path: string, body?: string): Promise<[number, string]> {
  const method = body === undefined ? "GET" : "POST";
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { method, body });
  return [response.status, await response.text()];
}

/** The first example that serves, of those in a chapter of a text. */
async function exampleIn(file: string, title: string): Promise<string> {
  const [, chapter] = (await Deno.readTextFile(file)).split(new RegExp(`^#+ ${title}\n`, "m"));
  const blocks = Array.from(chapter.split(/^#+ /m)[0].matchAll(/^```ts\n([^]*?)^```$/gm));
  const example = blocks.map(([, code]) => code).find((code) => code.includes("serve("));
  assert(example !== undefined, `${file} has no example in ${title}`);
  assertMatch(example, /\bport: \d+/);
  return example.replace(/\bport: \d+/g, "port: 0");
}

/** What the application answers to each of the vectors, but for the time. A hundred at a time, since the
 * queue of a Unix socket does not take all of them. */
export async function answersOf(port: number): Promise<string[][]> {
  const answers: string[][] = [];
  while (answers.length < VECTORS.length) {
    const some = VECTORS.slice(answers.length, answers.length + 100);
    answers.push(
      ...await Promise.all(some.map(async ({ send }) => {
        using client = await Client.connect(port);
        await client.send(send);
        await client.end();
        const text = await client.rest();
        return parseResponses(text, methodsOf(send), true).map(({ raw }) => raw);
      })),
    );
  }
  return answers;
}

export const PACKAGE: Scenario[] = [
  ["--version is the version in deno.json", async (runtime) => {
    const { version } = JSON.parse(await Deno.readTextFile("deno.json"));
    await using process = Process.spawn(runtime, "server.ts", ["--version"]);
    assertEquals([await process.ended(), process.out, process.log], [0, `${version}\n`, ""]);
  }],

  ["a copy of server.ts alone is a library", async (runtime) => {
    await using folder = await Folder.create();
    const program = `import { serve } from "./server.ts";
      const server = serve(({ path }) => ({ body: path }), { port: 0, log: console });
      await server.finished;`;
    await using server = await start(runtime, folder, program);
    assertEquals(await ask(server.port, "/hello"), [200, "/hello"]);
  }],

  ["the links between the texts lead somewhere", async () => {
    const texts = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "bench/results.md"];
    texts.push("steps/README.md");
    for await (const { name } of Deno.readDir("docs")) texts.push(`docs/${name}`);
    const nameOf = (heading: string) =>
      heading.toLowerCase().replaceAll(/[^\p{L}\d\s_-]/gu, "").replaceAll(" ", "-");
    for (const text of texts) {
      for (const [, link] of (await Deno.readTextFile(text)).matchAll(/\]\(([^)]+)\)/g)) {
        const { origin, pathname, hash } = new URL(link, `file:///${text}`);
        if (origin !== "null") continue; // of another site
        const path = pathname.slice(1);
        assert(await Deno.stat(path).then(() => true, () => false), `${text}: ${link}`);
        if (hash === "") continue;
        const headings = (await Deno.readTextFile(path)).matchAll(/^#+ (.*)$/gm);
        const names = Array.from(headings, ([, heading]) => nameOf(heading));
        assert(names.includes(hash.slice(1)), `${text}: ${link}`);
      }
    }
  }, { only: "Deno" }],

  [
    "CONTRIBUTING.md names every file of the tests, and every command that it names is there",
    async () => {
      const text = await Deno.readTextFile("CONTRIBUTING.md");
      const table = text.slice(text.indexOf("\n## Which file holds what\n"));
      const named = Array.from(
        table.matchAll(/^\|.*\| (`.*`) +\|$/gm),
        ([, names]) => names.match(/[^`, ]+/g)!,
      );
      const there = ["server_test.ts"];
      for await (const { name, isDirectory } of Deno.readDir("tests")) {
        there.push(isDirectory ? `${name}/` : name);
      }
      assertEquals(named.flat().sort(), there.sort());
      const { tasks } = JSON.parse(await Deno.readTextFile("deno.json"));
      const run = Array.from(text.matchAll(/deno task ([\w:]+)/g), ([, name]) => name);
      assertEquals(run.filter((name) => !(name in tasks)), []);
      assertEquals(Object.keys(tasks).filter((name) => !run.includes(name)), []);
    },
    { only: "Deno" },
  ],

  ["the example of the library", async (runtime) => {
    await using folder = await Folder.create();
    await using server = await start(
      runtime,
      folder,
      await exampleIn("docs/library.md", "As a library"),
    );
    const { port } = server;
    assertEquals(await ask(port, "/ping"), [200, "pong\n"]);
    assertEquals(await ask(port, "/sum", "[1, 2, 3]"), [200, "6\n"]);
    assertEquals((await ask(port, "/sum", "{}"))[0], 422);
    assertEquals((await ask(port, "/sum", "[1,"))[0], 400);
    assertEquals((await ask(port, "/sum", "1".repeat(10_001)))[0], 413);
    assertEquals(await ask(port, "/count"), [200, "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n"]);
    assertEquals(await ask(port, "/none"), [404, "Not here\n"]);
    assertEquals(await ask(port, "/ping"), [200, "pong\n"]);
  }],

  ["the README's example", async (runtime) => {
    await using folder = await Folder.create();
    await using server = await start(runtime, folder, await exampleIn("README.md", "Start"));
    assertEquals(await ask(server.port, "/you"), [200, "Hello, /you\n"]);
  }],

  ["the example of an application written for Fetch", async (runtime) => {
    await using folder = await Folder.create();
    const hono = runtime.name === "Deno" ? "npm:hono@4" : "hono@4";
    const example = await exampleIn("docs/library.md", "Applications written for Fetch");
    await using server = await start(runtime, folder, example.replace('"hono"', `"${hono}"`));
    assertEquals(await ask(server.port, "/"), [200, "Hello, 127.0.0.1\n"]);
    assertEquals(await ask(server.port, "/none"), [404, "404 Not Found"]);
  }],

  ["the example of files", async (runtime) => {
    await using folder = await Folder.create();
    await shell('cp -r extras "$1"; mkdir "$1/public"; echo hi > "$1/public/a.txt"', folder.path);
    const args = runtime.name === "Deno" ? [...runtime.args, "--allow-read=public"] : [];
    const example = await exampleIn("docs/companions.md", "Files");
    await using server = await start({ ...runtime, args }, folder, example);
    assertEquals(await ask(server.port, "/a.txt"), [200, "hi\n"]);
    assertEquals(await ask(server.port, "/main.ts"), [404, "404 Not Found"]);
  }],

  ["the example of what else a service needs", async (runtime) => {
    await using folder = await Folder.create();
    const example = await exampleIn("docs/library.md", "What else a service needs");
    await using server = await start(runtime, folder, example, "logged");
    const { port } = server;
    const large = "x".repeat(2_000_000);
    assertEquals(await ask(port, "/upload", large), [200, "2000000 bytes\n"]);
    assertEquals((await ask(port, "/", large))[0], 413);
    using client = await Client.connect(port);
    await client.send(
      "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhi",
    );
    assertMatch(await client.until(/\r\n\r\nhi/), /^HTTP\/1\.1 101 /);
    using ticks = await Client.connect(port);
    await ticks.send("GET /ticks HTTP/1.1\r\nHost: a\r\n\r\n");
    await ticks.until(/tick\n/);
    await server.logged(/ "POST \/" 413: Content of more than 1048576 bytes/);
  }],

  ["the oldest runtimes that the README names serve the application", async (runtime) => {
    const readme = await Deno.readTextFile("README.md");
    const [, oldest] = new RegExp(`${runtime.name} \\((\\d+\\.\\d+) or newer`).exec(readme)!;
    const name = runtime.name.toLowerCase();
    const flags = ["--yes", "--allow-scripts=bun", "-p", `${name}@${oldest}.0`];
    const npx: Runtime = { ...runtime, command: "npx", args: [...flags, name, ...runtime.args] };
    const [command] = (await output("npx", [...flags, "-c", `command -v ${name}`])).trim().split(
      "\n",
    );
    assert(command.includes("_npx"), command);
    await using server = await Process.start({ ...npx, command, args: runtime.args });
    await using now = await Process.start(runtime);
    assertEquals(await answersOf(server.port), await answersOf(now.port));
  }, { needs: "npx" }],

  ["bun build --compile makes one binary of it all", async (runtime) => {
    await using folder = await Folder.create();
    const program = `${folder.path}/program`;
    await output("bun", ["build", "--compile", "server.ts", "--outfile", program]);
    const binary: Runtime = { name: runtime.name, command: program, args: [] };
    // Where a script's name stands otherwise, a flag stands here.
    await using server = Process.spawn(within(folder, binary), "--port", ["0"]);
    const [, port] = await server.logged(/Listening at PORT (\d+)/);
    for (const [path, file] of [["/", "index.html"], ["/book", "book.json"]]) {
      assertEquals(await ask(Number(port), path), [200, await Deno.readTextFile(file)]);
    }
    server.signal("SIGTERM");
    assertEquals(await server.ended(), 0);
  }, { only: "Bun" }],

  ["deno publish takes what users need, and no more", async () => {
    // Types are checked by `deno check`; --allow-dirty, because tests are run before a commit.
    const printed = await shell(
      `printed=$(deno publish --dry-run --no-check --allow-dirty 2>&1) ||
        { echo "$printed" >&2; exit 1; }
      echo "$printed"`,
    );
    assertMatch(printed, /Dry run complete$/);
    assert(!/warning/i.test(printed), printed);
    const { publish: { include }, exports } = JSON.parse(await Deno.readTextFile("deno.json"));
    const here = new URL("../", import.meta.url).href;
    const files = Array.from(printed.matchAll(/^ +(file:.*) \(.*\)$/gm), ([, url]) => {
      return url.slice(here.length);
    });
    assertEquals(files.sort(), include.toSorted());
    // Of a file that is imported as text, `deno publish` does not notice that it is missing.
    const needed = Object.values<string>(exports).map((path) => path.slice("./".length));
    for (const name of files.filter((name) => name.endsWith(".ts"))) {
      const code = await Deno.readTextFile(name);
      const imports = code.matchAll(/^import.* from "(\..*?)"|import\("(\..*?)"\)/gm);
      for (const [, at, later] of imports) {
        needed.push(new URL(at ?? later, here + name).href.slice(here.length));
      }
    }
    assert(needed.includes("index.html"), `${needed}`);
    for (const path of needed) assert(files.includes(path), path);
  }, { only: "Deno" }],
];
