import process from "node:process";
import { serve } from "../server.ts";
const port = Number(process.argv[2] ?? 8080);
const server = serve(({ path }) => ({ body: `Hello, ${path}\n` }), { port, log: console });
await server.finished;
