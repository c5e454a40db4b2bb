/** A clock that tests set forward: while it is in use, timers and the time of day know no other. */
export class FakeClock implements Disposable {
  #now = 0;
  #timers = new Map<number, { at: number; run: () => void }>();
  #last = 0;
  readonly #real = {
    setTimeout: globalThis.setTimeout,
    clearTimeout: globalThis.clearTimeout,
    now: performance.now,
  };

  constructor() {
    const set = (run: () => void, milliseconds = 0) => {
      this.#timers.set(++this.#last, { at: this.#now + Math.max(0, milliseconds), run });
      return this.#last;
    };
    globalThis.setTimeout = set as unknown as typeof setTimeout;
    globalThis.clearTimeout = (id) => void this.#timers.delete(Number(id));
    performance.now = () => this.#now;
  }
  /** Seconds since it was made. */
  get seconds(): number {
    return this.#now / 1000;
  }
  /** Lets so many seconds pass, and everything happen that is due meanwhile. */
  async advance(seconds: number): Promise<void> {
    const end = this.#now + seconds * 1000;
    for (;;) {
      await this.settle();
      const due = [...this.#timers].filter(([, { at }]) => at <= end)
        .sort(([, a], [, b]) => a.at - b.at)[0];
      if (due === undefined) break;
      const [id, { at, run }] = due;
      this.#timers.delete(id);
      this.#now = at;
      run();
    }
    this.#now = end;
  }
  /** Lets everything happen that waits for no timer. */
  async settle(): Promise<void> {
    await new Promise<void>((resolve) => this.#real.setTimeout.call(globalThis, resolve, 0));
  }
  [Symbol.dispose](): void {
    globalThis.setTimeout = this.#real.setTimeout;
    globalThis.clearTimeout = this.#real.clearTimeout;
    performance.now = this.#real.now;
  }
}
