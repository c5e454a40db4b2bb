/** What is looked at in the request that an application gets, and at a real one that says the same. */

/** A request as it is sent, and the same as what a real `Request` is made from. */
export interface Sent {
  method?: string;
  target?: string;
  host?: string;
  /** Field lines, one character a byte. */
  fields?: [string, string][];
  /** One character a byte. */
  body?: string;
  chunked?: boolean;
}
/** What a look may use besides the request. */
export interface Kit {
  /** A server that answers `/echo` with what it was asked, to forward requests to. */
  upstream: string;
}
/** Returns what was seen, as JSON can tell it. */
export type Look = (request: Request, kit: Kit) => unknown;

/** The field that tells an application which look it is to take. */
export const LOOK = "x-look";

export function hostOf({ host = "a.example:81" }: Sent): string {
  return host;
}
function fieldsOf(name: string, sent: Sent): [string, string][] {
  const { body, chunked, fields = [] } = sent;
  const framing: [string, string][] = body === undefined
    ? []
    : chunked
    ? [["Transfer-Encoding", "chunked"]]
    : [["Content-Length", String(body.length)]];
  return [["Host", hostOf(sent)], [LOOK, name], ...fields, ...framing];
}
/** The request on the wire. */
export function wireOf(name: string, sent: Sent): string {
  const { method = "GET", target = "/", body = "", chunked } = sent;
  const lines = fieldsOf(name, sent).map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const size = body.length.toString(16);
  const content = chunked ? `${body && `${size}\r\n${body}\r\n`}0\r\n\r\n` : body;
  return `${method} ${target} HTTP/1.1\r\n${lines}Connection: close\r\n\r\n${content}`;
}
/** A real request of the runtime's that says the same. */
export function realOf(name: string, sent: Sent): Request {
  const { method = "GET", target = "/", body } = sent;
  const path = target === "*" ? "" : target;
  const url = /^https?:\/\//i.test(path) ? path : `http://${hostOf(sent)}${path}`;
  const headers = [...fieldsOf(name, sent), ["Connection", "close"]] as [string, string][];
  const has = body !== undefined && body !== "" && !/^(GET|HEAD)$/i.test(method);
  const bytes = has ? Uint8Array.from(body, (char) => char.charCodeAt(0)) : null;
  return new Request(url, { method, headers, body: bytes });
}

/** What a look has thrown, by name; what it returned, else. */
export async function attempt(run: () => unknown): Promise<unknown> {
  try {
    const value = await run();
    return value === undefined ? "undefined" : value;
  } catch (error) {
    return `throws ${error instanceof Error ? error.name : typeof error}`;
  }
}
async function all(...runs: (() => unknown)[]): Promise<unknown[]> {
  const seen = [];
  for (const run of runs) seen.push(await attempt(run));
  return seen;
}
/** The text of a piece, or of whatever it is. */
function shown(value: unknown): unknown {
  if (value instanceof Uint8Array) return Array.from(value, (b) => String.fromCharCode(b)).join("");
  if (value instanceof ArrayBuffer) return shown(new Uint8Array(value));
  return value;
}
async function summary(request: Request): Promise<unknown> {
  const { url, method, redirect, bodyUsed, signal } = request;
  const headers = [...request.headers].filter(([name]) => name !== "connection");
  const has = request.body !== null;
  const body = await attempt(() => request.text());
  return { url, method, redirect, bodyUsed, aborted: signal.aborted, headers, has, body };
}
async function formOf(request: Request): Promise<unknown> {
  const entries = [];
  for (const [name, value] of await request.formData()) {
    if (typeof value === "string") entries.push([name, value]);
    else entries.push([name, value.name, value.type, value.size, shown(await value.bytes())]);
  }
  return entries;
}

const PROPERTIES = (
  "method url headers destination referrer referrerPolicy mode credentials cache redirect " +
  "integrity keepalive isReloadNavigation isHistoryNavigation signal duplex body bodyUsed clone " +
  "arrayBuffer blob bytes formData json text constructor then toJSON"
).split(" ");
const READERS = ["text", "json", "bytes", "arrayBuffer", "blob", "formData"] as const;
// deno-lint-ignore no-explicit-any -- looks do what the types forbid, as people's programs do
type Any = any;

/** How a body is read twice in each pair of ways. */
function twice(first: typeof READERS[number]): Look {
  return async (request) => {
    const seen = [];
    seen.push(request.bodyUsed, request.body instanceof ReadableStream || request.body);
    seen.push(await attempt(async () => typeof await (request as Any)[first]()));
    seen.push(request.bodyUsed, request.body instanceof ReadableStream || request.body);
    for (const reader of READERS) {
      seen.push(await attempt(async () => typeof await (request as Any)[reader]()));
    }
    return [
      seen,
      await all(
        () => typeof request.clone(),
        () => new Request(request, { body: "new", method: "POST" }).text(),
        () => request.body?.locked,
      ),
    ];
  };
}
/** The same, when nobody has asked for `body` before. */
function lazily(first: typeof READERS[number]): Look {
  return async (request) => {
    const begun = (request as Any)[first]();
    const seen: unknown[] = [request.bodyUsed];
    seen.push(await attempt(async () => shown(await begun) && typeof await begun));
    seen.push(request.bodyUsed, await attempt(() => request.text()));
    seen.push(await attempt(() => typeof request.clone()), request.body !== null);
    return seen;
  };
}

const FORM_TYPE: [string, string] = ["Content-Type", "application/x-www-form-urlencoded"];
const MULTIPART: [string, string] = ["Content-Type", "multipart/form-data; boundary=cut"];
const part = (name: string, value: string, more = "", fields = "") =>
  `--cut\r\nContent-Disposition: form-data; name="${name}"${more}\r\n${fields}\r\n${value}\r\n`;
const JSON_POST: Sent = {
  method: "POST",
  fields: [["Content-Type", "application/json"]],
  body: '{"a":[1,"\xc3\xbc"]}',
};
const TEXT_POST: Sent = {
  method: "POST",
  fields: [["Content-Type", "Text/Plain; Charset=UTF-8"]],
  body: "some text",
};
const EMPTY_POST: Sent = { method: "POST", body: "" };
const MANY_FIELDS: Sent = {
  fields: [
    ["X-A", "1"],
    ["x-b", ""],
    ["X-a", "2"],
    ["X-Spaces", " \t in here\t "],
    ["X-Latin", "caf\xe9"],
    ["Set-Cookie", "a=1"],
    ["Set-Cookie", "b=2, c"],
    ["Cookie", "a=1; b=2"],
    ["!#$%&'*+-.^_`|~", "odd"],
    ["Accept", "text/html, */*;q=0.1"],
    ["toString", "x"],
    ["__proto__x", "y"],
  ],
};

/** Every look: its name, what is sent, and what is looked at. */
export const LOOKS: [name: string, sent: Sent, look: Look][] = [
  // What it is
  ["what it is", {}, (r) => [
    r instanceof Request,
    r.constructor === Request,
    r.constructor.name,
    Object.prototype.toString.call(r),
    `${r}`,
    typeof r,
    Array.isArray(r),
    Object.getPrototypeOf(r) instanceof Object,
    r === Object(r),
  ]],
  ["what its headers are", {}, (r) => [
    r.headers instanceof Headers,
    r.headers.constructor === Headers,
    Object.prototype.toString.call(r.headers),
    `${r.headers}`,
    r.headers === r.headers,
    r.signal === r.signal,
    r.signal instanceof AbortSignal,
    r.signal.aborted,
  ]],
  ["each property is there", {}, (r) => PROPERTIES.map((name) => [name, name in r])],
  ["each property's value", {}, (r) =>
    PROPERTIES.map((name) => {
      const value = (r as Any)[name];
      if (typeof value === "function") return [name, "function"];
      return [name, typeof value === "object" && value !== null ? "object" : `${value}`];
    }).filter(([, value]) => value !== "object")],
  ["what it enumerates", {}, (r) => {
    const names = [];
    for (const name in r) names.push(name);
    return [Object.keys(r), { ...r }, names.sort(), Object.getOwnPropertyNames(r)];
  }],
  ["its own keys", {}, (r) => Reflect.ownKeys(r).length],
  ["JSON.stringify", {}, (r) => [JSON.stringify(r), JSON.stringify(r.headers)]],
  [
    "structuredClone",
    {},
    (r) => all(() => typeof structuredClone(r), () => typeof structuredClone(r.headers)),
  ],
  ["shown by console.log", TEXT_POST, (r) => {
    const { inspect } = (globalThis as Any).Deno ?? (globalThis as Any).Bun;
    const request = inspect(r), headers = inspect(r.headers);
    return [
      request.includes('"http://a.example:81/"'),
      request.includes('"POST"'),
      request.includes("a.example:81"),
      /host"?: "a\.example:81"/.test(headers),
    ];
  }],
  ["properties of one's own", {}, (r) => {
    const one = r as Any;
    one.user = "ann";
    Object.defineProperty(one, "url", { value: "http://other/" });
    return [one.user, one.url, "user" in one, Object.keys(one), new WeakMap([[one, 1]]).get(one)];
  }],
  ["what can't be set", {}, (r) =>
    all(
      () => (r as Any).url = "http://other/",
      () => (r as Any).method = "PUT",
      () => (r as Any).headers = new Headers(),
      () => (r as Any).bodyUsed = true,
      () => r.url,
    )],
  ["frozen", TEXT_POST, async (r) => {
    Object.freeze(r);
    return [r.url, r.headers.get("host"), await r.text()];
  }],
  ["Reflect.get and a Proxy that binds", TEXT_POST, async (r) => {
    const proxy = new Proxy(r, {
      get(target, key) {
        const value = Reflect.get(target, key);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    return [proxy.url, proxy.method, proxy.headers.get("host"), await proxy.text()];
  }],
  ["a bare Proxy", TEXT_POST, (r) => {
    const proxy = new Proxy(r, {});
    return all(() => proxy.url, () => proxy.method, () => proxy.text());
  }],
  ["Object.create", TEXT_POST, (r) => {
    const heir = Object.create(r);
    return all(() => heir.url, () => heir.method, () => heir.text(), () => heir instanceof Request);
  }],
  [
    "the prototype's getters",
    TEXT_POST,
    (r) =>
      all(...["url", "method", "headers", "bodyUsed", "redirect", "signal"].map((name) => () => {
        const { get } = Object.getOwnPropertyDescriptor(Request.prototype, name)!;
        const value = get!.call(r);
        return typeof value === "object" ? "object" : value;
      })),
  ],
  ["the prototype's methods", TEXT_POST, (r) =>
    all(
      async () => (await Request.prototype.clone.call(r).text()),
      () => Request.prototype.text.call(r),
    )],
  ["the headers' prototype's methods", MANY_FIELDS, (r) =>
    all(
      () => Headers.prototype.get.call(r.headers, "x-a"),
      () => Headers.prototype.has.call(r.headers, "x-b"),
      () => [...Headers.prototype.entries.call(r.headers)].length,
    )],
  ["a method that was taken out", TEXT_POST, (r) => {
    const { text } = r;
    return attempt(() => (text as Any)());
  }],

  // Its headers
  ["get", MANY_FIELDS, (r) =>
    all(
      ...["x-a", "X-A", "x-b", "x-spaces", "x-latin", "cookie", "set-cookie", "host", "none", ""]
        .map((name) => () => r.headers.get(name)),
      ...["bad name", "x:", "\u212a", "caf\xe9", "a\n"].map((name) => () => r.headers.get(name)),
      ...[undefined, null, 1, {}, Symbol("x"), { toString: () => "x-a" }].map((name) => () =>
        r.headers.get(name as Any)
      ),
    )],
  // Each with headers that nobody has looked at.
  ...["undefined", "null", "a number", "an object", "a symbol"].flatMap(
    (what): [string, Sent, Look][] => {
      const names = { "undefined": undefined, "null": null, "a number": 1, "a symbol": Symbol() };
      const name = what === "an object" ? { toString: () => "x-a" } : (names as Any)[what];
      const fields: Sent = { fields: [["X-A", "1"], ["1", "2"], ["Null", "3"]] };
      return [
        [`get with ${what} for a name`, fields, (r) => attempt(() => r.headers.get(name))],
        [`has with ${what} for a name`, fields, (r) => attempt(() => r.headers.has(name))],
      ];
    },
  ),
  ["has", MANY_FIELDS, (r) =>
    all(
      ...["x-a", "X-A", "x-b", "none", "", "bad name", "x:", "\u212a", 1, undefined, null].map(
        (name) => () => r.headers.has(name as Any),
      ),
    )],
  ["get before and after they were iterated over", MANY_FIELDS, (r) => {
    const names = MANY_FIELDS.fields!.map(([name]) => name);
    const before = names.map((name) => r.headers.get(name));
    const listed = [...r.headers];
    return [before, listed, names.map((name) => r.headers.get(name))];
  }],
  ["iterated in each way", MANY_FIELDS, (r) => {
    const seen: unknown[] = [];
    r.headers.forEach((value, name) => seen.push([name, value]));
    return [
      seen,
      [...r.headers.keys()],
      [...r.headers.values()],
      [...r.headers.entries()],
      Object.fromEntries(r.headers as Any),
      { ...r.headers },
      Object.keys(r.headers),
      r.headers.getSetCookie(),
      [...new Headers(r.headers)],
      [...new Map(r.headers as Any)],
      new URLSearchParams([...r.headers]).toString(),
    ];
  }],
  ["forEach's third argument", {}, (r) => {
    const same: unknown[] = [];
    r.headers.forEach((_value, _name, all) => same.push(all === r.headers));
    return same;
  }],
  ["forEach's this", {}, (r) => {
    const self = {};
    let same: unknown;
    r.headers.forEach(function (this: Any) {
      same = this === self;
    }, self);
    return [same, typeof r.headers[Symbol.iterator]];
  }],
  ["changed", MANY_FIELDS, async (r) => {
    r.headers.set("X-A", "new");
    r.headers.append("x-c", "3");
    r.headers.append("x-c", "4");
    r.headers.delete("x-b");
    const seen = ["x-a", "x-b", "x-c"].map((name) => [r.headers.get(name), r.headers.has(name)]);
    return [seen, [...r.headers], await summary(new Request(r)), await summary(r.clone())];
  }],
  ["changed to what is not allowed", {}, (r) =>
    all(
      () => r.headers.set("bad name", "x"),
      () => r.headers.set("x", "a\nb"),
      () => r.headers.set("x", "\u0100"),
      () => r.headers.append("x", " y "),
      () => r.headers.get("x"),
      () => (r.headers as Any).set("x"),
      () => r.headers.delete("none"),
      () => r.headers.set("host", "b"),
      () => r.headers.get("host"),
    )],
  ["two lines of Cookie", { fields: [["Cookie", "a=1"], ["Cookie", "b=2"]] }, (r) => [
    r.headers.get("cookie"),
    [...r.headers].filter(([name]) => name === "cookie"),
    r.headers.get("cookie"),
  ]],

  // Others made of it
  ["new Request of it", TEXT_POST, (r) => summary(new Request(r))],
  ["new Request of it, unused afterwards?", TEXT_POST, (r) => {
    const other = new Request(r);
    return all(() => r.bodyUsed, () => r.text(), () => other.text());
  }],
  ["with headers", TEXT_POST, (r) => summary(new Request(r, { headers: { "x-y": "z" } }))],
  ["with its headers", TEXT_POST, (r) => summary(new Request(r, { headers: r.headers }))],
  ["with a method", {}, (r) => summary(new Request(r, { method: "DELETE" }))],
  [
    "with a method and a body",
    {},
    (r) =>
      summary(new Request(r, { method: "PUT", body: "new", headers: { "content-type": "a/b" } })),
  ],
  ["with another body", TEXT_POST, async (r) => [
    await new Request(r, { body: "new" }).text(),
    await attempt(() => r.text()),
  ]],
  ["with redirect", {}, (r) => summary(new Request(r, { redirect: "manual" }))],
  ["with a signal", {}, async (r) => {
    const controller = new AbortController();
    const other = new Request(r, { signal: controller.signal });
    controller.abort(new Error("mine"));
    await undefined;
    return [other.signal.aborted, (other.signal.reason as Error)?.message, r.signal.aborted];
  }],
  [
    "as the init of another",
    TEXT_POST,
    (r) => summary(new Request("http://b.example/x", r as Any)),
  ],
  [
    "as the init of another, without a body",
    {},
    (r) => summary(new Request("http://b.example/x", r)),
  ],
  ["rewritten", TEXT_POST, (r) => {
    const url = new URL(r.url);
    url.hostname = "c.example";
    return summary(new Request(url, r as Any));
  }],
  ["taken apart", TEXT_POST, (r) => {
    const { method, headers, body } = r;
    return summary(new Request(r.url, { method, headers, body, duplex: "half" } as RequestInit));
  }],
  ["its body as that of another", TEXT_POST, async (r) => {
    const other = new Request("http://b/", { method: "PUT", body: r.body, duplex: "half" } as Any);
    return [await other.text(), r.bodyUsed];
  }],
  ["a subclass", TEXT_POST, async (r) => {
    class Mine extends Request {
      extra = 1;
      get path() {
        return new URL(this.url).pathname;
      }
    }
    const mine = new Mine(r);
    return [mine.extra, mine.path, mine instanceof Request, await mine.text()];
  }],
  ["clone", TEXT_POST, async (r) => {
    const other = r.clone();
    const more = other.clone();
    return [
      other instanceof Request,
      other.constructor === Request,
      other.url,
      [...other.headers].length,
      await other.text(),
      r.bodyUsed,
      await r.text(),
      r.bodyUsed,
      await more.json().catch((error) => error.name),
    ];
  }],
  ["clone, the first read first", TEXT_POST, async (r) => {
    const other = r.clone();
    return [await r.text(), await other.text()];
  }],
  ["clone without a body", {}, async (r) => [r.clone().body, await r.clone().text()]],
  ["clone, and its headers changed", {}, (r) => {
    const other = r.clone();
    other.headers.set("x-y", "z");
    return [r.headers.get("x-y"), other.headers.get("x-y")];
  }],
  ["clone after reading", TEXT_POST, async (r) => {
    await r.text();
    return all(() => typeof r.clone(), () => typeof new Request(r));
  }],
  ["clone of a large body", { method: "POST", body: "0123456789".repeat(30_000) }, async (r) => {
    const other = r.clone();
    const [one, two] = await Promise.all([r.bytes(), other.bytes()]);
    return [one.length, two.length, shown(one) === shown(two)];
  }],

  // Its content
  ...READERS.map((reader): [string, Sent, Look] => [`${reader} first`, JSON_POST, twice(reader)]),
  ...READERS.map((reader): [string, Sent, Look] => [
    `${reader} first, of no content`,
    EMPTY_POST,
    twice(reader),
  ]),
  ...READERS.map((reader): [string, Sent, Look] => [`${reader} of a GET`, {}, twice(reader)]),
  ...READERS.map((reader): [string, Sent, Look] => [
    `${reader} before anything else`,
    JSON_POST,
    lazily(reader),
  ]),
  ...READERS.map((reader): [string, Sent, Look] => [
    `${reader} of a form`,
    { method: "POST", fields: [FORM_TYPE], body: "a=1" },
    lazily(reader),
  ]),
  ["chunked", { ...TEXT_POST, chunked: true }, async (r) => [r.body !== null, await r.text()]],
  ["GET with content", { body: "content" }, async (r) => [
    r.body,
    r.bodyUsed,
    await r.text(),
    r.bodyUsed,
    await r.text(),
  ]],
  ["DELETE with content", { ...JSON_POST, method: "DELETE" }, (r) => r.json()],
  ["OPTIONS with content", { ...TEXT_POST, method: "OPTIONS" }, (r) => r.text()],
  ["its content as text", { ...TEXT_POST, body: "\xef\xbb\xbf\xc3\xbc\xff\0x" }, (r) => r.text()],
  ["JSON behind a BOM", { ...JSON_POST, body: "\xef\xbb\xbf[1]" }, (r) => r.json()],
  ["JSON with __proto__", { ...JSON_POST, body: '{"__proto__":1}' }, (r) => r.json()],
  ["a blob's type", TEXT_POST, async (r) => {
    const blob = await r.blob();
    return [blob instanceof Blob, blob.type, blob.size, await blob.text()];
  }],
  ["a blob without a type", { method: "POST", body: "\xff\0" }, async (r) => {
    const blob = await r.blob();
    return [blob.type, shown(await blob.bytes())];
  }],
  ["bytes of one's own", JSON_POST, async (r) => {
    const bytes = await r.bytes();
    return [
      bytes.constructor.name,
      bytes.byteOffset,
      bytes.length,
      bytes.buffer.byteLength,
      shown(bytes),
    ];
  }],
  ["arrayBuffer", JSON_POST, async (r) => {
    const buffer = await r.arrayBuffer();
    return [buffer instanceof ArrayBuffer, buffer.byteLength, shown(buffer)];
  }],
  ["one piece with a reader", TEXT_POST, async (r) => {
    const reader = r.body!.getReader();
    const { done, value } = await reader.read();
    const seen = [done, value instanceof Uint8Array, shown(value), r.bodyUsed, r.body!.locked];
    const locked = await all(() => r.text(), () => typeof r.clone());
    reader.releaseLock();
    return [seen, locked, await all(() => r.text(), () => r.bodyUsed, () => typeof r.clone())];
  }],
  ["a reader that reads nothing", TEXT_POST, async (r) => {
    const reader = r.body!.getReader();
    const locked = await attempt(() => r.text());
    reader.releaseLock();
    return [locked, r.bodyUsed, await r.text(), r.bodyUsed];
  }],
  ["all pieces with a reader", TEXT_POST, async (r) => {
    let text = "";
    const reader = r.body!.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return [text, value === undefined, r.bodyUsed];
      text += shown(value);
    }
  }],
  ["for await", TEXT_POST, async (r) => {
    let text = "";
    for await (const piece of r.body!) text += shown(piece);
    return [text, r.bodyUsed];
  }],
  ["a reader that brings its buffer", TEXT_POST, (r) =>
    attempt(async () => {
      const reader = r.body!.getReader({ mode: "byob" });
      const { value } = await reader.read(new Uint8Array(4));
      return shown(value);
    })],
  ["piped through", TEXT_POST, async (r) => {
    const stream = r.body!.pipeThrough(new TextDecoderStream() as Any);
    return [await new Response(stream.pipeThrough(new TextEncoderStream() as Any)).text()];
  }],
  ["tee", TEXT_POST, async (r) => {
    const [one, two] = r.body!.tee();
    return [await new Response(one).text(), await new Response(two).text(), r.bodyUsed];
  }],
  ["canceled", TEXT_POST, async (r) => {
    await r.body!.cancel();
    return [r.bodyUsed, await attempt(() => r.text())];
  }],
  ["body is the same each time", TEXT_POST, (r) => [r.body === r.body, r.bodyUsed, r.body!.locked]],
  ["in a Response", TEXT_POST, async (r) => [
    await new Response(r.body).text(),
    r.bodyUsed,
    await attempt(() => r.text()),
  ]],
  ["all the ways at once", TEXT_POST, async (r) => {
    const settled = await Promise.allSettled(READERS.map((reader) => (r as Any)[reader]()));
    return settled.map((one) => one.status === "fulfilled" ? typeof one.value : one.reason.name);
  }],

  // Forms
  ["a form", { method: "POST", fields: [FORM_TYPE], body: "a=1&b=%C3%BC+x&a=&c" }, formOf],
  ["an empty form", { method: "POST", fields: [FORM_TYPE], body: "" }, formOf],
  ["a form with a charset", {
    method: "POST",
    fields: [["Content-Type", "Application/X-WWW-Form-Urlencoded; charset=utf-8"]],
    body: "a=1",
  }, formOf],
  ["fields and files", {
    method: "POST",
    fields: [MULTIPART],
    body: part("a", "1") + part("f", "\0\xff\r\n--cu", '; filename="x.bin"') +
      part("g", "<p>", '; filename="y.html"', "Content-Type: text/html\r\n") +
      part("f", "", '; filename=""', "Content-Type: application/octet-stream\r\n") +
      part("\xc3\xbc", "\xc3\xbc") + "--cut--\r\n",
  }, formOf],
  ["a quoted boundary", {
    method: "POST",
    fields: [["Content-Type", 'multipart/form-data; boundary="cut"']],
    body: part("a", "1") + "--cut--",
  }, formOf],
  ["a file's name in UTF-8", {
    method: "POST",
    fields: [MULTIPART],
    body: part("f", "x", '; filename="\xc3\xbc.txt"') + "--cut--\r\n",
  }, formOf],
  ["a form that is cloned", { method: "POST", fields: [FORM_TYPE], body: "a=1" }, async (r) => {
    const other = r.clone();
    return [await formOf(r), await formOf(other)];
  }],
  ["no content as a multipart form", {
    method: "POST",
    fields: [MULTIPART],
    body: "--cut--\r\n",
  }, (r) => attempt(() => formOf(r))],

  // Forwarded
  ["fetch of it", {
    ...TEXT_POST,
    host: "(upstream)",
    target: "/echo?x=1",
  }, async (r) => (await fetch(r)).json()],
  ["fetch of it without content", {
    host: "(upstream)",
    target: "/echo",
    fields: [["X-A", "1"], ["X-A", "2"]],
  }, async (r) => (await fetch(r)).json()],
  ["fetch of it with changes", {
    host: "(upstream)",
    target: "/echo",
    fields: [["X-A", "1"]],
  }, async (r) => (await fetch(r, { headers: { "X-B": "2" }, method: "PUT", body: "new" })).json()],
  [
    "fetch with it as the init",
    TEXT_POST,
    async (r, { upstream }) => (await fetch(`${upstream}/echo`, r as Any)).json(),
  ],
  [
    "fetch with it as the init, without content",
    { fields: [["X-A", "1"]] },
    async (r, kit) => (await fetch(`${kit.upstream}/echo`, r)).json(),
  ],
  ["fetch with parts of it", TEXT_POST, async (r, { upstream }) => {
    const { method, headers, body } = r;
    const init = { method, headers, body, duplex: "half" } as RequestInit;
    return (await fetch(`${upstream}/echo`, init)).json();
  }],
  [
    "fetch with a new request of it",
    TEXT_POST,
    async (r, { upstream }) => (await fetch(new Request(`${upstream}/echo`, r as Any))).json(),
  ],
  ["fetch with a clone", { ...TEXT_POST, host: "(upstream)", target: "/echo" }, async (r) => [
    await (await fetch(r.clone())).json(),
    await r.text(),
  ]],
];
