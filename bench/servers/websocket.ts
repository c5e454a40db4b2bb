// A WebSocket that echoes: of the companion, or, as "own", of the runtime itself.
import process from "node:process";
import { webSocket } from "../../extras/websocket.ts";
import { serve } from "../../server.ts";

interface BunSocket {
  send(message: string | Uint8Array): void;
}
declare const Bun: {
  serve(options: {
    hostname: string;
    port: number;
    fetch(request: Request, server: { upgrade(request: Request): boolean }): undefined;
    websocket: {
      perMessageDeflate: boolean;
      message(socket: BunSocket, message: string | Uint8Array): void;
    };
  }): void;
} | undefined;

const [, , text, whose, deflated] = process.argv;
const hostname = "127.0.0.1", port = Number(text), isDeflated = deflated === "deflated";

if (whose === "ours") {
  const options = isDeflated ? { compressFrom: 0 } : {};
  serve((request) =>
    webSocket(request, async (socket) => {
      for await (const message of socket) await socket.send(message);
    }, options), { hostname, port });
} else if (typeof Bun === "undefined") {
  Deno.serve({ hostname, port, onListen: () => {} }, (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => socket.send(data);
    return response;
  });
} else {
  Bun.serve({
    hostname,
    port,
    fetch: (request, server) => void server.upgrade(request),
    websocket: {
      perMessageDeflate: isDeflated,
      message: (socket, message) => socket.send(message),
    },
  });
}
