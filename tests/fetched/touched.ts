/** What is done with a request before its content is read, or not read. */

import type { Kit } from "./requests.ts";

// deno-lint-ignore no-explicit-any -- runtimes differ in what a property is
type Any = any;

/** Each may need a real request, which the server makes only then. */
export const TOUCHES: Record<string, (request: Request) => unknown> = {
  "nothing": () => {},
  "its fields": (request) => [...request.headers],
  "its signal": (request) => request.signal,
  "its redirect": (request) => request.redirect,
  "its body": (request) => request.body,
  "a clone": (request) => request.clone(),
  "two clones": (request) => [request.clone(), request.clone()],
  "a copy of its parts": ({ url, method, headers, signal }) =>
    new Request(url, { method, headers, signal }),
};

const later = () => new Promise((resolve) => setTimeout(resolve, 20));
const joined = async (stream: ReadableStream<Uint8Array>) => {
  let size = 0;
  for await (const piece of stream) size += piece.length;
  return String(size);
};

/** Returns what is answered; what they throw is left to the server. */
export const READS: Record<
  string,
  (request: Request, kept: unknown, kit: Kit) => string | Promise<string>
> = {
  "none": () => "unread",
  "none, later": () => later().then(() => "unread"),
  "text": async (request) => String((await request.text()).length),
  "bytes": async (request) => String((await request.bytes()).length),
  "arrayBuffer": async (request) => String((await request.arrayBuffer()).byteLength),
  "blob": async (request) => String((await request.blob()).size),
  "json": async (request) => JSON.stringify(await request.json()),
  "form": async (request) => [...(await request.formData()).keys()].join(),
  "body": (request) => joined(request.body!),
  "another": async (request) => String((await new Request(request).text()).length),
  "clone": async (request) => String((await request.clone().text()).length),
  "both": async (request) => {
    const clone = request.clone();
    const [one, two] = await Promise.all([request.text(), clone.text()]);
    return `${one.length}${one === two ? "" : " and another"}`;
  },
  "in a Response": async (request) => String((await new Response(request.body).text()).length),
  "forwarded": async (request, _kept, { upstream }) => {
    const { method, body } = request;
    const init: Any = { method, body, duplex: "half" };
    return String(await (await fetch(`${upstream}/size`, init)).text());
  },
  "a piece": async (request) => {
    const reader = request.body!.getReader();
    const { value } = await reader.read();
    return value === undefined ? "nothing" : "a piece";
  },
};

/** Reads that answer with the size of the content, and those that don't ask for all of it. */
export const SIZED = Object.keys(READS).filter((read) => !/^(none|json|form$|a piece)/.test(read));
export const UNREAD = Object.keys(READS).filter((read) => /^(none|a piece)/.test(read));
