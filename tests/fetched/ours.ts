/** Serves the cases with this server: `ours.ts UPSTREAM [unheld | handler]`. */

import process from "node:process";
import { type FetchInfo, type HttpRequest, serve } from "../../server.ts";
import { application } from "./cases.ts";

const [upstream, how] = process.argv.slice(2);
if (how === "unheld") hideContent();

/** An application that needs its `this`. */
class Application {
  readonly #run = application(upstream);
  fetch(request: Request, info?: FetchInfo): Promise<Response> {
    return this.#run(request, info);
  }
}
const app = new Application();
const handler = (request: HttpRequest) => app.fetch(request.toFetch());

serve(how === "handler" ? handler : app, {
  port: 0,
  maxBodySize: 2 ** 30,
  idleTimeout: 1, // until a silent stream is canceled after its client has ended its side
  log: { error: (line) => console.error(line) },
  onListen: ({ port }) => console.log(`Listening at PORT ${port}.`),
});

/** Keeps the server from the content of responses, but for what Fetch says of it. */
function hideContent(): void {
  const { getOwnPropertySymbols } = Object;
  Object.getOwnPropertySymbols = (object) =>
    object === Response.prototype ? [] : getOwnPropertySymbols(object);
  const { getBuiltinModule } = process;
  process.getBuiltinModule =
    ((name: string) => name === "bun:jsc" ? {} : getBuiltinModule(name)) as typeof getBuiltinModule;
}
