/** The page in a real browser: Chromium, driven through ChromeDriver as W3C WebDriver has it. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { Process, type Runtime, type Scenario } from "./sockets.ts";
import { pause } from "./tools.ts";

const PATIENCE = 12_000; // milliseconds for anything that is waited for

/** Keys without a character, as WebDriver numbers them. */
const TAB = "\uE004", ENTER = "\uE007", CONTROL = "\uE009", END = "\uE010";

interface LogEntry {
  level: string;
  source: string;
  message: string;
}

/** Looks again and again until there is something. */
async function until<T>(what: string, look: () => Promise<T | undefined | false>): Promise<T> {
  let last: unknown;
  for (const deadline = Date.now() + PATIENCE; Date.now() < deadline;) {
    try {
      last = undefined;
      const found = await look();
      if (found !== undefined && found !== false) return found;
    } catch (error) {
      last = error;
    }
    await pause(25);
  }
  throw new Error(`waited in vain for ${what}`, { cause: last });
}

/** One ChromeDriver with one browser window. */
export class WebDriver implements AsyncDisposable {
  readonly #driver: Deno.ChildProcess;
  readonly #base: string;
  #session = "";

  private constructor(port: number) {
    this.#base = `http://127.0.0.1:${port}`;
    this.#driver = new Deno.Command("chromedriver", {
      args: [`--port=${port}`],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
  }
  static async start(): Promise<WebDriver> {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    listener.close();
    const driver = new WebDriver(listener.addr.port);
    try {
      await until("ChromeDriver", async () => {
        const status = await driver.#send("GET", "/status") as { ready: boolean };
        return status.ready;
      });
      const session = await driver.#send("POST", "/session", {
        capabilities: {
          alwaysMatch: {
            browserName: "chrome",
            "goog:chromeOptions": {
              args: ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
            },
            "goog:loggingPrefs": { browser: "ALL" },
          },
        },
      });
      driver.#session = `/session/${(session as { sessionId: string }).sessionId}`;
      return driver;
    } catch (error) {
      await driver[Symbol.asyncDispose]().catch(() => {}); // the first error tells more
      throw error;
    }
  }
  async #send(method: string, path: string, body?: unknown): Promise<unknown> {
    const response = await fetch(this.#base + path, {
      method,
      body: body === undefined ? undefined : JSON.stringify(body),
      headers: { "Content-Type": "application/json" },
      signal: AbortSignal.timeout(PATIENCE),
    });
    const { value } = await response.json();
    if (!response.ok) throw new Error(`${method} ${path}: ${value.error}: ${value.message}`);
    return value;
  }
  /** A command to the session. */
  command(path: string, body: unknown = {}): Promise<unknown> {
    return this.#send("POST", this.#session + path, body);
  }
  async open(url: string): Promise<void> {
    await this.command("/url", { url });
  }
  async reload(): Promise<void> {
    await this.command("/refresh");
  }
  /** Runs the body of a function in the page, and returns what it returns. */
  async run<T>(script: string, ...args: unknown[]): Promise<T> {
    return await this.command("/execute/sync", { script, args }) as T;
  }
  /** The text that can be seen in an element. */
  text(selector: string): Promise<string> {
    const script = "return document.querySelector(arguments[0])?.innerText ?? ''";
    return this.run(script, selector);
  }
  /** Waits until the text in an element matches, and returns it. */
  async shows(selector: string, pattern: RegExp): Promise<string> {
    let text = "";
    try {
      return await until(`${pattern}`, async () => {
        text = await this.text(selector);
        return pattern.test(text) && text;
      });
    } catch (error) {
      throw new Error(`${selector} shows ${JSON.stringify(text)}, not ${pattern}`, {
        cause: error,
      });
    }
  }
  /** Types keys, one after the other, into what has the focus; an array is pressed together. */
  async press(...keys: (string | string[])[]): Promise<void> {
    const actions = keys.flatMap((chord) => {
      const held = [chord].flat();
      return [
        ...held.map((value) => ({ type: "keyDown", value })),
        ...held.toReversed().map((value) => ({ type: "keyUp", value })),
      ];
    });
    await this.command("/actions", { actions: [{ type: "key", id: "keyboard", actions }] });
  }
  /** Presses Tab until an element has the focus, as someone without a mouse does. */
  async tabTo(selector: string): Promise<void> {
    for (let i = 0; i < 50; i++) {
      await this.press(TAB);
      const script = "return document.activeElement?.matches(arguments[0]) ?? false";
      if (await this.run<boolean>(script, selector)) return;
    }
    throw new Error(`the Tab key does not lead to ${selector}`);
  }
  /** Goes to a button as someone without a mouse does, and presses it. */
  async push(selector: string): Promise<void> {
    await this.tabTo(selector);
    await this.press(ENTER);
  }
  /** A command of Chromium's own protocol. */
  async tell(cmd: string, params: unknown): Promise<void> {
    await this.command("/goog/cdp/execute", { cmd, params });
  }
  /** What the browser has complained of since it was last asked. */
  async complaints(): Promise<string[]> {
    const entries = await this.command("/se/log", { type: "browser" }) as LogEntry[];
    return entries.map(({ level, source, message }) => `${level} ${source}: ${message}`);
  }
  /** Ends the browser, then ChromeDriver: asked to, it removes the profile first. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (this.#session !== "") await this.#send("DELETE", this.#session);
      await this.#send("GET", "/shutdown");
    } catch (error) {
      try {
        this.#driver.kill("SIGKILL");
      } catch { /* it has ended */ }
      throw error;
    } finally {
      await this.#driver.status;
    }
  }
}

/** Starts a server on a port that another one has left. */
async function restart(runtime: Runtime, port: number): Promise<Process> {
  const server = Process.spawn(runtime, "server.ts", ["--port", `${port}`]);
  await server.logged(/Listening at PORT/);
  return server;
}

export const BROWSED: Scenario[] = [
  ["a browser shows the book, and posts one by the keyboard alone", async (runtime) => {
    await using server = await Process.start(runtime);
    await using browser = await WebDriver.start();
    await browser.open(`http://127.0.0.1:${server.port}/`);
    await browser.shows("#ask .result h3", /^Alice's Adventures in Wonderland$/);
    await browser.shows("#ask .result", /Alice's Evidence/);
    await browser.shows("#ask .status", /^200\b/);
    await browser.shows("#ask .facts", /GET \/book/);

    await browser.tabTo("input[name=title]"); // what is in it is selected
    await browser.press(..."Emma", ENTER);
    await browser.shows("#send .status", /^200 .*\bid 1\b/);
    const answer = JSON.parse(await browser.shows("#send .result pre", /\}$/));
    assertEquals(answer.title, "Emma");
    assertEquals(answer.id, 1);
    await browser.shows("#send .facts", /POST \/book/);
    await browser.push("#send summary");
    await browser.shows("#send .sent", /Content-Length: \d+\\r\\n\n\\r\\n\n\{\\n\n/);
    await browser.shows("#send .received", /^ *"id": 1\\n$/m);
    await browser.shows("#send .wire", /disconnected by the server$/);
    assertEquals(await browser.complaints(), []); // nothing failed and nothing was blocked
    const hosts = "return [...new Set(performance.getEntriesByType('resource')" +
      ".map((entry) => new URL(entry.name).host))]";
    assertEquals(await browser.run(hosts), [`127.0.0.1:${server.port}`]);

    await browser.tabTo("#body");
    await browser.press([CONTROL, END], ..."oops");
    for (const part of [".status", ".result", ".facts"]) {
      assertEquals(await browser.text(`#send ${part}`), "", "an answer to what was there before");
    }
    await browser.push("#send button[type=submit]");
    await browser.shows("#send .status", /^400 Bad Request: Invalid JSON$/);
    assertEquals(await browser.run("return document.querySelector('#send pre')"), null);
    assertEquals(
      await browser.run("return document.querySelector('textarea').ariaInvalid"),
      "true",
    );
    const complaints = await browser.complaints();
    assertEquals(complaints.length, 1, complaints.join("\n")); // a browser notes every 400
    assertMatch(complaints[0], /status of 400/);
  }, { needs: "chromedriver" }],

  ["a browser's page outlives a restart of the server", async (runtime) => {
    await using first = await Process.start(runtime);
    await using browser = await WebDriver.start();
    await browser.open(`http://127.0.0.1:${first.port}/`);
    await browser.shows("#ask .status", /^200\b/);

    first.signal("SIGTERM");
    assertEquals(await first.ended(), 0);
    for (const [section, button] of [["#ask", "button"], ["#pool", "button"]]) {
      await browser.push(`${section} ${button}`);
      await browser.shows(`${section} .status`, /^Could not reach .* Is the server running\?$/);
      assertEquals(await browser.text(`${section} .result`), ""); // nothing answered
    }
    assertEquals(await browser.text("#ask .facts"), "");

    await using _second = await restart(runtime, first.port);
    await browser.push("#ask button");
    await browser.shows("#ask .status", /^200\b|^304\b/);
    await browser.shows("#ask .result h3", /^Alice's/);
    await browser.tabTo("input[name=title]");
    await browser.press(ENTER);
    await browser.shows("#send .status", /^200 .*\bid 1\b/);
  }, { needs: "chromedriver" }],

  ["a browser that reloads is told that its copies are good", async (runtime) => {
    await using server = await Process.start(runtime);
    await using browser = await WebDriver.start();
    await browser.open(`http://127.0.0.1:${server.port}/`);
    await browser.shows("#ask .facts", /200/);
    await server.logged(/"GET \/ HTTP\/1\.1" 200 /);
    await server.logged(/"GET \/book HTTP\/1\.1" 200 /);
    assert(!server.log.includes("304"), server.log);

    await browser.reload();
    await browser.shows("#ask .result h3", /^Alice's/);
    await browser.shows("#ask .facts", /304/);
    await server.logged(/"GET \/ HTTP\/1\.1" 304 /);
    await server.logged(/"GET \/book HTTP\/1\.1" 304 /);
    assertEquals(await browser.complaints(), []);
  }, { needs: "chromedriver" }],

  ["a browser runs nothing that has no type, and shows text as it was meant", async (runtime) => {
    await using server = Process.spawn(runtime, "tests/untyped.ts", ["0"]);
    const port = Number((await server.logged(/Listening at PORT (\d+)/))[1]);
    await using browser = await WebDriver.start();
    const said = encodeURIComponent("<!DOCTYPE html><script>document.title = 'ran'</script>Grüße");
    const paths = ["text", "bytes", "mixed", "stream", "blob", "response", "response-bytes"];
    for (const path of [...paths, "response-stream"]) {
      await browser.open(`http://127.0.0.1:${port}/${path}?said=${said}`);
      assert(await browser.run("return document.title") !== "ran", path);
      const shown = await browser.run("return document.body?.innerText ?? ''") as string;
      if (/^(text|bytes|response)$/.test(path)) assertMatch(shown, /<script>.*Grüße$/, path);
    }
  }, { needs: "chromedriver" }],

  ["a browser shows six clients in a line, side by side, and in waves", async (runtime) => {
    await using server = await Process.start(runtime);
    await using browser = await WebDriver.start();
    await browser.open(`http://127.0.0.1:${server.port}/`);
    await browser.shows("#ask .status", /^200\b/);
    const pressed = async (selector: string, how: RegExp, least: number) => {
      const section = selector.split(" ")[0];
      await browser.push(selector);
      const status = await browser.shows(`${section} .status`, /^Six answers/);
      assertMatch(status, how);
      const taken = Number(/in (\d+) ms/.exec(status)![1]);
      assert(taken >= least, status);
      await browser.shows(`${section} .result`, /^(Client \d: 200 OK, \d+ ms\s*){6}$/);
      // From left to right, the bars are as long as the clients waited and were served.
      return await browser.run<number[][]>(
        "return [...document.querySelectorAll(arguments[0])].map((track) =>" +
          "[...track.children].map((bar) => bar.getBoundingClientRect().width / track.clientWidth))",
        `${section} .track`,
      );
    };
    await browser.tabTo("input[name=delay]");
    await browser.press(..."0.3");
    const line = await pressed("#tasks button", /one after the other\.$/, 1795);
    for (const [i, [waits, served]] of line.entries()) {
      const before = i === 0 ? 0 : line[i - 1][0] + line[i - 1][1];
      assert(Math.abs(waits - before) < 0.05 && served > 0.05, `${line}`);
    }
    await pressed("#tasks button:last-child", /all side by side\.$/, 295);
    await browser.tabTo("input[name=permits]");
    await browser.press("2");
    await pressed("#pool button", /in 3 waves\.$/, 1495);
    assertEquals(await browser.complaints(), []);
  }, { needs: "chromedriver" }],

  ["a browser shows what is sent and received, and why a connection ends", async (runtime) => {
    await using server = await Process.start(runtime);
    await using browser = await WebDriver.start();
    await browser.open(`http://127.0.0.1:${server.port}/`);
    await browser.shows("#ask .status", /^200\b/);
    await browser.shows("#pool .start", runtime.name === "Bun" ? /^bun server/ : /^deno run/);
    await browser.push("#idle");
    const ends = /1: no answer, closed .*2: 408 Request Timeout, .*3: 200 OK, closed/;
    await browser.shows("#pool .status", ends);

    await browser.push("#keep button:nth-child(1)");
    await browser.shows("#keep .status", /^200 OK, closed after \d+ ms, being idle\.$/);
    const pieces = "return [...document.querySelectorAll('#keep .sent pre')]" +
      ".map((piece) => piece.textContent.trim())";
    const [first, second, last] = await browser.run<string[]>(pieces);
    assertEquals([first, last], ["POST / HT", "ouser"]);
    assertMatch(second, /^TP\/1\.1\\r\\n\n.*\nContent-Length: 9\\r\\n\n\\r\\n\nCuri$/s);
    await browser.push("#keep button:nth-child(2)");
    await browser.shows("#keep .status", /^200 OK, then 200 OK, closed/);
    await browser.push("#keep button:nth-child(3)");
    await browser.shows("#keep .status", /^200 OK, then 404 Not Found, closed/);
    const counted = "return document.querySelectorAll('#keep .received').length";
    assertEquals(await browser.run(counted), 1);

    const reasons = [/version is not/, /Host/, /field/, /Content-Length/, /^505/, /^400/];
    for (const [i, reason] of reasons.entries()) {
      await browser.push(`#mistakes button:nth-child(${i + 1})`);
      await browser.shows("#refuse .status", reason);
      assertMatch(await browser.text("#refuse .status"), /^[45]\d\d /);
      await browser.shows("#refuse .wire", /disconnected by the server$/);
    }
    await browser.tabTo("#bytes");
    await browser.press(
      [CONTROL, "a"],
      ..."GET /\\p\\x41 HTTP/1.1",
      ENTER,
      ..."Host:a",
      ENTER,
      ENTER,
    );
    assertEquals(await browser.text("#refuse .status"), "");
    await browser.push("#refuse [type=submit]");
    await browser.shows("#refuse .status", /^404 Not Found$/);
    const sent =
      "return [...document.querySelectorAll('#refuse .sent pre')].map((one) => one.innerText)";
    assertEquals(
      await browser.run(sent),
      ["GET /", "A HTTP/1.1\\r\\n\nHost:a\\r\\n\n\\r\\n\n"],
    );
    assertEquals(await browser.complaints(), []);
  }, { needs: "chromedriver" }],

  ["a browser's page claims no more than it can, and fits a phone", async (runtime) => {
    await using server = await Process.start(runtime);
    await using browser = await WebDriver.start();
    const url = `http://127.0.0.1:${server.port}/`;
    const size = { width: 360, height: 640, deviceScaleFactor: 1, mobile: true };
    await browser.tell("Emulation.setDeviceMetricsOverride", size);
    await browser.open(url);
    await browser.shows("#ask .status", /^200\b/);
    await browser.push("#send [type=submit]");
    await browser.shows("#send .status", /^200\b/);
    const isSeen = "const { top, bottom } = document.querySelector('#send .status')" +
      ".getBoundingClientRect(); return top >= 0 && bottom <= innerHeight";
    assert(await browser.run(isSeen), "the answer is out of sight");
    for (const button of ["#send summary", "#idle", "#mistakes button"]) await browser.push(button);
    await browser.shows("#pool .status", /closed after/);
    assertEquals(await browser.run("return document.documentElement.scrollWidth"), size.width);

    await browser.tell("Network.enable", {});
    await browser.tell("Network.setExtraHTTPHeaders", { headers: { Via: "1.1 a" } });
    await browser.open(url);
    for (const section of ["#tasks", "#pool", "#keep", "#refuse"]) {
      await browser.shows(
        `${section} .status`,
        /^The lab is for clients on this machine, unless/,
      );
    }
    assertEquals(await browser.run("return document.querySelectorAll('button:enabled').length"), 3);

    await browser.tell("Emulation.setScriptExecutionDisabled", { value: true });
    await browser.open(url);
    await browser.shows("main", /^Without JavaScript/);
    const controls = "return [...document.querySelectorAll('button, input, textarea, details')]" +
      ".filter((one) => one.checkVisibility()).length";
    assertEquals(await browser.run(controls), 0);
  }, { needs: "chromedriver" }],
];
