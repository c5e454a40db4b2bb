/** Reads what a server has sent, as strictly as RFC 9112 allows: what is not HTTP, throws. */

/** One response. */
export interface Received {
  status: number;
  /** Names in lower case, in order. */
  fields: [string, string][];
  /** One character a byte. */
  body: string;
  /** The response as it came, but for the value of Date. */
  raw: string;
}

/** The value of the only field of that name, or undefined. */
export function field(response: Received, name: string): string | undefined {
  const found = response.fields.filter(([key]) => key === name);
  if (found.length > 1 && name !== "set-cookie") throw new Error(`${found.length} ${name} fields`);
  return found[0]?.[1];
}

// 9112 §4 and §5
const STATUS_LINE = /^HTTP\/1\.1 ([1-5]\d\d) [\t\x20-\x7e]*$/;
const FIELD_LINE = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*$/;
// 9110 §5.6.7
const IMF_DATE =
  /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d GMT$/;

/**
 * All responses in `text`, which is one character a byte. `methods` are those of the requests that
 * they answer, in order; `ended` tells whether the server has closed, so that a response without a
 * length is complete. Throws when anything is malformed, cut off, or left over.
 */
export function parseResponses(text: string, methods: string[], ended: boolean): Received[] {
  const responses: Received[] = [];
  let at = 0, requests = 0;
  while (at < text.length) {
    const start = at;
    const headEnd = text.indexOf("\r\n\r\n", at);
    if (headEnd < 0) throw new Error(`a head without an end: ${JSON.stringify(text.slice(at))}`);
    const [statusLine, ...lines] = text.slice(at, headEnd).split("\r\n");
    const match = STATUS_LINE.exec(statusLine);
    if (match === null) throw new Error(`not a status line: ${JSON.stringify(statusLine)}`);
    const status = Number(match[1]);
    const fields = lines.map((line): [string, string] => {
      const parts = FIELD_LINE.exec(line);
      if (parts === null) throw new Error(`not a field: ${JSON.stringify(line)}`);
      return [parts[1].toLowerCase(), parts[2]];
    });
    at = headEnd + 4;
    const response = { status, fields, body: "", raw: "" };
    const length = field(response, "content-length");
    const coding = field(response, "transfer-encoding");
    const date = field(response, "date");
    const interim = status < 200;
    const bodiless = interim || status === 204 || status === 304;
    const method = interim ? "" : methods[requests++] ?? "";
    // 9110 §6.6.1: a 5xx may lack it, and the 503 of a listener that has no clock does.
    if (!interim && (date !== undefined || status !== 503) && !IMF_DATE.test(date ?? "")) {
      throw new Error(`a Date of ${date}`);
    }
    // 9112 §6.2: no Content-Length beside Transfer-Encoding.
    if (length !== undefined && coding !== undefined) throw new Error("two framings");
    // 9112 §6.1 and 9110 §8.6: no framing in 1xx and 204. In a 304 it is allowed, and not sent.
    if (bodiless && (length ?? coding) !== undefined) throw new Error(`${status} with a framing`);
    // 9110 §8.6
    if (length !== undefined && !/^\d+$/.test(length)) throw new Error(`a length of ${length}`);
    // 9112 §6.3: where the content ends.
    if (!bodiless && method !== "HEAD") {
      if (coding !== undefined) {
        if (coding !== "chunked") throw new Error(`a coding of ${coding}`);
        [response.body, at] = parseChunks(text, at);
      } else if (length !== undefined) {
        response.body = text.slice(at, at + Number(length));
        if (response.body.length < Number(length)) throw new Error("a body that is cut off");
        at += Number(length);
      } else {
        if (!ended) throw new Error("a body without a length on an open connection");
        response.body = text.slice(at);
        at = text.length;
      }
    }
    response.raw = text.slice(start, at).replace(/\r\nDate: [^\r]*/, "\r\nDate: (now)");
    responses.push(response);
  }
  return responses;
}

/** 9112 §7.1, with neither extensions nor trailers, which the server never sends. */
function parseChunks(text: string, at: number): [string, number] {
  let body = "";
  for (;;) {
    const lineEnd = text.indexOf("\r\n", at);
    const size = text.slice(at, lineEnd);
    if (lineEnd < 0 || !/^[0-9a-f]+$/.test(size)) {
      throw new Error(`a chunk size of ${JSON.stringify(size)}`);
    }
    const start = lineEnd + 2, end = start + parseInt(size, 16);
    if (text.slice(end, end + 2) !== "\r\n") throw new Error("a chunk without an end");
    at = end + 2;
    if (end === start) return [body, at];
    body += text.slice(start, end);
  }
}

/** The methods of the requests in a piece of input, as far as they matter for reading the answers. */
export function methodsOf(text: string): string[] {
  return Array.from(text.matchAll(/^(\S+) \S+ HTTP\/1\.\d\r$/gm), (match) => match[1]);
}
