// This server with the least there is, which never changes: it is encoded once.
import process from "node:process";
import { serve } from "../../server.ts";

const hello = Object.freeze({ body: "Hello\n" });
const options = { port: Number(process.argv[2]), maxConnections: 10000, idleTimeout: 255 };
await serve(() => hello, options).finished;
