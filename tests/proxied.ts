/** The server behind HAProxy, configured as `deploy/haproxy.cfg` has it. */

import { assert, assertEquals } from "@std/assert";
import { mutations } from "./names.ts";
import { parseResponses } from "./responses.ts";
import { Client, freePort, Process, type Runtime, type Scenario } from "./sockets.ts";
import { pause } from "./tools.ts";

export async function startProxy(config: string): Promise<Deno.ChildProcess> {
  const proxy = new Deno.Command("haproxy", {
    args: ["-f", "/dev/stdin"],
    stdin: "piped",
    stdout: "null",
    stderr: "null",
  }).spawn();
  const writer = proxy.stdin.getWriter();
  await writer.write(new TextEncoder().encode(config));
  await writer.close();
  return proxy;
}

/** HAProxy in front of two servers, and clients that keep it busy. */
class Site implements AsyncDisposable {
  readonly port = freePort();
  answered = 0;
  readonly failures: string[] = [];
  readonly #runtime: Runtime;
  readonly #ports = [freePort(), freePort()];
  readonly servers: Process[] = [];
  #proxy: Deno.ChildProcess | undefined;
  #over = false;
  #workers: Promise<void>[] = [];

  private constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }
  static async start(runtime: Runtime): Promise<Site> {
    const site = new Site(runtime);
    await Promise.all([site.restart(0), site.restart(1)]);
    const [a, b] = site.#ports;
    const config = (await Deno.readTextFile("deploy/haproxy.cfg"))
      .replace("bind :8000", `bind 127.0.0.1:${site.port}`)
      .replace("127.0.0.1:8081", `127.0.0.1:${a}`)
      .replace("127.0.0.1:8082", `127.0.0.1:${b}`);
    site.#proxy = await startProxy(config);
    for (;;) {
      try {
        using client = await Client.connect(site.port);
        if (/ 200 /.test(await site.#ask(client, "GET"))) return site;
      } catch { /* not yet */ }
      await pause(50);
    }
  }
  /** Starts a server where there is none, or one that is down. */
  async restart(i: number): Promise<void> {
    const server = Process.spawn(this.#runtime, "server.ts", ["--port", `${this.#ports[i]}`]);
    this.servers[i] = server;
    await server.logged(/Listening at PORT/);
  }
  /** Has clients send request after request, each on a connection that it keeps. */
  work(clients: number, method: "GET" | "POST"): void {
    for (let i = 0; i < clients; i++) this.#workers.push(this.#work(method));
  }
  async #work(method: "GET" | "POST"): Promise<void> {
    while (!this.#over) {
      using client = await Client.connect(this.port);
      while (!this.#over && client.ended === false) {
        client.received = "";
        try {
          const text = await this.#ask(client, method);
          if (/^HTTP\/1\.1 200 /.test(text)) this.answered++;
          else this.failures.push(`${method}: ${text.slice(0, 40)} ${client.ended}`);
        } catch (error) {
          this.failures.push(`${method}: ${error}`);
          break;
        }
      }
    }
  }
  async #ask(client: Client, method: "GET" | "POST"): Promise<string> {
    const [path, fields, body] = method === "GET"
      ? ["/book", "", ""]
      : ["/", "Content-Type: text/plain\r\nContent-Length: 5\r\n", "hello"];
    await client.send(`${method} ${path} HTTP/1.1\r\nHost: a\r\n${fields}\r\n${body}`);
    await client.until(method === "GET" ? /\}\n$|<\/html>/ : /hello$|<\/html>/);
    if (client.received !== "") parseResponses(client.received, [method], client.ended !== false);
    return client.received;
  }
  async finish(): Promise<void> {
    this.#over = true;
    await Promise.all(this.#workers);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.finish();
    this.#proxy?.kill("SIGKILL");
    await this.#proxy?.status;
    for (const server of this.servers) await server[Symbol.asyncDispose]();
  }
}

/**
 * HAProxy in front of one server, which marks each request that it passes on, and tells with each
 * answer the mark of the request that it takes it for. Its connections to the server are shared by
 * all clients: what one of them smuggles would come into the way of the others.
 */
class Front implements AsyncDisposable {
  readonly port = freePort();
  /** No client can know it. */
  readonly #secret = crypto.randomUUID();
  readonly #server: Process;
  #proxy: Deno.ChildProcess | undefined;
  #answered = 0;

  private constructor(server: Process) {
    this.#server = server;
  }
  static async start(runtime: Runtime, more: string): Promise<Front> {
    const server = await Process.start(runtime, [], "tests/behind.ts");
    const front = new Front(server);
    const config = (await Deno.readTextFile("deploy/haproxy.cfg"))
      .replace("bind :8000", `bind 127.0.0.1:${front.port}`)
      .replace("127.0.0.1:8081", `127.0.0.1:${server.port}`)
      .replace(/server b .*/, "")
      .replace("check inter 500ms fall 2 rise 1", "") // which would be requests too
      .replace(/(timeout (?:client|server|http-request)) .*/g, "$1 3s")
      .replace("http-reuse safe", "http-reuse always")
      .replace(
        "default_backend",
        `unique-id-format ${front.#secret}-%rt
        http-request set-header X-Mark %[unique-id]
        http-response set-header X-Marked %[unique-id]
        ${more}
        default_backend`,
      );
    front.#proxy = await startProxy(config);
    for (;;) {
      try {
        await front.ask("GET /first HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        return front;
      } catch { /* not yet */ }
      await pause(50);
    }
  }
  /** Sends messages, and checks that each answer is one to the request that HAProxy takes it for.
   * Returns the statuses, and how many answers were the server's. Only the first of the messages may
   * be one that the server refuses. */
  async ask(messages: string): Promise<{ statuses: number[]; passed: number }> {
    using client = await Client.connect(this.port);
    await client.send(messages);
    await client.end();
    const text = await client.rest();
    const answers = answersIn(text);
    let passed = 0;
    for (const [i, answer] of answers.entries()) {
      const status = Number(answer.get("status"));
      const why = `${JSON.stringify(messages)} got ${JSON.stringify(text)}`;
      assert(![408, 502, 503, 504].includes(status), why); // What HAProxy has sent was no request.
      const mark = answer.get("x-marked");
      if (mark === undefined) continue; // HAProxy has refused it.
      passed++;
      if (status === 200) this.#answered++;
      if (status === 200 || i > 0) assertEquals(answer.get("x-seen"), mark, why);
    }
    return { statuses: answers.map((answer) => Number(answer.get("status"))), passed };
  }
  /** Checks that the server has seen the requests that it was passed, and no others. */
  async check(): Promise<void> {
    this.#server.signal("SIGTERM");
    await this.#server.ended();
    const seen = this.#server.out.trim().split("\n").map((line) => JSON.parse(line));
    const marks = new Set(seen.map(([mark]) => mark));
    assertEquals(seen.filter(([mark]) => !mark.startsWith(this.#secret)), []);
    assertEquals([seen.length, marks.size], [this.#answered, this.#answered]);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.#proxy?.kill("SIGKILL");
    await this.#proxy?.status;
    await this.#server[Symbol.asyncDispose]();
  }
}

/** The statuses and fields of the final answers, HAProxy's own among them, which have no Date. */
function answersIn(text: string): Map<string, string>[] {
  const answers: Map<string, string>[] = [];
  for (let at = 0; at < text.length;) {
    const end = text.indexOf("\r\n\r\n", at);
    const [line, ...lines] = text.slice(at, end).split("\r\n");
    const status = /^HTTP\/1\.1 (\d{3}) /.exec(line)?.[1];
    if (end < 0 || status === undefined) throw new Error(`not an answer: ${JSON.stringify(text)}`);
    const pairs = lines.map((line) => line.split(/: */, 2) as [string, string]);
    const answer = new Map(pairs.map(([name, value]) => [name.toLowerCase(), value]));
    at = end + 4 + Number(answer.get("content-length") ?? 0);
    if (status >= "200") answers.push(answer.set("status", status));
  }
  return answers;
}

const BYTES = [..."Xx-_.!:,; \t\r\n\0\x0b\x7f\x85\xa0\xad\xff"];

/** Messages that two servers may take for different ones, with `#` for what tells them apart. */
function* doubtful(): Generator<string> {
  const hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
  const length = `Content-Length: ${hidden.length}`, coding = "Transfer-Encoding: chunked";
  const size = hidden.length.toString(16);
  const chunks = `${size}\r\n${hidden}\r\n0\r\n\r\n`, last = `0\r\n\r\n${hidden}`;
  const forms: [head: string, text: string, content: string][] = [
    ["POST / HTTP/1.1\r\nHost: a\r\n#", length, hidden],
    ["GET / HTTP/1.1\r\nHost: a\r\n#", length, hidden],
    ["POST / HTTP/1.1\r\nHost: a\r\n#", coding, chunks],
    ["GET / HTTP/1.1\r\nHost: a\r\n#", coding, chunks],
    [`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${last.length}\r\n#`, coding, last],
    [`POST / HTTP/1.1\r\nHost: a\r\n${coding}\r\n#`, "Content-Length: 5", last],
    [`POST / #\r\nHost: a\r\n${coding}`, "HTTP/1.1", chunks],
    [`GET / HTTP/1.1\r\nHost: a\r\n${length}\r\n#`, "Connection: close", hidden],
  ];
  for (const [head, text, content] of forms) {
    // No length grows where content is not waited for: whether it is answered would depend on the time.
    const bytes = head.startsWith("GET") ? BYTES : [...BYTES, ..."019"];
    for (const mutated of mutations(text, bytes)) {
      yield `${head.replace("#", () => mutated)}\r\n\r\n${content}`;
    }
  }
}

export const PROXIED: Scenario[] = [
  ["a rolling restart behind HAProxy: not one request fails", async (runtime) => {
    await using site = await Site.start(runtime);
    site.work(8, "GET");
    site.work(8, "POST");
    await pause(500);
    for (const i of [0, 1]) {
      const old = site.servers[i];
      old.signal("SIGTERM");
      assertEquals(await old.ended(), 0);
      await site.restart(i);
      await pause(1500); // until HAProxy has seen that it is back
    }
    await site.finish();
    assertEquals(site.failures, []);
    assert(site.answered > 1000, `only ${site.answered} answers`);
  }, { needs: "haproxy" }],

  ["a server behind HAProxy is killed: no more fail than were in flight", async (runtime) => {
    await using site = await Site.start(runtime);
    site.work(8, "GET");
    site.work(8, "POST");
    await pause(500);
    site.servers[0].signal("SIGKILL");
    await pause(2000);
    await site.finish();
    assert(site.failures.length <= 16, site.failures.join("\n"));
    assert(site.answered > 500, `only ${site.answered} answers`);
  }, { needs: "haproxy" }],

  ...["", "option accept-invalid-http-request"].map((more): Scenario => [
    `HAProxy and the server count the same requests${more && `, with ${more}`}`,
    async (runtime) => {
      await using front = await Front.start(runtime, more);
      const cases = doubtful();
      const CLOSE = "Connection: close\r\n\r\n";
      let passed = 0, refused = 0;
      const work = async () => {
        for (const message of cases) {
          const last = `GET /last HTTP/1.1\r\nHost: a\r\n${CLOSE}`;
          const found = await front.ask(message + last);
          if (found.passed > 0) passed++;
          else refused++;
          // Somebody else, on what may be the same connection to the server.
          const other = await front.ask(`GET /other HTTP/1.1\r\nHost: a\r\n${CLOSE}`);
          assertEquals([other.statuses, other.passed], [[200], 1], JSON.stringify(message));
        }
      };
      await Promise.all(Array.from({ length: 8 }, work));
      await front.check();
      assert(passed > 1000 && refused > 1000, `${passed} passed, ${refused} refused`);
    },
    { needs: "haproxy" },
  ]),
];
