// A tRPC router behind its Fetch adapter: a query, a mutation, and a subscription as server-sent
// events. On Deno it needs --allow-env.
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { initTRPC, TRPCError } from "@trpc/server@11";
import { fetchRequestHandler } from "@trpc/server@11/adapters/fetch";
import { serve } from "../../server.ts";

const t = initTRPC.context<{ peer: string }>().create();
const text = (input: unknown) => {
  if (typeof input !== "string") throw new TRPCError({ code: "BAD_REQUEST", message: "No text" });
  return input;
};
const notes: string[] = [];
const router = t.router({
  hello: t.procedure.input(text).query(({ input }) => `Hello from tRPC, ${input}`),
  peer: t.procedure.query(({ ctx }) => ctx.peer),
  notes: t.procedure.query(() => notes),
  addNote: t.procedure.input(text).mutation(({ input }) => notes.push(input)),
  count: t.procedure.input(Number).subscription(async function* ({ input }) {
    try {
      for (let i = 1; i <= input; i++) {
        yield i;
        await setTimeout(10);
      }
    } finally {
      console.log("A reader has left");
    }
  }),
});

const port = Number(process.argv[2] ?? 8080);
const server = serve({
  fetch: (req, { remoteAddr }) => {
    const createContext = () => ({ peer: remoteAddr.hostname });
    return fetchRequestHandler({ endpoint: "/trpc", req, router, createContext });
  },
}, { port, maxBodySize: 1000, log: console });
await server.finished;
