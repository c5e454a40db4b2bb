/** What the applications forward requests to, and fetch from: a server in the test's own process. */

const encode = (text: string) => new TextEncoder().encode(text);

/** Pieces that come one after the other, and perhaps an error. */
function slow(...pieces: (string | Error)[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async pull(controller) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      const piece = pieces.shift();
      if (piece === undefined) controller.close();
      else if (piece instanceof Error) controller.error(piece);
      else controller.enqueue(encode(piece));
    },
  });
}

const SEEN = ["x-a", "x-b", "content-type", "content-length", "x-look"];
const ANSWERS: Record<string, (request: Request) => Response | Promise<Response>> = {
  "/echo": async (request) => {
    const { method, url, headers } = request;
    const fields = SEEN.map((name) => [name, headers.get(name)]);
    return Response.json([method, new URL(url).search, fields, await request.text()]);
  },
  "/size": async (request) => new Response(String((await request.bytes()).length)),
  "/text": () => new Response("upstream", { headers: { "X-Up": "stream", "ETag": '"up"' } }),
  "/empty": () => new Response(""),
  "/gzip": () =>
    new Response(new Response("upstream").body!.pipeThrough(new CompressionStream("gzip")), {
      headers: { "Content-Encoding": "gzip", "Content-Type": "text/plain" },
    }),
  "/204": () => new Response(null, { status: 204 }),
  "/stream": () => new Response(slow("up", "stream")),
  "/cut": () => new Response(slow("up", new Error("cut off"))),
  "/cookies": () => new Response("x", { headers: [["Set-Cookie", "a=1"], ["Set-Cookie", "b=2"]] }),
};

export function startUpstream(): Deno.HttpServer<Deno.NetAddr> {
  const onError = () => new Response(null, { status: 500 });
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {}, onError }, (request) => {
    const answer = ANSWERS[new URL(request.url).pathname];
    return answer?.(request) ?? new Response("none", { status: 404 });
  });
}
