// Deno's own server.
import { fetch, port, tls } from "./app.ts";

Deno.serve({ hostname: "127.0.0.1", port, ...tls(), onListen: () => {} }, fetch);
