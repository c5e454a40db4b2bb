/** The server behind HAProxy, configured as `deploy/haproxy.cfg` has it. */

import { assert, assertEquals } from "@std/assert";
import { parseResponses } from "./responses.ts";
import { Client, freePort, Process, type Runtime, type Scenario } from "./sockets.ts";

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
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
    site.#proxy = new Deno.Command("haproxy", {
      args: ["-f", "/dev/stdin"],
      stdin: "piped",
      stdout: "null",
      stderr: "null",
    }).spawn();
    const writer = site.#proxy.stdin.getWriter();
    await writer.write(new TextEncoder().encode(config));
    await writer.close();
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
];
