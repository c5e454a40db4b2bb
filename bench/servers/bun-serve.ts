// Bun's own server.
import { fetch, port } from "./app.ts";

interface ServeOptions {
  hostname: string;
  port: number;
  idleTimeout: number;
  fetch(request: Request): Response | Promise<Response>;
}
declare const Bun: { serve(options: ServeOptions): void };

// Without `idleTimeout` it would close the idle connections, of which it is to hold thousands.
Bun.serve({ hostname: "127.0.0.1", port, idleTimeout: 255, fetch });
