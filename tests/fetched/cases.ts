/**
 * An application written for Fetch with many small cases: what it is asked for tells which. The
 * server is tried with it, and the runtime's own as the reference.
 */

import { contentOf } from "./contents.ts";
import { READS, TOUCHES } from "./touched.ts";
import { ENDLESS, followed, SIGNALS, tell, told } from "./leaving.ts";
import { attempt, hostOf, type Kit, LOOK, LOOKS, realOf } from "./requests.ts";
import { BUNS, RESPONSES } from "./responses.ts";

/** Makes the application: `upstream` is the origin of the server that it may ask. */
export function application(upstream: string) {
  const kit: Kit = { upstream };
  return async (request: Request, info?: unknown): Promise<Response> => {
    const look = request.headers.get(LOOK);
    if (look !== null) return Response.json(await seen(look, request, kit));
    if (request.headers.has("x-case")) return new Response(about(request, info));
    const { pathname, searchParams } = new URL(request.url);
    const [, kind, name] = decodeURIComponent(pathname).split("/");
    if (kind === "response") return await (RESPONSES[name] ?? BUNS[name])(request, kit);
    if (kind === "content") {
      const [body] = contentOf(
        name,
        Number(searchParams.get("size")),
        Number(searchParams.get("seed")),
      );
      return new Response(body as BodyInit);
    }
    if (kind === "signal") {
      return await SIGNALS[name](
        request,
        (signal) => tell(name, [signal.aborted, (signal.reason as Error)?.name]),
      ) as Response;
    }
    if (kind === "endless") {
      return new Response(ENDLESS[name]((what) => tell(name, what)) as BodyInit);
    }
    if (kind === "completed") return followed(name, info);
    if (kind === "told") return Response.json(told);
    if (kind === "upload") {
      let size = 0;
      for await (const piece of request.body!) size += piece.length;
      return new Response(String(size));
    }
    if (kind === "touch") {
      const kept = TOUCHES[name](request);
      const read = READS[searchParams.get("read")!];
      return new Response(await read(request, kept, kit));
    }
    return new Response("no such case", { status: 404 });
  };
}

/** What an application is told of a request and of its connection. */
// deno-lint-ignore no-explicit-any -- the runtimes differ in what they tell
function about({ url, method }: Request, info: any): string {
  return `${method} ${url} of ${info?.remoteAddr?.hostname}`;
}

/** What a look sees in the request, and in a real one. */
async function seen(name: string, request: Request, kit: Kit) {
  const [, sent, look] = LOOKS.find(([other]) => other === name)!;
  const host = hostOf(sent) === "(upstream)" ? new URL(kit.upstream).host : hostOf(sent);
  return {
    seen: await attempt(() => look(request, kit)),
    real: await attempt(() => look(realOf(name, { ...sent, host }), kit)),
  };
}
