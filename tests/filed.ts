/** A server for the files of a folder, with all that they can be told. The folder is the second argument,
 * after the port. */

import process from "node:process";
import { files } from "../extras/files.ts";
import { serve } from "../server.ts";

const [port, folder = "."] = process.argv.slice(2);
const site = files(folder, {
  precompressed: ["zstd", "br", "gzip"],
  cacheControl: (path) => path.startsWith("/sub/") ? `max-age=60, ${path.length}` : undefined,
});
const mounted = files(folder, { prefix: "/a/mount", types: { ".geo": "application/geo+json" } });
const server = serve(
  (request) => request.path.startsWith("/a/") ? mounted(request) : site(request),
  { port: Number(port), log: console },
);
await server.finished;
