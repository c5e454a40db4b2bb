/** A program that tells whom the server takes a request to be from, for questions on its standard input:
 * a list of pairs, each of proxies to trust and addresses. Of each address it is told that whoever has
 * it stands between the client and the proxy in front: if it is trusted, the client is 203.0.113.9. */

import process from "node:process";
import { serveOn } from "../server.ts";
import { MemoryListener } from "./memory.ts";

let input = "";
for await (const chunk of process.stdin) input += chunk;
const answers: (string | string[])[] = [];
for (const [trusted, addresses] of JSON.parse(input) as [string[], string[]][]) {
  const listener = new MemoryListener();
  const told: string[] = [];
  try {
    const server = serveOn(listener, (request) => {
      told.push(request.remoteAddress);
      return {};
    }, { proxy: { trusted: ["192.0.2.1", ...trusted], says: ["X-Forwarded-For"] } });
    const client = listener.connect();
    for (const address of addresses) {
      client.send(`GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9, ${address}\r\n\r\n`);
    }
    await client.settled();
    answers.push(told);
    void server.shutdown(0); // which takes a moment
  } catch (error) {
    answers.push((error as Error).message);
  }
}
console.log(JSON.stringify(answers));
process.exit(0);
