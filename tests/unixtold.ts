/** Serves on the Unix socket that the argument names, and answers with what applications are told. */

import process from "node:process";
import { type FetchInfo, serve, type Server } from "../server.ts";

let heard: Server["addr"] | undefined;
try {
  const server: Server = serve({
    fetch: (request: Request, { remoteAddr }: FetchInfo) =>
      Response.json({ url: request.url, remoteAddr, addr: server.addr, heard }),
  }, { unix: process.argv[2], onListen: (addr) => heard = addr });
  console.log("listening");
} catch (error) {
  console.log((error as Error).message);
}
