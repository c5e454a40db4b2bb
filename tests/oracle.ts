/**
 * An oracle: what a server must make of the bytes of a connection, decided slowly, with regular
 * expressions on the whole text, one character a byte. It shares nothing with server.ts, so that a
 * mistake there is not made here too.
 *
 * It follows RFC 9110 and RFC 9112 ("9110" and "9112" below), and vectors.ts where they leave a
 * choice. Of several things that are wrong, the first in the order of the bytes is what is answered;
 * of those that only the whole head can tell, the first in the order of {@linkcode judgeWhole}.
 */

/** The bounds that a message can break. */
export interface Bounds {
  maxHeaderSize: number;
  maxHeaderCount: number;
  maxBodySize: number;
}
const DEFAULTS: Bounds = { maxHeaderSize: 16384, maxHeaderCount: 100, maxBodySize: 1048576 };

/** It has to be refused with this status. */
interface Refused {
  is: "refused";
  status: number;
  /** Of a head: as far as it has been told, since the answer to HEAD has no content. */
  method: string;
}
/** It may become anything yet. */
interface Unfinished {
  is: "unfinished";
  /** More than empty lines has come. */
  begun: boolean;
  /** The request line has ended. */
  hasLine: boolean;
}
/** A whole head that is served. */
export interface Judged {
  is: "head";
  /** In bytes, with the empty lines before it. */
  size: number;
  method: string;
  target: string;
  protocol: string;
  version: "1.0" | "1.1";
  resource: string;
  authority: string;
  framing: "none" | "chunked" | number;
  keepAlive: boolean;
  expectsContinue: boolean;
  conditional: boolean;
  /** The field lines, as they came ... */
  fields: string;
  /** ... and as names in lower case and values. */
  lines: Fields;
}
/** In the order of the lines. */
export type Fields = [name: string, value: string][];
/** Content that is whole. */
interface Content {
  is: "content";
  /** In bytes, with what frames it. */
  size: number;
  text: string;
}

const refused = (status: number): Refused => ({ is: "refused", status, method: "" });

const TOKEN = "[-!#$%&'*+.^_`|~0-9A-Za-z]+"; // 9110 §5.6.2
const VALUE = "[\\t\\x20-\\x7e\\x80-\\xff]*"; // 9110 §5.5, with the white space around it
const PATH = "[!$%&'()*+,\\-./0-9:;=@A-Z\\[\\]^_`a-z{|}~]"; // RFC 3986, and ^ ` { | }
const QUERY = `\\?(?:${PATH}|[?\\\\])*`; // and \, as the URL standard has it
const URI = `(?:${PATH}+(?:${QUERY})?|${QUERY})`;
const REQUEST_LINE = new RegExp(`^(${TOKEN}) (${URI}) (HTTP/[0-9]\\.[0-9])\\r`); // 9112 §3
const LINE_BEGUN = new RegExp(`^${TOKEN}( (${URI}( [\\x21-\\xff]*)?)?)?$`);
const METHOD = new RegExp(`^(\\r\\n){0,2}(${TOKEN}) `);
const FIELD_LINE = new RegExp(`^(${TOKEN}):(${VALUE})\\r`); // 9112 §5
const FIELD_BEGUN = new RegExp(`^${TOKEN}(:${VALUE})?$`);

/** Judges the head that `text` begins with. */
export function judgeHead(text: string, bounds: Bounds = DEFAULTS): Refused | Unfinished | Judged {
  const seen = text.slice(0, bounds.maxHeaderSize);
  let verdict = judgeLines(seen, bounds);
  if (verdict.is === "unfinished" && text.length >= bounds.maxHeaderSize) {
    const isMethod = new RegExp(`^(\\r\\n){0,2}${TOKEN}$`).test(seen); // 9112 §3
    verdict = refused(isMethod ? 501 : verdict.hasLine ? 431 : 414); // RFC 6585 §5, 9110 §15.5.15
  }
  if (verdict.is === "refused") verdict.method = METHOD.exec(seen)?.[2] ?? "";
  return verdict;
}

function judgeLines(text: string, bounds: Bounds): Refused | Unfinished | Judged {
  // 9112 §2.2: two empty lines are ignored.
  let rest = text.replace(/^(\r\n){1,2}/, "");
  const isFull = text.startsWith("\r\n\r\n");
  if (rest === "" || (rest === "\r" && !isFull)) {
    return { is: "unfinished", begun: false, hasLine: false };
  }
  // 9112 §3: single spaces, CRLF, and nothing else in between.
  const unfinished: Unfinished = { is: "unfinished", begun: true, hasLine: false };
  const line = REQUEST_LINE.exec(rest);
  if (line === null) return LINE_BEGUN.test(rest) ? unfinished : refused(400);
  const [, method, target, protocol] = line;
  if (!protocol.startsWith("HTTP/1.")) return refused(505); // 9110 §15.6.6
  rest = rest.slice(line[0].length);
  if (rest === "") return unfinished;
  if (!rest.startsWith("\n")) return refused(400);
  rest = rest.slice(1);
  unfinished.hasLine = true;

  const fields: Fields = [];
  const first = rest;
  while (!rest.startsWith("\r\n")) {
    if (rest === "" || rest === "\r") return unfinished;
    if (/^[\r \t]/.test(rest)) return refused(400); // 9112 §2.2 and §5.2
    if (fields.length === bounds.maxHeaderCount) return refused(431);
    const field = FIELD_LINE.exec(rest);
    if (field === null) return FIELD_BEGUN.test(rest) ? unfinished : refused(400);
    fields.push([field[1].toLowerCase(), trimmed(field[2])]);
    if (!isAllowed(fields)) return refused(400);
    rest = rest.slice(field[0].length);
    if (rest === "") return unfinished;
    if (!rest.startsWith("\n")) return refused(400);
    rest = rest.slice(1);
  }
  const head = judgeWhole(method, target, protocol, fields, bounds);
  if (typeof head === "number") return refused(head);
  const size = text.length - rest.length + 2;
  const sent = first.slice(0, first.length - rest.length);
  return { is: "head", size, fields: sent, lines: fields, ...head };
}

/** The values of all lines of one name, in order. */
export function valuesOf(fields: Fields, name: string): string[] {
  return fields.filter((field) => field[0] === name).map((field) => field[1]);
}
/** 9110 §5.6.3: white space is spaces and tabs. */
function trimmed(text: string): string {
  return text.replace(/^[ \t]+/, "").replace(/[ \t]+$/, "");
}
/** The members of a list (9110 §5.6.1), in lower case. */
function membersOf(values: string[]): string[] {
  return values.join(",").split(",").map((member) => trimmed(member).toLowerCase());
}

/** Whether the last of these fields can follow those before it. */
function isAllowed(fields: Fields): boolean {
  const [name, value] = fields.at(-1)!;
  const isSecond = valuesOf(fields, name).length > 1;
  if (name === "host") return !isSecond; // 9112 §3.2
  if (name === "transfer-encoding") return !isSecond; // 9112 §6.1: it could be read in two ways
  // 9112 §6.3: a list of equal lengths may be refused like any other that is not a number.
  if (name === "content-length") { // 9110 §8.6, and no more than a number can hold (9112 §6.3)
    return !isSecond && /^[0-9]+$/.test(value) && BigInt(value) < 2n ** 53n;
  }
  // What CGI would take for the field itself (RFC 3875 §4.1.18).
  return name !== "content_length" && name !== "transfer_encoding";
}

/** What the whole head says: the head, or the status that refuses it. */
function judgeWhole(
  method: string,
  target: string,
  protocol: string,
  fields: Fields,
  bounds: Bounds,
): number | Omit<Judged, "is" | "size" | "fields" | "lines"> {
  const version = protocol === "HTTP/1.0" ? "1.0" : "1.1"; // 9110 §2.5: or any later minor version

  // 9112 §3.2: HTTP/1.1 needs a Host; in HTTP/1.0 it may be left out, but not be wrong.
  const [host] = valuesOf(fields, "host");
  if (host === undefined ? version === "1.1" : !isHostAndPort(host)) return 400;

  // 9112 §3.2.1 to §3.2.4: the four forms of a target.
  let resource = target;
  let authority = host ?? "";
  if (method === "CONNECT") return 501; // 9110 §9.3.6, not supported
  if (!target.startsWith("/") && !(target === "*" && method === "OPTIONS")) {
    const [, scheme, between, path] = /^([^:]*):\/\/([^/?]*)(.*)$/.exec(target) ?? [];
    if (!["http", "https"].includes(scheme?.toLowerCase()) || !isHostAndPort(between)) return 400;
    authority = between; // 9112 §3.2.2: MUST ignore Host
    if (path.startsWith("/")) resource = path;
    else resource = path === "" && method === "OPTIONS" ? "*" : `/${path}`;
  }

  // 9112 §6.1 and §6.3
  const [length] = valuesOf(fields, "content-length");
  const coding = valuesOf(fields, "transfer-encoding")[0]?.toLowerCase();
  let framing: Judged["framing"] = "none";
  if (coding !== undefined) {
    const codings = membersOf([coding]);
    if (version === "1.0" || length !== undefined) return 400;
    if (codings.indexOf("chunked") !== codings.length - 1 || codings.includes("")) return 400;
    if (codings.length > 1) return 501; // 9112 §6.1: SHOULD
    framing = "chunked";
  } else if (length !== undefined && /[1-9]/.test(length)) {
    if (BigInt(length) > BigInt(bounds.maxBodySize)) return 413; // 9110 §15.5.14
    framing = Number(length);
  }

  // 9110 §10.1.1: to be ignored in HTTP/1.0; else the one expectation, once. Empty members do not
  // count (9110 §5.6.1.2).
  const expected = membersOf(valuesOf(fields, "expect")).filter((member) => member !== "");
  const expects = version === "1.1" && expected.length > 0;
  if (expects && expected.join() !== "100-continue") return 417;

  // 9112 §9.3
  const options = membersOf(valuesOf(fields, "connection"));
  const keepAlive = !options.includes("close") &&
    (version === "1.1" || options.includes("keep-alive"));

  const conditional = fields.some(([name]) =>
    /^(if-(match|none-match|modified-since|unmodified-since|range)|range)$/.test(name)
  ); // 9110 §13.1 and §14.2
  return {
    method,
    target,
    protocol,
    version,
    resource,
    authority,
    framing,
    keepAlive,
    expectsContinue: expects && framing !== "none",
    conditional,
  };
}

/** 9110 §7.2 and RFC 3986 §3.2.2, without the comma, and without the forms of IPs to come. */
function isHostAndPort(text: string): boolean {
  const [, host, colon, port] = /^(\[.*\]|[^:]*)(:?)(.*)$/.exec(text)!;
  if (colon === "" && port !== "") return false;
  if (!/^[0-9]{0,5}$/.test(port) || Number(port) > 65535) return false;
  const literal = /^\[(.*)\]$/.exec(host);
  if (literal !== null) return isIPv6(literal[1]);
  return /^([-.0-9A-Z_a-z~!$&'()*+;=]|%[0-9A-Fa-f]{2})+$/.test(host);
}
/** RFC 3986 §3.2.2: eight groups; `::` stands for one or more that are zero; the last two may be
 * written as IPv4. */
function isIPv6(text: string): boolean {
  const octet = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
  const plain = text.replace(new RegExp(`(^|:)(${octet}\\.){3}${octet}$`), "$10:0");
  const halves = plain.split("::");
  const groups = halves.flatMap((half) => half === "" ? [] : half.split(":"));
  return groups.every((group) => /^[0-9A-Fa-f]{1,4}$/.test(group)) &&
    (halves.length === 1 ? groups.length === 8 : halves.length === 2 && groups.length < 8);
}

const EXTENSION_VALUE = `${TOKEN}|"([\\t !\\x23-[\\]-~\\x80-\\xff]|\\\\[\\t -~\\x80-\\xff])*"`;
const BWS = "[ \\t]*"; // 9110 §5.6.3: MUST be put up with
/** 9112 §7.1 and §7.1.1, with no more than 16 digits. */
const CHUNK_LINE = new RegExp(
  `^([0-9A-Fa-f]{1,16})((${BWS};${BWS}${TOKEN}(${BWS}=${BWS}(${EXTENSION_VALUE}))?)*)\\r\\n$`,
);
const TRAILER_LINE = new RegExp(`^(${TOKEN}):${VALUE}\\r\\n$`);

/** Judges the content that `text` begins with. */
export function judgeContent(
  text: string,
  framing: Judged["framing"],
  bounds: Bounds = DEFAULTS,
): Refused | Unfinished | Content {
  if (framing === "chunked") return judgeChunks(text, bounds);
  const size = framing === "none" ? 0 : framing;
  if (text.length < size) return UNFINISHED;
  return { is: "content", size, text: text.slice(0, size) };
}
const UNFINISHED: Unfinished = { is: "unfinished", begun: true, hasLine: true };

/** The line that `text` begins with, with its LF if that has come. */
function lineOf(text: string): string {
  return /^[^\n]*\n?/.exec(text)![0];
}

function judgeChunks(text: string, bounds: Bounds): Refused | Unfinished | Content {
  let rest = text, content = "", extensions = 0;
  for (;;) {
    const line = lineOf(rest);
    if (line.length > 16 + 4096 + 2) return refused(413); // 9112 §7.1.1: SHOULD limit extensions
    if (!line.endsWith("\n")) return UNFINISHED;
    const match = CHUNK_LINE.exec(line);
    if (match === null) return refused(400);
    extensions += match[2].length;
    if (extensions > 4096) return refused(413);
    const size = BigInt(`0x${match[1]}`);
    if (BigInt(content.length) + size > BigInt(bounds.maxBodySize)) return refused(413);
    rest = rest.slice(line.length);
    if (size === 0n) break;
    if (BigInt(rest.length) < size) return UNFINISHED;
    content += rest.slice(0, Number(size));
    rest = rest.slice(Number(size));
    if (rest === "" || rest === "\r") return UNFINISHED;
    if (!rest.startsWith("\r\n")) return refused(400);
    rest = rest.slice(2);
  }
  // 9112 §7.1.2: the trailer section, which is read and dropped.
  for (let size = 0, count = 0;; count++) {
    const line = lineOf(rest);
    size += line.length;
    if (size > bounds.maxHeaderSize) return refused(431);
    if (!line.endsWith("\n")) return UNFINISHED;
    rest = rest.slice(line.length);
    if (line === "\r\n") break;
    const match = TRAILER_LINE.exec(line);
    if (match === null) return refused(400);
    if (/^(content_length|transfer_encoding)$/i.test(match[1])) return refused(400);
    if (count === bounds.maxHeaderCount) return refused(431);
  }
  return { is: "content", size: text.length - rest.length, text: content };
}

/** What is served of all that comes on a connection before its client ends its side. */
export interface Served {
  requests: { method: string; target: string; resource: string; authority: string }[];
  /** The contents of these requests; that of the last is missing if it is refused. */
  contents: string[];
  /** The status of the refusal after them; 0 if there is none. */
  refusal: number;
}

/** Judges a whole connection, at whose end the client ends its side. */
export function judgeConnection(text: string, bounds: Bounds = DEFAULTS): Served {
  const served: Served = { requests: [], contents: [], refusal: 0 };
  for (let rest = text;;) {
    const head = judgeHead(rest, bounds);
    if (head.is === "refused") return { ...served, refusal: head.status };
    if (head.is === "unfinished") return { ...served, refusal: head.begun ? 400 : 0 }; // 9112 §8
    const { method, target, resource, authority } = head;
    served.requests.push({ method, target, resource, authority });
    rest = rest.slice(head.size);
    const content = judgeContent(rest, head.framing, bounds);
    if (content.is === "refused") return { ...served, refusal: content.status };
    if (content.is === "unfinished") return { ...served, refusal: 400 }; // 9112 §8
    served.contents.push(content.text);
    if (!head.keepAlive) return served;
    rest = rest.slice(content.size);
  }
}
