// Deno's own server.
import { fetch, port } from "./app.ts";

Deno.serve({ hostname: "127.0.0.1", port, onListen: () => {} }, fetch);
