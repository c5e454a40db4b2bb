// An h3 application: routes, JSON, cookies, CORS, errors and server-sent events.
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import {
  createEventStream,
  getCookie,
  getRouterParam,
  H3,
  handleCors,
  HTTPError,
  readBody,
  setCookie,
} from "h3@2";
import { serve } from "../../server.ts";

const app = new H3();
app.use("/api/**", (event) => {
  const answer = handleCors(event, { origin: ["https://example.com"], methods: ["GET", "POST"] });
  if (answer !== false) return answer;
});
app.get("/", () => "Hello from h3\n");
app.get("/api/users/:name", (event) => ({ name: getRouterParam(event, "name", { decode: true }) }));
app.post("/api/users", async (event) => {
  const user = await readBody<{ name: string }>(event);
  event.res.status = 201;
  return user;
});
app.get("/visits", (event) => {
  const visits = Number(getCookie(event, "visits") ?? 0) + 1;
  setCookie(event, "visits", `${visits}`, { httpOnly: true });
  setCookie(event, "flavour", "oat");
  return `${visits}\n`;
});
app.get("/teapot", () => {
  throw new HTTPError({ status: 418, statusText: "I am a teapot", data: { short: true } });
});
app.get("/events/:to", (event) => {
  const events = createEventStream(event);
  let left = false;
  events.onClosed(() => {
    left = true;
    console.log("A reader has left");
  });
  void (async () => {
    for (let i = 1; i <= Number(getRouterParam(event, "to")) && !left; i++) {
      await events.push({ id: `${i}`, data: `event ${i}` });
      await setTimeout(10);
    }
    await events.close();
  })();
  return events.send();
});

const port = Number(process.argv[2] ?? 8080);
const server = serve(app, { port, maxBodySize: 1000, log: console });
await server.finished;
