/** Behind proxies that others wrote: what HAProxy and nginx say of their clients is what is told. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { startProxy } from "./proxied.ts";
import {
  certify,
  Folder,
  freePort,
  output,
  overTls,
  Process,
  type Runtime,
  type Scenario,
} from "./sockets.ts";
import { dice, pause } from "./tools.ts";

/** A client that connects from an address of its own, and shows what it gets. */
async function ask(url: string, ...more: string[]): Promise<string> {
  const from = ["--interface", "127.0.0.7", "--max-time", "5"];
  for (let attempt = 0;; attempt++) {
    try {
      return await output("curl", ["-sSf", ...from, ...more, url]);
    } catch (error) {
      if (attempt === 100) throw error;
      await pause(50); // The proxy may not be there yet.
    }
  }
}

/** HAProxy in front of a server on some port, run with a client of its port. */
async function behindHaproxy(
  mode: "tcp" | "http",
  server: string,
  more: string,
  run: (port: number) => Promise<void>,
): Promise<void> {
  const port = freePort();
  const proxy = await startProxy(`
    defaults
        mode ${mode}
        timeout connect 2s
        timeout client 5s
        timeout server 5s
    listen front
        bind 127.0.0.1:${port}
        ${more}
        server one ${server} check inter 100ms
`);
  try {
    await run(port);
  } finally {
    proxy.kill("SIGKILL");
    await proxy.status;
  }
}

/** nginx in front of a server, with some lines of its configuration. */
async function behindNginx(
  serverPort: number,
  lines: string,
  run: (port: number) => Promise<void>,
): Promise<void> {
  const port = freePort();
  await using folder = await Folder.create();
  const { path } = folder;
  const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `${name}_temp_path ${path}/${name};`).join("\n");
  await output(
    "sh",
    ["-c", 'cat > "$1"', "sh", `${path}/nginx.conf`],
    `
    daemon off;
    master_process off;
    pid ${path}/pid;
    error_log stderr;
    events {}
    http {
      access_log off;
      ${paths}
      server {
        listen 127.0.0.1:${port};
        location / {
          proxy_pass http://127.0.0.1:${serverPort};
          ${lines}
        }
      }
    }
`,
  );
  const nginx = new Deno.Command("nginx", {
    args: ["-e", "stderr", "-p", path, "-c", `${path}/nginx.conf`],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  try {
    await run(port);
  } finally {
    nginx.kill("SIGTERM");
    await nginx.status;
  }
}

const BELIEVE = ["--trusted-proxies", "127.0.0.1", "--proxy-says", "PROXY"];
/** A header that the client sends in every way, since it knows what is wanted. */
const FORGED = [
  "-H",
  "X-Forwarded-For: 6.6.6.6, 127.0.0.1",
  "-H",
  'Forwarded: for=6.6.6.6;x="',
  "-H",
]
  .concat("X-Forwarded-Proto: https", "-H", "X-Forwarded-Host: evil");

async function tellingServer(runtime: Runtime, proxy: unknown): Promise<Process> {
  return await Process.start(runtime, ["--proxy", JSON.stringify(proxy)], "tests/told.ts");
}

/** Prefixes, sound and not, and addresses near them, sound and not. */
function questions(): [trusted: string[], addresses: string[]][] {
  const roll = dice(3);
  const v4 = () =>
    Array.from({ length: 4 }, () => roll(3) ? roll(256) : [0, 10, 127, 255][roll(4)]).join(".");
  const v6 = () => {
    const groups = Array.from({ length: 8 }, () => roll(3) === 0 ? roll(65536).toString(16) : "0");
    if (roll(4) === 0) groups.fill("0", 0, 5)[5] = "ffff";
    let text = groups.join(":");
    if (roll(3)) {
      text = text.replace(/\b0(:0)+\b/, ":").replace(/^:(?!:)|(?<!:):$/, "::").replace(":::", "::");
    }
    if (roll(5) === 0) text = text.replace(/[^:]+:[^:]+$/, () => v4());
    return roll(2) ? text.toUpperCase() : text;
  };
  const near = (text: string) => {
    const at = roll(text.length + 1);
    return text.slice(0, at) + "0123456789abcdef:.g-+"[roll(21)] + text.slice(at + roll(2));
  };
  const address = () => roll(2) ? v4() : v6();
  return Array.from({ length: 1500 }, () => {
    const base = address();
    const trusted = base.includes(":")
      ? `${base}/${roll(130)}`
      : roll(8) === 0
      ? base
      : `${base}/${roll(34)}`;
    return [[trusted], [
      base,
      ...Array.from({ length: 14 }, () => roll(2) ? near(base) : address()),
    ]];
  });
}
/** The same questions, answered by Python's ipaddress. IPv4 within IPv6 is IPv4. It makes of a prefix with
 * bits behind it one without, and asks again. */
const ORACLE = `
import ipaddress, json, sys
def plain(address):
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address
def network(text):
    found = ipaddress.ip_network(text, strict=False)
    if found.version == 6 and plain(found.network_address).version == 4 and found.prefixlen >= 96:
        found = ipaddress.ip_network((found.network_address.ipv4_mapped, found.prefixlen - 96))
    return found
questions, answers = [], []
for (text,), addresses in json.load(sys.stdin):
    try:
        one = network(text)
    except ValueError:
        questions.append([[text], addresses]); answers.append(None)
        continue
    told = []
    for address in addresses:
        try:
            if "%" in address: raise ValueError
            found = plain(ipaddress.ip_address(address))
            text = str(found)
            if found.version == 6 and "." in text: text = ":".join(["", "", *["%x" % (int(found) >> s & 65535) for s in (16, 0)]])
            told.append("203.0.113.9" if found in one else text)
        except ValueError:
            told.append("192.0.2.1")
    questions.append([[str(one)], addresses]); answers.append(told)
json.dump([questions, answers], sys.stdout)
`;

export const FRONTS: Scenario[] = [
  ["addresses and prefixes are what Python takes them for", async (runtime) => {
    const input = JSON.stringify(questions());
    const [asked, expected] = JSON.parse(await output("python3", ["-c", ORACLE], input));
    const script = ["tests/believed.ts"];
    const found = JSON.parse(
      await output(runtime.command, [...runtime.args, ...script], JSON.stringify(asked)),
    );
    let inside = 0, malformed = 0;
    const hasPort = /^[^:]*:[^:]*$/; // which is none of Python's business
    for (const [i, answers] of expected.entries()) {
      if (answers === null) {
        malformed++;
        assertMatch(found[i], /no IP address, no prefix/, asked[i][0]);
        continue;
      }
      inside += answers.filter((one: string) => one === "203.0.113.9").length;
      for (const [j, answer] of answers.entries()) {
        if (hasPort.test(asked[i][1][j])) continue;
        assertEquals(found[i][j], answer, `${asked[i][0]} and ${asked[i][1][j]}`);
      }
    }
    assert(expected.length === 1500 && inside > 1000 && malformed > 10, `${inside}, ${malformed}`);
  }, { needs: "python3" }],

  ...["send-proxy", "send-proxy-v2 proxy-v2-options crc32c,unique-id"].map((how): Scenario => [
    `HAProxy with ${how} tells the client`,
    async (runtime) => {
      await using server = await Process.start(runtime, BELIEVE);
      const more = "unique-id-format %rt";
      await behindHaproxy("tcp", `127.0.0.1:${server.port} ${how}`, more, async (port) => {
        const text = await ask(`http://127.0.0.1:${port}/book`, ...FORGED);
        assertMatch(text, /^\{/);
        await server.logged(/INFO - 127\.0\.0\.7:[1-9]\d+ "GET \/book HTTP\/1\.1" 200/);
        await pause(300); // for some of its checks
      });
      assert(!/6\.6\.6\.6|refused|ERROR/.test(server.log), server.log);
    },
    { needs: "haproxy" },
  ]),

  ["HAProxy with send-proxy-v2 tells the client of a TLS server", async (runtime) => {
    await overTls(async () => {
      await using server = await Process.start(runtime, BELIEVE);
      await behindHaproxy("tcp", `127.0.0.1:${server.port} send-proxy-v2`, "", async (port) => {
        assertMatch(await ask(`https://127.0.0.1:${port}/book`, "--insecure"), /^\{/);
        await server.logged(/INFO - 127\.0\.0\.7:[1-9]\d+ "GET \/book HTTP\/1\.1" 200/);
        await pause(300);
      });
      assert(!/refused|failed|ERROR/.test(server.log), server.log);
      // Without the header, it is nobody who is believed.
      const text = output("curl", ["-sS", "--insecure", `https://127.0.0.1:${server.port}/`]);
      assertEquals(await text.catch(() => "ended"), "ended");
      await server.logged(/INFO - PROXY header refused: there is none \(from 127\.0\.0\.1:\d+\)/);
    });
  }, { needs: "haproxy", only: "Deno" }],

  ["PROXY in front of TLS is refused where the runtime can't read it", async (runtime) => {
    await using folder = await Folder.create();
    const { path } = folder;
    await certify(path);
    const tls = ["--tls-cert", `${path}/cert.pem`, "--tls-key", `${path}/key.pem`];
    await using server = Process.spawn(runtime, "server.ts", [...tls, ...BELIEVE, "--port", "0"]);
    assertEquals(await server.ended(), 1);
    assertMatch(
      server.log,
      /^Cannot listen at [^\n]+: on Bun, there is no PROXY with tls: [^\n]+\n$/,
    );
  }, { needs: "openssl", only: "Bun" }],

  ["HAProxy's X-Forwarded fields are believed, its client's are not", async (runtime) => {
    const says = ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"];
    const more = `option forwardfor
        http-request set-header X-Forwarded-Proto http
        http-request set-header X-Forwarded-Host %[req.hdr(host)]`;
    for (const trusted of [1, ["127.0.0.1"]]) {
      await using server = await tellingServer(runtime, { trusted, says });
      await behindHaproxy("http", `127.0.0.1:${server.port}`, more, async (port) => {
        const text = await ask(`http://127.0.0.1:${port}/x`, ...FORGED, "-H", "Host: mine:81");
        assertEquals(JSON.parse(text), ["127.0.0.7", "http://mine:81/x"]);
      });
      await server.logged(/^127\.0\.0\.7 "GET \/x HTTP\/1\.1" 200/m);
      const direct = await ask(`http://127.0.0.1:${server.port}/x`, ...FORGED);
      const isAnybody = trusted === 1;
      assertEquals(
        JSON.parse(direct),
        [isAnybody ? "127.0.0.1" : "127.0.0.7"].concat(
          isAnybody ? "https://evil/x" : `http://127.0.0.1:${server.port}/x`,
        ),
      );
    }
  }, { needs: "haproxy" }],

  [
    "nginx's X-Forwarded fields and Forwarded are believed, its client's are not",
    async (runtime) => {
      const fields = `
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header Forwarded '$http_forwarded, for="$remote_addr:$remote_port";proto=$scheme;host="$http_host"';`;
      const xff = ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"];
      for (const says of [xff, ["Forwarded"]]) {
        await using server = await tellingServer(runtime, { trusted: ["127.0.0.1"], says });
        await behindNginx(server.port, fields, async (port) => {
          const host = ["-H", "Host: mine:81"];
          for (const more of [[...FORGED, ...host], host, ["-H", "X-Forwarded-For;", ...host]]) {
            const text = await ask(`http://127.0.0.1:${port}/x`, ...more);
            assertEquals(JSON.parse(text), ["127.0.0.7", "http://mine:81/x"]);
          }
        });
        const port = says === xff ? "" : ":[0-9]+"; // Only Forwarded tells it.
        await server.logged(new RegExp(`^127\\.0\\.0\\.7${port} "GET /x HTTP/1\\.0" 200`, "m"));
      }
    },
    { needs: "nginx" },
  ],
];
