/** 300 clients that are busy all the time, at once: each gets its share of the answers, and what the
 * server has promised to others by the clock, it keeps. They ask for what takes the server longer
 * than them, so that there is always somebody who waits, however slow the machine. */

import { assert, assertEquals } from "@std/assert";
import { field, parseResponses, type Received } from "./responses.ts";
import { Client, clientFlags, Process, RUNTIMES, type Scenario } from "./sockets.ts";
import { pause } from "./tools.ts";

const CONNECTIONS = 300;
const APP = "tests/app.ts";
const BUN = RUNTIMES.find(({ name }) => name === "Bun")!;

function secondsSince(start: number): number {
  return (performance.now() - start) / 1000;
}
/** One request, and its answer. */
async function ask(client: Client): Promise<Received> {
  await client.send("GET /work HTTP/1.1\r\nHost: a\r\n\r\n");
  const [received] = parseResponses(await client.until(/done$/), ["GET"], false);
  client.received = "";
  return received;
}
/** Lets bench/busy.ts send requests for so many seconds, and half as many before they count. It is
 * under way when this returns. */
async function load(port: number, seconds: number): Promise<Process> {
  const flags = ["--port", port, "--connections", CONNECTIONS, "--seconds", seconds].map(String);
  flags.push("--path", "/work", "--newcomers", ...clientFlags());
  const clients = Process.spawn(BUN, "bench/busy.ts", flags);
  await clients.logged(/Busy/);
  return clients;
}

export const BUSY: Scenario[] = [
  ["300 busy clients: all get their share, and nobody waits long", async (runtime) => {
    await using server = await Process.start(runtime, [], APP);
    await server.closeLog(); // a line for each request would keep this process busy, too
    await using clients = await load(server.port, 2);
    const { least, most, longest, longestNewcomer, failed, failure } = JSON.parse(
      await clients.printed(/^({.*})\n/),
    );
    assertEquals(failed, 0, failure);
    assert(least >= 0.3 * most, `from ${least} to ${most} answers a client`);
    assert(longest < 1500, `somebody waited for ${longest} ms`);
    assert(longestNewcomer < 1500, `somebody new waited for ${longestNewcomer} ms`);
  }, { needs: "bun" }],

  ["300 busy clients: what was promised by the clock is kept", async (runtime) => {
    const args = ["--request-timeout", "1", "--idle-timeout", "2"];
    await using server = await Process.start(runtime, args, APP);
    await server.closeLog();
    await using clients = await load(server.port, 3);

    // Each asks once before: that the server takes its time to get to know somebody is not the matter.
    const trickle = async () => {
      using client = await Client.connect(server.port);
      await ask(client);
      const start = performance.now();
      await client.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
      const timer = setInterval(() => void client.send("x").catch(() => {}), 90);
      const [{ status }] = parseResponses(await client.rest(), ["GET"], true);
      clearInterval(timer);
      const seconds = secondsSince(start);
      assertEquals(status, 408);
      assert(seconds > 0.9 && seconds < 1.5, `408 after ${seconds} s`);
    };
    const idle = async () => {
      using client = await Client.connect(server.port);
      await ask(client);
      const start = performance.now();
      assertEquals(await client.rest(), "");
      const seconds = secondsSince(start);
      assert(seconds > 1.9 && seconds < 2.5, `closed after ${seconds} s`);
    };
    const dates = async () => {
      using client = await Client.connect(server.port);
      for (let i = 0; i < 10; i++, await pause(200)) {
        const received = await ask(client);
        const age = Date.now() - Date.parse(field(received, "date")!);
        assert(age < 1500, `a Date that is ${age} ms old`); // it has whole seconds only
      }
    };
    await Promise.all([trickle(), idle(), dates()]);
    assertEquals(clients.out, "", "the others were no longer busy");
  }, { needs: "bun" }],
];
