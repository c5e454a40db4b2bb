/** What the examples are tried with, on either runtime. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { cors } from "../examples/cors.ts";
import { HttpError, type HttpResponse } from "../server.ts";
import { field, parseResponses, type Received } from "./responses.ts";
import {
  certificateIn,
  certify,
  Client,
  Folder,
  Process,
  type Runtime,
  type Scenario,
  shell,
  soon,
  TlsClient,
} from "./sockets.ts";
import { ask as asked, get, pause } from "./tools.ts";

Deno.test("examples/cors.ts leaves an answer what it is, and goes for errors, too", async () => {
  const outside = cors({
    origins: ["https://app.example"],
    methods: [],
    headers: [],
    exposed: ["ETag"],
    maxAge: 1,
  });
  const app = outside(({ path }): HttpResponse => {
    if (path === "/mistake") throw new Error("not for the page");
    if (path === "/upgrade") return { headers: { Upgrade: "x" }, upgrade: () => {} };
    if (path !== "/") throw new HttpError(404, "nothing here");
    const own = { "Access-Control-Allow-Origin": "*", "access-control-expose-headers": "X" };
    return { headers: { ...own, Vary: "Accept", "Set-Cookie": ["a=1", "b=2"] } };
  });
  const fields = "Origin: https://app.example\r\n";
  const of = async (path: string, more = "") => (await asked(app, get(path, fields + more)))[0];
  const lines = ({ fields }: Received, wanted: string) =>
    fields.filter(([name]) => name === wanted).map(([, value]) => value).join();
  const [own, missing, mistake] = [await of("/"), await of("/none"), await of("/mistake")];
  assertEquals(lines(own, "access-control-allow-origin"), "https://app.example");
  assertEquals(lines(own, "access-control-expose-headers"), "ETag");
  assertEquals(lines(own, "vary").replace(" ", ""), "Accept,Origin");
  assertEquals(lines(own, "set-cookie"), "a=1,b=2");
  assertEquals([missing.status, missing.body], [404, "nothing here"]);
  assertEquals(lines(missing, "access-control-allow-origin"), "https://app.example");
  assertEquals(lines(missing, "vary"), "Origin");
  assertEquals([mistake.status, mistake.body], [500, "500 Internal Server Error"]);
  const upgraded = await of("/upgrade", "Connection: upgrade\r\nUpgrade: x\r\n");
  assertEquals(upgraded.status, 101);
});

/** Starts an example on a free port. With a folder, it may read and write. */
async function start(runtime: Runtime, name: string, folder?: string, ...more: string[]) {
  const disk = folder === undefined || runtime.name === "Bun"
    ? []
    : ["--allow-read", "--allow-write"];
  const process = Process.spawn(
    { ...runtime, args: [...runtime.args, ...disk] },
    `examples/${name}.ts`,
    folder === undefined ? ["0", ...more] : ["0", folder],
  );
  process.port = Number(await process.printed(/Listening at PORT (\d+)/));
  return process;
}

/** One request as it is written here: `fetch` would tidy up the path before it sends it. */
export async function ask(port: number, method: string, path: string, fields = "", body = "") {
  using client = await Client.connect(port);
  const length = method === "PUT" ? `Content-Length: ${body.length}\r\n` : "";
  await client.send(
    `${method} ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${length}${fields}\r\n${body}`,
  );
  const responses = parseResponses(await client.rest(), [method], true);
  assertEquals(responses.length, 1);
  return responses[0];
}

export const EXAMPLES: Scenario[] = [
  ["examples/events.ts", async (runtime) => {
    await using events = await start(runtime, "events");
    const get = (fields = "") => `GET / HTTP/1.1\r\nHost: a\r\n${fields}\r\n`;
    using stays = await Client.connect(events.port);
    await stays.send(get());
    {
      using leaves = await Client.connect(events.port);
      await leaves.send(get());
      const received = await leaves.until(/id: (\d+)\n[^]*id: \d+\n/);
      assertMatch(received, /\r\nContent-Type: text\/event-stream\r\n/);
      assertMatch(received, /id: \d+\ndata: \d{4}-\d\d-\d\dT[\d:.]+Z\n\n/);
    }
    await events.printed(/A stream has (ended)/);
    stays.received = "";
    await stays.until(/id: \d+\n/);
    // One that comes back gets what it missed, at once.
    using back = await Client.connect(events.port);
    await back.send(get("Last-Event-ID: 0\r\n"));
    await back.until(/id: 1\n[^]*id: 2\n[^]*id: 3\n/);
    assertEquals((await ask(events.port, "HEAD", "/")).status, 200);
    assertEquals((await ask(events.port, "GET", "/none")).status, 404);
    // A stop ends both streams properly, without the time of grace.
    events.signal("SIGTERM");
    for (const client of [stays, back]) {
      assertMatch(await client.rest(), /\r\n0\r\n\r\n$/);
      client.close();
    }
    assertEquals(await events.ended(), 0);
    assertEquals(events.log, "");
  }],

  ["examples/metrics.ts", async (runtime) => {
    await using metrics = await start(runtime, "metrics");
    const { port } = metrics;
    await ask(port, "GET", "/");
    await ask(port, "GET", "/?a=b");
    await ask(port, "GET", "/no/route/1");
    await ask(port, "GET", '/"x"');
    await ask(port, "BREW", "/");
    const { status, body } = await ask(port, "GET", "/metrics");
    assertEquals(status, 200);
    for (const line of body.trimEnd().split("\n")) { // as Prometheus' text format has it
      assertMatch(
        line,
        /^(# TYPE \w+ (counter|gauge|histogram)|\w+(\{\w+="[^"\\]*"(,\w+="[^"\\]*")*\})? [\d.e-]+)$/,
      );
    }
    const value = (sample: string) =>
      body.split("\n").find((line) => line.startsWith(`${sample} `))?.split(" ").at(-1);
    const name = "http_server_request_duration_seconds";
    assertEquals(value(`${name}_count{method="GET",route="/",status="200"}`), "2");
    assertEquals(value(`${name}_bucket{method="GET",route="/",status="200",le="+Inf"}`), "2");
    assertEquals(value(`${name}_count{method="GET",route="",status="404"}`), "1");
    assertEquals(value(`${name}_count{method="GET",route="",status="400"}`), "1");
    assertEquals(value(`${name}_count{method="_OTHER",route="/",status="200"}`), "1");
    assertEquals(value('http_server_connections{state="handling"}'), "1"); // this one
    assertEquals(value("http_server_refused_total"), "1");
    const first = JSON.parse(await metrics.printed(/^(\{"traceId".*)$/m));
    assertEquals(first.attributes["http.response.status_code"], 200);
    assertMatch(`${first.traceId} ${first.spanId}`, /^[0-9a-f]{32} [0-9a-f]{16}$/);
    const took = BigInt(first.endTimeUnixNano) - BigInt(first.startTimeUnixNano);
    assert(took >= 0n && took < 10n ** 9n);
  }],

  ["examples/upload.ts", async (runtime) => {
    await using folder = await Folder.create();
    await using upload = await start(runtime, "upload", folder.path);
    const { port } = upload;
    const body = Array.from({ length: 1 << 20 }, (_, i) => String.fromCharCode(i * 7 % 251))
      .join("");
    const digest = await crypto.subtle.digest(
      "SHA-256",
      Uint8Array.from(body, (char) => char.charCodeAt(0)),
    );
    const created = await ask(port, "PUT", "/a.bin", "", body);
    assertEquals([created.status, created.body], [201, "1048576 bytes\n"]);
    assertEquals(
      (await shell('sha256sum < "$1/a.bin"', folder.path)).split(" ")[0],
      Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join(""),
    );
    const replaced = await ask(port, "PUT", "/a.bin", "", "");
    assertEquals([replaced.status, replaced.body], [200, "0 bytes\n"]);

    for (const rest of ["leaves", "ends its side", "breaks the content"]) {
      using client = await Client.connect(port);
      await client.send("PUT /half HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
      await client.send(`30d40\r\n${"x".repeat(200_000)}\r\n`);
      await soon(async () => (await folder.names()).length === 2);
      if (rest === "leaves") client.close();
      else if (rest === "ends its side") await client.end();
      else await client.send("no size\r\n");
      if (rest !== "leaves") assertMatch(await client.rest(), /^HTTP\/1\.1 400 /);
      await soon(async () => (await folder.names()).join() === "a.bin");
    }
    const bad = ["/", "/..", "/../a", "/.a", "/a/b", "/%2e%2e%2fa", "/a%2fb", "/a%5cb", "/a\\b"];
    for (const path of [...bad, "/a%00", "/", `/${"a".repeat(200)}`]) {
      assertEquals((await ask(port, "PUT", path, "", "x")).status, 400, path);
    }
    await shell('mkdir "$1/folder"', folder.path);
    assertEquals((await ask(port, "PUT", "/folder", "", "x")).status, 409);
    assertEquals((await ask(port, "PUT", "/b", "Content-Range: bytes 0-0/1\r\n", "x")).status, 400);
    assertEquals((await ask(port, "GET", "/a.bin")).status, 405);
    assertEquals(await folder.names(), ["a.bin", "folder"]);
  }],

  ["examples/files.ts", async (runtime) => {
    await using folder = await Folder.create();
    await shell(
      `cd "$1"; mkdir -p root/sub/empty root/.git root-secret
      echo secret | tee x root-secret/x > root/.git/x; echo page > root/sub/index.html
      printf 0123456789 > "root/a b.css"; touch -d 2020-01-01 "root/a b.css"; echo x > root/none
      head -c 9000000 /dev/zero > root/large; mkfifo root/pipe
      ln -s ../x root/link; ln -s ../root-secret root/out; ln -s sub root/in; ln -s loop root/loop`,
      folder.path,
    );
    await using files = await start(runtime, "files", `${folder.path}/root`);
    const get = (path: string, fields = "") => ask(files.port, "GET", path, fields);

    const escapes = [
      "/../x",
      "/%2e%2e/x",
      "/..%2fx",
      "/%5c..",
      "/..%5cx",
      "/sub/../../x",
      "/.%2e/x",
    ];
    escapes.push(
      "/sub/%2e./../x",
      "/link",
      "/out/x",
      "/out/",
      "/../root-secret/x",
      "/..",
      "/.git/x",
    );
    escapes.push(
      "/none%00.css",
      "/%252e%252e/x",
      "//etc/passwd",
      "/%2fetc/passwd",
      `${folder.path}/x`,
    );
    for (const path of [...escapes, "/loop", "/pipe", "/missing", "/none/", "/sub/empty/", "/"]) {
      const { status, body } = await get(path);
      assertEquals([status, body.includes("secret")], [404, false], path);
    }
    for (const path of ["/%", "/%zz", "/%ff", "/a%c3"]) assertEquals((await get(path)).status, 400);

    const whole = await get("/a%20b.css");
    assertEquals([whole.status, whole.body], [200, "0123456789"]);
    assertEquals(field(whole, "content-type"), "text/css; charset=utf-8");
    const [tag, date] = [field(whole, "etag"), field(whole, "last-modified")];
    const rows: [string, number, string][] = [
      [`If-None-Match: ${tag}`, 304, ""],
      [`If-Modified-Since: ${date}`, 304, ""],
      ['If-Match: "other"', 412, "412 Precondition Failed"],
      ["Range: bytes=2-4", 206, "234"],
      [`Range: bytes=-1\r\nIf-Range: ${tag}`, 206, "9"],
      ["Range: bytes=10-", 416, "416 Range Not Satisfiable"],
    ];
    for (const [fields, status, body] of rows) {
      const received = await get("/a%20b.css", `${fields}\r\n`);
      assertEquals([received.status, received.body], [status, body], fields);
    }
    assertEquals(field(await get("/none"), "content-type"), "application/octet-stream");
    assertEquals((await get("/sub/")).body, "page\n");
    assertEquals((await get("/in/")).body, "page\n");
    assertEquals(field(await get("/sub"), "location"), "./sub/");
    const large = await get("/large", "Range: bytes=0-0\r\n");
    assertEquals([large.status, large.body.length], [206, 1]);
    const head = await ask(files.port, "HEAD", "/large");
    assertEquals([head.status, field(head, "content-length")], [200, "9000000"]);
    const posted = await ask(files.port, "POST", "/none");
    assertEquals([posted.status, field(posted, "allow")], [405, "GET, HEAD"]);
    { // One that leaves midway does not leave its file open, where that can be seen.
      using client = await Client.connect(files.port);
      await client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
      await client.read();
    }
    const open = 'ls -l "/proc/$1/fd" 2> /dev/null | grep -c /root/large || true';
    await soon(async () => Number(await shell(open, `${files.pid}`)) === 0);
  }],

  ["examples/form.ts", async (runtime) => {
    await using form = await start(runtime, "form");
    const url = `http://127.0.0.1:${form.port}/`;
    const send = async (...[body, headers = {}]: [BodyInit, Record<string, string>?]) => {
      const response = await fetch(url, { method: "POST", body, headers });
      return [response.status, await response.text()];
    };
    const multipart = (title: string, picture?: Uint8Array<ArrayBuffer>) => {
      const fields = new FormData();
      fields.set("title", title);
      if (picture) fields.set("picture", new File([picture], "../a.png", { type: "image/png" }));
      return fields;
    };
    const png = new Uint8Array(3_000_000);
    png.set([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
    const page = "<!DOCTYPE html><p>";
    assertEquals(await send(multipart("Ü<b>", png)), [
      200,
      `${page}Ü&#60;b&#62;, 3000000 bytes of cover\n`,
    ]);
    assertEquals(await send(multipart("Emma")), [200, `${page}Emma, 0 bytes of cover\n`]);
    const encoded = new URLSearchParams({ title: "A & B" });
    assertEquals(await send(encoded), [200, `${page}A &#38; B, 0 bytes of cover\n`]);
    const multipartType = "multipart/form-data; boundary=x";
    const cut = '--x\r\nContent-Disposition: form-data; name="title"\r\n\r\nEmma';
    const rows: [BodyInit, Record<string, string>, number][] = [
      [multipart("Emma", new Uint8Array(99)), {}, 422],
      [multipart("Emma", new Uint8Array(6_000_000)), {}, 413],
      [multipart(""), {}, 422],
      [multipart("x".repeat(101)), {}, 422],
      [new URLSearchParams({ title: "x".repeat(17_000) }), {}, 413],
      [new URLSearchParams({ name: "Emma" }), {}, 422],
      ["title=Emma", { "Content-Type": "text/plain" }, 400],
      // Deno takes it for a form without this field.
      [cut, { "Content-Type": multipartType }, runtime.name === "Deno" ? 422 : 400],
      [cut, { "Content-Type": "multipart/form-data" }, 400],
    ];
    for (const [body, headers, status] of rows) {
      const what = body instanceof FormData ? "multipart" : `${body}`.slice(0, 50);
      assertEquals((await send(body, headers))[0], status, what);
    }
    const other = "Sec-Fetch-Site: cross-site\r\nContent-Length: 0\r\n";
    assertEquals((await ask(form.port, "POST", "/", other)).status, 403);
    assertMatch((await ask(form.port, "GET", "/")).body, /<form method="post"/);
    assertEquals(field(await ask(form.port, "BREW", "/"), "allow"), "GET, HEAD, POST");
    assertEquals((await ask(form.port, "GET", "/none")).status, 404);
  }],

  ["examples/routes.ts", async (runtime) => {
    await using routes = await start(runtime, "routes");
    const send = async (method: string, path: string, value?: unknown, type?: string) => {
      const response = await fetch(`http://127.0.0.1:${routes.port}${path}`, {
        method,
        ...value === undefined ? {} : {
          body: typeof value === "string" ? value : JSON.stringify(value),
          headers: { "Content-Type": type ?? "application/json" },
        },
      });
      const text = await response.text();
      return [response.status, response.ok && text !== "" ? JSON.parse(text) : text];
    };
    const emma = { id: 1, title: "Emma" };
    assertEquals(await send("GET", "/books"), [200, []]);
    assertEquals(await send("POST", "/books", { title: "Emma" }), [201, emma]);
    assertEquals(await send("GET", "/books/1"), [200, emma]);
    assertEquals(await send("GET", "/books?sort=title"), [200, [emma]]);
    assertEquals(await send("PUT", "/books/1", { title: "E" }), [200, { id: 1, title: "E" }]);
    const rows: [string, string, unknown, string | undefined, number][] = [
      ["GET", "/books/2", undefined, undefined, 404],
      ["GET", "/books/x", undefined, undefined, 404],
      ["GET", "/books/1/", undefined, undefined, 404],
      ["GET", "/books/__proto__", undefined, undefined, 404],
      ["PUT", "/books/2", { title: "x" }, undefined, 404],
      ["POST", "/books", "{", undefined, 400],
      ["POST", "/books", "null", undefined, 422],
      ["POST", "/books", { title: 1 }, undefined, 422],
      ["POST", "/books", { title: "" }, undefined, 422],
      ["POST", "/books", { title: "x".repeat(201) }, undefined, 422],
      ["POST", "/books", { title: "x".repeat(10_000) }, undefined, 413],
      ["POST", "/books", { title: "x" }, "text/plain", 415],
      ["POST", "/books", { title: "x" }, "application/json-seq", 415],
    ];
    for (const [method, path, value, type, status] of rows) {
      const what = `${method} ${path} ${JSON.stringify(value)?.slice(0, 50)}`;
      assertEquals((await send(method, path, value, type))[0], status, what);
    }
    const { port } = routes;
    const made = await send("POST", "/books", { title: "x" }, "Application/JSON; charset=utf-8");
    assertEquals(made[0], 201);
    assertEquals((await ask(port, "HEAD", "/books")).status, 200);
    assertEquals(field(await ask(port, "PATCH", "/books"), "allow"), "GET, HEAD, POST");
    assertEquals(field(await ask(port, "POST", "/books/1"), "allow"), "GET, HEAD, PUT, DELETE");
    assertEquals(await send("DELETE", "/books/1"), [204, ""]);
    assertEquals((await send("DELETE", "/books/1"))[0], 404);
  }],

  ["examples/middleware.ts", async (runtime) => {
    await using middleware = await start(runtime, "middleware");
    const get = (path: string, fields = "") => ask(middleware.port, "GET", path, fields);
    const basic = (user: string) => `Authorization: Basic ${btoa(user)}\r\n`;
    const rows: [string, string, number][] = [
      ["/", "", 200],
      ["/none", "", 404],
      ["/admin", "", 401],
      ["/admin", basic("ann:wrong"), 401],
      ["/admin/x", "", 401],
      ["/%61dmin", "", 404],
      ["/admin", basic("ann:secret"), 200],
    ];
    for (const [path, fields, status] of rows) {
      const received = await get(path, `X-Request-Id: id-1\r\n${fields}`);
      assertEquals(received.status, status, path);
      assertEquals(field(received, "x-request-id"), "id-1");
      assertEquals(field(received, "x-content-type-options"), "nosniff");
      assertMatch(field(received, "server-timing") ?? "", /^app;dur=[\d.]+$/);
      assertEquals(field(received, "www-authenticate") !== undefined, status === 401);
      if (status === 200) assertEquals(received.body, `${path}, request id-1\n`);
    }
    const other = await get("/", "X-Request-Id: not one\r\n");
    assertMatch(field(other, "x-request-id") ?? "", /^[\da-f-]{36}$/);
  }],

  ["examples/renewal.ts", async (runtime) => {
    await using before = await Folder.create();
    await using after = await Folder.create();
    for (const folder of [before, after]) await certify(folder.path);
    const old = await certificateIn(before.path);
    const renewed = await certificateIn(after.path);
    await using renewal = await start(runtime, "renewal", before.path);

    const hello = "Hello, /\n";
    let stage: "before" | "while" | "after" | "end" = "before";
    const seen: Record<string, Record<string, number>> = {};
    /** Connects again and again; every connection must be answered. */
    const newcomer = async () => {
      while (stage !== "end") {
        const started = stage;
        await using client = await TlsClient.connect(renewal.port);
        assertMatch(await client.ask(hello, "Connection: close\r\n"), /^HTTP\/1\.1 200 /);
        const certificate = client.certificate();
        const name = certificate === old ? "old" : certificate === renewed ? "renewed" : "other";
        const counts = seen[started] ??= {};
        counts[name] = (counts[name] ?? 0) + 1;
      }
    };
    const lines = () => renewal.out.split("Certificate renewed").length - 1;
    let kept = 0;
    /** Stays connected for all the time. */
    const regular = async () => {
      await using client = await TlsClient.connect(renewal.port);
      while (stage !== "end") {
        assertMatch(await client.ask(hello), /^HTTP\/1\.1 200 /);
        if (stage === "after") kept++;
        await pause(5);
      }
      assertEquals(client.certificate(), old);
    };
    const clients = Array.from({ length: 12 }, (_, i) => i < 8 ? newcomer() : regular());
    const underLoad = (milliseconds: number) =>
      Promise.race([
        pause(milliseconds),
        Promise.all(clients),
      ]);
    await underLoad(500);
    stage = "while";
    await shell('cp "$1/cert.pem" "$2"; sleep 0.5; cp "$1/key.pem" "$2"', after.path, before.path);
    await soon(() => Promise.resolve(lines() > 0));
    stage = "after";
    await underLoad(500);
    stage = "end";
    await Promise.all(clients);
    assertEquals(Object.keys(seen.before), ["old"]);
    assertEquals(Object.keys(seen.after), ["renewed"]);
    assertEquals(seen.while.other, undefined);
    assert(seen.before.old > 20 && seen.after.renewed > 20 && kept > 20, JSON.stringify(seen));
    assertMatch(renewal.log, /^Certificate not renewed: the key is not that of the certificate$/m);

    const count = lines();
    renewal.signal("SIGHUP");
    await soon(() => Promise.resolve(lines() > count));
  }, { needs: "openssl" }],

  ["examples/timeouts.ts", async (runtime) => {
    await using timeouts = await start(runtime, "timeouts");
    const get = (path: string) => ask(timeouts.port, "GET", path);
    const quick = await get("/report?ms=1");
    assertEquals([quick.status, quick.body], [200, "The report\n"]);
    assertEquals((await get("/sum?to=10")).body, "55\n");
    assertEquals((await get("/sum?to=1e12")).status, 503);
    assertEquals((await get("/none")).status, 404);
    assertEquals(timeouts.out.includes("stopped early"), false);
    const started = performance.now();
    assertEquals((await get("/report?ms=60000")).status, 504);
    assert(performance.now() - started < 10_000);
    await timeouts.printed(/stopped (early)/);
    { // One that leaves: the backend learns of it long before the limit.
      using client = await Client.connect(timeouts.port);
      await client.send("GET /report?ms=60000 HTTP/1.1\r\nHost: a\r\n\r\n");
      await pause(100);
    }
    await timeouts.printed(/stopped early[^]*stopped (early)/);
    assertEquals((await get("/report?ms=1")).status, 200);
  }],

  ["examples/shutdown.ts", async (runtime) => {
    await using shutdown = await start(runtime, "shutdown");
    using slow = await Client.connect(shutdown.port);
    using counts = await Client.connect(shutdown.port);
    await slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    await counts.send("GET /count HTTP/1.1\r\nHost: a\r\n\r\n");
    await counts.until(/1\n/);
    shutdown.signal("SIGTERM");
    await shutdown.printed(/SIGTERM: (stopping)/);
    const [answer] = parseResponses(await slow.rest(), ["GET"], true);
    assertEquals([answer.status, answer.body, slow.ended], [200, "Done\n", "closed"]);
    assertEquals(parseResponses(await counts.rest(), ["GET"], true)[0].status, 200);
    slow.close();
    counts.close();
    assertEquals(await shutdown.ended(), 0);
    await shutdown.printed(/All requests were (answered)/);
  }],

  ["examples/shutdown.ts, a second signal", async (runtime) => {
    await using shutdown = await start(runtime, "shutdown");
    using slow = await Client.connect(shutdown.port);
    await slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    await pause(100);
    shutdown.signal("SIGTERM");
    await shutdown.printed(/SIGTERM: (stopping)/);
    shutdown.signal("SIGTERM");
    await slow.rest();
    assertEquals([slow.received, await shutdown.ended()], ["", 1]);
  }],

  ["examples/cors.ts", async (runtime) => {
    await using cors = await start(runtime, "cors");
    const preflight = "Access-Control-Request-Method: PUT\r\n";
    const allowed = { "allow-origin": "https://app.example", "allow-credentials": "true" };
    const asked = {
      ...allowed,
      "allow-methods": "GET, PUT, DELETE",
      "allow-headers": "Content-Type, Authorization",
      "max-age": "600",
    };
    const exposed = { ...allowed, "expose-headers": "ETag" };
    const rows: [method: string, fields: string, status: number, told: Record<string, string>][] = [
      ["GET", "", 200, {}],
      ["GET", "Origin: https://app.example\r\n", 200, exposed],
      ["PUT", "Origin: https://app.example\r\n", 200, exposed],
      ["GET", "Origin: https://evil.example\r\n", 200, {}],
      ["GET", "Origin: https://app.example.evil.example\r\n", 200, {}],
      ["GET", "Origin: http://app.example\r\n", 200, {}],
      ["GET", "Origin: null\r\n", 200, {}],
      ["OPTIONS", `Origin: https://app.example\r\n${preflight}`, 204, asked],
      ["OPTIONS", `Origin: https://evil.example\r\n${preflight}`, 204, {}],
      ["OPTIONS", "Origin: https://app.example\r\n", 200, exposed], // no preflight
    ];
    for (const [method, fields, status, told] of rows) {
      const received = await ask(cors.port, method, "/", fields);
      const found = received.fields.filter(([name]) => name.startsWith("access-control-"));
      const names = found.map(([name, value]) => [name.slice("access-control-".length), value]);
      assertEquals([received.status, Object.fromEntries(names)], [status, told], method + fields);
      assertEquals(field(received, "vary"), "Origin");
      if (status === 200) assertEquals(received.body, `{"method":"${method}"}`);
    }
  }],

  ["examples/ratelimit.ts", async (runtime) => {
    // So slow that nothing is added during the test, and with room for four.
    await using limit = await start(runtime, "ratelimit", undefined, "2", "0.001", "4");
    const get = (address: string) => ask(limit.port, "GET", "/", `X-Forwarded-For: ${address}\r\n`);
    const rows: [address: string, status: number][] = [
      ["192.0.2.1", 200],
      ["192.0.2.1", 200],
      ["192.0.2.1", 429],
      ["192.0.2.2", 200],
      ["2001:db8::1", 200],
      ["2001:db8:0:0:ffff::2", 200], // the same /64
      ["2001:db8::3", 429],
      ["2001:db8:0:1::3", 200],
      ["2001:db8:0:1:2:3:4:5", 200],
      ["2001:db8:0:1::", 429],
      ["192.0.2.1", 429], // It is still known, ...
      ["192.0.2.4", 200], // ... and 192.0.2.2 makes room.
      ["192.0.2.1", 429],
      ["192.0.2.2", 200],
      ["192.0.2.2", 200],
      ["192.0.2.2", 429],
    ];
    for (const [i, [address, status]] of rows.entries()) {
      const received = await get(address);
      assertEquals(received.status, status, `row ${i}: ${address}`);
      const wait = Number(field(received, "retry-after") ?? 0);
      assert(status === 200 ? wait === 0 : wait > 900 && wait <= 1000, `${wait}`);
    }
    await using fast = await start(runtime, "ratelimit", undefined, "1", "20");
    assertEquals((await ask(fast.port, "GET", "/")).status, 200);
    await soon(async () => (await ask(fast.port, "GET", "/")).status === 429);
    await soon(async () => (await ask(fast.port, "GET", "/")).status === 200);
  }],

  ["examples/cookies.ts", async (runtime) => {
    const [older, newer] = ["old", "new"].map((key) => key.padEnd(32, "."));
    await using before = await start(runtime, "cookies", undefined, older);
    await using after = await start(runtime, "cookies", undefined, `${newer},${older}`);
    await using later = await start(runtime, "cookies", undefined, newer);
    for (const keys of ["", `${newer},`, `${newer},${older.slice(1)}`]) { // which anybody could guess
      await using refused = Process.spawn(runtime, "examples/cookies.ts", ["0", keys]);
      assertEquals(await refused.ended(), 1, keys);
    }
    const login = await ask(before.port, "GET", "/login?user=J%C3%BCrgen;+Domain=x");
    const set = field(login, "set-cookie") ?? "";
    const [, cookie, value] = // RFC 6265 §4.1.1
      /^(__Host-session=([\w.-]+)); Max-Age=604800; Path=\/; Secure; HttpOnly; SameSite=Lax$/
        .exec(set) ?? [];
    assert(cookie !== undefined, set);
    const as = (port: number, cookies: string) => ask(port, "GET", "/", `Cookie: ${cookies}\r\n`);
    for (const { port } of [before, after]) {
      for (const cookies of [cookie, `a=b; ${cookie}`, `${cookie}; __Host-session=x`]) {
        const { status, body } = await as(port, cookies);
        assertEquals([status, body], [200, "Hello, J\xc3\xbcrgen; Domain=x\n"]);
      }
    }
    assertEquals((await as(later.port, cookie)).status, 403); // Its key is gone.
    const [text, end, signature] = value.split(".");
    const forged = [
      "",
      "__Host-session",
      `session=${value}`,
      `__Host-session=${text}.${end}`,
      `__Host-session=${text}.${Number(end) + 1}.${signature}`,
      `__Host-session=${btoa("eve").replace(/=/g, "")}.${end}.${signature}`,
      `__Host-session=x; ${cookie}`,
      ...Array.from(value, (char, i) => {
        const other = char === "A" ? "B" : "A";
        return `__Host-session=${value.slice(0, i)}${other}${value.slice(i + 1)}`;
      }).filter((_, i) => i !== value.length - 1), // The last one has bits that say nothing.
    ];
    for (const cookies of forged) {
      assertEquals((await as(before.port, cookies)).status, 403, cookies);
    }
    const logout = await ask(before.port, "GET", "/logout");
    assertMatch(
      field(logout, "set-cookie") ?? "",
      /^__Host-session=; Max-Age=0; Path=\/; Secure; /,
    );
  }],
];
