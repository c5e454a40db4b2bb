/** The page in a real browser: Chromium, driven through ChromeDriver by the W3C WebDriver interface. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { freePort, Process, type Runtime, type Scenario } from "./sockets.ts";

const FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
/** The name of an element reference in the interface. */
const ELEMENT = "element-6066-11e4-a52e-4f735466cecf";
const ENTER = "\uE007";

/** A browser, and the driver that steers it. */
class Browser implements AsyncDisposable {
  readonly #driver: Deno.ChildProcess;
  readonly #base: string;
  #session = "";

  private constructor(port: number) {
    this.#base = `http://127.0.0.1:${port}/session`;
    this.#driver = new Deno.Command("chromedriver", {
      args: [`--port=${port}`],
      stdout: "null",
      stderr: "null",
    }).spawn();
  }
  static async start(): Promise<Browser> {
    const browser = new Browser(freePort());
    const options = { args: FLAGS };
    const capabilities = {
      alwaysMatch: { "goog:chromeOptions": options, "goog:loggingPrefs": { browser: "ALL" } },
    };
    for (let tries = 0;; tries++) { // until the driver listens
      try {
        const session = await browser.#command("POST", "", { capabilities });
        browser.#session = (session as { sessionId: string }).sessionId;
        return browser;
      } catch (error) {
        if (tries === 100) throw error;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }
  async #command(method: string, path: string, body?: object): Promise<unknown> {
    const url = this.#session === "" ? this.#base : `${this.#base}/${this.#session}${path}`;
    const response = await fetch(url, { method, body: body && JSON.stringify(body) });
    const { value } = await response.json();
    if (!response.ok) throw new Error(`${path}: ${value.message}`);
    return value;
  }
  async open(url: string): Promise<void> {
    await this.#command("POST", "/url", { url });
  }
  async reload(): Promise<void> {
    await this.#command("POST", "/refresh", {});
  }
  async #find(selector: string): Promise<string> {
    const found = await this.#command("POST", "/element", {
      using: "css selector",
      value: selector,
    });
    return (found as Record<string, string>)[ELEMENT];
  }
  /** Types keys, as a person does. */
  async type(selector: string, keys: string): Promise<void> {
    await this.#command("POST", `/element/${await this.#find(selector)}/value`, { text: keys });
  }
  async click(selector: string): Promise<void> {
    await this.#command("POST", `/element/${await this.#find(selector)}/click`, {});
  }
  /** Waits until the text of an element matches. */
  async shows(selector: string, pattern: RegExp): Promise<void> {
    let text = "";
    for (const end = Date.now() + 10_000; Date.now() < end;) {
      text = await this.#command("GET", `/element/${await this.#find(selector)}/text`) as string;
      if (pattern.test(text)) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`${selector} shows ${JSON.stringify(text)}, and never ${pattern}`);
  }
  /** What the browser has complained of since it was asked last: errors, blocked resources. */
  async complaints(): Promise<string[]> {
    const entries = await this.#command("POST", "/se/log", { type: "browser" });
    return (entries as { message: string }[]).map(({ message }) => message);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#session !== "") await this.#command("DELETE", "").catch(() => {});
    this.#driver.kill("SIGKILL");
    await this.#driver.status;
  }
}

async function visit(
  runtime: Runtime,
): Promise<{ server: Process; browser: Browser; url: string }> {
  const server = await Process.start(runtime);
  const browser = await Browser.start();
  const url = `http://127.0.0.1:${server.port}/`;
  await browser.open(url);
  return { server, browser, url };
}

export const BROWSED: Scenario[] = [
  ["in a browser: the page shows the book, posts one, and says what is wrong", async (runtime) => {
    const { server, browser } = await visit(runtime);
    await using _server = server, _browser = browser;
    await browser.shows("#ask .status", /^200 OK$/);
    await browser.shows("#ask article", /^Alice's Adventures in Wonderland/);
    await browser.type("#send input[name=title]", " again");
    await browser.type("#send input[name=title]", ENTER); // which sends the form
    await browser.shows("#send .status", /^200 OK: it was given the id 1\.$/);
    await browser.shows("#send .result", /"title": "Through the Looking-Glass again"/);
    assertEquals(await browser.complaints(), []); // no error, and nothing blocked
    await browser.click("#break");
    await browser.click("#send button[type=submit]");
    await browser.shows("#send .status", /^400 Bad Request: 400 Bad Request: Invalid JSON$/);
    await browser.click("#crowd button");
    await browser.shows("#crowd .status", /^Six answers in /);
    for (const complaint of await browser.complaints()) assertMatch(complaint, / 400 /);
  }, { needs: "chromedriver" }],

  ["in a browser: a page that is loaded again comes from the cache, by 304", async (runtime) => {
    const { server, browser } = await visit(runtime);
    await using _server = server, _browser = browser;
    await browser.shows("#ask .status", /^200 OK$/);
    await server.logged(/"GET \/ HTTP\/1\.1" 200 /);
    await browser.reload();
    await browser.shows("#ask .status", /^200 OK$/);
    await server.logged(/"GET \/ HTTP\/1\.1" 304 0 /);
    assertEquals(await browser.complaints(), []);
  }, { needs: "chromedriver" }],

  ["in a browser: the page goes on when the server is started again", async (runtime) => {
    const { server, browser } = await visit(runtime);
    await using _browser = browser;
    await browser.shows("#ask .status", /^200 OK$/);
    await server[Symbol.asyncDispose]();
    await browser.click("#ask .talk > button");
    await browser.shows("#ask .status", /^Could not reach .* Is the server running\?$/);
    await using again = Process.spawn(runtime, "server.ts", ["--port", `${server.port}`]);
    await again.logged(/Listening at PORT/);
    await browser.click("#ask .result button"); // Try again
    await browser.shows("#ask .status", /^200 OK$/);
    assert((await browser.complaints()).every((line) => /ERR_CONNECTION_REFUSED/.test(line)));
  }, { needs: "chromedriver" }],
];
