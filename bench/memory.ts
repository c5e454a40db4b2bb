/**
 * What large bodies and crowds cost in memory: 1 GiB is uploaded to a handler that counts and drops
 * it, 1 GiB is streamed to a client that reads slowly; 1,000 clients send a head of 16 KiB byte by
 * byte, 1,000 do not read their 20 MiB, 10,000 are idle. Prints how far the process grew over its idle
 * size.
 *
 * `deno task memory` (Linux: it reads the resident size from /proc).
 */

import { connectAll, type Crowd, heads, idlers, nonReaders } from "../tests/crowds.ts";
import { Client, isInstalled, Process, RUNTIMES } from "../tests/sockets.ts";

const MIB = 2 ** 20, GIB = 2 ** 30;

function residentMiB(pid: number): number {
  const [, kib] = /VmRSS:\s+(\d+)/.exec(Deno.readTextFileSync(`/proc/${pid}/status`))!;
  return Number(kib) / 1024;
}

async function upload(client: Client): Promise<void> {
  await client.send(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${GIB}\r\n\r\n`);
  const piece = new Uint8Array(MIB);
  for (let sent = 0; sent < GIB; sent += piece.length) await client.send(piece);
  const answer = await client.until(/\r\n\r\n\d+$/);
  if (!answer.endsWith(`\r\n\r\n${GIB}`)) throw new Error(`a wrong count: ${answer}`);
}

/** Reads about 150 MiB a second, which the server could exceed many times. */
async function download(client: Client): Promise<void> {
  await client.send(`GET /?size=${GIB} HTTP/1.0\r\n\r\n`);
  let size = 0, paused = 0;
  while (await client.read(MIB)) {
    size += client.received.length;
    client.received = "";
    if (size - paused < 3 * MIB) continue;
    paused = size;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  if (size < GIB) throw new Error(`only ${size} bytes`);
}

for (const runtime of RUNTIMES) {
  if (!await isInstalled(runtime.command)) continue;
  for (const run of [upload, download]) {
    await using server = Process.spawn(runtime, "bench/servers/streams.ts", ["0"]);
    const port = Number((await server.logged(/Listening at PORT (\d+)/))[1]);
    using client = await Client.connect(port);
    await client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"); // warm up
    await client.until(/\r\n\r\n1$/);
    client.received = "";
    await new Promise((resolve) => setTimeout(resolve, 500));
    const idle = residentMiB(server.pid);
    let most = idle;
    const timer = setInterval(() => most = Math.max(most, residentMiB(server.pid)), 20);
    const start = performance.now();
    await run(client);
    clearInterval(timer);
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(
      `${runtime.name}, ${run.name} of 1 GiB in ${seconds} s: ` +
        `${idle.toFixed(0)} MiB idle, ${most.toFixed(0)} MiB at most, +${(most - idle).toFixed(0)}`,
    );
  }
}

const CROWDS: [what: string, crowd: Crowd, count: number][] = [
  ["heads of 16 KiB, byte by byte", heads(1), 1000],
  ["answers of 20 MiB, unread", nonReaders, 1000],
  ["idle connections", idlers, 10_000],
];
for (const runtime of RUNTIMES) {
  if (!await isInstalled(runtime.command)) continue;
  for (const [what, crowd, count] of CROWDS) {
    const args = ["--max-connections", "10000", "--idle-timeout", "600"];
    await using server = await Process.start(runtime, args, "tests/app.ts");
    const few = await connectAll(server.port, 100); // warm up
    await idlers(few);
    for (const client of few) client.close();
    await new Promise((resolve) => setTimeout(resolve, 500));
    const idle = residentMiB(server.pid);
    const clients = await connectAll(server.port, count);
    await crowd(clients);
    const most = residentMiB(server.pid);
    for (const client of clients) client.close();
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    const left = residentMiB(server.pid);
    console.log(
      `${runtime.name}, ${count} ${what}: +${(most - idle).toFixed(0)} MiB; ` +
        `10 s after they left: +${(left - idle).toFixed(0)}`,
    );
  }
}
