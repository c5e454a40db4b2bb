// A server in five lines: `deno run --allow-net examples/hello.ts` or `bun examples/hello.ts`.
import { serve } from "../server.ts";

const server = serve(({ path }) => ({ body: `Hello, ${path}\n` }), { log: console });
await server.finished;
