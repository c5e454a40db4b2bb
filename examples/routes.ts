// JSON by routes: each is a method, a `URLPattern` and a function. Bun has that from 1.3.4 on.
// Try it: `curl -i http://127.0.0.1:8080/books --json '{"title":"Emma"}'`, then `/books/1`.
import process from "node:process";
import { HttpError, type HttpRequest, type HttpResponse, serve } from "../server.ts";

type Groups = Record<string, string | undefined>;
type Route = (request: HttpRequest, groups: Groups) => HttpResponse | Promise<HttpResponse>;

const books = new Map<number, { id: number; title: string }>(), MAX_BOOKS = 1000;
let lastId = 0;
const ALL = new URLPattern({ pathname: "/books" });
const ONE = new URLPattern({ pathname: "/books/:id(\\d+)" });
const routes: [method: string, pattern: URLPattern, route: Route][] = [
  ["GET", ALL, () => json([...books.values()])],
  ["POST", ALL, async (request) => {
    const title = await titleIn(request);
    if (books.size >= MAX_BOOKS) throw new HttpError(507, "The shelf is full");
    books.set(++lastId, { id: lastId, title });
    return json(books.get(lastId), 201, { Location: `/books/${lastId}` });
  }],
  ["GET", ONE, (_, { id }) => json(bookOf(id))],
  ["PUT", ONE, async (request, { id }) => {
    return json(Object.assign(bookOf(id), { title: await titleIn(request) }));
  }],
  ["DELETE", ONE, (_, { id }) => ({ status: books.delete(Number(id)) ? 204 : 404 })],
];

function json(value: unknown, status = 200, headers: Record<string, string> = {}): HttpResponse {
  headers = { "Content-Type": "application/json", ...headers };
  return { status, headers, body: JSON.stringify(value) };
}
function bookOf(id: string | undefined) {
  const book = books.get(Number(id));
  if (book === undefined) throw new HttpError(404, "No such book");
  return book;
}
async function titleIn(request: HttpRequest): Promise<string> {
  const type = request.headers.get("content-type") ?? "";
  if (!/^application\/json[ \t]*(;|$)/i.test(type)) throw new HttpError(415, "Send JSON");
  const { title } = Object(await request.json()); // 400, 408 or 413 by itself
  if (typeof title === "string" && title !== "" && title.length <= 200) return title;
  throw new HttpError(422, "A title has 1 to 200 characters");
}

function answer(request: HttpRequest): ReturnType<Route> {
  const method = request.method === "HEAD" ? "GET" : request.method;
  const allowed = new Set<string>();
  for (const [accepts, pattern, route] of routes) {
    const match = pattern.exec({ pathname: request.path });
    if (match === null) continue;
    if (accepts === method) return route(request, match.pathname.groups);
    allowed.add(accepts === "GET" ? "GET, HEAD" : accepts);
  }
  if (allowed.size === 0) throw new HttpError(404, "No such resource");
  return { status: 405, headers: { Allow: [...allowed].join(", ") } }; // RFC 9110 §15.5.6
}

const port = Number(process.argv[2] ?? 8080);
await serve(answer, { port, maxBodySize: 10_000, log: console }).finished;
