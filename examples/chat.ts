// A chat room: whatever one says, all get. A client that does not read holds nobody up: what waits for it is
// bounded, and then it is dropped. `websocat ws://127.0.0.1:8080/?name=Ada`, or the page at /.
import process from "node:process";
import { webSocket, type WebSocketConnection } from "../extras/websocket.ts";
import { type HttpResponse, serve } from "../server.ts";

const PAGE = `<!DOCTYPE html><title>Chat</title><meta charset="utf-8">
<form><input autofocus placeholder="Say something"></form><pre></pre>
<script>
  const socket = new WebSocket(location.href.replace("http", "ws"));
  const [form, input, pre] = document.querySelectorAll("form, input, pre");
  socket.onmessage = ({ data }) => pre.append(data + "\\n");
  socket.onclose = ({ code, reason }) => pre.append("Closed: " + code + " " + reason + "\\n");
  form.onsubmit = (event) => {
    event.preventDefault();
    socket.send(input.value);
    form.reset();
  };
</script>`;

const room = new Set<WebSocketConnection>();
/** Nobody waits for it to be taken. */
function tell(message: string): void {
  for (const socket of room) void socket.send(message);
}

async function chat(socket: WebSocketConnection, name: string): Promise<void> {
  room.add(socket);
  tell(`${name} has come`);
  try {
    for await (const message of socket) {
      if (typeof message === "string") tell(`${name}: ${message}`);
      else socket.close(1003, "Text only, please");
    }
  } finally { // also if the connection was lost
    room.delete(socket);
    tell(`${name} has gone`);
  }
}

const port = Number(process.argv[2] ?? 8080);
const server = serve((request): HttpResponse => {
  if (!request.headers.has("upgrade")) {
    return { headers: { "Content-Type": "text/html; charset=utf-8" }, body: PAGE };
  }
  const name = request.query.get("name") ?? "somebody";
  const options = { maxMessageSize: 4096, compressFrom: 512 };
  return webSocket(request, (socket) => chat(socket, name), options);
}, { port, log: console });
await server.finished;
