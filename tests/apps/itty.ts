// An itty-router application: routes, JSON, errors, CORS and a streamed answer.
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { AutoRouter, cors, error, type IRequest, json } from "itty-router@5";
import { type FetchInfo, serve } from "../../server.ts";

const { preflight, corsify } = cors({
  origin: "https://example.com",
  allowMethods: ["GET", "POST"],
});
const router = AutoRouter({
  before: [preflight],
  finally: [corsify],
  missing: ({ url }: IRequest) => error(404, `itty-router has no ${new URL(url).pathname}`),
});
router
  .get("/", () => new Response("Hello from itty-router\n"))
  .get("/users/:name", ({ name, query }) => ({ name, query }))
  .post("/users", async (request) => json(await request.json(), { status: 201 }))
  .get("/peer", (_request, { remoteAddr }: FetchInfo) => ({ hostname: remoteAddr.hostname }))
  .get("/count/:to", ({ to }) => new Response(count(Number(to))))
  .get("/forbidden", () => error(403, "Not for you"));

function count(to: number): ReadableStream<Uint8Array> {
  let next = 1;
  return new ReadableStream({
    async pull(controller) {
      await setTimeout(10);
      if (next > to) controller.close();
      else controller.enqueue(new TextEncoder().encode(`${next++}\n`));
    },
    cancel: () => console.log("A reader has left"),
  });
}

const port = Number(process.argv[2] ?? 8080);
const server = serve(router, { port, maxBodySize: 1000, log: console });
await server.finished;
