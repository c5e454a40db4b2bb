/** A listener and connections that are memory, so that whole connections are tested without a socket,
 * a permission or a wait. */

import type { Connection, Listener } from "../server.ts";

/** The client's end of a connection in memory. */
export class MemoryClient {
  /** Everything that the server has sent. */
  received = new Uint8Array();
  /** The server has finished sending, or closed. */
  ended = false;
  closed = false;
  readonly #inbox: Uint8Array[] = [];
  #finished = false;
  #broken: Error | undefined;
  #read:
    | { buffer: Uint8Array; resolve(n: number | null): void; reject(e: Error): void }
    | undefined;
  #watchers: (() => void)[] = [];
  /** While true, the server's writes have to wait. */
  stalled = false;
  #write: { bytes: Uint8Array; resolve(n: number): void; reject(e: Error): void } | undefined;
  /** What is taken of a write at most. */
  readonly #appetite: number;

  /** The server's end. */
  readonly connection: Connection;

  constructor(appetite = Infinity) {
    this.#appetite = appetite;
    this.connection = {
      remoteAddress: "192.0.2.1",
      remotePort: 50000,
      read: (buffer) => this.#serverReads(buffer),
      write: (bytes) => this.#serverWrites(bytes),
      closeWrite: () => {
        this.ended = true;
        this.#changed();
      },
      close: () => this.#serverCloses(),
    };
  }

  /** Sends bytes, or text of one byte a character. */
  send(data: string | Uint8Array): void {
    const bytes = typeof data === "string" ? bytesOf(data) : data;
    if (bytes.length > 0) this.#inbox.push(bytes);
    this.#deliver();
  }
  /** Sends nothing more. */
  end(): void {
    this.#finished = true;
    this.#deliver();
  }
  /** Breaks the connection. */
  reset(): void {
    this.#broken = new Error("connection reset");
    this.#read?.reject(this.#broken);
    this.#write?.reject(this.#broken);
    this.#read = this.#write = undefined;
  }
  /** Takes what the server was not allowed to send while this was stalled. */
  resume(): void {
    this.stalled = false;
    const write = this.#write;
    this.#write = undefined;
    if (write !== undefined) write.resolve(this.#take(write.bytes));
  }
  /** What was received, one character a byte. */
  get text(): string {
    return textOf(this.received);
  }
  /** Waits until the server waits for more from this client, or has ended the connection. One that
   * handles a request may read on to see whether the client leaves: it is given a turn to answer. */
  async settled(): Promise<void> {
    for (let before = -1; before !== this.received.length;) {
      await this.until(() => this.#hungry || this.ended || this.closed);
      before = this.received.length;
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  }
  /** Waits until `test` holds, which is asked whenever something has happened. */
  async until(test: () => boolean): Promise<void> {
    while (!test()) await new Promise<void>((resolve) => this.#watchers.push(resolve));
  }

  get #hungry(): boolean {
    return this.#read !== undefined && this.#inbox.length === 0;
  }
  #changed(): void {
    const watchers = this.#watchers;
    this.#watchers = [];
    for (const resolve of watchers) resolve();
  }
  #deliver(): void {
    const read = this.#read;
    if (read === undefined || (this.#inbox.length === 0 && !this.#finished)) return;
    this.#read = undefined;
    read.resolve(this.#next(read.buffer));
  }
  #next(buffer: Uint8Array): number | null {
    const bytes = this.#inbox.shift();
    if (bytes === undefined) return null;
    const count = Math.min(bytes.length, buffer.length);
    buffer.set(bytes.subarray(0, count));
    if (count < bytes.length) this.#inbox.unshift(bytes.subarray(count));
    return count;
  }
  #serverReads(buffer: Uint8Array): number | null | Promise<number | null> {
    if (this.#read !== undefined) throw new Error("two reads at a time");
    if (this.closed || this.#broken) return Promise.reject(this.#broken ?? new Error("closed"));
    if (this.#inbox.length > 0 || this.#finished) return this.#next(buffer);
    return new Promise((resolve, reject) => {
      this.#read = { buffer, resolve, reject };
      this.#changed();
    });
  }
  #serverWrites(bytes: Uint8Array): number | Promise<number> {
    if (this.#write !== undefined) throw new Error("two writes at a time");
    if (this.closed || this.ended || this.#broken) {
      return Promise.reject(this.#broken ?? new Error("closed"));
    }
    if (!this.stalled) return this.#take(bytes);
    return new Promise((resolve, reject) => this.#write = { bytes, resolve, reject });
  }
  #take(bytes: Uint8Array): number {
    const count = Math.min(bytes.length, this.#appetite);
    const all = new Uint8Array(this.received.length + count);
    all.set(this.received);
    all.set(bytes.subarray(0, count), this.received.length);
    this.received = all;
    this.#changed();
    return count;
  }
  #serverCloses(): void {
    this.closed = true;
    this.#read?.reject(new Error("closed"));
    this.#write?.reject(new Error("closed"));
    this.#read = this.#write = undefined;
    this.#changed();
  }
}

/** A listener whose clients are made by `connect`. */
export class MemoryListener implements Listener {
  readonly addr = { hostname: "memory", port: 0 };
  readonly #queue: (Connection | Error)[] = [];
  #accept: ((connection: Connection | null) => void) | undefined;
  #closed = false;

  connect(appetite?: number): MemoryClient {
    const client = new MemoryClient(appetite);
    this.#queue.push(client.connection);
    this.#next();
    return client;
  }
  /** The next accept fails. */
  fail(error: Error): void {
    this.#queue.push(error);
    this.#next();
  }
  async accept(): Promise<Connection | null> {
    if (this.#queue.length === 0 && !this.#closed) {
      await new Promise((resolve) => this.#accept = resolve);
    }
    const next = this.#queue.shift() ?? null;
    if (next instanceof Error) throw next;
    return next;
  }
  close(): void {
    this.#closed = true;
    this.#next();
  }
  #next(): void {
    this.#accept?.(null);
    this.#accept = undefined;
  }
}

/** Text of one byte a character. */
export function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}
/** The bytes as text of one character a byte. */
export function textOf(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return text;
}
