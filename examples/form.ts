// A form with a text and a picture, as `multipart/form-data` (RFC 7578); without one, urlencoded too.
// Try it: open <http://127.0.0.1:8080/>, or `curl http://127.0.0.1:8080/ -F title=Emma -F picture=@cover.png`.
import { Buffer } from "node:buffer";
import process from "node:process";
import { HttpError, type HttpRequest, type HttpResponse, serve } from "../server.ts";

const KIB = 2 ** 10, MIB = 2 ** 20;
const PNG = Buffer.from("\x89PNG\r\n\x1a\n", "latin1");
const headers = Object.freeze({
  "Content-Type": "text/html; charset=utf-8",
  "Content-Security-Policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
});
const page = Object.freeze({
  headers,
  body: `<!DOCTYPE html>
<html lang="en"><title>A book</title>
<form method="post" enctype="multipart/form-data">
  <p><label>Title <input name="title" required maxlength="100"></label>
  <p><label>Cover <input name="picture" type="file" accept="image/png"></label>
  <p><button>Send</button>
</form>
`,
});

/** Text as it stands in HTML. */
const escape = (text: string) => text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);

async function answer(request: HttpRequest): Promise<HttpResponse> {
  const { method, path, headers: sent } = request;
  if (path !== "/") throw new HttpError(404, "The form is at /");
  if (method === "GET" || method === "HEAD") return page;
  if (method !== "POST") return { status: 405, headers: { Allow: "GET, HEAD, POST" } };
  // The pages of others can send a form as well, with their visitor's cookies.
  if (/^(cross|same)-site$/.test(sent.get("sec-fetch-site") ?? "")) throw new HttpError(403, "No");

  const form = await request.toFetch().formData(); // 400, 408 or 413 by itself
  const title = form.get("title"), picture = form.get("picture");
  if (typeof title !== "string" || title === "" || title.length > 100) {
    throw new HttpError(422, "A title has 1 to 100 characters");
  }
  let size = 0;
  if (typeof picture !== "string" && picture !== null && picture.size > 0) {
    // Its name and its type are what the client says; what it is, only its bytes tell.
    const start = Buffer.from(await picture.slice(0, PNG.length).arrayBuffer());
    if (!start.equals(PNG)) throw new HttpError(422, "A cover is a PNG");
    size = picture.size;
  }
  return { headers, body: `<!DOCTYPE html><p>${escape(title)}, ${size} bytes of cover\n` };
}

await serve(answer, {
  port: Number(process.argv[2] ?? 8080),
  // A form is held in memory as a whole, and taken apart in one go: on Deno, 60,000 tiny parts in 4 MB
  // take 3 s, for which all others wait. One without a file could be all fields.
  limits: ({ headers }) =>
    /^multipart\//i.test(headers.get("content-type") ?? "")
      ? { maxBodySize: 5 * MIB, requestTimeout: 300 }
      : { maxBodySize: 16 * KIB },
  log: console,
}).finished;
