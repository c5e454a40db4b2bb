// An Elysia application: routes, checked JSON, cookies, errors and a streamed answer. On Deno it
// needs --allow-env.
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { Elysia, sse, t } from "elysia@1";
import { serve } from "../../server.ts";

const app = new Elysia()
  .get("/", () => "Hello from Elysia\n")
  .get("/users/:name", ({ params: { name } }) => ({ name }))
  .post("/users", ({ body, status }) => status(201, body), {
    body: t.Object({ name: t.String() }),
  })
  .post("/upload", ({ body: { file } }) => file.text(), {
    body: t.Object({ file: t.File() }),
  })
  .get("/visits", ({ cookie: { visits } }) => {
    visits.value = `${Number(visits.value ?? 0) + 1}`;
    return `${visits.value}\n`;
  })
  .get("/events/:to", async function* ({ params: { to } }) {
    try {
      for (let i = 1; i <= Number(to); i++) {
        yield sse({ id: `${i}`, data: `event ${i}` });
        await setTimeout(10);
      }
    } finally {
      console.log("A reader has left");
    }
  })
  .onError(({ code, path, status }) => {
    if (code === "NOT_FOUND") return status(404, `Elysia has no ${path}\n`);
  });

const port = Number(process.argv[2] ?? 8080);
const server = serve(app, { port, maxBodySize: 1000, log: console });
await server.finished;
