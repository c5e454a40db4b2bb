/** A client on a real socket, and the server started as a user starts it. */

import { Buffer } from "node:buffer";
import { once } from "node:events";
import { connect } from "node:net";
import { connect as connectTls } from "node:tls";
import { bytesOf, textOf } from "./memory.ts";
import { pause } from "./tools.ts";

/** What the tests that run over TLS use: a certificate for localhost, made for them. */
interface Secured {
  flags: string[];
  authority: string;
}
let secured: Secured | undefined;

/** An authority, and a certificate of its for this machine. */
const CERTIFICATES = `cd "$1"
new="openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
$new -x509 -keyout ca-key.pem -out ca.pem -subj /CN=tests
$new -keyout key.pem -out request.pem -subj /CN=localhost
echo subjectAltName=IP:127.0.0.1 > names
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -days 2 -extfile names -out cert.pem`;

/** Makes a certificate, its key and its authority in a folder: cert.pem, key.pem, ca.pem. */
export async function certify(folder: string): Promise<void> {
  await output("sh", ["-ec", CERTIFICATES, "sh", folder]);
}

/** The certificate in a folder, in base64. */
export async function certificateIn(folder: string): Promise<string> {
  return (await output("cat", [`${folder}/cert.pem`])).replace(/-----[^-]*-----|\s/g, "");
}

/** Runs a scenario whose server and clients speak TLS; it is told the folder with the certificate. */
export async function overTls(run: (folder: string) => Promise<void>): Promise<void> {
  await using folder = await Folder.create();
  const { path } = folder;
  await certify(path);
  const flags = ["--tls-cert", `${path}/cert.pem`, "--tls-key", `${path}/key.pem`];
  secured = { flags, authority: await output("cat", [`${path}/ca.pem`]) };
  try {
    await run(path);
  } finally {
    secured = undefined;
  }
}

/** Where the tests that run over Unix sockets have them: one a server, with a number in place of a port. */
let folder: string | undefined;
let sockets = 0;

/** Runs a scenario whose server and clients use a Unix socket; it is told the folder. */
export async function overUnix(run: (folder: string) => Promise<void>): Promise<void> {
  await using place = await Folder.create();
  folder = place.path;
  try {
    await run(folder);
  } finally {
    folder = undefined;
  }
}

/** The path of the Unix socket that stands for a port. */
export function pathOf(port: number): string {
  return `${folder}/${port}`;
}
/** How the log names this process: a pattern. */
export function peer(): string {
  return folder === undefined ? "127\\.0\\.0\\.1:[1-9]\\d*" : "unix";
}

/** What tells the client programs (bench/busy.ts, tests/greed.ts) to speak TLS, where a test does; bench/busy.ts
 * alone knows of Unix sockets. */
export function clientFlags(): string[] {
  if (folder !== undefined) return ["--sockets", folder];
  return secured === undefined ? [] : ["--tls"];
}
/** Whether this is within `overTls`. */
export function isSecured(): boolean {
  return secured !== undefined;
}

/** A raw TCP client, or one over TLS. What it sends and receives is text of one character a byte. */
export class Client implements Disposable {
  received = "";
  /** The server has closed its side, or broken the connection. */
  ended: false | "closed" | "reset" = false;
  readonly #tcp: Deno.TcpConn | Deno.TlsConn | Deno.UnixConn;

  private constructor(tcp: Deno.TcpConn | Deno.TlsConn | Deno.UnixConn) {
    this.#tcp = tcp;
  }
  static async connect(port: number): Promise<Client> {
    const address = { hostname: "127.0.0.1", port };
    if (secured !== undefined) {
      return new Client(await Deno.connectTls({ ...address, caCerts: [secured.authority] }));
    }
    return await Client.plain(port);
  }
  /** One that does not speak TLS, though others do. */
  static async plain(port: number): Promise<Client> {
    if (folder !== undefined) return await Client.unix(pathOf(port));
    const tcp = await Deno.connect({ hostname: "127.0.0.1", port });
    tcp.setNoDelay(true);
    return new Client(tcp);
  }
  static async unix(path: string): Promise<Client> {
    return new Client(await Deno.connect({ transport: "unix", path }));
  }
  async send(data: string | Uint8Array): Promise<void> {
    const bytes = typeof data === "string" ? bytesOf(data) : data;
    for (let sent = 0; sent < bytes.length;) sent += await this.#tcp.write(bytes.subarray(sent));
  }
  /** Sends nothing more. */
  async end(): Promise<void> {
    await this.#tcp.closeWrite();
  }
  /** Reads once; false when there is no more to come. */
  async read(size = 65536): Promise<boolean> {
    const buffer = new Uint8Array(size);
    try {
      const count = await this.#tcp.read(buffer);
      if (count === null) this.ended = "closed";
      else this.received += textOf(buffer.subarray(0, count));
    } catch {
      this.ended = "reset";
    }
    return this.ended === false;
  }
  /** Reads until the text received matches, or no more comes. */
  async until(pattern: RegExp): Promise<string> {
    while (!pattern.test(this.received) && await this.read());
    return this.received;
  }
  /** Reads until the server closes. */
  async rest(): Promise<string> {
    while (await this.read());
    return this.received;
  }
  close(): void {
    try {
      this.#tcp.close();
    } catch { /* closed already */ }
  }
  [Symbol.dispose](): void {
    this.close();
  }
}

/** A client over TLS that trusts everybody, and tells which certificate it was shown. */
export class TlsClient implements AsyncDisposable {
  readonly #socket;
  readonly #closed;
  #received = "";

  private constructor(port: number) {
    this.#socket = connectTls({ host: "127.0.0.1", port, rejectUnauthorized: false });
    this.#socket.setEncoding("latin1").on("data", (text: string) => this.#received += text);
    this.#closed = new Promise((resolve) => this.#socket.once("close", resolve));
  }
  static async connect(port: number): Promise<TlsClient> {
    const client = new TlsClient(port);
    await client.#happens("secureConnect");
    return client;
  }
  certificate(): string {
    return Buffer.from(this.#socket.getPeerCertificate().raw).toString("base64");
  }
  /** Asks for `/`, and waits for an answer that ends as `end` does. */
  async ask(end: string, fields = ""): Promise<string> {
    this.#received = "";
    this.#socket.write(`GET / HTTP/1.1\r\nHost: a\r\n${fields}\r\n`);
    while (!this.#received.endsWith(end)) await this.#happens("data");
    return this.#received;
  }
  async #happens(event: string): Promise<void> {
    const closed = this.#closed.then(() => Promise.reject(new Error(`closed before ${event}`)));
    await Promise.race([once(this.#socket, event), closed]);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
    await this.#closed;
  }
}

/** Connects, sends, waits, and breaks the connection with a reset: Deno's own sockets can only close. */
export async function reset(port: number, text: string, milliseconds: number): Promise<void> {
  const socket = folder === undefined
    ? connect(port, "127.0.0.1")
    : connect({ path: pathOf(port) });
  socket.on("error", () => {}); // the server may have been first
  await once(socket, "connect");
  socket.write(text, "latin1");
  await pause(milliseconds);
  if (folder === undefined) socket.resetAndDestroy();
  else socket.destroy(); // It is a reset if something was left unread.
  if (!socket.closed) await once(socket, "close");
}

/** Sends everything at once, reads until the server closes, and returns what came. */
export async function exchange(port: number, request: string): Promise<string> {
  using client = await Client.connect(port);
  await client.send(request);
  return await client.rest();
}

/** What is tried on the server from outside: with one runtime only, if one is named, only where the
 * program that it needs is installed, and only without TLS, if it is plain. */
export type Scenario = [
  name: string,
  run: (runtime: Runtime) => Promise<void>,
  where?: { only?: Runtime["name"]; needs?: string; plain?: boolean },
];

/** A runtime that can start the server. */
export interface Runtime {
  name: "Deno" | "Bun";
  command: string;
  /** What stands before the name of the script. */
  args: string[];
}

export const RUNTIMES: Runtime[] = [
  { name: "Deno", command: "deno", args: ["run", "--allow-net"] },
  { name: "Bun", command: "bun", args: [] },
];

/** Whether a program can be started. Where `CI` is set it must be. */
export async function isInstalled(command: string): Promise<boolean> {
  try {
    await new Deno.Command(command, { args: ["--version"], stdout: "null" }).output();
    return true;
  } catch (error) {
    if (Deno.env.get("CI") !== undefined) throw error;
    return false;
  }
}

/** A port that nobody listens on, for programs that can't choose one themselves. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** Runs a client program with some input, and returns what it printed. */
export async function output(command: string, args: string[], input = ""): Promise<string> {
  const child = new Deno.Command(command, {
    args,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  writer.write(new TextEncoder().encode(input)).then(() => writer.close()).catch(() => {});
  const { success, stdout, stderr } = await child.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  if (!success) throw new Error(`${command} failed: ${text(stderr)}`);
  return text(stdout);
}

/** Runs a script of the shell with arguments, `$1` and on, and returns what it printed. */
export async function shell(script: string, ...args: string[]): Promise<string> {
  return (await output("sh", ["-c", script, "sh", ...args])).trim();
}
/** A folder of its own for one test. The tests may not write; the shell that they start may. */
export class Folder implements AsyncDisposable {
  private constructor(readonly path: string) {}
  static async create(): Promise<Folder> {
    return new Folder(await shell("mktemp -d"));
  }
  /** All names in it, hidden ones too. */
  async names(): Promise<string[]> {
    return (await shell('ls -A "$1"', this.path)).split("\n").filter((name) => name !== "");
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await shell('rm -r "$1"', this.path);
  }
}

/** Tries again until it holds, for what happens soon. */
export async function soon(check: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 100; i++) {
    if (await check()) return;
    await pause(20);
  }
  throw new Error(`never came true: ${check}`);
}

/** The server as a process of its own. */
export class Process implements AsyncDisposable {
  log = "";
  out = "";
  port = 0;
  readonly pid: number;
  readonly status: Promise<Deno.CommandStatus>;
  readonly #child: Deno.ChildProcess;
  readonly #done: Promise<unknown>;
  readonly #logReader: ReadableStreamDefaultReader<Uint8Array>;
  #logPaused = Promise.withResolvers<void>();
  #changed = Promise.withResolvers<void>();

  private constructor(runtime: Runtime, script: string, args: string[]) {
    this.#child = new Deno.Command(runtime.command, {
      args: [...runtime.args, script, ...args],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.pid = this.#child.pid;
    this.status = this.#child.status;
    this.#logReader = this.#child.stderr.getReader();
    this.resumeLog();
    this.#done = Promise.all([
      this.#collect(this.#child.stdout.getReader(), (text) => this.out += text),
      this.#collect(this.#logReader, async (text) => {
        this.log += text;
        await this.#logPaused.promise;
      }),
    ]);
  }
  /** Starts a script with arguments, and does not wait for anything. */
  static spawn(runtime: Runtime, script: string, args: string[] = []): Process {
    return new Process(runtime, script, args);
  }
  /** Starts server.ts, or another script that logs as it does, and waits until it listens. */
  static async start(runtime: Runtime, args: string[] = [], script = "server.ts") {
    const permissions = [
      ...secured || folder ? ["--allow-read"] : [],
      ...folder ? ["--allow-write"] : [],
    ];
    const how = runtime.name === "Deno"
      ? { ...runtime, args: [...runtime.args, ...permissions] }
      : runtime;
    const place = folder === undefined ? ["--port", "0"] : ["--unix", `${folder}/${++sockets}`];
    const process = new Process(how, script, [...place, ...secured?.flags ?? [], ...args]);
    const listening = await process.logged(/Listening at (?:PORT |unix:.*\/)(\d+)/);
    process.port = Number(listening[1]);
    return process;
  }
  /** Waits for something in the log. Fails when the process ends without it. */
  logged(pattern: RegExp): Promise<RegExpExecArray> {
    return this.#until(() => pattern.exec(this.log), pattern);
  }
  /** Waits for something in the standard output, and returns what the first group has matched. */
  async printed(pattern: RegExp): Promise<string> {
    return (await this.#until(() => pattern.exec(this.out), pattern))[1];
  }
  async #until<T>(look: () => T | null, wanted: RegExp): Promise<T> {
    const story = () => `${wanted}:\n${this.out}${this.log}`;
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => late.reject(new Error(`it waits in vain for ${story()}`)),
      60_000,
    );
    try {
      for (let ended = false;;) {
        const found = look();
        if (found !== null) return found;
        if (ended) throw new Error(`the process ended without ${story()}`);
        ended = await Promise.race([
          this.#changed.promise.then(() => false),
          this.#done.then(() => true),
          late.promise,
        ]);
      }
    } finally {
      clearTimeout(timer);
    }
  }
  signal(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }
  /** Waits for the process to end by itself, and returns its exit status. */
  async ended(): Promise<number> {
    const { code } = await this.status;
    await this.#done;
    return code;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch { /* it has ended */ }
    await this.ended();
  }
  /** Leaves the log unread until `resumeLog`. */
  pauseLog(): void {
    this.#logPaused = Promise.withResolvers();
  }
  resumeLog(): void {
    this.#logPaused.resolve();
  }
  /** Closes the log: writing to it fails from now on. */
  async closeLog(): Promise<void> {
    await this.#logReader.cancel();
  }
  /** How many descriptors the process has open (Linux). */
  async descriptors(): Promise<number> {
    return (await output("ls", [`/proc/${this.pid}/fd`])).trim().split("\n").length;
  }
  /** The processor time that it has taken, in seconds (Linux). */
  async processorSeconds(): Promise<number> {
    const fields = (await output("cat", [`/proc/${this.pid}/stat`])).replace(/^.*\) /, "").split(
      " ",
    );
    return (Number(fields[11]) + Number(fields[12])) / 100; // proc(5): utime and stime, in ticks
  }
  /** The memory that it holds, in MiB (Linux). */
  async residentMiB(): Promise<number> {
    const status = await output("cat", [`/proc/${this.pid}/status`]);
    return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024;
  }
  async #collect(
    reader: ReadableStreamDefaultReader<Uint8Array>,
    add: (text: string) => unknown,
  ): Promise<void> {
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const added = add(decoder.decode(value, { stream: true }));
      this.#changed.resolve();
      this.#changed = Promise.withResolvers();
      await added;
    }
  }
}
