// Bun's own server, with a response that it knows beforehand: no function is called for it.
import { book, headers, page, port } from "./app.ts";

interface ServeOptions {
  hostname: string;
  port: number;
  idleTimeout: number;
  routes: Record<string, Response>;
  fetch(request: Request): Response;
}
declare const Bun: { serve(options: ServeOptions): void };

Bun.serve({
  hostname: "127.0.0.1",
  port,
  idleTimeout: 255,
  routes: {
    "/": new Response(page, { headers: headers.page }),
    "/book": new Response(book, { headers: headers.book }),
  },
  fetch: () => new Response("404 Not Found", { status: 404, headers: headers.text }),
});
