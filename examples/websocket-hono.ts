// Hono's `upgradeWebSocket` on this server, by its own helper for adapters.
// Hono comes from npm: Bun reads the version here, Deno the entry of the same name in deno.json.
import process from "node:process";
import { type Context, Hono } from "hono@4";
import { defineWebSocketHelper, WSContext, type WSEvents, type WSReadyState } from "hono@4/ws";
import { webSocket, type WebSocketConnection, type WebSocketOptions } from "../extras/websocket.ts";
import { type FetchInfo, serve } from "../server.ts";

/** Tells the events of a socket to handlers as Hono has them. They can't wait for what they send: a client that
 * does not read is dropped once too much waits for it. */
async function tellEvents(
  socket: WebSocketConnection,
  events: WSEvents<WebSocketConnection>,
  url: string,
) {
  let readyState: WSReadyState = 1;
  const context = new WSContext<WebSocketConnection>({
    send: (data) => void socket.send(typeof data === "string" ? data : new Uint8Array(data)),
    close: (code, reason) => socket.close(code, reason),
    raw: socket,
    get readyState() {
      return readyState;
    },
    url: new URL(url),
    protocol: socket.protocol,
  });
  void socket.closed.then((closed) => {
    readyState = 3;
    events.onClose?.(new CloseEvent("close", closed), context);
  });
  events.onOpen?.(new Event("open"), context);
  try {
    for await (const message of socket) {
      const data = typeof message === "string" ? message : message.slice().buffer;
      events.onMessage?.(new MessageEvent("message", { data }), context);
    }
  } catch (error) {
    events.onError?.(new ErrorEvent("error", { error }), context);
    throw error;
  }
}

const upgradeWebSocket = defineWebSocketHelper<WebSocketConnection, WebSocketOptions>(
  ({ req: { raw }, env }: Context, events, options) => {
    const { method, url, headers } = raw;
    const { stopping } = env as FetchInfo;
    const answer = webSocket(
      { method, url, headers, stopping },
      (socket) => tellEvents(socket, events, url),
      options,
    );
    const { status = 200, upgrade, body } = answer;
    const response = new Response(body as string, {
      status,
      headers: answer.headers as HeadersInit,
    });
    return upgrade ? Object.assign(response, { upgrade }) : response;
  },
);

const app = new Hono();
app.get("/", (context) => context.text("There is a WebSocket at /echo\n"));
app.get(
  "/echo",
  upgradeWebSocket(() => ({
    onOpen: (_, socket) => socket.send("Hello"),
    onMessage: ({ data }, socket) => socket.send(data as string | ArrayBuffer),
    onClose: ({ code, reason }) => console.log(`Closed with ${code} ${reason}`),
  })),
);

const port = Number(process.argv[2] ?? 8080);
const server = serve(app, { port, log: console });
await server.finished;
