// A Hono application as it is: routing, JSON, a cookie, and a streamed response.
// Hono comes from npm: Bun reads the version here, Deno the entry of the same name in deno.json.
import process from "node:process";
import { Hono } from "hono@4";
import { setCookie } from "hono@4/cookie";
import { stream } from "hono@4/streaming";
import { serve } from "../server.ts";

const app = new Hono();
app.get("/", (context) => context.text("Hello from Hono\n"));
app.get("/users/:name", (context) => context.json({ name: context.req.param("name") }));
app.post("/users", async (context) => context.json(await context.req.json(), 201));
app.get("/cookie", (context) => {
  setCookie(context, "flavour", "oat", { httpOnly: true });
  setCookie(context, "size", "large");
  return context.text("Two cookies\n");
});
app.get("/count", (context) =>
  stream(context, async (out) => {
    for (let i = 1; i <= 3; i++) await out.write(`${i}\n`);
  }));

const port = Number(process.argv[2] ?? 8080);
const server = serve(app, { port, log: console });
await server.finished;
