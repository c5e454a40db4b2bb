/** Where the server differs from a real request, or from the runtime's own server, and why. */

import type { Runtime } from "../sockets.ts";

/** A client's view of an answer, or of as much of one as came before it broke. */
export interface Outcome {
  status: number;
  /** Without those of the connection. */
  fields: string[];
  content: string;
  isCut: boolean;
}

type Where = Runtime["name"] | "both";

/** The answer of the server in place of a response that it can't send. */
export const FAILED: Partial<Outcome> = {
  status: 500,
  fields: ["content-type: text/plain;charset=utf-8", "x-content-type-options: nosniff"],
  content: "500 Internal Server Error",
  isCut: false,
};

/** Answers that are not the reference's: what is different about them. */
export const ANSWERS: [why: string, where: Where, names: string[], ours: Partial<Outcome>][] = [
  ["nothing is upgraded", "both", ["101"], FAILED],
  [
    "what fails before the first byte is told by the status",
    "both",
    [
      "a stream of numbers",
      "an error at the start",
      "an error after a piece",
      "a generator that throws",
    ],
    FAILED,
  ],
  [
    "pieces may be text, and any bytes",
    "Deno",
    ["a stream of text", "a stream of ArrayBuffers"],
    { content: "hello", isCut: false },
  ],
  [
    "no field has what 9110 forbids",
    "both",
    ["a control character in a field", "DEL in a field"],
    FAILED,
  ],
  [
    "no trailer fields are told, since none are sent",
    "both",
    ["a Trailer"],
    { fields: ["content-type: text/plain;charset=utf-8"] },
  ],
  [
    "what has the parts of a Response is one, of whatever making",
    "both",
    ["the parts of a Response"],
    { status: 201, fields: ["x-a: b", "x-content-type-options: nosniff"], content: "hello" },
  ],
  ["what somebody reads is not sent", "Deno", ["text that is locked"], FAILED],
  [
    "what was read in part is not sent",
    "Bun",
    ["one that was read in part", "text that was read in part", "one that was canceled"],
    FAILED,
  ],
  [
    "no response is a mistake",
    "Bun",
    [
      "returns undefined",
      "returns null",
      "returns text",
      "returns a number",
      "returns a function",
      "returns a promise of undefined",
    ],
    FAILED,
  ],
  [
    "a list may stand in one line",
    "Deno",
    ["two lines of a list"],
    { fields: ["content-type: text/plain;charset=utf-8", "vary: a, b"] },
  ],
  [
    "a length that was promised is kept",
    "Bun",
    ["a stream that is too long"],
    { content: "hello" },
  ],
  ["a length that was promised is kept", "Bun", ["a stream that is too short"], { isCut: true }],
  [
    "what was decoded has no coding",
    "Bun",
    ["fetched gzip"],
    { fields: ["content-type: text/plain"] },
  ],
  [
    "a field is sent once",
    "Bun",
    ["an empty type"],
    { fields: ["content-type: "] },
  ],
  [
    "a file has no name here, and a part of one is no range",
    "Bun",
    ["Bun.file", "Bun.file, a slice"],
    { status: 200, fields: ["content-type: application/octet-stream"] },
  ],
  [
    "a client's mistake is told to it",
    "both",
    ["bad JSON"],
    { ...FAILED, status: 400, content: "400 Bad Request: Invalid JSON" },
  ],
  [
    "a client's mistake is told to it",
    "both",
    ["a bad form"],
    {
      ...FAILED,
      status: 400,
      content: "400 Bad Request: The content is not the form that its type says",
    },
  ],
];

/** What the reference is not asked for: `Deno.serve` ends the process over such a field. */
export const UNASKED = ["a control character in a field", "DEL in a field"];

/** Content whose length the reference tells, as its fields or by when it ends, but not the server. */
export const CHUNKED: [why: string, where: Where, names: string[]][] = [
  ["what is not there at once is not waited for", "Bun", [
    "a slow empty stream",
    "an asynchronous start",
    "compressed",
    "output of a process",
  ]],
  ["what Fetch gives of a Blob is a stream, as on Deno", "Bun", ["a large Blob"]],
];

/** Content that Bun says is text, though nobody else did, or that is text to nobody but Bun. */
export const GUESSED = [
  "a number",
  "an object",
  "a Blob",
  "a large Blob",
  "tagged Blob",
  "an echo of a Blob",
  "a subclass",
  "a subclass without properties",
  "text with properties of one's own",
];

/** What only shows where the content is not to be had but as a stream. */
export const STREAMED = ["Content-Length that is none", "Content-Length that is wrong"];

const REFUSED = ["throws TypeError", "throws TypeError", "throws TypeError"];
/** What an application sees of a request, where that differs from a real one. */
export const SIGHTS: [why: string, where: Where, name: string, seen: unknown][] = [
  [
    "lines of Cookie are joined as RFC 9113 §8.2.3 has it, on both runtimes",
    "Deno",
    "two lines of Cookie",
    ["a=1; b=2", [["cookie", "a=1; b=2"]], "a=1; b=2"],
  ],
  ["it holds no symbols of Deno's", "Deno", "its own keys", 0],
  [
    "it has nothing that can't be frozen",
    "Deno",
    "frozen",
    ["http://a.example:81/", "a.example:81", "some text"],
  ],
  ["its fields are private, as in Node and Bun", "Deno", "a bare Proxy", REFUSED],
  ["its fields are private, as in Node and Bun", "Deno", "Object.create", [...REFUSED, true]],
  [
    "its body is a stream, which is used when it is read",
    "Deno",
    "its body as that of another",
    ["some text", true],
  ],
  [
    "its body is a stream, which is used when it is read",
    "Deno",
    "in a Response",
    ["some text", true, "throws TypeError"],
  ],
  ["a type is as it was sent, in lower case", "both", "a blob's type", [
    true,
    "text/plain; charset=utf-8",
    9,
    "some text",
  ]],
  ["content without a type gets none", "Bun", "a blob without a type", ["", "\xff\0"]],
  ["the headers are an object like any other", "Bun", "structuredClone", [
    "throws DataCloneError",
    "object",
  ]],
  [
    "Bun's own functions look inside, where there is but a sample",
    "Bun",
    "the prototype's getters",
    [
      "http://sample/",
      "GET",
      "object",
      false,
      "follow",
      "object",
    ],
  ],
  [
    "Bun's own functions look inside, where there is but a sample",
    "Bun",
    "the prototype's methods",
    ["", ""],
  ],
  [
    "Bun's own functions look inside, where there is nothing",
    "Bun",
    "the headers' prototype's methods",
    REFUSED,
  ],
  [
    "another takes the content over, as Fetch has it; Bun's has two of it",
    "Bun",
    "new Request of it, unused afterwards?",
    [false, "some text", "throws TypeError"],
  ],
  ["what was read can't be taken over, as Fetch has it", "Bun", "clone after reading", [
    "throws TypeError",
    "throws TypeError",
  ]],
  ["a lock that was given back is none, as Fetch has it", "Bun", "a reader that reads nothing", [
    "throws TypeError",
    false,
    "some text",
    true,
  ]],
  ["content of another type is read nevertheless, as Fetch has it", "Bun", "formData first", [
    [false, true, "throws HttpError", true, true, ...REFUSED, ...REFUSED],
    ["throws TypeError", "new", true],
  ]],
  [
    "content of another type is read nevertheless, as Fetch has it",
    "Bun",
    "formData before anything else",
    [true, "throws HttpError", true, "throws TypeError", "throws TypeError", true],
  ],
];

/** Content is passed on as a stream, of which Deno's `fetch` tells no length. */
export const FORWARDED = /^fetch /;
