/** The same random contents in each process, by a seed; and every kind of body that can hold them. */

/** Numbers from 0 to 1: mulberry32. */
export function random(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Characters of one to four bytes, halves of some, and what is often taken for something else. */
const CHARACTERS = ["a", "\r\n", "0", "\0", "é", "\ufffd", "\ufeff", "€", "𝄞", "\ud834", "\udd1e"];

function randomText(size: number, seed: number, characters: string[]): string {
  const next = random(seed);
  let text = "";
  while (text.length < size) text += characters[Math.floor(next() * characters.length)];
  return text.slice(0, size);
}
function randomBytes(size: number, seed: number): Uint8Array<ArrayBuffer> {
  const next = random(seed);
  return Uint8Array.from({ length: size }, () => next() * 256);
}
/** Cuts bytes into pieces of random sizes, a few of them empty. */
function* cut(bytes: Uint8Array<ArrayBuffer>, seed: number): Generator<Uint8Array<ArrayBuffer>> {
  const next = random(seed);
  for (let at = 0; at < bytes.length;) {
    const size = next() < 0.1 ? 0 : 1 + Math.floor(next() * 20000);
    yield bytes.slice(at, at += size);
  }
}
const pause = () => new Promise((resolve) => setTimeout(resolve, 0));

type Body = BodyInit | AsyncIterable<Uint8Array>;
type Make = (bytes: Uint8Array<ArrayBuffer>, seed: number) => Body;
/** Kinds of bodies made of bytes. */
const OF_BYTES: Record<string, Make> = {
  "bytes": (bytes) => bytes,
  "a view": (bytes) => {
    const larger = new Uint8Array(bytes.length + 100).fill(120);
    larger.set(bytes, 50);
    return larger.subarray(50, 50 + bytes.length);
  },
  "an ArrayBuffer": (bytes) => bytes.buffer,
  "a DataView": (bytes) => new DataView(bytes.buffer),
  "a Blob": (bytes, seed) => new Blob([...cut(bytes, seed)]),
  "a stream that is there": (bytes, seed) =>
    new ReadableStream({
      start(controller) {
        for (const piece of cut(bytes, seed)) if (piece.length) controller.enqueue(piece);
        controller.close();
      },
    }),
  "a stream that is pulled": (bytes, seed) => {
    const pieces = cut(bytes, seed);
    return new ReadableStream({
      async pull(controller) {
        if (seed % 2) await pause();
        const { done, value } = pieces.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
    });
  },
  "a stream of bytes": (bytes, seed) => {
    const pieces = cut(bytes, seed);
    return new ReadableStream({
      type: "bytes",
      pull(controller) {
        for (;;) {
          const { done, value } = pieces.next();
          if (done) return controller.close();
          if (value.length) return controller.enqueue(value);
        }
      },
    });
  },
  "an async generator": async function* (bytes, seed) {
    for (const piece of cut(bytes, seed)) {
      if (seed % 3 === 0) await pause();
      yield piece;
    }
  },
};
/** Kinds of text. */
const OF_TEXT: Record<string, string[]> = {
  "ASCII": [..."abcdefghijklmnopqrstuvwxyz\r\n0123456789"],
  "Latin-1": [..."aéüÿ\x80"],
  "any text": CHARACTERS,
};

export const KINDS = [...Object.keys(OF_BYTES), ...Object.keys(OF_TEXT)];
/** Around the sizes at which servers change how they send. */
export const SIZES = [0, 1, 2, 100, 1900, 2048, 4096, 8192, 16384, 32768, 65536, 131072].flatMap(
  (size) => size < 2048 ? [size] : [size - 1, size, size + 1],
);

/** The body, and the bytes that a client must get. */
export function contentOf(kind: string, size: number, seed: number): [Body, Uint8Array] {
  if (kind in OF_BYTES) {
    const bytes = randomBytes(size, seed);
    return [OF_BYTES[kind](bytes, seed), bytes.slice()];
  }
  const text = randomText(size, seed, OF_TEXT[kind]);
  return [text, new TextEncoder().encode(text)];
}
