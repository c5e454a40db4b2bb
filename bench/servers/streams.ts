/** Counts what is posted, and streams as much as is asked for: `GET /?size=1073741824`. */

import process from "node:process";
import { serve } from "../../server.ts";

const piece = new Uint8Array(65536).fill(120);

async function* pieces(size: number) {
  for (let left = size; left > 0; left -= piece.length) yield piece.subarray(0, left);
}

const server = serve(async (request) => {
  if (request.method === "GET") return { body: pieces(Number(request.query.get("size"))) };
  let size = 0;
  for await (const part of request.body ?? []) size += part.length;
  return { body: `${size}` };
}, {
  port: Number(process.argv[2]),
  maxBodySize: 2 ** 31,
  requestTimeout: 600,
  log: { info: console.error },
});
await server.finished;
