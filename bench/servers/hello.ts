// This server with the least there is: an object each time.
import process from "node:process";
import { serve } from "../../server.ts";

const options = { port: Number(process.argv[2]), maxConnections: 10000, idleTimeout: 255 };
await serve(() => ({ body: "Hello\n" }), options).finished;
