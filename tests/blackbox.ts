/** What is tried on the server from outside, with either runtime, started as a user starts it. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { field, parseResponses } from "./responses.ts";
import {
  certificateIn,
  certify,
  Client,
  exchange,
  Folder,
  output,
  overTls,
  peer,
  Process,
  reset,
  type Runtime,
  type Scenario,
  shell,
  TlsClient,
} from "./sockets.ts";
import { pause } from "./tools.ts";

const APP = "tests/app.ts";

function request(method: string, path: string, fields = "", body = ""): string {
  const length = body === "" ? "" : `Content-Length: ${body.length}\r\n`;
  return `${method} ${path} HTTP/1.1\r\nHost: a\r\n${length}${fields}\r\n${body}`;
}
const CLOSE = "Connection: close\r\n";

/** Runs the program to its end. */
async function run(runtime: Runtime, args: string[]) {
  await using process = Process.spawn(runtime, "server.ts", args);
  const code = await process.ended();
  return { code, out: process.out, log: process.log };
}

/** Has another program's fetch talk to the server: `args` make it run a script. */
async function tryFetch(runtime: Runtime, command: string, args: string[]): Promise<void> {
  await using server = await Process.start(runtime);
  const base = `http://127.0.0.1:${server.port}`;
  const book = JSON.stringify((await (await fetch(`${base}/book`)).text()).length);
  const script = `
    const ask = async (path, init) => {
      const response = await fetch("${base}" + path, init);
      return [response.status, (await response.text()).length];
    };
    const headers = { "Content-Type": "text/plain" };
    const stream = () => new ReadableStream({ start(c) { c.enqueue(new Uint8Array(9)); c.close(); } });
    const all = [
      await ask("/book"), await ask("/none"), await ask("/book", { method: "HEAD" }),
      await ask("/", { method: "POST", headers, body: "x".repeat(1000000) }),
      await ask("/", { method: "POST", headers, body: stream(), duplex: "half" }),
      ...await Promise.all(Array.from({ length: 20 }, () => ask("/book"))),
    ];
    console.log(JSON.stringify(all));
    process.exit(0);`;
  const expected = [[200, +book], [404, 13], [200, 0], [200, 1000000], [200, 9]]
    .concat(Array(20).fill([200, +book]));
  const printed = await output(command, [...args, `(async () => {${script}})()`]);
  assertEquals(JSON.parse(printed), expected, command);
}

export const SCENARIOS: Scenario[] = [
  ["the page, the book, and everything else", async (runtime) => {
    await using server = await Process.start(runtime);
    const rows: [string, string, number, RegExp][] = [
      ["GET", "/", 200, /^<!doctype html>/i],
      ["GET", "/book", 200, /^\{\n {2}"title"/],
      ["get", "/book", 200, /^\{\n {2}"title"/],
      ["GET", "/x", 404, /^404 Not Found$/],
      ["HEAD", "/", 200, /^$/],
      ["HEAD", "/x", 404, /^$/],
      ["DELETE", "/", 400, /^Handles only GET\/POST requests\.$/],
    ];
    for (const [method, path, status, body] of rows) {
      const text = await exchange(server.port, request(method, path, CLOSE));
      const [received] = parseResponses(text, [method], true);
      assertEquals(received.status, status);
      assertMatch(received.body, body);
    }
    const json = `${CLOSE}Content-Type: application/json\r\n`;
    const posted = await exchange(server.port, request("POST", "/", json, '{"a":"\xc3\xbc"}'));
    assertMatch(posted, /\r\n\r\n\{\n {2}"a": "\xc3\xbc",\n {2}"id": 1\n\}$/);
    const file = await Deno.readTextFile("book.json").catch(() => undefined);
    const book = await exchange(server.port, request("GET", "/book", CLOSE));
    if (file !== undefined) assertEquals(book.split("\r\n\r\n")[1], file);
    await server.logged(
      /^\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d:\d\d [AP]M - INFO - Listening at (PORT|unix:)/,
    );
    await server.logged(
      RegExp(` - INFO - ${peer()} "GET /book HTTP/1\\.1" 200 \\d+ [\\d.]+ ms\n`),
    );
  }],

  ["a body in many packets, a character split over two", async (runtime) => {
    await using server = await Process.start(runtime);
    using client = await Client.connect(server.port);
    const body = new TextEncoder().encode('{"a":"€"}');
    const head = request("POST", "/", `${CLOSE}Content-Type: application/json\r\n`)
      .replace("Host", `Content-Length: ${body.length}\r\nHost`);
    await client.send(head);
    for (const byte of body) {
      await pause(2);
      await client.send(Uint8Array.of(byte));
    }
    const [received] = parseResponses(await client.rest(), ["POST"], true);
    assertEquals(received.body, '{\n  "a": "\xe2\x82\xac",\n  "id": 1\n}');
  }],

  ["a body of the largest size, and one byte more", async (runtime) => {
    await using server = await Process.start(runtime);
    const largest = "x".repeat(1_048_576);
    const [echo] = parseResponses(
      await exchange(server.port, request("POST", "/", CLOSE, largest)),
      ["POST"],
      true,
    );
    assert(echo.body === largest);
    const [refused] = parseResponses(
      await exchange(server.port, request("POST", "/", CLOSE, `${largest}x`)),
      ["POST"],
      true,
    );
    assertEquals(refused.status, 413);
  }],

  ["20 MiB to a slow reader, whole", async (runtime) => {
    await using server = await Process.start(runtime, [], APP);
    using client = await Client.connect(server.port);
    await client.send(request("GET", "/big", CLOSE));
    for (let i = 0; i < 50; i++) {
      await pause(10);
      await client.read(20_000);
    }
    const [received] = parseResponses(await client.rest(), ["GET"], true);
    assertEquals(received.body.length, 20 << 20);
    let wrong = 0;
    for (let i = 0; i < received.body.length; i++) {
      if (received.body.charCodeAt(i) !== i % 251) wrong++;
    }
    assertEquals(wrong, 0);
  }],

  ["a large upload, counted as it comes", async (runtime) => {
    await using server = await Process.start(runtime, [], APP);
    using client = await Client.connect(server.port);
    const size = 30 << 20;
    await client.send(`POST /count HTTP/1.1\r\nHost: a\r\n${CLOSE}Content-Length: ${size}\r\n\r\n`);
    const piece = new Uint8Array(1 << 20);
    for (let sent = 0; sent < size; sent += piece.length) await client.send(piece);
    const [received] = parseResponses(await client.rest(), ["POST"], true);
    assertEquals(received.body, `${size}`);
  }],

  ["a client that ends its side after the request gets its answer", async (runtime) => {
    await using server = await Process.start(runtime, ["--delay", "0.2"]);
    using client = await Client.connect(server.port);
    await client.send(request("GET", "/book"));
    await client.end();
    const [received] = parseResponses(await client.rest(), ["GET"], true);
    assertEquals([received.status, client.ended], [200, "closed"]);
  }],

  ["an answer reaches a client that is still sending", async (runtime) => {
    await using server = await Process.start(runtime);
    for (let i = 0; i < 10; i++) {
      using client = await Client.connect(server.port);
      await client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n");
      await client.send(new Uint8Array(3_000_000));
      const [received] = parseResponses(await client.rest(), ["POST"], true);
      assertEquals([received.status, client.ended], [413, "closed"]);
    }
  }],

  ["--delay and --max-connections: one by one, three at a time, all at once", async (runtime) => {
    const rows: [permits: string, least: number, most: number][] = [
      ["1", 3, 6],
      ["3", 1, 3],
      ["1024", 0.5, 1],
    ];
    for (const [permits, least, most] of rows) {
      const args = ["--delay", "0.5", "--max-connections", permits];
      await using server = await Process.start(runtime, args);
      const start = performance.now();
      await Promise.all(Array.from({ length: 6 }, async () => {
        const text = await exchange(server.port, request("GET", "/book", CLOSE));
        assertMatch(text, /^HTTP\/1\.1 200 /);
      }));
      const seconds = (performance.now() - start) / 1000;
      assert(seconds >= least - 0.01 && seconds < most, `${permits}: ${seconds} s`);
    }
  }],

  ["an idle connection is closed, and the log says so", async (runtime) => {
    await using server = await Process.start(runtime, ["--idle-timeout", "0.5"]);
    using client = await Client.connect(server.port);
    const start = performance.now();
    assertEquals(await client.rest(), "");
    const seconds = (performance.now() - start) / 1000;
    assert(seconds > 0.49 && seconds < 1.2, `after ${seconds} s`);
    await server.logged(
      RegExp(` - INFO - Connection closed due to idle timeout \\(from ${peer()}\\)\n`),
    );
  }],

  ["bad input is 400 and one line in the log, escaped", async (runtime) => {
    await using server = await Process.start(runtime);
    const bad = [
      "GET /\x1b[31m HTTP/1.1\r\n\r\n",
      "hello\r\n\r\n",
      "GET / HTTP/1.1\r\nA\x00:b\r\n\r\n",
    ];
    for (const text of bad) {
      assertMatch(await exchange(server.port, text), /^HTTP\/1\.1 400 Bad Request\r\n/);
    }
    await server.logged(/(.* - INFO - \S+ "[^"]*" 400: Malformed .*\n){3}$/);
    const json = request("POST", "/", `${CLOSE}Content-Type: application/json\r\n`, "{\x1b\n}");
    assertMatch(await exchange(server.port, json), /^HTTP\/1\.1 400 Bad Request\r\n/);
    await server.logged(/ - INFO - \S+ "POST \/ HTTP\/1\.1" 400 \d+ \d+ ms: Invalid JSON/);
    // deno-lint-ignore no-control-regex -- these are what must not be there
    assert(!/[\x00-\x09\x0b-\x1f\x7f]/.test(server.log));
  }],

  ["a handler that throws is 500, without its words", async (runtime) => {
    await using server = await Process.start(runtime, [], APP);
    for (let i = 0; i < 2; i++) {
      const text = await exchange(server.port, request("GET", "/throw", CLOSE));
      assertMatch(text, /^HTTP\/1\.1 500 [^]*\r\n\r\n500 Internal Server Error$/);
    }
    await server.logged(/Error: a secret\n {4}/);
  }],

  ["a client that leaves is noticed while its request is handled", async (runtime) => {
    await using server = await Process.start(runtime, [], APP);
    const client = await Client.connect(server.port);
    await client.send(request("GET", "/gone"));
    await pause(100);
    client.close();
    await server.logged(/Gone/);
  }],

  ["SIGTERM and SIGINT finish what runs, and exit 0", async (runtime) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      await using server = await Process.start(runtime, ["--delay", "0.5"]);
      using idle = await Client.connect(server.port);
      using running = await Client.connect(server.port);
      await running.send(request("GET", "/book"));
      await pause(150);
      const start = performance.now();
      server.signal(signal);
      assertEquals(await idle.rest(), "");
      assert(performance.now() - start < 300, "an idle connection is closed at once");
      const [received] = parseResponses(await running.rest(), ["GET"], true);
      assertEquals([received.status, field(received, "connection")], [200, "close"]);
      assertEquals(await server.ended(), 0);
      assert(await Client.connect(server.port).then(() => false, () => true));
    }
  }],

  ["a second signal exits at once", async (runtime) => {
    await using server = await Process.start(runtime, ["--delay", "20"]);
    using client = await Client.connect(server.port);
    await client.send(request("GET", "/"));
    await pause(150);
    server.signal("SIGTERM");
    await server.logged(/Shutting down/);
    server.signal("SIGTERM");
    assertEquals(await server.ended(), 1);
  }],

  ["--help and --version", async (runtime) => {
    const help = await run(runtime, ["--help"]);
    assertEquals([help.code, help.log], [0, ""]);
    assertMatch(help.out, /^Usage: server\.ts \[options\]\n/);
    // The table in docs/ has the same flags and defaults.
    const readme = await Deno.readTextFile("docs/options.md");
    const rows = Array.from(
      readme.matchAll(/^\| `(--[a-z-]+)` +\| (?:`\w+`)? +\| `?([\w.]+)`? /gm),
    );
    assert(rows.length > 8);
    for (const [, flag, value] of rows) {
      const line = help.out.split("\n").find((line) => line.trim().startsWith(`${flag} `));
      assert(line !== undefined && (value === "off" || line.endsWith(`(${value})`)), flag);
    }
    const { code, out } = await run(runtime, ["--version"]);
    assertEquals(code, 0);
    assertMatch(out, /^\d+\.\d+\.\d+\n$/);
  }, { plain: true }],

  ["a mistake on the command line is one line, the usage, and exit 2", async (runtime) => {
    const mistakes: [string[], RegExp][] = [
      [["--port", "99999"], /^--port must be a whole number from 0 to 65535\n/],
      [["--port", "x"], /^--port must be /],
      [["--port", ""], /^--port must be /],
      [["--idle-timeout=-5"], /^--idle-timeout must be seconds above 0\n/],
      [["--idle-timeout", "-5"], /^--idle-timeout can't be negative\n/],
      [["--request-timeout", "0"], /^--request-timeout must be seconds above 0\n/],
      [["--max-connections", "0"], /^--max-connections must be a whole number from 1\n/],
      [["--max-body-size", "1.5"], /^--max-body-size must be bytes from 0\n/],
      [["--delay", "-1"], /^.*--delay.*\n/],
      [["--log-level", "loud"], /^--log-level must be one of /],
      [["--trusted-proxies", "1"], /^--trusted-proxies and --proxy-says go together\n/],
      [
        ["--trusted-proxies", "10.0.0.0/33", "--proxy-says", "PROXY"],
        /^--trusted-proxies: 10\.0\.0\.0\/33 is /,
      ],
      [
        ["--trusted-proxies", "0", "--proxy-says", "PROXY"],
        /^--trusted-proxies must be from 1 to 100/,
      ],
      [["--trusted-proxies", "1", "--proxy-says", "Via"], /^--proxy-says: Via is none of /],
      [
        ["--trusted-proxies", "1", "--proxy-says", "PROXY,Forwarded"],
        /^--proxy-says: PROXY stands alone\n/,
      ],
      [["--frobnicate"], /^.*--frobnicate.*\n/],
      [["extra"], /^.*extra.*\n/],
    ];
    for (const [args, line] of mistakes) {
      const { code, log } = await run(runtime, args);
      assertEquals(code, 2, log);
      assertMatch(log, line);
      assertMatch(log, /^[^\n]+\n\nUsage: /);
      assert(!log.includes("    at "), log);
    }
  }, { plain: true }],

  ["a port that is in use is one line and exit 1", async (runtime) => {
    await using server = await Process.start(runtime);
    const { code, log } = await run(runtime, ["--port", `${server.port}`]);
    assertEquals(code, 1);
    assertEquals(
      log,
      `Cannot listen at --hostname 127.0.0.1 --port ${server.port}: the port is in use\n`,
    );
    const rows = [
      ["no.such.host.invalid", "the name does not resolve to an address"],
      ["192.0.2.1", "this machine has no such address"],
    ];
    for (const [name, reason] of rows) {
      const { code, log } = await run(runtime, ["--hostname", name, "--port", "0"]);
      assertEquals([code, log], [1, `Cannot listen at --hostname ${name} --port 0: ${reason}\n`]);
    }
  }, { plain: true }],

  ["a privileged port is one line and exit 1", async (runtime) => {
    const args = ["--bounding-set=-net_bind_service", "--", runtime.command, ...runtime.args];
    const unprivileged = { ...runtime, command: "setpriv", args };
    const { code, log } = await run(unprivileged, ["--port", "80"]);
    const line = "Cannot listen at --hostname 127.0.0.1 --port 80: no permission for this port\n";
    assertEquals([code, log], [1, line]);
  }, { needs: "setpriv", plain: true }],

  ["curl", async (runtime) => {
    await using server = await Process.start(runtime);
    const base = `http://127.0.0.1:${server.port}`;
    const book = JSON.stringify((await (await fetch(`${base}/book`)).text()).length);
    const curl = (...args: string[]) => output("curl", ["-sS", "-m", "10", ...args]);
    const code = ["-o", "/dev/null", "-w", "%{http_code} %{http_version} %{size_download}"];
    const mib = "x".repeat(1 << 20);
    assertEquals(await curl(...code, `${base}/book`), `200 1.1 ${book}`);
    assertEquals(await curl(...code, "--http1.0", `${base}/book`), `200 1.1 ${book}`);
    assertEquals(await curl(...code, "-I", `${base}/book`), "200 1.1 0");
    assertEquals(await curl(...code, "-r", "0-9", `${base}/book`), "206 1.1 10");
    assertEquals(await curl(`${base}/`, "-d", "a=ü"), "a=ü");
    assertEquals(await output("curl", ["-sS", base, "-T", "-", "-X", "POST"], mib), mib);
    const expect = ["-H", "Expect: 100-continue", "-H", "Content-Type: text/x"];
    assertEquals(await output("curl", ["-sS", base, ...expect, "--data-binary", "@-"], mib), mib);
    const tooMuch = ["-sS", base, ...code, "--data-binary", "@-"];
    assertMatch(await output("curl", tooMuch, mib + mib), /^413 1\.1 /);
  }, { needs: "curl", plain: true }],

  ["curl over TLS, which verifies the certificate", async (runtime) => {
    await overTls(async (folder) => {
      await using server = await Process.start(runtime);
      const url = `https://127.0.0.1:${server.port}/book`;
      const show = ["-o", "/dev/null", "-w", "%{http_code} %{http_version} %{ssl_verify_result}"];
      const curl = (...args: string[]) =>
        output("curl", ["-sS", "-m", "10", ...show, ...args, url]);
      assertEquals(await curl("--cacert", `${folder}/ca.pem`), "200 1.1 0");
      await assertRejects(() => curl(), Error, "curl failed");
      await server.logged(/ - INFO - TLS handshake failed: .* \(from 127\.0\.0\.1:\d+\)\n/);
    });
  }, { needs: "curl", plain: true }],

  ["SIGHUP renews the certificate, if the files can be used", async (runtime) => {
    await overTls(async (folder) => {
      await using another = await Folder.create();
      await certify(another.path);
      const old = await certificateIn(folder), renewed = await certificateIn(another.path);
      await using server = await Process.start(runtime);
      await using stays = await TlsClient.connect(server.port);
      const shown = async () => {
        await using client = await TlsClient.connect(server.port);
        return client.certificate();
      };
      const hangUp = async (line: RegExp) => {
        server.log = "";
        server.signal("SIGHUP");
        await server.logged(/Certificate .*\n/);
        assertMatch(server.log, line);
      };
      await shell('cp "$1/cert.pem" "$2"', another.path, folder);
      await hangUp(
        /^.* - ERROR - Certificate not renewed: the key is not that of the certificate\n$/,
      );
      await shell('echo nothing > "$1/cert.pem"', folder);
      await hangUp(
        /^.* - ERROR - Certificate not renewed: not a certificate and a key in PEM: .*\n$/,
      );
      await shell('rm "$1/cert.pem"', folder);
      await hangUp(/^.* - ERROR - Certificate not renewed: --tls-cert .* there is no such file\n$/);
      assertEquals(await shown(), old);
      await shell('cp "$1/cert.pem" "$1/key.pem" "$2"', another.path, folder);
      await hangUp(/^.* - INFO - Certificate renewed\n$/);
      assertEquals(await shown(), renewed);
      assertMatch(await stays.ask("</html>\n"), /^HTTP\/1\.1 200 /);
      assertEquals(stays.certificate(), old);
      server.signal("SIGTERM");
      assertEquals(await server.ended(), 0);
    });
  }, { needs: "openssl", plain: true }],

  ["a client that does not speak TLS on a TLS port is a line in the log", async (runtime) => {
    await overTls(async () => {
      await using server = await Process.start(runtime);
      await reset(server.port, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 100);
      await server.logged(/ - INFO - TLS handshake failed: the client does not speak TLS \(from /);
    });
  }, { needs: "openssl", plain: true }],

  ["a key and a chain in one file are used, whatever stands between", async (runtime) => {
    await overTls(async (folder) => {
      await shell(
        `cd "$1"; (echo "the server's"; cat cert.pem; echo the key; cat key.pem; cat ca.pem) |
          sed 's/$/\\r/' > all.pem`,
        folder,
      );
      const flags = ["--tls-cert", `${folder}/all.pem`, "--tls-key", `${folder}/all.pem`];
      const args = runtime.name === "Deno" ? [...runtime.args, "--allow-read"] : runtime.args;
      await using server = Process.spawn({ ...runtime, args }, "server.ts", [
        ...flags,
        "--port",
        "0",
      ]);
      const port = Number((await server.logged(/Listening at PORT (\d+)/))[1]);
      await using client = await TlsClient.connect(port);
      assertMatch(await client.ask("</html>\n"), /^HTTP\/1\.1 200 /);
    });
  }, { needs: "openssl", plain: true }],

  ["certificates that can't be used are one line", async (runtime) => {
    await overTls(async (folder) => {
      const [certificate, key] = [`${folder}/cert.pem`, `${folder}/key.pem`];
      const rows: [string[], number, RegExp][] = [
        [["--tls-cert", certificate], 2, /^--tls-cert and --tls-key go together\n/],
        [
          ["--tls-cert", "none", "--tls-key", key],
          2,
          /^--tls-cert none can't be read: there is no such file\n/,
        ],
        [
          ["--tls-cert", key, "--tls-key", key],
          1,
          /the certificate or its key can't be used: [^\n]+\n$/,
        ],
        [["--tls-cert", certificate, "--tls-key", certificate], 1, /can't be used: [^\n]+\n$/],
        [["--tls-cert", `${folder}/chain.pem`, "--tls-key", key], 1, /can't be used: [^\n]+\n$/],
        [["--tls-cert", `${folder}/cut.pem`, "--tls-key", key], 1, /can't be used: [^\n]+\n$/],
        [["--tls-cert", `${folder}/joined.pem`, "--tls-key", key], 1, /can't be used: [^\n]+\n$/],
        [["--tls-cert", `${folder}/x509.pem`, "--tls-key", key], 1, /can't be used: [^\n]+\n$/],
        [
          ["--tls-cert", `${folder}/odd.pem`, "--tls-key", `${folder}/odd-key.pem`],
          1,
          /can't be used: [^\n]+\n$/,
        ],
        [
          ["--tls-cert", certificate, "--tls-key", `${folder}/ca-key.pem`],
          1,
          /can't be used: [^\n]+\n$/,
        ],
      ];
      const args = runtime.name === "Deno" ? [...runtime.args, "--allow-read"] : runtime.args;
      // Chains whose second certificate is none, or is not whole.
      const begin = "-----BEGIN CERTIFICATE-----";
      await shell(
        `cd "$1"; (cat cert.pem; echo ${begin}; echo AAAA; echo -----END CERTIFICATE-----) > chain.pem
        (cat cert.pem; head -n 5 ca.pem) > cut.pem
        (printf %s "$(cat cert.pem)"; cat ca.pem) > joined.pem
        sed 's/ CERTIFICATE/ X509 CERTIFICATE/' cert.pem > x509.pem
        openssl ecparam -genkey -noout -name secp256k1 -out odd-key.pem
        openssl req -x509 -new -key odd-key.pem -out odd.pem -subj /CN=localhost -days 2 2> /dev/null`,
        folder,
      );
      for (const [flags, status, line] of rows) {
        const { code, log } = await run({ ...runtime, args }, [...flags, "--port", "0"]);
        assertEquals(code, status, log);
        assertMatch(log, line);
      }
      if (runtime.name === "Bun") return;
      const forbidden = await run({ ...runtime, args: ["run", "--no-prompt", "--allow-net"] }, [
        ...["--tls-cert", certificate, "--tls-key", key],
      ]);
      assertEquals(forbidden.code, 2);
      assertMatch(forbidden.log, /^--tls-cert .* can't be read: run it with --allow-read\n/);
    });
  }, { needs: "openssl", plain: true }],

  ["Node's fetch", (runtime) => tryFetch(runtime, "node", ["-e"]), { needs: "node", plain: true }],
  ["Deno's fetch", (runtime) => tryFetch(runtime, "deno", ["eval"]), {
    needs: "deno",
    plain: true,
  }],
  ["Bun's fetch", (runtime) => tryFetch(runtime, "bun", ["-e"]), { needs: "bun", plain: true }],

  ["Python's http.client", async (runtime) => {
    await using server = await Process.start(runtime);
    const book = JSON.stringify(
      (await (await fetch(`http://127.0.0.1:${server.port}/book`)).text()).length,
    );
    const python = `
import http.client
c = http.client.HTTPConnection("127.0.0.1", ${server.port}, timeout=10)
def ask(*args, **more):
    c.request(*args, **more)
    r = c.getresponse()
    print(r.status, len(r.read()), r.will_close)
ask("GET", "/book")
ask("HEAD", "/book")
ask("POST", "/", body=b"x" * 1000)
ask("POST", "/", body=(b"abc" for _ in range(5)), encode_chunked=True)
ask("PUT", "/", body=b"x")
ask("POST", "/", body=b"x" * 3000000)
`;
    assertEquals(
      await output("python3", ["-c", python]),
      `200 ${book} False\n200 0 False\n200 1000 False\n200 15 False\n400 31 False\n413 57 True\n`,
    );
  }, { needs: "python3", plain: true }],

  ["examples/hono.ts", async (runtime) => {
    await using hono = Process.spawn(runtime, "examples/hono.ts", ["0"]);
    const base = `http://127.0.0.1:${await hono.printed(/Listening at PORT (\d+)/)}`;
    const ask = async (path: string, init?: RequestInit) => {
      const response = await fetch(base + path, init);
      return [response.status, await response.text(), response.headers.getSetCookie()];
    };
    assertEquals(await ask("/users/x"), [200, '{"name":"x"}', []]);
    assertEquals(await ask("/users", { method: "POST", body: '{"a":1}' }), [201, '{"a":1}', []]);
    assertEquals(await ask("/count"), [200, "1\n2\n3\n", []]);
    const cookies = ["flavour=oat; Path=/; HttpOnly", "size=large; Path=/"];
    assertEquals(await ask("/cookie"), [200, "Two cookies\n", cookies]);
    assertEquals(await ask("/none"), [404, "404 Not Found", []]);
  }, { plain: true }],

  ["examples/hello.ts", async (runtime) => {
    await using hello = Process.spawn(runtime, "examples/hello.ts", ["0"]);
    const port = await hello.printed(/Listening at PORT (\d+)/);
    assertEquals(await (await fetch(`http://127.0.0.1:${port}/you`)).text(), "Hello, /you\n");
  }, { plain: true }],
];
