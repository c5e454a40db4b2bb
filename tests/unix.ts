/** Unix sockets: what becomes of their files, who may connect, and nginx and curl at the other end. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  certify,
  Client,
  Folder,
  freePort,
  output,
  Process,
  type Runtime,
  type Scenario,
} from "./sockets.ts";
import { pause } from "./tools.ts";

const CLOSE = "GET /book HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/** Runs it with a new folder, and a runtime that may use it. */
async function within(
  runtime: Runtime,
  run: (folder: string, runtime: Runtime) => Promise<void>,
): Promise<void> {
  await using folder = await Folder.create();
  const { path } = folder;
  const permissions = [`--allow-read=${path}`, `--allow-write=${path}`];
  await run(
    path,
    runtime.name === "Bun"
      ? runtime
      : { ...runtime, args: ["run", "--no-prompt", "--allow-net", ...permissions] },
  );
}
async function start(
  runtime: Runtime,
  path: string,
  more: string[] = [],
  script = "server.ts",
): Promise<Process> {
  const server = Process.spawn(runtime, script, ["--unix", path, ...more]);
  await server.logged(/Listening at unix:/);
  return server;
}
/** Runs the program to its end. */
async function run(runtime: Runtime, args: string[]): Promise<[status: number, log: string]> {
  await using process = Process.spawn(runtime, "server.ts", args);
  const code = await process.ended();
  return [code, process.log];
}
/** The status that the server at a socket answers with. */
async function ask(path: string): Promise<string> {
  using client = await Client.unix(path);
  await client.send(CLOSE);
  return (await client.rest()).slice(9, 12);
}
/** What is in a folder: type and mode of each file, and its name. */
async function files(folder: string): Promise<string> {
  return (await output("find", [folder, "-mindepth", "1", "-printf", "%y %m %P\n"])).trim();
}
/** A program that serves at the path. */
function library(runtime: Runtime, path: string): Process {
  return Process.spawn(runtime, "tests/unixtold.ts", [path]);
}

export const UNIX: Scenario[] = [
  ["a Unix socket: its mode, the log, and no trace after a stop", async (runtime) => {
    await within(runtime, async (folder, runtime) => {
      const path = `${folder}/s`;
      for (const [flags, mode] of [[["--unix-mode", "660"], "660"], [["--unix-mode", "0"], "0"]]) {
        await using server = await start(runtime, path, [...flags, "--log-level", "debug"]);
        assertEquals(await files(folder), `s ${mode} s`);
        assertEquals(await ask(path), "200");
        await server.logged(/ - DEBUG - Client Connected \(from unix\)\n/);
        await server.logged(/ - INFO - unix "GET \/book HTTP\/1\.1" 200 \d+ \d+ ms\n/);
        server.signal("SIGTERM");
        assertEquals(await server.ended(), 0);
        assertEquals(await files(folder), "");
      }
      const shell = { ...runtime, command: "sh" };
      shell.args = ["-c", 'umask 027; exec "$@"', "sh", runtime.command, ...runtime.args];
      await using server = await start(shell, path);
      assertEquals(await files(folder), "s 750 s");
      server.signal("SIGINT");
      assertEquals(await server.ended(), 0);
      assertEquals(await files(folder), "");
    });
  }],

  ["a Unix socket that a killed server has left behind is replaced", async (runtime) => {
    await within(runtime, async (folder, runtime) => {
      const path = `${folder}/s`;
      for (let i = 0; i < 3; i++) {
        await using server = await start(runtime, path);
        assertEquals(await ask(path), "200");
        server.signal("SIGKILL");
        await server.ended();
        assertEquals(await files(folder), "s 755 s");
      }
      await using another = library(runtime, path);
      assertEquals(await another.printed(/^(.*)\n/), "listening");
      assertEquals(await ask(path), "200");
    });
  }],

  ["a Unix socket at which somebody listens is left to them", async (runtime) => {
    await within(runtime, async (folder, runtime) => {
      const path = `${folder}/s`;
      await using server = await start(runtime, path);
      const line = "another server listens there";
      assertEquals(await run(runtime, ["--unix", path]), [
        1,
        `Cannot listen at --unix ${path}: ${line}\n`,
      ]);
      await using other = library(runtime, path);
      assertEquals(await other.printed(/^(.*)\n/), `Cannot listen at unix:${path}: ${line}`);
      assertEquals([await ask(path), await files(folder)], ["200", "s 755 s"]);
      server.signal("SIGTERM");
      assertEquals(await server.ended(), 0);
    });
  }],

  ["of several servers that start at once, one gets the Unix socket", async (runtime) => {
    await within(runtime, async (folder, runtime) => {
      const path = `${folder}/s`;
      const killed = await start(runtime, path);
      killed.signal("SIGKILL");
      await killed.ended();
      const all = Array.from(
        { length: 4 },
        () => Process.spawn(runtime, "server.ts", ["--unix", path]),
      );
      try {
        const told = await Promise.all(all.map((one) => one.logged(/Listening|Cannot.*\n/)));
        assertEquals(told.filter(([text]) => text === "Listening").length, 1, told.join("\n"));
        assertEquals([await ask(path), await files(folder)], ["200", "s 755 s"]);
      } finally {
        for (const one of all) await one[Symbol.asyncDispose]();
      }
    });
  }],

  ["what is no socket is not replaced by one, and other mistakes are one line", async (runtime) => {
    await within(runtime, async (folder, runtime) => {
      await output("sh", [
        "-c",
        'cd "$1"; echo kept > file; mkdir dir; ln -s file link',
        "sh",
        folder,
      ]);
      const before = await files(folder);
      const cannot = (path: string, why: string): [string[], number, string] => [
        ["--unix", path],
        1,
        `Cannot listen at --unix ${path}: ${why}\n`,
      ];
      const long = `${folder}/${"x".repeat(94 - folder.length)}`;
      const rows: [string[], number, string][] = [
        cannot(`${folder}/file`, "there is a file that is not a socket"),
        cannot(`${folder}/dir`, "there is a file that is not a socket"),
        cannot(`${folder}/link`, "there is a file that is not a socket"),
        cannot(`${folder}/none/s`, "there is no such folder"),
        [["--unix", long], 2, "A Unix socket must be a file's path of up to 94 bytes\n"],
        [["--unix", ""], 2, "A Unix socket must be a file's path of up to 94 bytes\n"],
        [["--unix", "s", "--port", "0"], 2, "A Unix socket has no hostname, no port, and "],
        [["--unix", "s", "--hostname", "a"], 2, "A Unix socket has no hostname, no port, and "],
        [["--unix", "s", "--reuse-port"], 2, "A Unix socket has no hostname, no port, and can't "],
        [["--unix", "s", "--unix-mode", "888"], 2, "A Unix socket's mode must be octal, from 0 "],
        [["--unix", "s", "--unix-mode", "1777"], 2, "A Unix socket's mode must be octal, from "],
        [["--unix-mode", "660"], 2, "A mode is for a Unix socket, and none is given\n"],
      ];
      for (const [args, status, line] of rows) {
        const [code, log] = await run(runtime, args);
        assertEquals([code, log.slice(0, line.length)], [status, line], log);
        if (status === 1) assertEquals(log, line);
      }
      assertEquals(await files(folder), before);
      assertEquals(await output("cat", [`${folder}/file`]), "kept\n");
    });
  }],

  ["a Unix socket in a folder that may not be written is one line", async (runtime) => {
    await within(runtime, async (folder, runtime) => {
      await output("chmod", ["555", folder]);
      const args = ["--bounding-set=-dac_override", "--", runtime.command, ...runtime.args];
      const path = `${folder}/s`;
      const why = "no permission to write to its folder";
      assertEquals(await run({ ...runtime, command: "setpriv", args }, ["--unix", path]), [
        1,
        `Cannot listen at --unix ${path}: ${why}\n`,
      ]);
    });
  }, { needs: "setpriv" }],

  ["a Unix socket that another server has taken over stays", async (runtime) => {
    await within(runtime, async (folder, runtime) => {
      const path = `${folder}/s`;
      await using first = await start(runtime, path);
      await output("rm", [path]);
      await using second = await start(runtime, path);
      first.signal("SIGTERM");
      assertEquals(await first.ended(), 0);
      assertEquals([await ask(path), await files(folder)], ["200", "s 755 s"]);
      second.signal("SIGTERM");
      assertEquals([await second.ended(), await files(folder)], [0, ""]);
    });
  }],

  ["a Unix socket: what applications written for Fetch are told", async (runtime) => {
    await within(runtime, async (folder, runtime) => {
      const path = `${folder}/s`;
      await using server = library(runtime, path);
      assertEquals(await server.printed(/^(.*)\n/), "listening");
      const curl = (...args: string[]) =>
        output("curl", ["-sS", "-m", "10", "--unix-socket", path, ...args, "http://a/told"]);
      assertEquals(JSON.parse(await curl()), {
        addr: { hostname: "", port: 0, unix: path },
        heard: { hostname: "", port: 0, unix: path },
        remoteAddr: { transport: "unix", path, hostname: "", port: 0 },
        url: "http://a/told",
      });
    });
  }, { needs: "curl" }],

  ["a relative path is that of the start, wherever the process goes", async (runtime) => {
    await within(runtime, async (folder, runtime) => {
      const script = `${Deno.cwd()}/tests/unixmoved.ts`;
      const go = ["-c", 'cd "$1" && mkdir other && shift && exec "$@"', "sh", folder];
      const said = await output("sh", [...go, runtime.command, ...runtime.args, script, "s"]);
      assertEquals(said, "socket 1\nstopped 0\n");
    });
  }],

  ["TLS on a Unix socket", async (runtime) => {
    await within(runtime, async (folder, runtime) => {
      await certify(folder);
      const flags = ["--tls-cert", `${folder}/cert.pem`, "--tls-key", `${folder}/key.pem`];
      await using server = await start(runtime, `${folder}/s`, flags);
      const curl = ["-sS", "-m", "10", "--unix-socket", `${folder}/s`, "--cacert"];
      const book = await output("curl", [...curl, `${folder}/ca.pem`, "https://127.0.0.1/book"]);
      assertMatch(book, /^\{\n {2}"title"/);
      await server.logged(/ - INFO - unix "GET \/book HTTP\/1\.1" 200 /);
      const wrong = ["--tls-cert", `${folder}/key.pem`, "--tls-key", `${folder}/key.pem`];
      const before = await files(folder);
      const [status, log] = await run(runtime, ["--unix", `${folder}/t`, ...wrong]);
      assertEquals(status, 1);
      assertMatch(
        log,
        /^Cannot listen at --unix \S+: the certificate or its key can't be used: .+\n$/,
      );
      assertEquals(await files(folder), before);
    });
  }, { needs: "openssl" }],

  ["a Unix socket without its permissions is one line", async (runtime) => {
    await within(runtime, async (folder, { command }) => {
      const flags = ["--allow-net", `--allow-read=${folder}`, `--allow-write=${folder}`];
      for (const missing of flags) {
        const args = ["run", "--no-prompt", ...flags.filter((flag) => flag !== missing)];
        const [code, log] = await run({ ...runtime, command, args }, ["--unix", `${folder}/s`]);
        const why = "run it with --allow-net, and --allow-read and --allow-write for its folder";
        assertEquals([code, log], [1, `Cannot listen at --unix ${folder}/s: ${why}\n`]);
      }
      assertEquals(await files(folder), "");
    });
  }, { only: "Deno" }],

  [
    "two servers behind nginx, by deploy/nginx.conf: a restart loses no request",
    async (runtime) => {
      await within(runtime, async (folder, runtime) => {
        await output("chmod", ["755", folder]);
        const port = freePort();
        const config = (await Deno.readTextFile("deploy/nginx.conf"))
          .replaceAll(/\/run\/server-(\w)\/http/g, `${folder}/$1`)
          .replace("/run/nginx.pid", `${folder}/nginx.pid`)
          .replace("listen 8000", `listen 127.0.0.1:${port}`);
        await output("sh", ["-c", 'cat > "$1"', "sh", `${folder}/nginx.conf`], config);
        const servers = [];
        for (const name of ["a", "b"]) {
          servers.push(await start(runtime, `${folder}/${name}.sock`, ["--unix-mode", "666"]));
        }
        const flags = ["-p", folder, "-c", `${folder}/nginx.conf`];
        await output("nginx", ["-t", ...flags]);
        const nginx = new Deno.Command("nginx", {
          args: [...flags, "-g", "daemon off;"],
          stderr: "null",
        })
          .spawn();
        try {
          const get = async () => {
            const response = await fetch(`http://127.0.0.1:${port}/book`);
            await response.body?.cancel();
            return response.status;
          };
          for (let i = 0; i < 100 && await get().catch(() => 0) !== 200; i++) await pause(50);
          let over = false, answered = 0;
          const failures: number[] = [];
          const work = async () => {
            for (; !over; answered++) {
              const status = await get();
              if (status !== 200) failures.push(status);
            }
          };
          const workers = Array.from({ length: 8 }, work);
          await pause(300);
          for (const [i, name] of ["a", "b"].entries()) {
            servers[i].signal("SIGTERM");
            assertEquals(await servers[i].ended(), 0);
            servers[i] = await start(runtime, `${folder}/${name}.sock`, ["--unix-mode", "666"]);
            await pause(300);
          }
          over = true;
          await Promise.all(workers);
          assertEquals(failures, []);
          assert(answered > 200, `only ${answered} answers`);
          const body = "x".repeat(1 << 20);
          const posted = await fetch(`http://127.0.0.1:${port}/`, {
            method: "POST",
            headers: { "Content-Type": "text/plain" },
            body,
          });
          assertEquals([posted.status, await posted.text()], [200, body]);
          for (const server of servers) {
            assertMatch(server.log, / - INFO - unix "GET \/book HTTP\/1\.1" 200 /);
          }
        } finally {
          nginx.kill("SIGTERM");
          await nginx.status;
          for (const server of servers) {
            await server[Symbol.asyncDispose]();
          }
        }
      });
    },
    { needs: "nginx" },
  ],
];
