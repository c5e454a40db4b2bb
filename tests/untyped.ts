/** Answers with what a query says, and no type: what a browser makes of it. Run it as `untyped.ts 0`. */

import process from "node:process";
import { serve } from "../server.ts";

const encode = (text: string) => new TextEncoder().encode(text);
async function* later(text: string) {
  await new Promise((resolve) => setTimeout(resolve, 5));
  yield encode(text);
}

const server = serve((request) => {
  const said = request.query.get("said") ?? "";
  switch (request.path) {
    case "/text":
      return { body: said };
    case "/bytes":
      return { body: encode(said) };
    case "/mixed": // no UTF-8
      return { body: new Uint8Array([...encode(said), 0xff]) };
    case "/stream":
      return { body: later(said) };
    case "/blob":
      return { body: new Blob([said]) };
    case "/response":
      return new Response(said);
    case "/response-bytes":
      return new Response(encode(said));
    case "/response-stream":
      return new Response(ReadableStream.from(later(said)));
    default:
      return { status: 404, body: "404" };
  }
}, { port: Number(process.argv[2]), log: { info: console.error } });
await server.finished;
