/** One client that takes what it can get, in each way that costs the server more than the client: the
 * 20 polite ones beside it are served all the same. */

import { assert } from "@std/assert";
import { clientFlags, output, Process, type Scenario } from "./sockets.ts";

const APP = "tests/app.ts";

function scenario(
  what: string,
  kind: string,
  script: string,
  /** What shows that the greedy client got on: more bytes than the kernel's buffers hold, or answers. */
  [figure, least]: ["sent" | "received", number],
  where: { plain?: boolean } = {},
): Scenario {
  return [`polite clients beside a greedy one: ${what}`, async (runtime) => {
    await using server = await Process.start(runtime, [], script);
    await server.closeLog(); // a line for each request would keep this process busy, too
    const flags = ["--port", `${server.port}`, "--kind", kind, "--seconds", "2", ...clientFlags()];
    const printed = await output("bun", ["tests/greed.ts", ...flags]);
    const report = JSON.parse(printed);
    assert(report[figure] > least, `it was not greedy: ${printed}`);
    assert(report.longest < 1000, `somebody waited for too long: ${printed}`);
  }, { needs: "bun", ...where }];
}

export const GREEDY: Scenario[] = [
  scenario("GETs without end", "gets", "server.ts", ["received", 1e7]),
  scenario("HEADs without end", "heads", "server.ts", ["received", 1e6], { plain: true }),
  scenario("small POSTs without end, in tiny chunks", "posts", "server.ts", ["received", 1e5], {
    plain: true,
  }),
  scenario("a million chunks to a handler that streams them", "count", APP, ["sent", 5e6]),
  scenario("a million chunks to a handler that collects them", "collect", APP, ["sent", 5e6], {
    plain: true,
  }),
  scenario("an answer in two million pieces, all there at once", "pieces", APP, ["received", 1e5]),
];
