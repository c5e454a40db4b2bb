// This server with the application that sends and counts megabytes.
import process from "node:process";
import { serve } from "../../server.ts";

const big = new Uint8Array(2 ** 20).fill(120);

const server = serve(async (request) => {
  if (request.method === "GET") return { body: big };
  return { body: `${(await request.bytes()).length}` };
}, { port: Number(process.argv[2]), maxBodySize: 2 ** 21 });
await server.finished;
