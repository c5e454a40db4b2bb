// What a server tells of itself: `/metrics` is a page for Prometheus, and each request is a span as
// OpenTelemetry has them, here as a line of JSON. Nothing of it is in the handler.
// Try it: `curl http://127.0.0.1:8080/`, `/nope`, and then `/metrics`.
import { randomBytes } from "node:crypto";
import process from "node:process";
import { type Exchange, LineLog, serve, type Server } from "../server.ts";

/** How many requests took how long, for each route and status: as many series as the application has
 * routes, however many paths clients make up. */
class Histogram {
  static readonly bounds = [0.001, 0.01, 0.1, 1, 10, Infinity];
  readonly #series = new Map<string, { counts: number[]; sum: number }>();

  add(labels: string, seconds: number): void {
    const series = this.#series.get(labels) ?? { counts: Histogram.bounds.map(() => 0), sum: 0 };
    this.#series.set(labels, series);
    series.sum += seconds;
    Histogram.bounds.forEach((bound, i) => series.counts[i] += seconds <= bound ? 1 : 0);
  }
  *lines(name: string): Iterable<string> {
    yield `# TYPE ${name} histogram`;
    for (const [labels, { counts, sum }] of this.#series) {
      for (const [i, bound] of Histogram.bounds.entries()) {
        const le = bound === Infinity ? "+Inf" : bound;
        yield `${name}_bucket{${labels},le="${le}"} ${counts[i]}`;
      }
      yield `${name}_sum{${labels}} ${sum}`;
      yield `${name}_count{${labels}} ${counts.at(-1)}`;
    }
  }
}
const ROUTES = ["/", "/metrics"];
const METHODS = ["GET", "HEAD", "POST"];
const durations = new Histogram();

function page({ stats }: Server): string {
  const { connections, freePermits, refused, timeouts, losses, lostLines } = stats;
  const lines = [...durations.lines("http_server_request_duration_seconds")];
  lines.push("# TYPE http_server_connections gauge");
  for (const [state, count] of Object.entries(connections)) {
    lines.push(`http_server_connections{state="${state}"} ${count}`);
  }
  lines.push("# TYPE http_server_free_permits gauge", `http_server_free_permits ${freePermits}`);
  for (const [name, count] of Object.entries({ refused, timeouts, losses, lostLines })) {
    const metric = `http_server_${name.toLowerCase()}_total`;
    lines.push(`# TYPE ${metric} counter`, `${metric} ${count}`);
  }
  return lines.join("\n") + "\n";
}

/** The names are those of OpenTelemetry's conventions for HTTP. */
function span(exchange: Exchange, route: string): string {
  const { method, target, status, delivered, reason, remoteAddress, time } = exchange;
  const end = Date.now();
  return JSON.stringify({
    traceId: randomBytes(16).toString("hex"),
    spanId: randomBytes(8).toString("hex"),
    name: `${method} ${route}`.trim(),
    kind: "SERVER",
    startTimeUnixNano: `${Math.round((end - time) * 1000)}000`,
    endTimeUnixNano: `${end}000000`,
    status: { code: delivered && status < 500 ? "UNSET" : "ERROR", message: reason },
    attributes: {
      "http.request.method": method,
      "http.response.status_code": status,
      "http.route": route,
      "url.path": target,
      "client.address": remoteAddress,
      "http.request.body.size": exchange.received,
      "http.response.body.size": exchange.sent,
    },
  });
}

const server = serve(({ path }) => {
  if (path === "/metrics") return { body: page(server) };
  return path === "/" ? { body: "Hello\n" } : { status: 404 };
}, {
  port: Number(process.argv[2] ?? 8080),
  log: new LineLog("error"),
  onListen: ({ port }) => console.log(`Listening at PORT ${port}...`),
  onExchange(exchange) {
    const { method, target, status, time } = exchange;
    const route = ROUTES.find((route) => route === target.split("?")[0]) ?? "";
    const known = METHODS.includes(method) ? method : "_OTHER";
    durations.add(`method="${known}",route="${route}",status="${status}"`, time / 1000);
    console.log(span(exchange, route));
  },
});
await server.finished;
