// HTTPS with a certificate that is renewed while it is served: whenever one of its files changes, or at
// SIGHUP. Open connections go on, and none is lost. Deno needs --allow-read; Bun, to renew, 1.4 or newer.
// Try it: `openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out cert.pem`
// and `curl -vk https://127.0.0.1:8080/`; then both again.
import { readFileSync, watch } from "node:fs";
import process from "node:process";
import { serve } from "../server.ts";

const [port = 8080, folder = "."] = process.argv.slice(2);
const read = (name: string) => readFileSync(`${folder}/${name}`, "utf8");
const pair = () => ({ cert: read("cert.pem"), key: read("key.pem") });
const server = serve(({ path }) => ({ body: `Hello, ${path}\n` }), {
  port: Number(port),
  tls: pair(),
  log: console,
});

function renew(): void {
  try {
    server.renew(pair());
  } catch (error) { // One file has changed and the other has not yet, for example.
    console.error(`Certificate not renewed: ${(error as Error).message}`);
  }
}
process.on("SIGHUP", renew);
let timer: ReturnType<typeof setTimeout> | undefined;
watch(folder, () => { // the folder, since new files mostly take the place of those before
  clearTimeout(timer);
  timer = setTimeout(renew, 100); // Then they have been written to their end.
});
await server.finished;
