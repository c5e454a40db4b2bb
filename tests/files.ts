/** The files of a folder, on either runtime, beside oracles and programs that others wrote. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { files } from "../extras/files.ts";
import { requestOf } from "../server.ts";
import { WebDriver } from "./browser.ts";
import { ask } from "./examples.ts";
import { field, parseResponses, type Received } from "./responses.ts";
import {
  Client,
  Folder,
  freePort,
  output,
  Process,
  reset,
  type Runtime,
  type Scenario,
  shell,
  soon,
} from "./sockets.ts";
import { dice, pause } from "./tools.ts";

/** As many bytes as are read at once, and some: the larger files are streamed. */
const LARGE = 131072 + 1000;

/** A folder with all that can lie in one, and secrets around it. */
const MAKE = `cd "$1"; mkdir -p root/sub root/.git root/.well-known root/empty root/.a root-secret
echo secret | tee x secret.txt root/.git/x root/.hidden root/sub/.env > root-secret/x
printf 'public page' > root/sub/index.html; printf 'public known' > root/.well-known/security.txt
printf 'secret well' > root/sub/.well-known; printf 'public 0123456789' > root/small.css
printf 'public "a b"' > 'root/a b.TXT'; printf 'public %%' > 'root/100%.txt'; : > root/nothing.js
printf 'public umlaut' > 'root/ü.md'; printf 'public geo' > root/map.geo
seq -f 'public %.0f' 20000 | head -c ${LARGE} > root/large.json
printf 'public script, as it is' > root/app.js; printf BR > root/app.js.br
printf GZIP > root/app.js.gz; printf ZSTD > root/app.js.zst; ln -s ../secret.txt root/small.css.br
printf OLD > root/sub/index.html.gz; mkdir root/map.geo.gz
mkfifo root/pipe
ln -s ../x root/link; ln -s ../root-secret root/out; ln -s sub root/in; ln -s loop root/loop
ln -s /etc/passwd root/passwd; ln -s small.css root/alias.css
find root -exec touch -h -d '2020-01-01 00:00:00.5 UTC' {} +; touch -d '2019-01-01' root/sub/index.html.gz
touch -d '2020-01-01 00:00:00.0 UTC' root/app.js.br`;

async function makeFolder(): Promise<Folder> {
  const folder = await Folder.create();
  await shell(MAKE, folder.path);
  return folder;
}

async function start(runtime: Runtime, folder: string, allowed = folder) {
  const flags = runtime.name === "Deno" ? [`--allow-read=${allowed}`] : [];
  const args = [...runtime.args, ...flags];
  const server = Process.spawn({ ...runtime, args }, "tests/filed.ts", ["0", folder]);
  server.port = Number(await server.printed(/Listening at PORT (\d+)/));
  return server;
}

/** Many requests on one connection, one after the other. */
async function askAll(
  port: number,
  requests: [method: string, path: string, fields: string[]][],
): Promise<Received[]> {
  using client = await Client.connect(port);
  const answers: Received[] = [];
  for (const [method, path, fields] of requests) {
    client.received = "";
    const lines = fields.map((line) => `${line}\r\n`).join("");
    await client.send(`${method} ${path} HTTP/1.1\r\nHost: a\r\n${lines}\r\n`);
    const head = /^[^]*?\r\n\r\n/.exec(await client.until(/\r\n\r\n/))?.[0];
    if (head === undefined) throw new Error(`no answer to ${method} ${path} ${fields}`);
    const [, length = "0"] = /^Content-Length: (\d+)/mi.exec(head) ?? [];
    const size = head.length + (method === "HEAD" ? 0 : Number(length));
    while (client.received.length < size && await client.read());
    answers.push(...parseResponses(client.received, [method], false));
  }
  return answers;
}

/** How many descriptors of the server lead into the folder. */
async function open({ pid }: Process, folder: string): Promise<number> {
  const script = 'ls -l "/proc/$1/fd" | grep -c " $2/" || true';
  return Number(await shell(script, `${pid}`, folder));
}

const DATE = "Wed, 01 Jan 2020 00:00:00 GMT";
const WHOLE = "public 0123456789";

/** Section, request, and what must be answered: the status, the content if it says anything, and fields,
 * of which `undefined` must not be there. */
type Row = [
  section: string,
  request: string,
  status: number,
  body?: string,
  fields?: Record<string, string | undefined>,
];
const ROWS: Row[] = [
  ["9110 §8.3", "/small.css", 200, WHOLE, { "content-type": "text/css; charset=utf-8" }],
  ["9110 §8.3", "/a%20b.TXT", 200, 'public "a b"', { "content-type": "text/plain; charset=utf-8" }],
  ["9110 §8.3", "/large.json", 200, undefined, { "content-type": "application/json" }],
  ["9110 §8.3", "/map.geo", 200, "public geo", { "content-type": "application/octet-stream" }],
  ["9110 §8.3", "/a/mount/map.geo", 200, "public geo", { "content-type": "application/geo+json" }],
  ["9110 §8.3", "/nothing.js", 200, "", {
    "content-type": "text/javascript; charset=utf-8",
    "content-length": "0",
    "x-content-type-options": "nosniff",
  }],
  ["9110 §8.8.2", "/small.css", 200, WHOLE, { "last-modified": DATE }],
  ["9110 §14.3", "/small.css", 200, WHOLE, { "accept-ranges": "bytes" }],
  ["3986 §2.1", "/%73mall.css", 200, WHOLE],
  ["3986 §2.1", "/100%25.txt", 200, "public %"],
  ["3986 §2.1", "/%C3%BC.md", 200, "public umlaut"],
  ["3986 §2.1", "/100%.txt", 400],
  ["3986 §2.1", "/%ff", 400],
  ["8615 §3", "/.well-known/security.txt", 200, "public known"],
  ["8615 §3", "/.well-known", 404],
  ["8615 §3", "/sub/.well-known", 404],
  ["8615 §3", "/a/mount/.well-known/security.txt", 404],
  ["hidden", "/.hidden", 404],
  ["hidden", "/sub/.env", 404],
  ["links", "/alias.css", 200, WHOLE],
  ["links", "/in/", 200, "public page"],
  ["links", "/link", 404],
  ["links", "/passwd", 404],
  ["links", "/loop", 404],
  ["no file", "/pipe", 404],
  ["no file", "/missing", 404],
  ["no file", "/small.css/", 404],
  ["no file", "/small.css/x", 404],
  ["no file", `/${"n".repeat(300)}`, 404],
  ["no file", "/a/elsewhere", 404],
  ["no file", "POST /a/elsewhere", 404], // So that it is for the next handler.
  ["9110 §15.5.6", "POST /a/mount/small.css", 405],
  ["no file", "/a/mountain/small.css", 404],
  ["no listing", "/empty/", 404],
  ["no listing", "/", 404],
  ["no second name", "//small.css", 404],
  ["no second name", "/sub//index.html", 404],
  ["9110 §15.4.9", "/sub", 308, "", { location: "./sub/" }],
  ["9110 §15.4.9", "/sub?a=b?c", 308, "", { location: "./sub/?a=b?c" }],
  ["9110 §15.4.9", "/a/mount/sub?", 308, "", { location: "./sub/?" }],
  ["9110 §15.4.9", "/s%75b", 308, "", { location: "./s%75b/" }],
  ["index", "/sub/", 200, "public page", { "content-type": "text/html; charset=utf-8" }],
  ["index", "/sub/?q", 200, "public page", { "cache-control": "max-age=60, 15" }],
  ["9111 §5.2", "/small.css", 200, WHOLE, { "cache-control": undefined }],
  ["9110 §15.5.6", "POST /small.css", 405, undefined, { allow: "GET, HEAD" }],
  ["9110 §15.5.6", "OPTIONS /small.css", 405, undefined, { allow: "GET, HEAD" }],
  ["9110 §9.3.2", "HEAD /large.json", 200, "", { "content-length": `${LARGE}` }],
  ["9110 §9.3.2", "HEAD /sub", 308, "", { location: "./sub/" }],
  ["9110 §14.2", "HEAD /small.css\nRange: bytes=0-0", 200, "", { "content-length": "17" }],
  ["9110 §14.1.2", "/small.css\nRange: bytes=7-9", 206, "012", {
    "content-range": "bytes 7-9/17",
    "content-length": "3",
  }],
  ["9110 §14.1.2", "/small.css\nRange: bytes=-1", 206, "9"],
  ["9110 §14.1.2", "/small.css\nRange: bytes=-99", 206, WHOLE],
  ["9110 §14.1.2", "/small.css\nRange: bytes=16-99999999999999999999", 206, "9"],
  ["9110 §14.2", "/small.css\nRange: bytes=0-0,2-2", 200, WHOLE],
  ["9110 §14.2", "/small.css\nRange: lines=0-0", 200, WHOLE],
  ["9110 §14.1.1", "/small.css\nRange: bytes=2-1", 200, WHOLE],
  ["9110 §15.5.17", "/small.css\nRange: bytes=17-", 416, undefined, {
    "content-range": "bytes */17",
  }],
  ["9110 §15.5.17", "/small.css\nRange: bytes=-0", 416],
  ["9110 §14.2", "/small.css\nRange: bytes=17-\nIf-None-Match: *", 304],
  ["9110 §14.2", '/small.css\nRange: bytes=17-\nIf-Match: "x"', 412],
  ["9110 §15.5.17", "/nothing.js\nRange: bytes=0-", 416, undefined, {
    "content-range": "bytes */0",
  }],
  ["9110 §15.5.17", "/large.json\nRange: bytes=999999-", 416],
  // 9110 §12.5.3: the weights decide, and for those alike the server.
  ["9110 §12.5.3", "/app.js", 200, "public script, as it is", {
    "content-encoding": undefined,
    vary: "Accept-Encoding",
  }],
  ["9110 §12.5.3", "/app.js\nAccept-Encoding: gzip, deflate, br, zstd", 200, "ZSTD", {
    "content-encoding": "zstd",
    "content-type": "text/javascript; charset=utf-8",
    "content-length": "4",
    vary: "Accept-Encoding",
  }],
  ["9110 §12.5.3", "/app.js\nAccept-Encoding: gzip, br", 200, "BR"],
  ["9110 §12.5.3", "/app.js\nAccept-Encoding: br;q=0.1, GZIP ; q=0.2", 200, "GZIP"],
  ["9110 §12.5.3", "/app.js\nAccept-Encoding: *", 200, "ZSTD"],
  ["9110 §12.5.3", "/app.js\nAccept-Encoding: zstd;q=0, *;q=0.5", 200, "BR"],
  ["9110 §12.5.3", "/app.js\nAccept-Encoding: br\nAccept-Encoding: zstd", 200, "ZSTD"],
  ["9110 §12.5.3", "/app.js\nAccept-Encoding: br;q=0", 200, "public script, as it is"],
  ["9110 §12.5.3", "/app.js\nAccept-Encoding:", 200, "public script, as it is"],
  ["9110 §12.5.3", "/app.js\nAccept-Encoding: identity, br;q=0.5", 200, "public script, as it is"],
  ["9110 §12.5.3", "/app.js\nAccept-Encoding: br;q=2, gzip;x", 200, "public script, as it is"],
  ["9110 §12.4.1", "/small.css\nAccept-Encoding: identity;q=0", 200, WHOLE],
  ["9110 §8.4.1.3", "/app.js\nAccept-Encoding: x-gzip", 200, "GZIP", {
    "content-encoding": "gzip",
  }],
  ["9110 §14.1.2", "/app.js\nAccept-Encoding: br\nRange: bytes=1-", 206, "R", {
    "content-encoding": "br",
    "content-range": "bytes 1-1/2",
  }],
  ["neighbours", "/app.js.br", 200, "BR", { "content-encoding": undefined }],
  ["neighbours", "/sub/\nAccept-Encoding: gzip", 200, "public page"], // It is older.
  ["neighbours", "/small.css\nAccept-Encoding: br", 200, WHOLE], // It leads outside.
  ["neighbours", "/map.geo\nAccept-Encoding: gzip", 200, "public geo"], // It is a folder.
  ["neighbours", "/a/mount/app.js\nAccept-Encoding: br", 200, "public script, as it is", {
    vary: undefined,
  }],
];

/** What 9110 §13.1 and §14.2 ask for, as slow and plain as they are written. */
function expected(file: string, etag: string, fields: Record<string, string>) {
  const time = Date.parse(DATE);
  const tags = (list: string) => list.split(", ");
  const strong = (tag: string) => tag === "*" || tag === etag;
  const weak = (tag: string) => tag === "*" || tag.replace("W/", "") === etag;
  const {
    "If-Match": ifMatch,
    "If-Unmodified-Since": unmodified,
    "If-None-Match": noneMatch,
    "If-Modified-Since": since,
    Range: range,
    "If-Range": ifRange,
  } = fields;
  let part: [number, number] | undefined;
  if (range !== undefined && (ifRange === undefined || ifRange === etag || ifRange === DATE)) {
    const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(range) ?? [];
    if (first && last && Number(last) < Number(first)) part = undefined; // no range (§14.1.1)
    else if (first) part = [Number(first), last ? Number(last) + 1 : file.length];
    else if (last) part = [Math.max(0, file.length - Number(last)), file.length];
  }
  if (ifMatch !== undefined ? !tags(ifMatch).some(strong) : Date.parse(unmodified) < time) {
    return { status: 412 };
  }
  if (noneMatch !== undefined ? tags(noneMatch).some(weak) : time <= Date.parse(since)) {
    return { status: 304, body: "" };
  }
  if (part === undefined) return { status: 200, body: file };
  if (part[0] >= file.length || part[0] >= part[1]) { // Which may be ignored (§14.2).
    const isConditional = [ifMatch, unmodified, noneMatch, since].some((one) => one !== undefined);
    return isConditional ? { status: 200, body: file } : { status: 416 };
  }
  const [from, to] = [part[0], Math.min(part[1], file.length)];
  const told = `bytes ${from}-${to - 1}/${file.length}`;
  return { status: 206, body: file.slice(from, to), told };
}

/** Where segments of all kinds are put together in all ways. */
function hostilePaths(folder: string): string[] {
  const roll = dice(14);
  const parts = [
    "..",
    ".",
    "%2e%2e",
    "%2E.",
    ".%2e",
    "%252e%252e",
    "%c0%ae%c0%ae",
    "..;",
    "...",
    "",
  ]
    .concat(["sub", "in", "out", "link", "x", "secret.txt", ".git", "root-secret", "small.css"])
    .concat(["loop", "%00", "x%00.css", ".hidden", "root", "%ef%bc%8e%ef%bc%8e", "alias.css"])
    .concat(["index.html", "passwd", ".well-known", "security.txt", "etc", folder.slice(1)]);
  const between = ["/", "/", "/", "//", "%2f", "%2F", "%5c", "\\", "/./", "/.%2f", "%252f"];
  const pick = (list: string[]) => list[roll(list.length)];
  return Array.from({ length: 800 }, () => {
    let path = "/";
    for (let left = 1 + roll(5); left > 0; left--) {
      path += pick(parts) + (left > 1 ? pick(between) : "");
    }
    return roll(4) ? path : `${path}/`;
  });
}

export const FILES: Scenario[] = [
  ["files: what each request for one is answered", async (runtime) => {
    await using folder = await makeFolder();
    await using server = await start(runtime, `${folder.path}/root`);
    const requests = ROWS.map(([, text]): [string, string, string[]] => {
      const [line, ...fields] = text.split("\n");
      const [method, path] = line.startsWith("/") ? ["GET", line] : line.split(" ");
      return [method, path, fields];
    });
    const answers = await askAll(server.port, requests);
    for (const [i, [section, request, status, body, fields = {}]] of ROWS.entries()) {
      const row = `${section}: ${request}`;
      assertEquals([answers[i].status, body ?? answers[i].body], [status, answers[i].body], row);
      for (const [name, value] of Object.entries(fields)) {
        assertEquals(field(answers[i], name), value, `${row}, ${name}`);
      }
    }
    // Each coding is a representation of its own (9110 §8.8.3.3), which its tag alone stands for.
    const tags = new Set<string>();
    for (const coding of ["identity", "br", "gzip", "zstd"]) {
      const [whole] = await askAll(server.port, [["GET", "/app.js", [
        `Accept-Encoding: ${coding}`,
      ]]]);
      const tag = field(whole, "etag")!;
      assertMatch(tag, /^"[\w-]+"$/);
      tags.add(tag);
      const statuses = (await askAll(
        server.port,
        [coding, "zstd, gzip", "br"].map((accepted) => {
          return ["GET", "/app.js", [`Accept-Encoding: ${accepted}`, `If-None-Match: ${tag}`]];
        }),
      )).map(({ status }) => status);
      const others = [coding === "zstd" ? 304 : 200, coding === "br" ? 304 : 200];
      assertEquals(statuses, [304, ...others], coding);
    }
    assertEquals(tags.size, 4);
    // 9110 §8.8.2.2: the date of what may still change within its second is no strong validator.
    await shell('touch "$1/root/small.css"', folder.path);
    const [{ fields: fresh }] = await askAll(server.port, [["HEAD", "/small.css", []]]);
    const ifRange = `If-Range: ${Object.fromEntries(fresh)["last-modified"]}`;
    const [part] = await askAll(server.port, [["GET", "/small.css", [
      "Range: bytes=0-0",
      ifRange,
    ]]]);
    assertEquals([part.status, part.body], [200, WHOLE]);
    assertEquals(await open(server, folder.path), 0);
    assert(!server.out.includes("ERROR"), server.out);
  }],

  ["files: ranges and conditions are as an oracle has them", async (runtime) => {
    await using folder = await makeFolder();
    await using server = await start(runtime, `${folder.path}/root`);
    const roll = dice(7);
    for (const name of ["small.css", "large.json"]) {
      const text = await shell('cat "$1/root/$2"; echo .', folder.path, name);
      const file = text.slice(0, -1);
      const [{ fields: told }] = await askAll(server.port, [["HEAD", `/${name}`, []]]);
      const etag = Object.fromEntries(told).etag;
      const other = '"other"';
      const before = "Tue, 31 Dec 2019 23:59:59 GMT", after = "Wed, 01 Jan 2020 00:00:01 GMT";
      const lists = [etag, `${other}, ${etag}`, `W/${etag}`, other, "*"],
        dates = [before, DATE, after];
      const at = () => roll(2) ? roll(file.length + 2) : file.length + 1 - roll(4);
      const pool: Record<string, () => string> = {
        "If-Match": () => lists[roll(lists.length)],
        "If-Unmodified-Since": () => dates[roll(3)],
        "If-None-Match": () => lists[roll(lists.length)],
        "If-Modified-Since": () => dates[roll(3)],
        "If-Range": () => [etag, other, `W/${etag}`, DATE, after, before][roll(6)],
        "Range": () =>
          [`bytes=${at()}-`, `bytes=-${at()}`, `bytes=${at()}-${file.length + roll(9)}`]
            .concat(
              `bytes=${roll(9)}-${9 + at()}`,
              "bytes=0-0",
              "bytes=1-2,4-5",
              "bytes=x",
            )[roll(7)],
      };
      const cases = Array.from({ length: 400 }, () => {
        const names = roll(2)
          ? ["Range"]
          : Object.keys(pool).filter((name) =>
            roll(name === "Range" ? 4 : 3) < (name === "Range" ? 3 : 1)
          );
        return Object.fromEntries(names.map((name) => [name, pool[name]()]));
      });
      const answers = await askAll(
        server.port,
        cases.map((fields) => [
          "GET",
          `/${name}`,
          Object.entries(fields).map(([key, value]) => `${key}: ${value}`),
        ]),
      );
      const seen: Record<number, number> = {};
      for (const [i, answer] of answers.entries()) {
        const { status, body = answer.body, told } = expected(file, etag, cases[i]);
        seen[status] = (seen[status] ?? 0) + 1;
        const row = `${name}, ${JSON.stringify(cases[i])}`;
        assertEquals(answer.status, status, row);
        assert(answer.body === body, row);
        assertEquals(
          field(answer, "content-range"),
          status === 416 ? `bytes */${file.length}` : told,
        );
        if (status === 304) assertEquals(field(answer, "etag"), etag);
      }
      for (const status of [200, 206, 304, 412, 416]) {
        assert(seen[status] > 5, JSON.stringify(seen));
      }
    }
    assertEquals(await open(server, folder.path), 0);
  }],

  [
    "files: nothing outside is served, nor what is hidden, however it is asked for",
    async (runtime) => {
      await using folder = await makeFolder();
      await using server = await start(runtime, `${folder.path}/root`, "/");
      const paths = hostilePaths(folder.path);
      const seen: Record<number, number> = {};
      const askSome = async () => {
        for (let path; (path = paths.pop()) !== undefined;) {
          const { status, body } = await ask(server.port, "GET", path);
          seen[status] = (seen[status] ?? 0) + 1;
          assert([200, 308, 400, 404].includes(status), `${path}: ${status}`);
          assert(status !== 200 || body.startsWith("public "), `${path}: ${body}`);
          assert(!/secret|root:/.test(body), `${path}: ${body}`);
        }
      };
      await Promise.all(Array.from({ length: 8 }, askSome));
      for (const status of [200, 308, 400, 404]) assert(seen[status] > 5, JSON.stringify(seen));
      assertEquals(await open(server, folder.path), 0);
    },
  ],

  ["files: none stays open, whatever becomes of the answer", async (runtime) => {
    await using folder = await makeFolder();
    await shell('truncate -s 50M "$1/root/video.mp4"', folder.path);
    await using server = await start(runtime, `${folder.path}/root`);
    const { port } = server;
    const get = (fields = "") => `GET /video.mp4 HTTP/1.1\r\nHost: a\r\n${fields}\r\n`;
    const [{ fields }] = await askAll(port, [["HEAD", "/video.mp4", []]]);
    const { etag } = Object.fromEntries(fields);
    for (let round = 0; round < 5; round++) {
      const ends = [`If-None-Match: ${etag}`, 'If-Match: "x"', "Range: bytes=99999999-"]
        .concat(`Range: bytes=1-200000\r\nIf-None-Match: ${etag}`, "Range: bytes=0-0");
      const statuses = (await askAll(port, ends.map((line) => ["GET", "/video.mp4", [line]])))
        .map(({ status }) => status);
      assertEquals(statuses, [304, 412, 416, 304, 206]);
      for (const leaves of ["closes", "ends", "resets", "pipelines and closes"]) {
        if (leaves === "resets") {
          await reset(port, get(), 20);
          continue;
        }
        using client = await Client.connect(port);
        await client.send(leaves.startsWith("pipelines") ? get().repeat(5) : get());
        await client.read();
        if (leaves === "ends") await client.end();
      }
      const whole = await output("curl", [
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{size_download}",
        `http://127.0.0.1:${port}/video.mp4`,
      ]);
      assertEquals(whole, `${50 << 20}`);
    }
    await soon(async () => await open(server, folder.path) === 0);
    // One that is being sent is open, so that this test could see it.
    using slow = await Client.connect(port);
    await slow.send(get());
    await slow.read();
    await soon(async () => await open(server, folder.path) === 1);
  }, { needs: "curl" }],

  [
    "files: one that gets shorter, or is another by then, is not passed off as whole",
    async (runtime) => {
      await using folder = await makeFolder();
      await shell('truncate -s 50M "$1/root/video.mp4"', folder.path);
      await using server = await start(runtime, `${folder.path}/root`);
      using client = await Client.connect(server.port);
      await client.send("GET /video.mp4 HTTP/1.1\r\nHost: a\r\n\r\n");
      await client.read();
      await shell('truncate -s 20M "$1/root/video.mp4"', folder.path);
      let size = 0;
      for (let more = true; more; client.received = "") {
        more = await client.read();
        size += client.received.length;
      }
      assert(size < 50 << 20, `${size}`);
      await soon(() => Promise.resolve(/not as long as its Content-Length/.test(server.log)));
      assertEquals(await open(server, folder.path), 0);
    },
  ],

  [
    "files: what may be a 304 is not read, and what is replaced before it is read, an error",
    async () => {
      await using folder = await makeFolder();
      const site = files(`${folder.path}/root`);
      const headers = { "If-None-Match": '"x"' };
      const isRead = (target: string, headers = {}, method = "GET") =>
        site(requestOf({ target, headers, method })).body instanceof Uint8Array;
      assertEquals(isRead("/small.css"), true);
      assertEquals(isRead("/small.css", headers), false);
      assertEquals(isRead("/small.css", {}, "HEAD"), false);
      const { body } = site(requestOf({ target: "/large.json" }));
      await shell(
        'cp -p "$1/root/large.json" "$1/new"; mv "$1/new" "$1/root/large.json"',
        folder.path,
      );
      const pieces = (body as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
      await assertRejects(() => Promise.resolve(pieces.next()), Error, "has changed");
    },
    { only: "Deno" },
  ],

  ["files: a folder that can't be read is told of at once, in a line", async (runtime) => {
    await using folder = await makeFolder();
    const rows: [folder: string, allowed: string, message: RegExp][] = [
      ["root/small.css", folder.path, /Can't serve files of \S+: ENOTDIR/],
      ["root/missing", folder.path, /Can't serve files of \S+: ENOENT/],
    ];
    if (runtime.name === "Deno") {
      rows.push([
        "root",
        "/usr",
        /Can't serve files of \S+: Requires read access to "\S+\/root"/,
      ]);
    }
    for (const [name, allowed, message] of rows) {
      const flags = runtime.name === "Deno" ? [`--allow-read=${allowed}`] : [];
      const args = [...runtime.args, ...flags];
      const path = `${folder.path}/${name}`;
      await using server = Process.spawn({ ...runtime, args }, "examples/files.ts", ["0", path]);
      assertEquals(await server.ended(), 1);
      assertMatch(server.log, message);
    }
  }],

  ["files: without descriptors, one is unavailable and not missing", async (runtime) => {
    await using folder = await makeFolder();
    const args = ["-c", 'ulimit -n 64; exec "$@"', "sh", runtime.command, ...runtime.args];
    await using server = await start({
      ...runtime,
      command: "sh",
      args,
    }, `${folder.path}/root`);
    using first = await Client.connect(server.port);
    const crowd: Client[] = [];
    const answer = async () => {
      first.received = "";
      await first.send("GET /small.css HTTP/1.1\r\nHost: a\r\n\r\n");
      return (await first.until(/\r\n\r\n[^]*(9|e)$/)).slice(9, 12);
    };
    assertEquals(await answer(), "200");
    let status = "200";
    for (let i = 0; i < 80 && status === "200"; i++) {
      crowd.push(await Client.connect(server.port));
      await pause(5);
      status = await answer();
    }
    assertEquals(status, "503");
    for (const client of crowd) client.close();
    await soon(async () => await answer() === "200");
  }],

  ["files: 200 MB to eight clients at once take little memory", async (runtime) => {
    await using folder = await makeFolder();
    await shell('truncate -s 200M "$1/root/video.mp4"', folder.path);
    await using server = await start(runtime, `${folder.path}/root`);
    const url = `http://127.0.0.1:${server.port}/video.mp4`;
    await output("curl", ["-sS", "-o", "/dev/null", url]);
    const before = await server.residentMiB();
    let most = 0;
    const clients = Promise.all(Array.from({ length: 8 }, () => {
      return output("curl", ["-sSf", "-o", "/dev/null", "-w", "%{size_download}", url]);
    }));
    let done = false;
    const watched = clients.finally(() => done = true);
    while (!done) {
      most = Math.max(most, await server.residentMiB());
      await pause(50);
    }
    assertEquals(await watched, Array(8).fill(`${200 << 20}`));
    assert(most - before < 100, `${before} to ${most} MiB`);
  }, { needs: "curl" }],

  ["files: curl takes parts, goes on where it was, and decodes", async (runtime) => {
    await using folder = await makeFolder();
    await shell(
      'cd "$1/root"; gzip -kn large.json; head -c 1000 large.json > ../part',
      folder.path,
    );
    await using server = await start(runtime, `${folder.path}/root`);
    const curl = (path: string, ...args: string[]) =>
      output("curl", ["-sSf", ...args, `http://127.0.0.1:${server.port}${path}`]);
    const whole = await shell('cat "$1/root/large.json"', folder.path);
    assertEquals(await curl("/small.css", "-r", "7-9"), "012");
    assertEquals(await curl("/large.json", "-r", "-3"), `${whole}\n`.slice(0, LARGE).slice(-3));
    assertEquals((await curl("/large.json", "--compressed")).trim(), whole);
    assert(
      Number(
        await curl("/large.json", "--compressed", "-o", "/dev/null", "-w", "%{size_download}"),
      ) < LARGE / 2,
    );
    await curl("/large.json", "-C", "-", "-o", `${folder.path}/part`);
    assertEquals(await shell('cmp "$1/part" "$1/root/large.json"', folder.path), "");
    const saved = `${folder.path}/etag`;
    await curl("/large.json", "--etag-save", saved, "-o", "/dev/null");
    const again = ["--etag-compare", saved, "-o", "/dev/null", "-w", "%{http_code}"];
    assertEquals(await curl("/large.json", ...again), "304");
    assertEquals(await curl("/small.css", ...again), "200");
  }, { needs: "curl" }],

  ["files: nginx answers the same for the same folder", async (runtime) => {
    await using folder = await makeFolder();
    await shell(
      'cd "$1"; rm root/sub/index.html.gz root/app.js.br root/app.js.zst root/small.css.br',
      folder.path,
    );
    await using server = await start(runtime, `${folder.path}/root`);
    await using nginx = await Nginx.start(`${folder.path}/root`);
    const paths = [
      "/small.css",
      "/a%20b.TXT",
      "/%C3%BC.md",
      "/nothing.js",
      "/large.json",
      "/sub/",
      "/missing",
    ]
      .concat(
        "/small.css/",
        "/empty/none",
        "/app.js",
        "/100%25.txt",
        "/in/",
        "/.well-known/security.txt",
      );
    const ranges = ["0-0", "5-", "-3", "0-999999", "9-5", "x-y", "-999999", "20-30"];
    const lines = [[], ["Accept-Encoding: gzip"], ["Accept-Encoding: gzip;q=0"]]
      .concat([[`If-Modified-Since: ${DATE}`], [`If-Unmodified-Since: ${DATE}`]])
      .concat([["If-Unmodified-Since: Tue, 31 Dec 2019 00:00:00 GMT"]])
      .concat(ranges.map((range) => [`Range: bytes=${range}`]))
      .concat([["Range: bytes=1-2", `If-Range: ${DATE}`], ["Range: bytes=1-2", 'If-Range: "x"']]);
    const requests = paths.flatMap((path) =>
      lines.flatMap((fields) =>
        ["GET", "HEAD"].map((method): [string, string, string[]] => [method, path, fields])
      )
    );
    let same = 0;
    for (const [method, path, fields] of requests) {
      const more = fields.map((line) => `${line}\r\n`).join("");
      const one = await ask(server.port, method, path, more);
      const other = await ask(nginx.port, method, path, more);
      const row = `${method} ${path} ${fields}`;
      // A GET alone has ranges (9110 §14.2), and a range that is none is ignored (§14.1.1); an empty file
      // has no satisfiable one (§14.1.2). nginx sees all that otherwise.
      const isRange = fields.some((line) => line.startsWith("Range"));
      if (isRange && (method === "HEAD" || path === "/nothing.js" || /9-5|x-y/.test(fields[0]))) {
        continue;
      }
      assertEquals(one.status, other.status, row);
      if (one.status >= 400) continue;
      assertEquals(one.body === other.body, true, row);
      for (const name of ["content-length", "content-range", "content-encoding", "last-modified"]) {
        if (name === "content-length" && method === "HEAD" && field(other, name) === undefined) {
          continue;
        }
        assertEquals(field(one, name), field(other, name), `${row}, ${name}`);
      }
      same++;
    }
    assert(same > 150, `${same}`);
  }, { needs: "nginx" }],

  ["files: a browser jumps to the middle of what it plays", async (runtime) => {
    await using folder = await makeFolder();
    await output("python3", ["-c", WAV, `${folder.path}/root/sound.wav`]);
    await shell('printf "<title>player</title>" > "$1/root/index.html"', folder.path);
    await using server = await start(runtime, `${folder.path}/root`);
    await using browser = await WebDriver.start();
    await browser.open(`http://127.0.0.1:${server.port}/`);
    await browser.run(
      `const audio = document.body.appendChild(new Audio("/sound.wav"));
       audio.onloadedmetadata = () => audio.currentTime = 500;
       audio.onseeked = () => document.title = "seeked to " + audio.currentTime;`,
    );
    for (let i = 0; i < 200; i++) {
      if (/seeked/.test(await browser.run<string>("return document.title"))) break;
      await pause(50);
    }
    assertEquals(await browser.run("return document.title"), "seeked to 500");
    assertMatch(server.out, /"GET \/sound\.wav HTTP\/1\.1" 206 /);
  }, { needs: "chromedriver" }],
];

/** Ten minutes of silence, of 16 bits at 44.1 kHz. */
const WAV = `
import sys, wave
with wave.open(sys.argv[1], "wb") as file:
    file.setnchannels(1); file.setsampwidth(2); file.setframerate(44100)
    for _ in range(600): file.writeframes(bytes(88200))
`;

/** nginx, with the files of a folder. */
class Nginx implements AsyncDisposable {
  private constructor(
    readonly port: number,
    readonly folder: Folder,
    readonly child: Deno.ChildProcess,
  ) {}
  static async start(root: string): Promise<Nginx> {
    const port = freePort();
    const folder = await Folder.create();
    const { path } = folder;
    const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
      .map((name) => `${name}_temp_path ${path}/${name};`).join(" ");
    const config = `daemon off; master_process off; pid ${path}/pid; error_log stderr; events {}
      http { access_log off; gzip_static on; gzip_vary on; ${paths}
        server { listen 127.0.0.1:${port}; root ${root}; merge_slashes off; absolute_redirect off; } }`;
    await shell('printf %s "$2" > "$1/nginx.conf"', path, config);
    const child = new Deno.Command("nginx", {
      args: ["-e", "stderr", "-p", path, "-c", `${path}/nginx.conf`],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    await soon(async () => {
      try {
        (await Client.connect(port)).close();
        return true;
      } catch {
        return false;
      }
    });
    return new Nginx(port, folder, child);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGTERM");
    await this.child.status;
    await this.folder[Symbol.asyncDispose]();
  }
}
