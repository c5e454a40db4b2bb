/** A server for the tests that need other handlers than the application's: run it as server.ts. */

import process from "node:process";
import { serve } from "../server.ts";

const MIB = 1 << 20;
const big = new Uint8Array(20 * MIB).map((_, i) => i % 251);

const server = serve(async (request) => {
  switch (request.path) {
    case "/big":
      return { body: big };
    case "/count": {
      let size = 0;
      for await (const piece of request.body ?? []) size += piece.length;
      return { body: `${size}` };
    }
    case "/throw":
      throw new Error("a secret");
    case "/slow":
      await new Promise((resolve) => setTimeout(resolve, 300));
      return { body: "slow" };
    case "/gone":
      await new Promise((resolve) => request.signal.addEventListener("abort", resolve));
      console.error("Gone");
      return {};
    default:
      return { body: await request.bytes() };
  }
}, {
  port: Number(process.argv[process.argv.indexOf("--port") + 1]),
  maxBodySize: 64 * MIB,
  log: { info: console.error, error: console.error },
});
process.on("SIGTERM", () => void server.shutdown());
await server.finished;
process.exit(0);
