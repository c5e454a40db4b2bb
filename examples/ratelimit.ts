// A limit of requests for each client, as a token bucket: so many at once, then so many a second. With a
// proxy in front, as here one on this machine, `proxy` must say whom to believe, or all clients are one.
// Try it: `for i in 1 2 3 4 5 6 7; do curl -i http://127.0.0.1:8080/; done`.
import process from "node:process";
import { type Handler, serve } from "../server.ts";

/** What shares a bucket: an address of IPv4, or the first 64 bits of one of IPv6, since that is the least
 * that a customer gets (RFC 6177), who could take another address for each request. */
function clientOf(address: string): string {
  const mapped = /^::ffff:([\d.]+)$/i.exec(address);
  if (mapped !== null) return mapped[1];
  if (!address.includes(":")) return address;
  const [start, end] = address.split("::");
  const before = start.split(":").filter((group) => group !== "");
  const after = end?.split(":").filter((group) => group !== "") ?? [];
  const zeros = Array(Math.max(0, 8 - before.length - after.length)).fill("0");
  return [...before, ...zeros, ...after].slice(0, 4).join(":");
}

/** At most `burst` requests at once, and `rate` a second. It has room for `most` buckets: another one takes
 * the place of the one that was not used for longest, whose client begins with a full one next time. So
 * nobody is locked out by whoever fills it, who has that many addresses, and is not limited any more. */
const limit = (burst: number, rate: number, most: number) => (next: Handler): Handler => {
  /** How full each is, and since when, in milliseconds. The one that was used last stands last. */
  const buckets = new Map<string, { tokens: number; time: number }>();
  return (request) => {
    const client = clientOf(request.remoteAddress);
    const now = performance.now();
    const { tokens, time } = buckets.get(client) ?? { tokens: burst, time: now };
    const left = Math.min(burst, tokens + (now - time) / 1000 * rate);
    buckets.delete(client);
    if (buckets.size >= most) buckets.delete(buckets.keys().next().value!);
    buckets.set(client, { tokens: left < 1 ? left : left - 1, time: now });
    if (left >= 1) return next(request);
    const wait = Math.ceil((1 - left) / rate);
    const headers = { "Retry-After": `${wait}` };
    return { status: 429, headers, body: `Try again in ${wait} s\n` }; // RFC 6585 §4
  };
};

const [port = 8080, burst = 5, rate = 1, most = 10_000] = process.argv.slice(2).map(Number);
const app = limit(burst, rate, most)(() => ({ body: "Here you are\n" }));
const proxy = { trusted: ["127.0.0.1"], says: ["X-Forwarded-For" as const] };
const server = serve(app, { port, proxy, log: console });
await server.finished;
