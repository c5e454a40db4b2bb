/** A server on one core, `wrk` on another, and what the operating system says about the server. */

const encoder = new TextEncoder(), decoder = new TextDecoder("latin1");
/** Linux counts CPU time in hundredths of a second for programs that read it. */
const TICKS_A_SECOND = 100;

/** Seconds of load before anything counts: the engines need two to compile what runs often. */
export const WARM_UP = 3;

/** The cores that this process may use: the first is for the server, the second for its clients. */
export function usableCores(): [number, number, ...number[]] {
  const [, list] = /Cpus_allowed_list:\s+(.*)/.exec(Deno.readTextFileSync("/proc/self/status"))!;
  const cores = list.split(",").flatMap((range) => {
    const [first, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
  if (cores.length < 2) throw new Error("bench needs two cores");
  const [first, second, ...others] = cores;
  return [first, second, ...others];
}

/** What a program prints, or nothing if there is no such program. */
export function outputOf(command: string, ...args: string[]): string | undefined {
  try {
    const { stdout, stderr } = new Deno.Command(command, { args }).outputSync();
    return (decoder.decode(stdout) + decoder.decode(stderr)).trim();
  } catch {
    return undefined;
  }
}

/** Where a port begins that nobody listens on; each server gets another. */
let lastPort = 18099;
export function freePort(): number {
  for (;;) {
    try {
      Deno.listen({ hostname: "127.0.0.1", port: ++lastPort }).close();
      return lastPort;
    } catch { /* taken: the next one */ }
  }
}

/** A program that serves, pinned to some cores. What it says on the standard error is in a file. */
export class ServerProcess implements AsyncDisposable {
  static readonly #running = new Set<ServerProcess>();
  readonly #child: Deno.ChildProcess;
  #ended = false;

  constructor(command: string[], cores: string, readonly directory: string) {
    this.#child = new Deno.Command("sh", {
      args: [
        "-c",
        'ulimit -n "$(ulimit -Hn)"; exec taskset -c "$@" 2> "$LOG"',
        "sh",
        cores,
        ...command,
      ],
      env: { LOG: `${directory}/log` },
      stdin: "null",
      stdout: "null",
    }).spawn();
    this.#child.status.then(() => this.#ended = true);
    ServerProcess.#running.add(this);
  }
  /** Sends a request until it is answered, from the start on; tells how many seconds that took. With
   * the certificate of an authority, over TLS. */
  async firstAnswer(port: number, request: Uint8Array, authority?: string): Promise<number> {
    const address = { hostname: "127.0.0.1", port };
    const start = performance.now();
    while (performance.now() - start < 20_000) {
      if (this.#ended) throw new Error(Deno.readTextFileSync(`${this.directory}/log`).trim());
      try {
        using connection = authority === undefined
          ? await Deno.connect(address)
          : await Deno.connectTls({ ...address, caCerts: [authority] });
        await ask(connection, request);
        return (performance.now() - start) / 1000;
      } catch (error) {
        if (!(error instanceof Deno.errors.ConnectionRefused)) throw error;
        await sleep(1);
      }
    }
    throw new Error("no answer in 20 s");
  }
  /** Seconds of CPU time so far, of all threads, in the program and in the kernel. */
  get cpu(): number {
    const stat = Deno.readTextFileSync(`/proc/${this.#child.pid}/stat`);
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" "); // from the third on
    return (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND; // utime, stime
  }
  /** Resident bytes. */
  get memory(): number {
    const status = Deno.readTextFileSync(`/proc/${this.#child.pid}/status`);
    return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) * 1024;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.kill();
    await this.#child.status;
  }
  kill(): void {
    ServerProcess.#running.delete(this);
    if (!this.#ended) this.#child.kill("SIGKILL");
  }
  static killAll(): void {
    for (const server of ServerProcess.#running) server.kill();
  }
}
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.addSignalListener(signal, () => {
    ServerProcess.killAll();
    Deno.exit(1);
  });
}

export interface Load {
  requests: number;
  seconds: number;
  /** Latencies, in microseconds. */
  p50: number;
  p99: number;
  /** Connections that the server closed without having said so. */
  closed: number;
  errors: number;
}

/** Lets wrk send `request` over and over from `cores`. */
export async function drive(
  { port, request, connections, seconds, cores, directory }: {
    port: number;
    request: Uint8Array;
    connections: number;
    seconds: number;
    cores: string;
    directory: string;
  },
): Promise<Load> {
  const script = new URL("wrk.lua", import.meta.url).pathname;
  const url = `http://127.0.0.1:${port}/`;
  await Deno.writeFile(`${directory}/request`, request);
  const { stdout, stderr } = await new Deno.Command("taskset", {
    args: `-c ${cores} wrk -t1 -c${connections} -d${seconds}s -s`.split(" ").concat(script, url),
    env: { REQUEST: `${directory}/request` },
  }).output();
  const found = /^JSON (.*)/m.exec(decoder.decode(stdout));
  if (!found) throw new Error(`wrk: ${decoder.decode(stderr)}`);
  return JSON.parse(found[1]);
}

export interface Answer {
  status: number;
  headers: Headers;
  body: string;
}

/** Sends bytes and reads `count` answers, which must tell their lengths. */
export async function ask(tcp: Deno.Conn, request: Uint8Array, count = 1): Promise<Answer[]> {
  const sending = (async () => {
    for (let sent = 0; sent < request.length;) sent += await tcp.write(request.subarray(sent));
  })();
  const answers: Answer[] = [];
  const buffer = new Uint8Array(2 ** 16);
  for (let received = ""; answers.length < count;) {
    const size = await tcp.read(buffer);
    if (size === null) throw new Error("the connection was closed before the answer was there");
    received += decoder.decode(buffer.subarray(0, size));
    for (let head; (head = /^HTTP\/1\.1 (\d+).*\r\n([^]*?)\r\n\r\n/.exec(received));) {
      const headers = new Headers(
        head[2].split("\r\n").map((line) => line.split(/:\s*(.*)/, 2) as [string, string]),
      );
      const end = head[0].length + Number(headers.get("Content-Length") ?? NaN);
      if (Number.isNaN(end)) throw new Error("an answer does not tell its length");
      if (received.length < end) break;
      answers.push({ status: Number(head[1]), headers, body: received.slice(head[0].length, end) });
      received = received.slice(end);
    }
  }
  await sending;
  return answers;
}

/** Connections that have had one answer, and then stay open. */
export class IdleConnections implements Disposable {
  readonly #connections: Deno.TcpConn[] = [];

  static async open(port: number, request: Uint8Array, count: number): Promise<IdleConnections> {
    const idle = new IdleConnections();
    const open = async () => {
      const connection = await Deno.connect({ hostname: "127.0.0.1", port });
      idle.#connections.push(connection);
      await ask(connection, request);
    };
    for (let left = count; left > 0; left -= 100) {
      await Promise.all(Array.from({ length: Math.min(left, 100) }, open));
    }
    return idle;
  }
  get count(): number {
    return this.#connections.length;
  }
  [Symbol.dispose](): void {
    for (const connection of this.#connections) connection.close();
  }
}

export const bytesOf = (text: string): Uint8Array => encoder.encode(text);
export const sleep = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

/** The middle one, or the mean of the two in the middle. */
export function median(numbers: number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b), half = sorted.length / 2;
  return (sorted[Math.floor(half)] + sorted[Math.ceil(half) - 1]) / 2;
}
