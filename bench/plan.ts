/** What is measured: the servers, the workloads, and how this server is meant to compare. */

import { big, book, headers } from "./servers/app.ts";
import { FILES } from "./servers/nginx.ts";
import { configureNginx } from "./servers/nginx.ts";
import { bytesOf, outputOf } from "./measure.ts";

// ── Workloads ────────────────────────────────────────────────────────────────────────────────

export interface Workload {
  name: string;
  title: string;
  /** Which application the servers run. */
  app: "book" | "bodies" | "files" | "hello" | "frozen";
  connections: number;
  /** Exactly what is sent, as often as it fits into the time. */
  request: Uint8Array;
  /** How many requests that is. */
  count: number;
  /** What each must be answered. */
  answer: { headers: Record<string, string>; body: string };
  /** Connections that are open beside, without a request. */
  idle: number;
  /** Whether this server writes its access log. */
  log: boolean;
  /** Whether this server's `onExchange` is in use. */
  told: boolean;
  /** Only the time to the first answer counts. */
  startOnly: boolean;
  /** The files of a certificate and its key, for a server that speaks TLS. */
  tls?: { cert: string; key: string };
}

const BROWSER = `sec-ch-ua: "Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140"\r
sec-ch-ua-mobile: ?0\r
sec-ch-ua-platform: "Linux"\r
Upgrade-Insecure-Requests: 1\r
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r
Sec-Fetch-Site: none\r
Sec-Fetch-Mode: navigate\r
Sec-Fetch-User: ?1\r
Sec-Fetch-Dest: document\r
Accept-Encoding: gzip, deflate, br, zstd\r
Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n`;

const get = (path: string, fields = "") =>
  `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n${fields}\r\n`;
const post = (type: string, body: string) =>
  `POST /books HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: ${type}\r\n` +
  `Content-Length: ${body.length}\r\n\r\n${body}`;

function workload(name: string, title: string, request: string, more: Partial<Workload> = {}) {
  const usual = {
    app: "book",
    connections: 64,
    count: 1,
    idle: 0,
    log: false,
    told: false,
    startOnly: false,
  };
  const answer = { headers: headers.book, body: book };
  return { ...usual, answer, name, title, request: bytesOf(request), ...more } as Workload;
}

/** A GET of one of the files that lie in the folder of the measurement. */
function file(name: keyof typeof FILES, title: string, connections: number) {
  const answer = { headers: {}, body: FILES[name] };
  return workload(name, title, get(`/${name}`), { app: "files", connections, answer });
}

/** No application at all: what the server itself costs. */
function hello(app: "hello" | "frozen", title: string) {
  return workload(app, title, get("/"), { app, answer: { headers: {}, body: "Hello\n" } });
}

/** A POST of a JSON object that is so many bytes long, and how it comes back. */
function json(name: string, title: string, size: number) {
  const object = { title: "Emma", author: "Jane Austen", chapters: [] as string[], rest: "" };
  const length = () => JSON.stringify(object).length;
  while (length() + 40 < size) object.chapters.push(`Chapter ${object.chapters.length + 1}`);
  object.rest = "x".repeat(size - length());
  return workload(name, title, post("application/json", JSON.stringify(object)), {
    answer: {
      headers: { "Content-Type": "application/json", "X-Content-Type-Options": "nosniff" },
      body: JSON.stringify({ ...object, id: 1 }, null, 2),
    },
  });
}

const MEGABYTE = "x".repeat(big.length);
const IDLE = 8000;

export const WORKLOADS: Workload[] = [
  workload("log", "GET with the access log on", get("/book"), { log: true }),
  workload("told", "GET with onExchange in use", get("/book"), { told: true }),
  hello("hello", "GET of a bare hello"),
  hello("frozen", "GET of a bare hello, which here is frozen"),
  workload("get", "GET, 64 connections", get("/book")),
  workload("get512", "GET, 512 connections", get("/book"), { connections: 512 }),
  workload("browser", "GET with a browser's header fields", get("/book", BROWSER)),
  json("json100", "POST of 100 bytes of JSON", 100),
  json("json10k", "POST of 10 KiB of JSON", 10240),
  workload("pipeline", "16 GETs pipelined", get("/book").repeat(16), { count: 16 }),
  workload("close", "GET, a new connection each", get("/book", "Connection: close\r\n")),
  workload("download", "Response of 1 MiB, 16 connections", get("/big"), {
    app: "bodies",
    connections: 16,
    answer: { headers: {}, body: MEGABYTE },
  }),
  workload("upload", "Upload of 1 MiB, 16 connections", post("text/plain", MEGABYTE), {
    app: "bodies",
    connections: 16,
    answer: { headers: {}, body: `${big.length}` },
  }),
  file("small.css", "A file of 1 KiB", 64),
  file("large.css", "A file of 1 MiB, 16 connections", 16),
  workload("idle", `GET beside ${IDLE} idle connections`, get("/book"), { idle: IDLE }),
  workload("start", "From process start to first answer", get("/book"), { startOnly: true }),
];

// ── Servers ──────────────────────────────────────────────────────────────────────────────────

export interface Server {
  name: string;
  title: string;
  runtime?: "Deno" | "Bun";
  /** What it is to the comparison: `rival` is the runtime's own server. */
  role: "this" | "rival" | "floor" | "other";
  /** What it takes part in, by name. */
  workloads: string[];
  /** How it is started. */
  command(port: number, how: How, directory: string): string[];
}
/** What a server needs to know of the workload. */
export type How = Pick<Workload, "app" | "log" | "tls"> & Partial<Pick<Workload, "told">>;

// The programs themselves: what is on the path may be a script that starts them.
const bun = outputOf("bun", "-e", "console.log(process.execPath)");
const python = outputOf("python3", "-c", "import sys; print(sys.executable)");
const script = (name: string) => new URL(name, import.meta.url).pathname;
export const RUN = {
  Deno: [Deno.execPath(), "run", "--allow-all"],
  Bun: [bun ?? "bun"],
};
const ALL = WORKLOADS.map(({ name }) => name);
const GETS = ["get", "get512", "browser"];
const SIMPLE = [...GETS, "close", "pipeline", "idle", "start"];
const RIVALS = ALL.filter((name) => name !== "log" && name !== "told");
const BARE = ["hello", "frozen"];
const OTHERS = RIVALS.filter((name) => !(name in FILES) && !BARE.includes(name));

/** How a checkout of this project starts its server, with its limits as wide as the others' are. */
export function commandOf(
  runtime: "Deno" | "Bun",
  program: string,
  port: number,
  { log, tls }: How,
): string[] {
  return [
    ...RUN[runtime],
    program,
    `--port=${port}`,
    `--log-level=${log ? "info" : "silent"}`,
    "--max-connections=10000", // as many as the others take, and as patiently
    "--idle-timeout=255",
    ...(tls ? [`--tls-cert=${tls.cert}`, `--tls-key=${tls.key}`] : []),
  ];
}
function own(runtime: "Deno" | "Bun"): Server {
  return {
    name: runtime.toLowerCase(),
    title: `**server.ts on ${runtime}**`,
    runtime,
    role: "this",
    workloads: ALL,
    command: (port, how, directory) => {
      const app = how.told ? "told" : how.app;
      if (app === "book") return commandOf(runtime, script("../server.ts"), port, how);
      return [...RUN[runtime], script(`servers/${app}.ts`), `${port}`, directory];
    },
  };
}
function other(
  runtime: "Deno" | "Bun",
  role: Server["role"],
  name: string,
  title: string,
  program: string,
  workloads = RIVALS,
): Server {
  const command = (port: number, { app, tls }: How, directory: string) => [
    ...RUN[runtime],
    script(`servers/${program}${app === "files" ? "-files" : ""}.ts`),
    `${port}`,
    app === "files" ? directory : app,
    ...(tls ? [tls.cert, tls.key] : []),
  ];
  return { name, title, runtime, role, workloads, command };
}

export const SERVERS: Server[] = [
  own("Deno"),
  other("Deno", "rival", "deno-serve", "`Deno.serve`", "deno-serve"),
  other("Deno", "other", "deno-node", "`node:http` on Deno", "node-http", OTHERS),
  other("Deno", "floor", "deno-floor", "`Deno.listen`, the floor", "floor", GETS),
  own("Bun"),
  other("Bun", "rival", "bun-serve", "`Bun.serve`", "bun-serve"),
  other("Bun", "other", "bun-routes", "`Bun.serve`, static routes", "bun-routes", SIMPLE),
  other("Bun", "other", "bun-node", "`node:http` on Bun", "node-http", OTHERS),
  other("Bun", "floor", "bun-floor", "`Bun.listen`, the floor", "floor", GETS),
  {
    name: "nginx",
    title: "nginx",
    role: "other",
    workloads: [...SIMPLE, "download", ...Object.keys(FILES)],
    command: (port, _, directory) => {
      return ["nginx", "-e", "stderr", "-c", configureNginx(port, directory)];
    },
  },
  {
    name: "python",
    title: "Python, three threads",
    role: "other",
    workloads: ["close", "start"],
    command: (port) => [python ?? "python3", script("servers/threads.py"), `${port}`],
  },
];

/** Whether it can be started here. */
export function isInstalled({ name, runtime }: Server): boolean {
  if (name === "nginx") return outputOf("nginx", "-v") !== undefined;
  if (name === "python") return python !== undefined;
  return runtime === "Deno" || bun !== undefined;
}

// ── What counts ──────────────────────────────────────────────────────────────────────────────

/** What one run of one server says. */
export interface Sample {
  /** Microseconds of CPU time a request. */
  cpu: number;
  /** Requests a second. */
  rate: number;
  /** Latencies in microseconds. */
  p50: number;
  p99: number;
  /** Bytes that an idle connection adds. */
  perConnection: number;
  /** Milliseconds from start to first answer. */
  start: number;
}

/** A figure of this server that is to be no more than so many times another's; the requests a second
 * are to be no less. */
export interface Target {
  title: string;
  workload: string;
  figure: keyof Sample;
  /** The other: a server of the same runtime, or this server in another workload. */
  against: "rival" | "floor" | "get";
  bound: { Deno: number; Bun: number };
}

function target(
  title: string,
  workload: string,
  deno: number,
  bun: number,
  figure: keyof Sample = "cpu",
  against: Target["against"] = "rival",
): Target {
  return { title, workload, figure, against, bound: { Deno: deno, Bun: bun } };
}
const MICROSECONDS = "CPU time a request";
export const TARGETS: Target[] = [
  target(`${MICROSECONDS}: GET of a bare hello`, "hello", 1.05, 0.90),
  target(`${MICROSECONDS}: GET of a bare hello, frozen`, "frozen", 1.02, 0.85),
  target(`${MICROSECONDS}: GET, 64 connections`, "get", 0.92, 0.70),
  target(`${MICROSECONDS}: GET, 512 connections`, "get512", 1.00, 1.00),
  target(`${MICROSECONDS}: GET with a browser's header fields`, "browser", 1.00, 0.80),
  target(`${MICROSECONDS}: POST of 100 bytes of JSON`, "json100", 1.00, 0.80),
  target(`${MICROSECONDS}: POST of 10 KiB of JSON`, "json10k", 1.00, 1.00),
  target(`${MICROSECONDS}: 16 GETs pipelined`, "pipeline", 0.15, 0.15),
  target(`${MICROSECONDS}: a new connection each`, "close", 1.00, 1.00),
  target(`${MICROSECONDS}: response of 1 MiB`, "download", 1.00, 1.00),
  target(`${MICROSECONDS}: upload of 1 MiB`, "upload", 1.00, 1.00),
  // The runtimes' own look at nothing but the name. Bun's opens the file in native code, and lets the
  // kernel send the larger one (sendfile) without the bytes ever coming to the process.
  target(`${MICROSECONDS}: a file of 1 KiB`, "small.css", 1.00, 1.60),
  target(`${MICROSECONDS}: a file of 1 MiB`, "large.css", 1.60, 10.0),
  target(`${MICROSECONDS}: GET beside idle connections`, "idle", 1.00, 1.00),
  target("Requests a second, 64 connections", "get", 1.0, 1.0, "rate"),
  target("Requests a second, 512 connections", "get512", 1.0, 1.0, "rate"),
  target("Median latency, 64 connections", "get", 1.0, 1.0, "p50"),
  target("Median latency, 512 connections", "get512", 1.0, 1.0, "p50"),
  target("99th percentile of latency, 64 connections", "get", 1.0, 1.0, "p99"),
  target("99th percentile of latency, 512 connections", "get512", 1.0, 1.0, "p99"),
  target("Memory of an idle connection", "idle", 0.5, 1.5, "perConnection"),
  target("Time from start to first answer", "start", 1.0, 1.0, "start"),
  target("CPU time of a GET, to the runtime's floor", "get", 1.12, 1.12, "cpu", "floor"),
  target("CPU time of a GET with onExchange in use, to without", "told", 1.05, 1.05, "cpu", "get"),
  target("CPU time of a GET with the access log, to without", "log", 1.15, 1.15, "cpu", "get"),
];
