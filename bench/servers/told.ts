// This server with its application, told of what became of each request.
import process from "node:process";
import { handler } from "../../handlers.ts";
import { serve } from "../../server.ts";

let count = 0, time = 0;
const server = serve(handler, {
  port: Number(process.argv[2]),
  maxConnections: 10000,
  idleTimeout: 255,
  onExchange(exchange) {
    count++;
    time += exchange.time;
  },
});
await server.finished;
