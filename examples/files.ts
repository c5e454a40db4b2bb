// Serves the files of a folder (default: this one) and nothing outside of it.
// Try it: `curl -i http://127.0.0.1:8080/README.md -r 0-99`.
// Deno needs `--allow-net --allow-read`; the folder is the second argument.
import process from "node:process";
import { files } from "../extras/files.ts";
import { serve } from "../server.ts";

const handler = files(process.argv[3] ?? ".", {
  // What has a hash in its name never changes; the rest is asked for each time, mostly for a 304.
  cacheControl: (path) => /-\w{8}\.\w+$/.test(path) ? "max-age=31536000, immutable" : "no-cache",
  precompressed: ["br", "zstd", "gzip"],
});
await serve(handler, { port: Number(process.argv[2] ?? 8080), log: console }).finished;
