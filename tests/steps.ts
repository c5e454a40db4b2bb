/** The lessons in steps/: every command of their text is run, and has to print what stands there; the
 * exercises are tried on what should pass none of them, and on what should pass all. */

import { assert, assertEquals } from "@std/assert";
import text from "../steps/README.md" with { type: "text" };
import { output, Process, type Runtime, type Scenario } from "./sockets.ts";

interface Command {
  command: string;
  printed: string;
}
/** The commands of each step, in blocks, for each of which its program is started anew. */
function blocksOf(text: string): Map<string, Command[][]> {
  const steps = new Map<string, Command[][]>();
  for (const section of text.split(/^## /m)) {
    const step = /^Step (\d)/.exec(section)?.[1];
    if (step === undefined) continue;
    const blocks = Array.from(
      section.matchAll(/^```console\n([^]*?)^```$/gm),
      ([, block]) =>
        block.split(/^\$ /m).slice(1).map((part) => {
          const end = part.indexOf("\n");
          return { command: part.slice(0, end), printed: part.slice(end + 1).trimEnd() };
        }),
    );
    steps.set(step, blocks);
  }
  return steps;
}
function scriptOf({ command, args }: Runtime, port: number): string {
  const send = [command, ...args, "steps/send.ts", "--port", port].join(" ");
  return `exec 2>&1; send() { ${send} "$@"; }; `;
}
const PORT = /Listening at PORT (\d+)/;

export const STEPS: Scenario[] = [
  ...Array.from(blocksOf(text), ([step, blocks]): Scenario => [
    `steps/${step}.ts does what its text says`,
    async (runtime) => {
      assert(blocks.flat().length > 0);
      const outcomes = await Promise.allSettled(blocks.map(async (block) => {
        await using server = Process.spawn(runtime, `steps/${step}.ts`, ["0"]);
        const port = await server.printed(PORT);
        for (const { command, printed } of block) {
          const line = scriptOf(runtime, Number(port)) + command.replaceAll("8080", port);
          const seen = (await output("bash", ["-c", `${line}; true`])).trimEnd();
          assertEquals(seen.replaceAll("\r", "").replaceAll(port, "8080"), printed, command);
        }
      }));
      for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
    },
    { needs: "curl", plain: true },
  ]),

  ["no step passes an exercise, and server.ts passes all", async (runtime) => {
    await using last = Process.spawn(runtime, "steps/7.ts", ["0"]);
    const port = await last.printed(PORT);
    await using server = await Process.start(runtime, ["--request-timeout", "5"]);
    const run = async (port: string) => {
      const exercises = [...runtime.args, "steps/exercises.ts", port].join(" ");
      const lines = await output("sh", ["-c", `${runtime.command} ${exercises}; true`]);
      return lines.trim().split("\n").map((line) => line.slice(0, line.indexOf("  ")));
    };
    const [none, all] = await Promise.all([run(port), run(`${server.port}`)]);
    const { length } = /^## Exercises$([^]*?)^## /m.exec(text)![1].match(/^\d\. /gm)!;
    assertEquals(none, Array(length).fill("not yet"));
    assertEquals(all, Array(length).fill("done"));
  }, { plain: true }],
];
