// Bun's own server.
import { fetch, port, tls } from "./app.ts";

interface ServeOptions {
  hostname: string;
  port: number;
  idleTimeout: number;
  tls?: { cert: string; key: string };
  fetch(request: Request): Response | Promise<Response>;
}
declare const Bun: { serve(options: ServeOptions): void };

// Without `idleTimeout` it would close the idle connections, of which it is to hold thousands.
Bun.serve({ hostname: "127.0.0.1", port, idleTimeout: 255, tls: tls(), fetch });
