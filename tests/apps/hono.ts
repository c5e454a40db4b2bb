// A Hono application with much of the middleware that comes with it. On Deno it needs --allow-read
// for its static files.
import process from "node:process";
import { Hono } from "hono@4";
import { basicAuth } from "hono@4/basic-auth";
import { bodyLimit } from "hono@4/body-limit";
import { compress } from "hono@4/compress";
import { getCookie, setCookie } from "hono@4/cookie";
import { cors } from "hono@4/cors";
import { etag } from "hono@4/etag";
import { logger } from "hono@4/logger";
import { secureHeaders } from "hono@4/secure-headers";
import { streamSSE } from "hono@4/streaming";
import { type FetchInfo, serve } from "../../server.ts";

const onDeno = "Deno" in globalThis;
const { serveStatic } = onDeno ? await import("hono@4/deno") : await import("hono@4/bun");

const app = new Hono<{ Bindings: FetchInfo }>();
app.use(logger());
app.use(secureHeaders());
app.use("/api/*", cors({ origin: "https://example.com", allowMethods: ["GET", "POST"] }));
app.use("/tagged", etag());
app.use("/large", compress());
app.use("/admin/*", basicAuth({ username: "ann", password: "secret" }));
app.use("/static/*", serveStatic({ root: "./tests/apps" }));

app.get("/", (context) => context.text("Hello from Hono\n"));
app.get("/tagged", (context) => context.text("Tagged by Hono\n"));
app.get("/large", (context) => context.html("<p>Compressed by Hono\n".repeat(1000)));
app.get("/admin/name", (context) => context.text("ann\n"));
app.get("/api/users/:name", (context) => context.json({ name: context.req.param("name") }));
app.post("/api/users", async (context) => context.json(await context.req.json(), 201));
app.post("/api/small", bodyLimit({ maxSize: 10 }), async ({ req, text }) => text(await req.text()));
app.post("/form", async (context) => context.json(await context.req.parseBody()));
app.get("/visits", (context) => {
  const visits = Number(getCookie(context, "visits") ?? 0) + 1;
  setCookie(context, "visits", `${visits}`, { httpOnly: true });
  setCookie(context, "flavour", "oat");
  return context.text(`${visits}\n`);
});
app.get("/events/:to", (context) =>
  streamSSE(context, async (events) => {
    events.onAbort(() => console.log("A reader has left"));
    for (let i = 1; i <= Number(context.req.param("to")) && !events.aborted; i++) {
      await events.writeSSE({ id: `${i}`, data: `event ${i}` });
      await events.sleep(10);
    }
  }));
app.get("/peer", (context) => context.json(context.env.remoteAddr));
if (onDeno) { // That of hono/bun asks Bun's own server.
  const { getConnInfo } = await import("hono@4/deno");
  app.get("/conn-info", (context) => context.json(getConnInfo(context).remote));
}
app.notFound((context) => context.text(`Hono has no ${context.req.path}\n`, 404));

const port = Number(process.argv[2] ?? 8080);
const server = serve(app, { port, maxBodySize: 1000, log: console });
await server.finished;
