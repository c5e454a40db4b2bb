/** How applications learn that a client has left. */

/** What the signals of requests have told, by the name of the case. */
export const told: Record<string, unknown> = {};
export const tell = (name: string, what: unknown) => void (told[name] ??= what);
const forever = new Promise<never>(() => {});

/** How a program learns that the client has left. */
export const SIGNALS: Record<
  string,
  (request: Request, note: (signal: AbortSignal) => void) => unknown
> = {
  "event": (request, note) => {
    request.signal.addEventListener("abort", () => note(request.signal));
    return forever;
  },
  "onabort": (request, note) => {
    request.signal.onabort = () => note(request.signal);
    return forever;
  },
  "any": (request, note) => {
    const any = AbortSignal.any([request.signal, AbortSignal.timeout(60_000)]);
    any.addEventListener("abort", () => note(any));
    return forever;
  },
  "another request": (request, note) => {
    const { signal } = new Request(request);
    signal.addEventListener("abort", () => note(signal));
    return forever;
  },
  "a clone": (request, note) => {
    const { signal } = request.clone();
    signal.addEventListener("abort", () => note(signal));
    return forever;
  },
  "late": async (request, note) => {
    await new Promise((resolve) => setTimeout(resolve, 300));
    if (request.signal.aborted) note(request.signal);
    else request.signal.addEventListener("abort", () => note(request.signal));
    await forever;
  },
  "throwIfAborted": async (request, note) => {
    const { signal } = request;
    while (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, 10));
    try {
      signal.throwIfAborted();
    } catch {
      note(signal);
    }
    await forever;
  },
};

/** Streams that tell how they end. */
export const ENDLESS: Record<
  string,
  (note: (what: string) => void) => BodyInit | AsyncIterable<unknown>
> = {
  "stream": (note) =>
    new ReadableStream({
      async pull(controller) {
        await new Promise((resolve) => setTimeout(resolve, 2));
        controller.enqueue(new Uint8Array(100));
      },
      cancel: () => note("canceled"),
    }),
  "silent stream": (note) =>
    new ReadableStream({
      start(controller) {
        controller.enqueue(new Uint8Array(100));
      },
      cancel: () => note("canceled"),
    }),
  "generator": async function* (note) {
    try {
      for (;;) {
        await new Promise((resolve) => setTimeout(resolve, 2));
        yield new Uint8Array(100);
      }
    } finally {
      note("canceled");
    }
  },
  "a stream for HEAD": (note) => new ReadableStream({ cancel: () => note("canceled") }),
  "large stream": (note) =>
    new ReadableStream({
      pull(controller) {
        controller.enqueue(new Uint8Array(100_000));
      },
      cancel: () => note("canceled"),
    }, { highWaterMark: 0 }),
};

/** A response, whole or without an end, of which the server tells whether the client has got it. */
// deno-lint-ignore no-explicit-any -- the runtimes differ in what they tell
export function followed(name: string, info: any): Response {
  info.completed.then(() => tell(name, "completed"), () => tell(name, "rejected"));
  return new Response(name === "all of it" ? "all" : ENDLESS.stream(() => {}) as BodyInit);
}

export const SIGNAL_NAMES = Object.keys(SIGNALS);
export const ENDLESS_NAMES = Object.keys(ENDLESS);
