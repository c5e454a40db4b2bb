// The Hono application that is served in three ways. It is no TypeScript, since Node runs it, too.

const piece = new TextEncoder().encode("x".repeat(1024));
const long = "x".repeat(10240), megabyte = "x".repeat(2 ** 20);
const PIECES = 10;

/** @param {new () => any} Hono the class, which each runtime finds elsewhere */
export function application(Hono) {
  const app = new Hono();
  app.get("/hello", (context) => context.text("Hello, World"));
  app.get(
    "/json/:id",
    (context) => context.json({ id: context.req.param("id"), q: context.req.query("q") }),
  );
  app.post("/post", async (context) => context.json(await context.req.json()));
  app.get("/long", (context) => context.text(long));
  app.get("/megabyte", (context) => context.text(megabyte));
  app.post(
    "/upload",
    async (context) => context.text(`${(await context.req.arrayBuffer()).byteLength}`),
  );
  app.get("/pieces", () =>
    new Response(
      new ReadableStream({
        start(controller) {
          for (let i = 0; i < PIECES; i++) controller.enqueue(piece);
          controller.close();
        },
      }),
    ));
  app.get("/slow", () => {
    let left = PIECES;
    return new Response(
      new ReadableStream({
        async pull(controller) {
          await new Promise((resolve) => setTimeout(resolve, 1));
          if (left-- > 0) controller.enqueue(piece);
          else controller.close();
        },
      }),
    );
  });
  return app;
}

/** Without any framework. */
export const plain = { fetch: () => new Response("Hello, World") };
