/**
 * What goes in and what must come out, in the order of RFC 9112 and RFC 9110. Each row is run on the
 * application: in memory whole, byte by byte, with another request behind it, and with answers that
 * leave in small pieces; and on both runtimes, whose answers must be the same to the byte.
 *
 * Where the RFC leaves a choice, the row's comment says which one was made.
 */

/** What one answer must be: a status, or a status with its body and fields. */
export type Answer = number | {
  status: number;
  body?: string;
  /** Names in lower case; null where there must be no such field. */
  fields?: Record<string, string | null>;
};

/** One exchange. */
export interface Vector {
  section: string;
  name: string;
  /** One character a byte. */
  send: string;
  /** One for each response, in order. */
  answers: Answer[];
  /** Whether the server closes after the last answer; else a further request is answered. */
  closes: boolean;
}

/** A whole request; by default one that is answered 200. */
function req({ line = "GET /book HTTP/1.1", fields = "Host: a\r\n", body = "" } = {}): string {
  return `${line}\r\n${fields}\r\n${body}`;
}
const GET = req();
const line = (line: string) => req({ line });
const target = (target: string) => line(`GET ${target} HTTP/1.1`);
/** Fields beside Host. */
const fields = (fields: string) => req({ fields: `Host: a\r\n${fields}` });
const host = (value: string) => req({ fields: `Host: ${value}\r\n` });
const old = (fields: string) => req({ line: "GET /book HTTP/1.0", fields });
const post = (fields: string, body = "", line = "POST / HTTP/1.1") =>
  req({ line, fields: `Host: a\r\nContent-Type: text/plain\r\n${fields}`, body });
const sized = (length: string, body = "hello") => post(`Content-Length: ${length}\r\n`, body);
const coded = (coding: string, body = "0\r\n\r\n") =>
  post(`Transfer-Encoding: ${coding}\r\n`, body);
const chunked = (body: string) => coded("chunked", body);
const range = (range: string, more = "") => fields(`Range: ${range}\r\n${more}`);
const json = (body: string, type = "application/json") =>
  req({
    line: "POST / HTTP/1.1",
    fields: `Host: a\r\nContent-Type: ${type}\r\nContent-Length: ${body.length}\r\n`,
    body,
  });

/** The connection goes on. */
const ok = (section: string, rows: [string, string, ...Answer[]][]): Vector[] =>
  rows.map(([name, send, ...answers]) => ({ section, name, send, answers, closes: false }));
/** The connection ends. */
const end = (section: string, rows: [string, string, ...Answer[]][]): Vector[] =>
  rows.map(([name, send, ...answers]) => ({ section, name, send, answers, closes: true }));
/** The message is refused in good order: with a status, a text, and a close. */
const bad = (section: string, status: number, rows: [string, string][]): Vector[] =>
  rows.map(([name, send]) => {
    const fields = { "connection": "close", "content-type": "text/plain; charset=utf-8" };
    return { section, name, send, answers: [{ status, fields }], closes: true };
  });
const echo = (body: string): Answer => ({
  status: 200,
  body,
  fields: { "content-length": `${body.length}`, "content-type": "text/plain" },
});

const MANY = (count: number) =>
  Array.from({ length: count }, (_, i) => `X-${i}: ${i}\r\n`).join("");
/** A request of exactly so many bytes up to the end of its head. */
const sizedHead = (size: number) => fields(`X: ${"x".repeat(size - fields("X: \r\n").length)}\r\n`);
const sizedLine = (size: number) => target(`/${"x".repeat(size - "GET / HTTP/1.1\r\n".length)}`);

export const VECTORS: Vector[] = [
  // ── 9112 §2: message format ───────────────────────────────────────────────────────────────
  ...ok("9112 §2.1", [
    ["a request", GET, { status: 200, fields: { "connection": null } }],
    ["two requests", GET + GET, 200, 200],
    ["answers in order", target("/x") + GET + target("/y"), 404, 200, 404],
  ]),
  ...ok("9112 §2.2", [
    ["an empty line before a request", `\r\n${GET}`, 200],
    ["two empty lines before a request", `\r\n\r\n${GET}`, 200],
    ["two empty lines before each of two", `\r\n\r\n${GET}\r\n\r\n${GET}`, 200, 200],
  ]),
  ...bad("9112 §2.2", 400, [
    ["three empty lines before a request", `\r\n\r\n\r\n${GET}`],
    ["LF before a request", `\n${GET}`],
    ["CR before a request", `\r${GET}`],
    ["LF ends the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n"],
    ["LF ends every line", "GET / HTTP/1.1\nHost: a\n\n"],
    ["LF ends a field", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"],
    ["LF ends the head", "GET / HTTP/1.1\r\nHost: a\r\n\n"],
    ["CR ends the request line", "GET / HTTP/1.1\rHost: a\r\n\r\n"],
    ["CR ends a field", "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n"],
    ["CR CR LF ends a field", "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"],
    ["CR without LF ends the head", "GET / HTTP/1.1\r\nHost: a\r\n\rX"],
    ["CR inside a value", fields("X: a\rb\r\n")],
    ["a space before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n"],
    ["a tab before the first field", "GET / HTTP/1.1\r\n\tHost: a\r\n\r\n"],
    ["a space before the request line", ` ${GET}`],
    ["a TLS handshake", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"],
    ["CR and LF LF end the head", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\n"],
    ["a NUL", "\0"],
  ]),
  ...bad("9112 §2.2", 400, [
    ["LF after two empty lines", `\r\n\r\n\n${GET}`],
    ["CR CR LF before a request", `\r\r\n${GET}`],
    ["CR LF inside a target", `GET /bo\r\nok HTTP/1.1\r\nHost: a\r\n\r\n`],
  ]),
  ...end("9112 §2.2", [[
    "three empty lines between two requests",
    `${GET}\r\n\r\n\r\n${GET}`,
    200,
    400,
  ]]),
  ...ok("9112 §2.3", [
    ["HTTP/1.1", line("GET /book HTTP/1.1"), 200],
    ["a minor version to come", line("GET /book HTTP/1.2"), 200],
    ["the last minor version", line("GET /book HTTP/1.9"), 200],
  ]),
  ...end("9112 §2.3", [
    ["HTTP/1.0", old("Host: a\r\n"), { status: 200, fields: { "connection": "close" } }],
  ]),
  ...bad("9112 §2.3", 400, [
    ["no version", line("GET /book")],
    ["an empty version", line("GET /book ")],
    ["lower case", line("GET /book http/1.1")],
    ["mixed case", line("GET /book HTTp/1.1")],
    ["no minor version", line("GET /book HTTP/1")],
    ["two digits", line("GET /book HTTP/1.10")],
    ["two digits of the major version", line("GET /book HTTP/11.1")],
    ["a leading zero", line("GET /book HTTP/01.1")],
    ["a space after it", line("GET /book HTTP/1.1 ")],
    ["a tab after it", line("GET /book HTTP/1.1\t")],
    ["a space inside", line("GET /book HTTP/ 1.1")],
    ["a comma", line("GET /book HTTP/1,1")],
    ["another protocol", line("GET /book HTCPCP/1.0")],
    ["a letter", line("GET /book HTTP/1.x")],
    ["one more byte", line("GET /book HTTP/1.1x")],
  ]),
  ...bad("9112 §2.3", 505, [
    ["HTTP/2.0", line("GET /book HTTP/2.0")],
    ["HTTP/0.9", line("GET /book HTTP/0.9")],
    ["HTTP/3.0", line("GET /book HTTP/3.0")],
    ["HTTP/9.9", line("GET /book HTTP/9.9")],
  ]),
  ...ok("9112 §2.3", [[
    "HTTP/1.2 may be chunked",
    post("Transfer-Encoding: chunked\r\n", "1\r\nx\r\n0\r\n\r\n", "POST / HTTP/1.2"),
    echo("x"),
  ]]),
  ...end("9112 §2.3", [[
    "HTTP/1.2 may ask for close",
    req({ line: "GET /book HTTP/1.2", fields: "Host: a\r\nConnection: close\r\n" }),
    { status: 200, fields: { connection: "close" } },
  ]]),
  ...bad("9112 §2.3", 400, [
    ["HTTP/1.2 needs a Host", req({ line: "GET /book HTTP/1.2", fields: "" })],
    ["nothing behind the slash", line("GET /book HTTP/")],
    ["no dot", line("GET /book HTTP/11")],
    ["a sign", line("GET /book HTTP/+1.1")],
    ["S", line("GET /book HTTPS/1.1")],
    ["two digits of a later major version", line("GET /book HTTP/20.0")],
  ]),
  ...bad("9112 §2.3", 505, [
    ["HTTP/2.0 without a Host", req({ line: "GET /book HTTP/2.0", fields: "" })],
    ["HTTP/0.0", line("GET / HTTP/0.0")],
    ["the HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
  ]),

  // ── 9112 §3: request line ─────────────────────────────────────────────────────────────────
  ...bad("9112 §3", 400, [
    ["two spaces after the method", line("GET  /book HTTP/1.1")],
    ["two spaces after the target", line("GET /book  HTTP/1.1")],
    ["a tab after the method", line("GET\t/book HTTP/1.1")],
    ["a tab after the target", line("GET /book\tHTTP/1.1")],
    ["a vertical tab after the method", line("GET\x0b/book HTTP/1.1")],
    ["one word", line("GET")],
    ["a field in its place", req({ line: "Host: a" })],
  ]),
  ...bad("9112 §3", 414, [
    ["a request line of more than 16384 bytes", sizedLine(16385)],
    ["a request line that does not end", `GET /${"x".repeat(20000)}`],
    ["a target that does not end behind a long method", `${"G".repeat(16382)} /${"x".repeat(20)}`],
  ]),
  ...bad("9112 §3", 501, [
    ["a method that does not end", "G".repeat(20000)],
    ["a method that does not end, behind empty lines", "\r\n\r\n" + "G".repeat(16380)],
  ]),
  ...bad("9112 §3", 431, [
    ["a request line that leaves no room for fields", sizedLine(16384)],
  ]),
  ...ok("9112 §3.1", [
    ["GET in lower case: the application takes any", line("get /book HTTP/1.1"), 200],
    ["a method of every token character", line("!#$%&'*+-.^_`|~09azAZ / HTTP/1.1"), 400],
    ["an unknown method is the application's to answer", line("BREW / HTTP/1.1"), {
      status: 400,
      body: "Handles only GET/POST requests.",
      fields: { "allow": "GET, HEAD, POST", "connection": null },
    }],
  ]),
  ...bad("9112 §3.1", 400, [
    ["an empty method", line(" / HTTP/1.1")],
    ["a method with a colon", line("GE:T / HTTP/1.1")],
    ["a method with a slash", line("GE/T / HTTP/1.1")],
    ["a method in brackets", line("(GET) / HTTP/1.1")],
    ["a method beyond ASCII", line("G\xc9T / HTTP/1.1")],
    ["a method with DEL", line("GET\x7f / HTTP/1.1")],
  ]),
  ...ok("9112 §3.2", [
    ["a query", target("/book?a=b&c"), 200],
    ["an empty query", target("/book?"), 200],
    ["a path that only looks like the other", target("//book"), 404],
    ["percent-encoding is the application's to decode", target("/%62ook"), 404],
    ["percent and no digits", target("/%zz"), 404],
    ["characters that browsers send as they are", target("/{}|^`[]"), 404],
    ["all of URI's", target("/-._~!$&'()*+,;=:@?/?"), 404],
  ]),
  ...bad("9112 §3.2", 400, [
    ["an empty target", line("GET  HTTP/1.1")],
    ["a target without a slash", target("book")],
    ["a query alone", target("?a")],
    ["a fragment", target("/book#a")],
    ["<", target("/<")],
    [">", target("/>")],
    ["a quote", target('/"')],
    ["a backslash", target("\\book")],
    ["a control character", target("/\x01")],
    ["NUL", target("/\0")],
    ["DEL", target("/\x7f")],
    ["beyond ASCII", target("/\xfc")],
    ["UTF-8", target("/\xc3\xbc")],
    ["a space", target("/a b")],
  ]),
  ...ok("9112 §3.2.2", [
    ["an absolute target", target("http://a/book"), 200],
    ["its authority takes the place of Host's", target("http://b:81/book"), 200],
    ["in upper case", target("HTTP://A/book"), 200],
    ["https", target("https://a/book"), 200],
    ["without a path", target("http://a"), 200],
    ["without a path, with a query", target("http://a?b"), 200],
    ["IPv6", target("http://[::1]:8080/book"), 200],
  ]),
  ...bad("9112 §3.2.2", 400, [
    ["another scheme", target("ftp://a/book")],
    ["no authority", target("http:///book")],
    ["userinfo", target("http://u:p@a/book")],
    ["a bad port", target("http://a:x/book")],
    ["a bad host", target("http://[a]/book")],
    ["one slash", target("http:/a/book")],
    ["without a Host", req({ line: "GET http://a/book HTTP/1.1", fields: "" })],
    ["with a bad Host", req({ line: "GET http://a/book HTTP/1.1", fields: "Host: a b\r\n" })],
  ]),
  ...ok("9112 §3.2.2", [["an empty port", target("http://a:/book"), 200], [
    "a path that is not there",
    target("http://a/x"),
    404,
  ], ["POST", post("Content-Length: 1\r\n", "x", "POST http://a/ HTTP/1.1"), echo("x")]]),
  ...bad("9112 §3.2.2", 400, [
    ["a port too large", target("http://a:65536/")],
    ["a comma in the authority", target("http://a,b/")],
    ["empty userinfo", target("http://@a/")],
    ["@ behind a port", target("http://a:80@b/")],
    ["a port and no host", target("http://:80/")],
    ["a fragment", target("http://a/#b")],
    ["a scheme alone", target("http:")],
    ["no slashes", target("http:a")],
    ["a longer scheme", target("httpx://a/")],
    ["two Hosts", req({ line: "GET http://a/book HTTP/1.1", fields: "Host: a\r\nHost: a\r\n" })],
    ["an empty Host", req({ line: "GET http://a/book HTTP/1.1", fields: "Host:\r\n" })],
    ["a bad authority in HTTP/1.0", req({ line: "GET http://a:x/ HTTP/1.0", fields: "" })],
  ]),
  ...end("9112 §3.2.2", [[
    "in HTTP/1.0 without a Host",
    req({ line: "GET http://a/book HTTP/1.0", fields: "" }),
    200,
  ]]),
  ...bad("9112 §3.2.3", 501, [
    ["CONNECT", line("CONNECT a:443 HTTP/1.1")],
    ["CONNECT with a path", line("CONNECT / HTTP/1.1")],
  ]),
  ...bad("9112 §3.2.3", 400, [
    ["an authority for GET", target("a:80")],
  ]),
  ...bad("9112 §3.2.3", 400, [[
    "connect in lower case is another method",
    line("connect a:443 HTTP/1.1"),
  ]]),
  ...ok("9112 §3.2.4", [
    ["OPTIONS *", line("OPTIONS * HTTP/1.1"), 400],
    ["OPTIONS of an authority alone", line("OPTIONS http://a HTTP/1.1"), 400],
  ]),
  ...bad("9112 §3.2.4", 400, [
    ["GET *", target("*")],
    ["OPTIONS **", line("OPTIONS ** HTTP/1.1")],
  ]),
  ...bad("9112 §3.2.4", 400, [[
    "options * in lower case is another method",
    line("options * HTTP/1.1"),
  ], ["OPTIONS *?", line("OPTIONS *?a HTTP/1.1")]]),

  // ── 9110 §7.2: Host ───────────────────────────────────────────────────────────────────────
  ...ok("9110 §7.2", [
    ["a name and a port", host("example.com:8080"), 200],
    ["an empty port, which RFC 3986 allows", host("example.com:"), 200],
    ["IPv4", host("127.0.0.1:80"), 200],
    ["IPv6", host("[2001:db8::1]:80"), 200],
    ["white space around it", req({ fields: "Host: \t a \t \r\n" }), 200],
    ["no white space", req({ fields: "Host:a\r\n" }), 200],
    ["the name in any case", req({ fields: "hOST: a\r\n" }), 200],
    ["sub-delims and percent-encoding", host("a-b_c.~!$&'()*+;=%41"), 200],
    ["behind other fields", req({ fields: "X: y\r\nHost: a\r\n" }), 200],
  ]),
  ...bad("9110 §7.2", 400, [
    ["none", req({ fields: "" })],
    ["none, with other fields", req({ fields: "X: y\r\n" })],
    ["two", fields("Host: b\r\n")],
    ["two that are equal", fields("Host: a\r\n")],
    ["two in other cases", fields("HOST: a\r\n")],
    ["empty", host("")],
    ["a port alone", host(":80")],
    ["a space", host("a b")],
    ["a tab", host("a\tb")],
    ["a comma", host("a,b")],
    ["a list", host("a, b")],
    ["userinfo", host("u@a")],
    ["a path", host("a/")],
    ["a query", host("a?b")],
    ["a fragment", host("a#b")],
    ["a backslash", host("a\\b")],
    ["a port that is no number", host("a:x")],
    ["a port too large", host("a:65536")],
    ["a port of six digits", host("a:000080")],
    ["a port with a sign", host("a:+80")],
    ["two ports", host("a:80:80")],
    ["IPv6 without brackets", host("::1")],
    ["IPv6 that ends with a colon", host("[::1:]")],
    ["IPv6 that ends with a colon, in the middle of which it is shortened", host("[1::2:]")],
    ["an open bracket", host("[::1")],
    ["a bracket with a name", host("[a.b]")],
    ["too many groups", host("[1:2:3:4:5:6:7:8:9]")],
    ["empty brackets", host("[]")],
    ["percent and one digit", host("a%4")],
    ["beyond ASCII", host("\xe9")],
    ["a scheme", host("http://a")],
  ]),
  ...end("9110 §7.2", [
    ["none in HTTP/1.0", old(""), 200],
  ]),
  ...bad("9110 §7.2", 400, [
    ["two in HTTP/1.0", old("Host: a\r\nHost: a\r\n")],
    ["a bad one in HTTP/1.0", old("Host: a b\r\n")],
  ]),
  ...ok("9110 §7.2", [
    ["the last port", host("a:65535"), 200],
    ["port 0", host("a:0"), 200],
    ["IPv4 in IPv6", host("[::ffff:1.2.3.4]"), 200],
    ["IPv6 and an empty port", host("[::1]:"), 200],
    ["the unspecified address", host("[::]"), 200],
    ["eight groups", host("[1:2:3:4:5:6:7:8]"), 200],
    ["upper case IPv6", host("[2001:DB8::A]"), 200],
    ["a name of digits", host("1"), 200],
    ["IPv4 that is a name", host("999.1.1.1"), 200],
    ["a port with leading zeros", host("a:00080"), 200],
    ["%zz is not, %7a is", host("%7a"), 200],
  ]),
  ...bad("9110 §7.2", 400, [
    ["%zz", host("a%zz")],
    ["percent at the end", host("a%")],
    ["two ::", host("[1::2::3]")],
    ["five digits in a group", host("[12345::]")],
    [":::", host("[:::]")],
    ["seven groups", host("[1:2:3:4:5:6:7]")],
    ["a zone", host("[fe80::1%25eth0]")],
    ["a bad IPv4 in IPv6", host("[::ffff:1.2.3.256]")],
    ["more behind a bracket", host("[::1]a")],
    ["more before a bracket", host("a[::1]")],
    ["two literals", host("[::1][::1]")],
    ["a caret", host("a^b")],
    ["a quote", host('"a"')],
    ["an empty bracket and a port", host("[]:80")],
    ["g in IPv6", host("[::g]")],
    ["a port of a space", host("a: 80")],
    ["a NUL", host("a\0b")],
    ["five digits, too large", host("a:99999")],
    ["empty in HTTP/1.0", old("Host:\r\n")],
    ["IPv4 not last in IPv6", host("[::1.2.3.4:1]")],
    ["an open group at the end", host("[1:2:3:4:5:6:7:]")],
  ]),

  // ── 9112 §5: fields ───────────────────────────────────────────────────────────────────────
  ...ok("9112 §5.1", [
    ["an empty value", fields("X:\r\n"), 200],
    ["white space for a value", fields("X: \t \r\n"), 200],
    ["a name of every token character", fields("!#$%&'*+-.^_`|~09azAZ: y\r\n"), 200],
    ["a value with a colon", fields("X: a:b: c\r\n"), 200],
    ["one hundred fields", fields(MANY(99)), 200],
    ["a head of 16384 bytes", sizedHead(16384), 200],
    ["an underscore elsewhere", fields("X_Content_Length: 5\r\n"), 200],
  ]),
  ...bad("9112 §5.1", 400, [
    ["no colon", fields("X\r\n")],
    ["no name", fields(": y\r\n")],
    ["a space before the colon", fields("X : y\r\n")],
    ["a tab before the colon", fields("X\t: y\r\n")],
    ["a space in the name", fields("X Y: z\r\n")],
    ["brackets in the name", fields("X(): z\r\n")],
    ["a quote in the name", fields('X": z\r\n')],
    ["a name beyond ASCII", fields("X\xe9: z\r\n")],
    ["NUL in the name", fields("X\0: z\r\n")],
    ["Content_Length", fields("Content_Length: 5\r\n")],
    ["Transfer_Encoding", fields("transfer_encoding: chunked\r\n")],
  ]),
  ...bad("9112 §5.1", 431, [
    ["one hundred and one fields", fields(MANY(100))],
    ["a head of 16385 bytes", sizedHead(16385)],
    ["a value that does not end", `GET / HTTP/1.1\r\nX: ${"x".repeat(20000)}`],
    ["a name that does not end", `GET / HTTP/1.1\r\n${"x".repeat(20000)}`],
  ]),
  ...bad("9112 §5.1", 400, [
    ["Transfer_encoding, one underscore", fields("Transfer_Encoding: x\r\n")],
    ["content_length in HTTP/1.0", old("content_length: 1\r\n")],
    ["a colon alone", fields(":\r\n")],
    ["a comma in the name", fields("X,Y: z\r\n")],
    ["CR in the name", fields("X\rY: z\r\n")],
    ["a space before CRLF's colonless line", fields("Host \r\n")],
  ]),
  ...bad("9112 §5.2", 400, [
    ["folding with a space", fields("X: a\r\n b\r\n")],
    ["folding with a tab", fields("X: a\r\n\tb\r\n")],
    ["an empty folded line", fields("X: a\r\n \r\n")],
    ["a folded coding", post("X: y\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\n")],
  ]),
  ...bad("9112 §5.2", 400, [["a folded last line", fields("X: a\r\n\t\r\n")]]),
  ...ok("9110 §5.5", [
    ["obs-text", fields("X: \x80\xff\r\n"), 200],
    ["a tab inside", fields("X: a\tb\r\n"), 200],
    ["all of ASCII that is visible", fields("X: !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\r\n"), 200],
  ]),
  ...bad("9110 §5.5", 400, [
    ["NUL", fields("X: a\0b\r\n")],
    ["a control character", fields("X: a\x01b\r\n")],
    ["escape", fields("X: \x1b[31m\r\n")],
    ["a vertical tab", fields("X: a\x0bb\r\n")],
    ["DEL", fields("X: a\x7f\r\n")],
  ]),

  // ── 9112 §6: framing ──────────────────────────────────────────────────────────────────────
  ...ok("9112 §6.1", [
    ["chunked", coded("chunked", "5\r\nhello\r\n0\r\n\r\n"), echo("hello")],
    ["in upper case", coded("CHUNKED", "5\r\nhello\r\n0\r\n\r\n"), echo("hello")],
    ["white space around it", coded(" \tchunked\t "), 200],
    ["for GET", fields("Transfer-Encoding: chunked\r\n") + "3\r\nabc\r\n0\r\n\r\n", 200],
  ]),
  ...bad("9112 §6.1", 400, [
    ["twice in a list", coded("chunked, chunked")],
    ["on two lines", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")],
    ["empty", coded("")],
    ["a comma", coded(",")],
    ["an empty member", coded(", chunked")],
    ["with a parameter", coded("chunked;a=b")],
    ["in quotes", coded('"chunked"')],
    ["with Content-Length", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")],
    ["behind Content-Length", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")],
    ["with a Content-Length of 0", post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n")],
    ["in HTTP/1.0", post("Transfer-Encoding: chunked\r\n", "", "POST / HTTP/1.0")],
    ["a space before the colon", post("Transfer-Encoding : chunked\r\n")],
    ["a vertical tab before it", coded("\x0bchunked")],
    ["xchunked", coded("xchunked")],
  ]),
  ...bad("9112 §6.1", 501, [
    ["gzip, chunked", coded("gzip, chunked")],
    ["identity, chunked", coded("identity,chunked")],
    ["an unknown one, chunked", coded("x-made-up, chunked")],
  ]),
  ...ok("9112 §6.1", [["TE in mixed case", coded("cHuNkEd", "1\r\nx\r\n0\r\n\r\n"), echo("x")], [
    "the name in any case",
    post("tRANSFER-eNCODING: chunked\r\n", "1\r\nx\r\n0\r\n\r\n"),
    echo("x"),
  ], ["TE is another field", fields("TE: trailers\r\n"), 200]]),
  ...bad("9112 §6.1", 400, [
    ["a NUL before it", coded("\0chunked")],
    ["a NUL behind it", coded("chunked\0")],
    ["a vertical tab behind it", coded("chunked\x0b")],
    ["a comma behind it", coded("chunked,")],
    ["NBSP before it", coded("\xa0chunked")],
    ["a semicolon", coded("chunked;")],
    ["chunked identity", coded("chunked identity")],
    [
      "chunked, then identity on another line",
      post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
    ],
    [
      "identity, then chunked on another line",
      post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
    ],
    ["an empty one, then chunked", post("Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n")],
    ["behind a bare LF and a space", post("X: y\n Transfer-Encoding: chunked\r\n")],
    ["behind a bare CR", post("X: y\rTransfer-Encoding: chunked\r\n")],
    ["a tab before the colon", post("Transfer-Encoding\t: chunked\r\n")],
    [
      "before the first field, behind a space",
      req({ line: "POST / HTTP/1.1", fields: " Transfer-Encoding: chunked\r\nHost: a\r\n" }),
    ],
    [
      "with Content-Length and gzip, chunked",
      post("Transfer-Encoding: gzip, chunked\r\nContent-Length: 5\r\n"),
    ],
    [
      "gzip, chunked in HTTP/1.0",
      post("Transfer-Encoding: gzip, chunked\r\n", "", "POST / HTTP/1.0"),
    ],
    ["for GET with Content-Length", fields("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n")],
    ["chunked, gzip, chunked", coded("chunked, gzip, chunked")],
  ]),
  // §6.3 says MUST be 400 where the last coding is not chunked; that goes before §6.1's SHOULD be 501.
  ...bad("9112 §6.3", 400, [
    ["gzip alone", coded("gzip")],
    ["identity alone", coded("identity")],
    ["chunked is not the last", coded("chunked, gzip")],
  ]),
  ...bad("9112 §6.3", 400, [["deflate alone", coded("deflate")], [
    "gzip, xchunked",
    coded("gzip, xchunked"),
  ]]),
  ...ok("9112 §6.2", [
    ["a length", sized("5"), echo("hello")],
    ["0", sized("0", ""), 200],
    ["leading zeros, which are digits", sized("0005"), echo("hello")],
    ["no length is no content", post(""), { status: 200, fields: { "content-length": "0" } }],
    ["the most that is taken", sized("1048576", "x".repeat(1048576)), 200],
    ["for GET", fields("Content-Length: 5\r\n") + "hello", 200],
    [
      "for HEAD",
      req({ line: "HEAD /book HTTP/1.1", fields: "Host: a\r\nContent-Length: 5\r\n" }) +
      "hello" + GET,
      200,
      200,
    ],
    ["bytes of every kind", sized("4", "\0\r\n\xff"), echo("\0\r\n\xff")],
    ["what looks like a request is content", sized(`${GET.length}`, GET), echo(GET)],
  ]),
  ...bad("9112 §6.2", 400, [
    ["a sign", sized("+5")],
    ["a negative one", sized("-5")],
    ["in hexadecimal", sized("0x5")],
    ["with a point", sized("5.0")],
    ["with an exponent", sized("5e0")],
    ["with a space", sized("5 5")],
    ["with an underscore", sized("1_0")],
    ["empty", sized("")],
    ["a list", sized("5, 5")],
    ["a word", sized("five")],
    ["twice", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello")],
    ["twice, unlike", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello")],
    ["another digit", sized("\xb2")],
  ]),
  ...bad("9112 §6.2", 413, [
    ["one byte too many", sized("1048577")],
    ["2^32 + 5", sized("4294967301")],
    ["2^53 - 1", sized("9007199254740991")],
  ]),
  ...bad("9112 §6.3", 400, [
    ["2^53, which can't be counted to by ones", sized("9007199254740992")],
    ["2^64 + 5", sized("18446744073709551621")],
    ["a thousand digits", sized("9".repeat(1000))],
  ]),
  ...ok("9112 §6.2", [
    ["white space around it", post("Content-Length: \t1 \t\r\n", "x"), echo("x")],
    ["many leading zeros", sized(`${"0".repeat(40)}1`, "x"), echo("x")],
    [
      "content for a path that is not there",
      req({ line: "GET /x HTTP/1.1", fields: "Host: a\r\nContent-Length: 3\r\n", body: "abc" }) +
      GET,
      404,
      200,
    ],
  ]),
  ...end("9112 §6.2", [[
    "a length in HTTP/1.0",
    post("Content-Length: 1\r\n", "x", "POST / HTTP/1.0"),
    echo("x"),
  ], ["no length in HTTP/1.0 is no content", post("", "", "POST / HTTP/1.0"), {
    status: 200,
    fields: { "content-length": "0" },
  }]]),
  ...bad("9112 §6.2", 400, [
    ["a comma behind it", sized("5,")],
    ["a comma before it", sized(",5")],
    ["a tab inside", sized("5\t5")],
    ["a semicolon", sized("5;")],
    ["quotes", sized('"5"')],
    ["twice, one empty", post("Content-Length: 5\r\nContent-Length:\r\n")],
    ["Infinity", sized("Infinity")],
    ["a minus zero", sized("-0")],
    ["a space before the colon", post("Content-Length : 5\r\n", "hello")],
    ["a bad one for GET", fields("Content-Length: x\r\n")],
    ["a NUL in it", sized("5\0")],
  ]),
  ...bad("9112 §6.2", 413, [["one byte too many, for GET", fields("Content-Length: 1048577\r\n")], [
    "in HTTP/1.0",
    post("Content-Length: 1048577\r\n", "", "POST / HTTP/1.0"),
  ], [
    "for PUT, which the application doesn't read",
    post("Content-Length: 1048577\r\n", "", "PUT / HTTP/1.1"),
  ]]),

  // ── 9112 §7.1: chunks ─────────────────────────────────────────────────────────────────────
  ...ok("9112 §7.1", [
    ["two chunks", chunked("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), echo("hello world")],
    ["none", chunked("0\r\n\r\n"), { status: 200, fields: { "content-length": "0" } }],
    ["hexadecimal in both cases", chunked("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), 200],
    ["leading zeros", chunked("0000000000000005\r\nhello\r\n000\r\n\r\n"), echo("hello")],
    [
      "data that looks like framing",
      chunked("7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n"),
      echo("0\r\n\r\n\r\n"),
    ],
    ["the next request behind it", chunked("1\r\nx\r\n0\r\n\r\n") + GET, echo("x"), 200],
    [
      "unread by the application",
      post(
        "Transfer-Encoding: chunked\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "PUT / HTTP/1.1",
      ) + GET,
      400,
      200,
    ],
  ]),
  ...bad("9112 §7.1", 400, [
    ["an empty size", chunked("\r\nhello\r\n")],
    ["0x", chunked("0x5\r\nhello\r\n")],
    ["a sign", chunked("+5\r\nhello\r\n")],
    ["a negative size", chunked("-5\r\nhello\r\n")],
    ["no digit", chunked("g\r\n")],
    ["a space before it", chunked(" 5\r\nhello\r\n")],
    ["a space after it", chunked("5 \r\nhello\r\n")],
    ["an underscore", chunked("1_0\r\n")],
    ["seventeen digits", chunked("00000000000000005\r\nhello\r\n")],
    ["LF after the size", chunked("5\nhello\r\n")],
    ["CR after the size", chunked("5\rhello\r\n")],
    ["LF after the data", chunked("5\r\nhello\n0\r\n\r\n")],
    ["CR after the data", chunked("5\r\nhello\r0\r\n\r\n")],
    ["nothing after the data", chunked("5\r\nhello0\r\n\r\n")],
    ["more data than its size", chunked("5\r\nhello!\r\n0\r\n\r\n")],
    ["less data than its size", chunked("5\r\nhell\r\n0\r\n\r\n")],
  ]),
  ...bad("9112 §7.1", 413, [
    ["a size over the limit", chunked("100001\r\n")],
    ["2^32 + 5", chunked("100000005\r\nhello\r\n")],
    ["2^64 - 1", chunked("ffffffffffffffff\r\n")],
    ["the limit in all", chunked("5\r\nhello\r\nffffc\r\n")],
  ]),
  ...ok("9112 §7.1", [[
    "the limit, in one chunk",
    chunked(`100000\r\n${"x".repeat(1048576)}\r\n0\r\n\r\n`),
    200,
  ], ["a last chunk of sixteen zeros", chunked("0000000000000000\r\n\r\n"), 200]]),
  ...bad("9112 §7.1", 400, [
    ["a tab after it", chunked("5\t\r\nhello\r\n")],
    ["a vertical tab", chunked("\x0b5\r\nhello\r\n")],
    ["a point", chunked("5.0\r\nhello\r\n")],
    ["an h", chunked("5h\r\nhello\r\n")],
    ["seventeen digits of f", chunked("fffffffffffffffff\r\n")],
    ["seventeen zeros", chunked("00000000000000000\r\n\r\n")],
    ["CR CR LF after the size", chunked("5\r\r\nhello\r\n")],
    ["LF in place of the last CRLF", chunked("0\r\n\n")],
    ["an obs-text digit", chunked("\xb2\r\n")],
    ["LF after the last size", chunked("0\n\r\n")],
  ]),
  ...ok("9112 §7.1.1", [
    ["a name", chunked("5;a\r\nhello\r\n0\r\n\r\n"), echo("hello")],
    ["a name and a value", chunked("5;a=b;c=d\r\nhello\r\n0;e\r\n\r\n"), echo("hello")],
    ["a value in quotes", chunked('5;a="b;\\"c"\r\nhello\r\n0\r\n\r\n'), echo("hello")],
    [
      "bad white space, which MUST be put up with",
      chunked("5 ;\ta = b \t; c\r\nhello\r\n0\r\n\r\n"),
      echo("hello"),
    ],
    ["4096 bytes of them", chunked(`5;${"a".repeat(4095)}\r\nhello\r\n0\r\n\r\n`), echo("hello")],
    [
      "4096 bytes of them, and chunks without any",
      chunked(`5;${"a".repeat(4095)}\r\nhello\r\n00000005\r\nhello\r\n0\r\n\r\n`),
      echo("hellohello"),
    ],
  ]),
  ...bad("9112 §7.1.1", 400, [
    ["no name", chunked("5;\r\nhello\r\n")],
    ["no value", chunked("5;a=\r\nhello\r\n")],
    ["an open quote", chunked('5;a="b\r\nhello\r\n')],
    ["a control character", chunked("5;a=\x01\r\nhello\r\n")],
    ["a space at the end", chunked("5;a \r\nhello\r\n")],
    ["LF in quotes", chunked('5;a="\n"\r\nhello\r\n')],
    ["CR in it", chunked("5;a\rb\r\nhello\r\n")],
    ["without a semicolon", chunked("5 a\r\nhello\r\n")],
  ]),
  ...bad("9112 §7.1.1", 413, [
    ["4097 bytes in one chunk", chunked(`5;${"a".repeat(4096)}\r\nhello\r\n`)],
    ["4097 bytes in two", chunked(`1;${"a".repeat(4000)}\r\nx\r\n1;${"a".repeat(95)}\r\nx\r\n`)],
    ["more than 4096 bytes in one chunk", chunked(`5;${"a".repeat(5000)}\r\nhello\r\n`)],
    ["more than 4096 bytes in all", chunked(`1;${"a".repeat(999)}\r\nx\r\n`.repeat(5))],
    ["that do not end", chunked(`5;${"a".repeat(20000)}`)],
  ]),
  ...ok("9112 §7.1.1", [
    ["an empty quoted value", chunked('1;a=""\r\nx\r\n0\r\n\r\n'), echo("x")],
    ["obs-text in quotes", chunked('1;a="\xe9"\r\nx\r\n0\r\n\r\n'), echo("x")],
    ["an escaped backslash", chunked('1;a="\\\\"\r\nx\r\n0\r\n\r\n'), echo("x")],
    ["a tab in quotes", chunked('1;a="\t"\r\nx\r\n0\r\n\r\n'), echo("x")],
  ]),
  ...bad("9112 §7.1.1", 400, [
    ["two semicolons", chunked("5;;a\r\nhello\r\n")],
    ["a value without a name", chunked("5;=a\r\nhello\r\n")],
    ["a semicolon at the end", chunked("5;a;\r\nhello\r\n")],
    ["more behind a quote", chunked('5;a="b"c\r\nhello\r\n')],
    ["an escaped control character", chunked('5;a="\\\x01"\r\nhello\r\n')],
    ["NUL in quotes", chunked('5;a="\0"\r\nhello\r\n')],
    ["obs-text in a name", chunked("5;\xe9\r\nhello\r\n")],
    ["two words", chunked("5;a b\r\nhello\r\n")],
    ["on the last chunk too", chunked("0;\r\n\r\n")],
    ["LF ends it", chunked("5;a\nhello\r\n")],
  ]),
  ...ok("9112 §7.1.2", [
    ["a trailer field", chunked("5\r\nhello\r\n0\r\nX: y\r\n\r\n"), echo("hello")],
    ["one that frames is dropped like any other", chunked("0\r\nContent-Length: 9\r\n\r\n"), 200],
    ["one that would close", chunked("0\r\nConnection: close\r\n\r\n"), 200],
    ["one hundred", chunked(`0\r\n${MANY(100)}\r\n`), 200],
  ]),
  ...bad("9112 §7.1.2", 400, [
    ["no colon", chunked("0\r\nX\r\n\r\n")],
    ["a space before the colon", chunked("0\r\nX : y\r\n\r\n")],
    ["folding", chunked("0\r\nX: y\r\n z\r\n\r\n")],
    ["LF", chunked("0\r\nX: y\n\r\n")],
    ["LF at the end", chunked("0\r\nX: y\r\n\n")],
    ["a control character", chunked("0\r\nX: \0\r\n\r\n")],
  ]),
  ...bad("9112 §7.1.2", 431, [
    ["one hundred and one", chunked(`0\r\n${MANY(101)}\r\n`)],
    ["more than 16384 bytes", chunked(`0\r\nX: ${"x".repeat(16384)}\r\n\r\n`)],
    ["that do not end", chunked(`0\r\nX: ${"x".repeat(20000)}`)],
  ]),
  ...ok("9112 §7.1.2", [["a Host is dropped", chunked("0\r\nHost: b\r\n\r\n") + GET, 200, 200], [
    "a coding is dropped",
    chunked("0\r\nTransfer-Encoding: gzip\r\n\r\n") + GET,
    200,
    200,
  ], ["obs-text in its value", chunked("0\r\nX: \xff\r\n\r\n"), 200]]),
  ...bad("9112 §7.1.2", 400, [
    ["a space before the first", chunked("0\r\n X: y\r\n\r\n")],
    ["no name", chunked("0\r\n: y\r\n\r\n")],
    ["CR in its value", chunked("0\r\nX: a\rb\r\n\r\n")],
    ["DEL", chunked("0\r\nX: \x7f\r\n\r\n")],
    ["a request in their place", chunked("0\r\nGET / HTTP/1.1\r\n\r\n")],
    ["Content_Length", chunked("0\r\nContent_Length: 5\r\n\r\n")],
  ]),

  // ── 9112 §9: the connection ───────────────────────────────────────────────────────────────
  ...ok("9112 §9.3", [
    ["keep-alive in HTTP/1.1 is as without", fields("Connection: keep-alive\r\n"), {
      status: 200,
      fields: { "connection": null },
    }],
    ["keep-alive in HTTP/1.0", old("Connection: keep-alive\r\n"), {
      status: 200,
      fields: { "connection": "keep-alive" },
    }],
    ["in upper case, in a list", old("Connection: x, KEEP-ALIVE\r\n"), 200],
    ["another option", fields("Connection: upgrade\r\nUpgrade: websocket\r\n"), 200],
    ["a word that only holds close", fields("Connection: closed, enclose\r\n"), 200],
    ["an empty list", fields("Connection: ,\r\n"), 200],
  ]),
  ...end("9112 §9.3", [
    ["HTTP/1.0", old(""), { status: 200, fields: { "connection": "close" } }],
    ["HTTP/1.0 with another option", old("Connection: x\r\n"), 200],
    ["close beats keep-alive in HTTP/1.0", old("Connection: keep-alive, close\r\n"), 200],
  ]),
  ...ok("9112 §9.3", [
    ["keep-alive, two in HTTP/1.0", old("Connection: keep-alive\r\n").repeat(2), 200, 200],
    ["keep-alive on a second line", old("Connection: x\r\nConnection: Keep-Alive\r\n"), 200],
    ["NBSP before close", fields("Connection: \xa0close\r\n"), 200],
    ["empty members", old("Connection: , ,keep-alive,\r\n"), 200],
  ]),
  ...end("9112 §9.3", [
    ["HTTP/1.0 behind HTTP/1.1", GET + old(""), 200, {
      status: 200,
      fields: { connection: "close" },
    }],
    [
      "close on another line beats keep-alive in HTTP/1.0",
      old("Connection: close\r\nConnection: keep-alive\r\n"),
      200,
    ],
    ["what is behind HTTP/1.0 is not answered", old("") + GET, 200],
    ["NBSP before keep-alive", old("Connection: \xa0keep-alive\r\n"), 200],
    ["a word that only holds keep-alive", old("Connection: keep-alives\r\n"), 200],
  ]),
  ...ok("9112 §9.3.2", [
    [
      "all answers in order",
      GET + chunked("1\r\nx\r\n0\r\n\r\n") + sized("5") + GET,
      200,
      echo("x"),
      echo("hello"),
      200,
    ],
    [
      "HEAD in between",
      GET + line("HEAD /book HTTP/1.1") + GET,
      200,
      { status: 200, body: "" },
      200,
    ],
    [
      "content that nobody read in between",
      post(
        "Content-Length: 5\r\n",
        "hello",
        "PUT / HTTP/1.1",
      ) + GET,
      400,
      200,
    ],
    [
      "a request inside unread content is not one",
      post(
        `Content-Length: ${GET.length}\r\n`,
        GET,
        "DELETE / HTTP/1.1",
      ) + target("/x"),
      400,
      404,
    ],
  ]),
  ...end("9112 §9.3.2", [
    ["a bad one behind a good one", `${GET}BAD\r\n\r\n`, 200, 400],
    ["a good one behind a bad one is not answered", `BAD\r\n\r\n${GET}`, 400],
    ["a good one behind bad content is not answered", chunked("x\r\n\r\n") + GET, 400],
    [
      "both framings: neither reading is served",
      post(
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\nG",
      ) + GET,
      400,
    ],
    ["a hidden request behind an unknown coding", coded("gzip, chunked", "0\r\n\r\n") + GET, 501],
    ["content too large, and what is behind it", sized("1048577") + GET, 413],
  ]),
  ...end("9112 §9.3.2", [[
    "chunked, then a bad one",
    chunked("1\r\nx\r\n0\r\n\r\n") + line("GET /  HTTP/1.1"),
    echo("x"),
    400,
  ], [
    "CL.TE",
    post(
      "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
      "5c\r\nGPOST / HTTP/1.1\r\n\r\n0\r\n\r\n",
    ),
    400,
  ], [
    "bad unread content behind an answer",
    GET + post("Transfer-Encoding: chunked\r\n", "x\r\n", "PUT / HTTP/1.1"),
    200,
    400,
  ]]),
  ...end("9112 §9.6", [
    ["close", fields("Connection: close\r\n"), { status: 200, fields: { "connection": "close" } }],
    ["in upper case", fields("Connection: CLOSE\r\n"), 200],
    ["in a list", fields("Connection: x,\tclose , y\r\n"), 200],
    ["on a second line", fields("Connection: keep-alive\r\nConnection: close\r\n"), 200],
    ["what is behind it is not answered", fields("Connection: close\r\n") + GET, 200],
    ["behind another", GET + fields("Connection: close\r\n"), 200, 200],
  ]),
  ...end("9112 §9.6", [
    ["on a 404", req({ line: "GET /x HTTP/1.1", fields: "Host: a\r\nConnection: close\r\n" }), {
      status: 404,
      fields: { connection: "close" },
    }],
    ["on HEAD", req({ line: "HEAD /x HTTP/1.1", fields: "Host: a\r\nConnection: close\r\n" }), {
      status: 404,
      body: "",
      fields: { connection: "close" },
    }],
    ["on content", post("Connection: close\r\nContent-Length: 1\r\n", "x") + GET, echo("x")],
    ["on a 304", fields("Connection: close\r\nIf-None-Match: *\r\n"), {
      status: 304,
      fields: { connection: "close", "content-length": null },
    }],
  ]),

  // ── 9110: semantics ───────────────────────────────────────────────────────────────────────
  ...ok("9110 §9.3.2", [
    ["HEAD of the page", line("HEAD / HTTP/1.1"), { status: 200, body: "" }],
    ["HEAD of what is not there", line("HEAD /x HTTP/1.1"), {
      status: 404,
      body: "",
      fields: { "content-length": "13" },
    }],
    // Methods are case-sensitive: to the protocol this is none that has no content in its answer.
    ["head in lower case", line("head /x HTTP/1.1"), { status: 404, body: "404 Not Found" }],
  ]),
  ...end("9110 §9.3.2", [[
    "HEAD refused with 413 has no body",
    req({ line: "HEAD /x HTTP/1.1", fields: "Host: a\r\nContent-Length: 1048577\r\n" }),
    { status: 413, body: "" },
  ], [
    "HEAD refused with 417 has no body",
    req({ line: "HEAD /x HTTP/1.1", fields: "Host: a\r\nExpect: x\r\n" }),
    { status: 417, body: "" },
  ], ["a refused HEAD has no body", req({ line: "HEAD /x HTTP/1.1", fields: "Host: a b\r\n" }), {
    status: 400,
    body: "",
    fields: { connection: "close" },
  }]]),
  ...ok("9110 §9.3.3", [
    ["JSON", json('{"a":1}'), { status: 200, body: '{\n  "a": 1,\n  "id": 1\n}' }],
    ["+json", json("{}", "application/problem+json; a=b"), 200],
    ["JSON that is none", json("{"), { status: 400, body: "400 Bad Request: Invalid JSON" }],
    ["JSON that is no object", json("[]"), 400],
    ["JSON of nothing", json(""), { status: 200, fields: { "content-length": "0" } }],
  ]),
  ...ok("9110 §9.3.3", [["a JSON string", json('"a"'), 400], ["null", json("null"), 400], [
    "type in upper case",
    json('{"id":9}', "APPLICATION/JSON; charset=utf-8"),
    { status: 200, body: '{\n  "id": 1\n}' },
  ], ["another type that holds json", json("{", "text/json"), { status: 200, body: "{" }]]),
  ...ok("9110 §10.1.1", [
    ["100-continue without content is not answered", fields("Expect: 100-continue\r\n"), 200],
    ["with a length of 0", post("Expect: 100-continue\r\nContent-Length: 0\r\n"), 200],
    ["in upper case", fields("Expect: 100-CONTINUE\r\n"), 200],
    ["an empty member after it", fields("Expect: 100-continue,\r\n"), 200],
    ["an empty line before it", fields("Expect:\r\nExpect: 100-continue\r\n"), 200],
    ["an empty line after it", fields("Expect: 100-continue\r\nExpect:\r\n"), 200],
    ["empty members alone", fields("Expect: ,\r\n"), 200],
    ["empty members alone, with content", post("Expect: ,\r\nContent-Length: 5\r\n", "hello"), 200],
  ]),
  ...end("9110 §10.1.1", [
    [
      "it is ignored in HTTP/1.0",
      post(
        "Expect: 100-continue\r\nContent-Length: 5\r\n",
        "hello",
        "POST / HTTP/1.0",
      ),
      200,
    ],
    ["another is ignored in HTTP/1.0", old("Expect: x\r\n"), 200],
  ]),
  ...bad("9110 §10.1.1", 417, [
    ["another expectation", fields("Expect: x\r\n")],
    ["another beside it", fields("Expect: 100-continue, x\r\n")],
    ["twice", fields("Expect: 100-continue\r\nExpect: 100-continue\r\n")],
    ["its halves in two lines", fields("Expect: 100-\r\nExpect: continue\r\n")],
    ["with a parameter", fields("Expect: 100-continue;a=b\r\n")],
  ]),
  ...ok("9110 §10.1.1", [[
    "in HTTP/1.0 with keep-alive",
    old("Expect: 100-continue\r\nConnection: keep-alive\r\n"),
    200,
  ]]),
  ...bad("9110 §10.1.1", 417, [
    ["with content", post("Expect: x\r\nContent-Length: 5\r\n", "hello")],
    ["for HTTP/1.2", req({ line: "GET / HTTP/1.2", fields: "Host: a\r\nExpect: x\r\n" })],
    ["NBSP before 100-continue", fields("Expect: \xa0100-continue\r\n")],
  ]),
  ...ok("9110 §13.1.1", [
    ["If-Match: *", fields("If-Match: *\r\n"), 200],
    ["another tag", fields('If-Match: "x"\r\n'), 412],
    ["several others", fields('If-Match: "x", W/"y"\r\n'), 412],
    ["no quotes", fields("If-Match: x\r\n"), 200],
    ["for POST it is the application's", post('If-Match: "x"\r\n'), 200],
    [
      "for what is not there",
      req({ line: "GET /x HTTP/1.1", fields: 'Host: a\r\nIf-Match: "x"\r\n' }),
      404,
    ],
  ]),
  ...ok("9110 §13.1.1", [["a weak tag never matches", fields('If-Match: W/"x"\r\n'), 412], [
    "for HEAD",
    req({ line: "HEAD /book HTTP/1.1", fields: 'Host: a\r\nIf-Match: "x"\r\n' }),
    412,
  ]]),
  ...ok("9110 §13.1.2", [
    ["If-None-Match: *", fields("If-None-Match: *\r\n"), {
      status: 304,
      body: "",
      fields: { "content-length": null, "content-type": null, "x-content-type-options": "nosniff" },
    }],
    ["another tag", fields('If-None-Match: "x"\r\n'), 200],
    ["an empty tag", fields('If-None-Match: ""\r\n'), 200],
    ["no quotes", fields("If-None-Match: x\r\n"), 200],
    [
      "for HEAD",
      req({ line: "HEAD /book HTTP/1.1", fields: "Host: a\r\nIf-None-Match: *\r\n" }),
      304,
    ],
    ["for POST it is the application's", post("If-None-Match: *\r\n"), 200],
    ["behind a 304", fields("If-None-Match: *\r\n") + GET, 304, 200],
  ]),
  ...ok("9110 §13.1.2", [["several others", fields('If-None-Match: "x", W/"y"\r\n'), 200], [
    "for the page",
    req({ line: "GET / HTTP/1.1", fields: "Host: a\r\nIf-None-Match: *\r\n" }),
    304,
  ], [
    "for what is not there",
    req({ line: "GET /x HTTP/1.1", fields: "Host: a\r\nIf-None-Match: *\r\n" }),
    404,
  ]]),
  ...ok("9110 §13.1.3", [
    [
      "there is no Last-Modified to compare",
      fields("If-Modified-Since: Sat, 29 Oct 2050 19:43:31 GMT\r\n"),
      200,
    ],
    ["no date", fields("If-Modified-Since: yesterday\r\n"), 200],
  ]),
  ...ok("9110 §13.1.4", [
    [
      "there is no Last-Modified to compare",
      fields("If-Unmodified-Since: Sat, 29 Oct 1994 19:43:31 GMT\r\n"),
      200,
    ],
  ]),
  ...ok("9110 §13.2.2", [
    ["If-Match goes first", fields('If-Match: "x"\r\nIf-None-Match: *\r\n'), 412],
    ["then If-None-Match", fields("If-Match: *\r\nIf-None-Match: *\r\n"), 304],
    ["and before Range", range("bytes=0-0", "If-None-Match: *\r\n"), 304],
  ]),
  ...ok("9110 §14.2", [
    ["one byte", range("bytes=0-0"), { status: 206, body: "{", fields: { "content-length": "1" } }],
    ["the first bytes", range("bytes=0-1"), { status: 206, body: "{\n" }],
    ["the last byte", range("bytes=-1"), { status: 206, body: "\n" }],
    ["all of it", range("bytes=0-"), 206],
    ["past the end", range("bytes=1-99999"), 206],
    ["the unit in upper case", range("BYTES=0-0"), 206],
    ["several ranges get the whole", range("bytes=0-0,2-2"), 200],
    ["another unit", range("pages=0-0"), 200],
    ["the end before the beginning", range("bytes=2-1"), 200],
    ["no range", range("bytes=-"), 200],
    ["no number", range("bytes=a-b"), 200],
    ["a sign", range("bytes=+0-1"), 200],
    [
      "for HEAD it means nothing",
      req({ line: "HEAD /book HTTP/1.1", fields: "Host: a\r\nRange: bytes=0-0\r\n" }),
      200,
    ],
    ["for POST it means nothing", post("Content-Length: 1\r\nRange: bytes=0-0\r\n", "x"), 200],
  ]),
  ...ok("9110 §14.2", [
    ["a huge last position", range("bytes=0-99999999999999999999"), 206],
    ["two Range fields", fields("Range: bytes=0-0\r\nRange: bytes=1-1\r\n"), 200],
    ["nothing behind =", range("bytes="), 200],
    ["no =", range("bytes"), 200],
    ["a suffix longer than all", range("bytes=-999999"), 206],
    [
      "for what is not there",
      req({ line: "GET /x HTTP/1.1", fields: "Host: a\r\nRange: bytes=0-0\r\n" }),
      404,
    ],
    ["for the page", req({ line: "GET / HTTP/1.1", fields: "Host: a\r\nRange: bytes=0-0\r\n" }), {
      status: 206,
      fields: { "content-length": "1", "content-type": "text/html; charset=utf-8" },
    }],
    ["If-Match fails before it", range("bytes=0-0", 'If-Match: "x"\r\n'), 412],
  ]),
  ...ok("9110 §14.4", [
    ["beyond the end", range("bytes=99999-"), 416],
    ["the last no bytes", range("bytes=-0"), 416],
  ]),
  ...ok("9110 §14.4", [["a huge first position", range("bytes=99999999999999999999-"), 416], [
    "beyond the end, then another",
    range("bytes=99999-") + GET,
    416,
    200,
  ]]),
  ...ok("9110 §13.1.5", [
    ["another tag gets the whole", range("bytes=0-0", 'If-Range: "x"\r\n'), 200],
    ["a weak tag gets the whole", range("bytes=0-0", 'If-Range: W/"x"\r\n'), 200],
    [
      "a date gets the whole",
      range("bytes=0-0", "If-Range: Sat, 29 Oct 1994 19:43:31 GMT\r\n"),
      200,
    ],
    ["without a range", fields('If-Range: "x"\r\n'), 200],
  ]),
  ...ok("9110 §15.5.5", [
    ["what is not there", target("/x"), {
      status: 404,
      body: "404 Not Found",
      fields: { "content-type": "text/plain; charset=utf-8", "content-length": "13" },
    }],
  ]),
];
