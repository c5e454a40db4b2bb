// Bun's own server with the files of a folder, which looks at nothing but the path.
import process from "node:process";

interface ServeOptions {
  hostname: string;
  port: number;
  fetch(request: Request): Response;
}
declare const Bun: { serve(options: ServeOptions): void; file(path: string): Blob };

const [port, folder] = process.argv.slice(2);
Bun.serve({
  hostname: "127.0.0.1",
  port: Number(port),
  fetch: (request) => new Response(Bun.file(folder + new URL(request.url).pathname)),
});
