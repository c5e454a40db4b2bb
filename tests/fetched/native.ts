/** Serves the cases with the runtime's own server: `native.ts UPSTREAM`. */

import process from "node:process";
import { application } from "./cases.ts";

const fetch = application(process.argv[2]);
const onListen = ({ port }: { port: number }) => console.log(`Listening at PORT ${port}.`);
// deno-lint-ignore no-explicit-any -- Bun's types are not at hand
const bun = (globalThis as any).Bun;
if (bun === undefined) {
  Deno.serve({ hostname: "127.0.0.1", port: 0, onListen }, fetch);
} else {
  onListen(bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    development: false,
    maxRequestBodySize: 2 ** 30,
    fetch: (request: Request) => fetch(request),
  }));
}
