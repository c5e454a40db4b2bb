/**
 * The files of a folder, and nothing outside of it: a companion of `server.ts`, in one file.
 *
 * ```ts
 * import { serve } from "../server.ts";
 * import { files } from "./files.ts";
 * serve(files("public"), { port: 8000, log: console });
 * ```
 *
 * Of `server.ts` it needs no more than types. Deno needs `--allow-read=public`. Names are looked up and
 * small files read synchronously, as nginx does it: on a slow disk all wait for that. Larger files are
 * read piece by piece, no faster than the client takes them.
 * "9110" in the comments is RFC 9110 (HTTP Semantics).
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { closeSync, constants, existsSync, fstatSync } from "node:fs";
import { openSync, read, readSync, realpathSync } from "node:fs";
import { extname, join, sep } from "node:path";
import type { HttpRequest, HttpResponse } from "../server.ts";

/** What {@linkcode files} may be told. */
export interface FilesOptions {
  /** The URL path under which the folder is served, such as `"/static"`; what lies elsewhere is not found.
   * Default `""`: the folder is the whole site. */
  prefix?: string | undefined;
  /** Media types by extension in lower case, as `{ ".geojson": "application/geo+json" }`, in addition to those
   * that are known, or in place of them. What has none is `application/octet-stream`. */
  types?: Record<string, string> | undefined;
  /** What `Cache-Control` says of a file, for `"/assets/app.js"` or `"/index.html"`: its path within the
   * folder, decoded. Default: no such field, so that caches ask each time or guess (RFC 9111 §4.2.2). */
  cacheControl?: ((path: string) => string | undefined) | undefined;
  /** The codings in which files lie beside the original, as `app.js.br`, `.gz` and `.zst`, the most
   * wanted first. One that is older than its original by seconds is left alone. Default: none, since
   * each costs a look at the disk. */
  precompressed?: Coding[] | undefined;
}

/** A content coding (9110 §8.4.1): of RFC 7932, RFC 1952 and RFC 8878. */
export type Coding = "br" | "gzip" | "zstd";

const SUFFIXES: Record<Coding, string> = { br: ".br", gzip: ".gz", zstd: ".zst" };
/** A file or range of up to so many bytes is read at once, a larger one in pieces of this size. */
const PIECE = 131072;
/** Neither waits for somebody to write into a pipe, nor follows a link that was not there before. */
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW;
/** Why a file is as good as not there: one that may not be read is not told of (9110 §15.5.4). The last
 * two are Deno's, which lets no link lead outside, or to a name that is not UTF-8. */
const MISSING = /^(ENOENT|ENOTDIR|ELOOP|ENAMETOOLONG|EACCES|EPERM|ENXIO|NotCapable|InvalidData)$/;
const PREFIX = /^(\/[\w.~!$&'()*+,;=:@-]+)*$/;
const CONDITIONS = ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"];

/** Extensions, each with its subtype where that has another name, as IANA has them. */
const KNOWN = {
  application: "gz:gzip json map:json pdf rss:rss+xml wasm webmanifest:manifest+json xml zip",
  audio: "aac flac m4a:mp4 mp3:mpeg oga:ogg ogg opus:ogg wav weba:webm",
  font: "otf ttf woff woff2",
  image: "apng avif bmp gif ico:vnd.microsoft.icon jpeg jpg:jpeg jxl png svg:svg+xml webp",
  text: "css csv htm:html html ics:calendar js:javascript md:markdown mjs:javascript txt:plain vtt",
  video: "mp4 ogv:ogg webm",
};
const TYPES = Object.entries(KNOWN).flatMap(([type, list]) =>
  list.split(" ").map((entry): [string, string] => {
    const [extension = "", subtype = extension] = entry.split(":");
    const charset = type === "text" ? "; charset=utf-8" : ""; // JSON and XML say it, or are UTF-8.
    return [`.${extension}`, `${type}/${subtype}${charset}`];
  })
);

/** The answers to what can't be had: frozen, so that they are encoded once. */
const MALFORMED = refusal("400 Bad Request");
const NOT_FOUND = refusal("404 Not Found");
const NOT_ALLOWED = refusal("405 Method Not Allowed", { Allow: "GET, HEAD" });
const UNAVAILABLE = refusal("503 Service Unavailable");
const VAIN = "416 Range Not Satisfiable";
function refusal(body: string, headers: Record<string, string> = {}): HttpResponse {
  return Object.freeze({ status: parseInt(body), headers: Object.freeze(headers), body });
}

/** A handler for the files of the folder `root`.
 *
 * A folder is answered with its `index.html`, and without its last slash with 308 to where it has one.
 * There are no listings. Names that begin with a dot are not found, but for `/.well-known/`
 * (RFC 8615 §3). Links are followed as long as they stay within the folder; whoever may write to it is
 * trusted not to exchange folders for links at that very moment.
 *
 * `ETag` and `Last-Modified` come from a file's size and time, so `server.ts` answers 304 and 412, for
 * which nothing is read. A range gets 206 or 416, several ranges the whole, as 9110 §14.2 allows.
 * Replace a file by renaming another to its name: what is written into one while it is sent goes out. One
 * that gets shorter meanwhile, or was replaced before its first piece was read, breaks the answer off, as
 * does a large one for which no descriptor is left by then.
 * What a client asks in vain is an answer too, never thrown: 400, 404, 405, 416, and 503 while there are
 * no descriptors left. So `const found = site(request)` and `found.status === 404` lead on to the next
 * handler. No descriptor is held from the answer to its first piece, so an answer may be dropped.
 *
 * @throws {Error} at once if `root` can't be read, or is no folder. */
export function files(
  root: string,
  options: FilesOptions = {},
): (request: HttpRequest) => HttpResponse {
  const { prefix = "", types = {}, cacheControl, precompressed = [] } = options;
  const known = new Map([...TYPES, ...Object.entries(types)]);
  if (!PREFIX.test(prefix)) throw new RangeError("prefix must be as /a/b, and need no encoding");
  const folder = folderOf(root);
  return (request) => {
    const { method, headers } = request;
    if (!request.path.startsWith(`${prefix}/`)) return NOT_FOUND;
    if (method !== "GET" && method !== "HEAD") return NOT_ALLOWED;
    const sent = request.path.slice(prefix.length);
    const names = namesOf(sent, prefix === "");
    if (!Array.isArray(names)) return names;
    const path = `/${names.join("/")}`;

    const found = open(folder, path);
    if (!(found instanceof OpenFile)) return found;
    using original = found;
    if (original.isFolder && !sent.endsWith("/")) { // Else a page's links would lead elsewhere.
      const query = /\?.*/.exec(request.target)?.[0] ?? "";
      return { status: 308, headers: { Location: `./${sent.split("/").pop()}/${query}` } };
    }
    if (!original.isFile) return NOT_FOUND; // A device may never end.
    const codings = acceptedOf(headers.get("accept-encoding"), precompressed);
    using neighbour = openCoded(folder, path, original, codings);
    const file = neighbour ?? original;

    const { size, time, coding } = file;
    const etag = `"${size.toString(36)}-${time.toString(36)}${coding && `-${coding}`}"`;
    const modified = new Date(Math.min(time, Date.now())).toUTCString(); // 9110 §8.8.2.1
    const fields: Record<string, string> = {
      "Accept-Ranges": "bytes",
      "Content-Type": known.get(extname(path).toLowerCase()) ?? "application/octet-stream",
      "ETag": etag,
      "Last-Modified": modified,
      "X-Content-Type-Options": "nosniff",
    };
    const caching = cacheControl?.(path);
    if (caching !== undefined) fields["Cache-Control"] = caching;
    if (coding !== "") fields["Content-Encoding"] = coding;
    if (precompressed.length > 0) fields["Vary"] = "Accept-Encoding"; // 9110 §12.5.5

    // 9110 §13.1.5: a part is of use only to whoever has other parts of this very file.
    const ifRange = headers.get("if-range");
    const isSame = ifRange === null || ifRange === etag ||
      ifRange === modified && time < Date.now() - 1000;
    const isConditional = CONDITIONS.some((name) => headers.has(name)); // Those come first (9110 §14.2).
    const asked = method === "GET" && isSame ? rangeOf(headers.get("range"), size) : undefined;
    const isVain = asked !== undefined && asked[0] >= asked[1];
    if (isVain && !isConditional) return refusal(VAIN, { "Content-Range": `bytes */${size}` });
    const range = isVain ? undefined : asked, [from, to] = range ?? [0, size];
    if (range) fields["Content-Range"] = `bytes ${from}-${to - 1}/${size}`;

    const answer = { status: range ? 206 : 200, headers: fields };
    const length = to - from;
    if (method === "HEAD" || length > PIECE || isConditional) {
      fields["Content-Length"] = `${length}`;
      return { ...answer, body: file.pieces(from, to) };
    }
    const body = file.read(from, to);
    return body.length < length ? UNAVAILABLE : { ...answer, body };
  };
}

/** Where the folder really is. */
function folderOf(root: string): string {
  try {
    const folder = realpathSync(root);
    closeSync(openSync(folder, OPEN_FLAGS | constants.O_DIRECTORY));
    return folder;
  } catch (error) {
    throw new Error(`Can't serve files of ${root}: ${(error as Error).message}`, { cause: error });
  }
}

/** The names of a path, the last of which may be that of a folder; or the answer that refuses them.
 * A name with an encoded slash is refused. */
function namesOf(path: string, isSite: boolean): string[] | HttpResponse {
  let names;
  try {
    names = path.slice(1).split("/").map(decodeURIComponent);
  } catch {
    return MALFORMED;
  }
  if (names.at(-1) === "") names[names.length - 1] = "index.html";
  const isHidden = (name: string, at: number) =>
    // It is "..", or such as .git.
    name.startsWith(".") && !(name === ".well-known" && at === 0 && isSite && names.length > 1);
  const isBad = (name: string) => name === "" || /[/\\\0]/.test(name);
  return names.some(isBad) || names.some(isHidden) ? NOT_FOUND : names;
}

/** The codings that are wanted, the most wanted first, and of those wanted alike in the order of `own`
 * (9110 §12.5.3). */
function acceptedOf(list: string | null, own: Coding[]): Coding[] {
  if (list === null || own.length === 0) return [];
  const weights = new Map<string, number>();
  for (const member of list.toLowerCase().split(",")) {
    const [, name, weight] = /^[ \t]*([^ \t;]+)(?:[ \t]*;[ \t]*q=([01](?:\.\d{0,3})?))?[ \t]*$/
      .exec(member) ?? [];
    if (name !== undefined) weights.set(name.replace(/^x-gzip$/, "gzip"), Number(weight ?? 1));
  }
  const weightOf = (name: Coding) => weights.get(name) ?? weights.get("*") ?? 0;
  const least = Math.max(weights.get("identity") ?? 0, 0.001);
  return own.filter((name) => weightOf(name) >= least).sort((a, b) => weightOf(b) - weightOf(a));
}

/** The first and the end of one range of bytes, which may hold none; undefined if the whole is to be
 * sent (9110 §14.1.2, §14.2). */
function rangeOf(range: string | null, size: number): [from: number, to: number] | undefined {
  const [, first, last] = /^bytes=[ \t]*(\d*)-(\d*)[ \t]*$/i.exec(range ?? "") ?? [];
  if (first === undefined || last === undefined || first + last === "") return undefined;
  if (first === "") return [Math.max(0, size - Number(last)), size];
  if (last === "") return [Number(first), size];
  if (Number(last) < Number(first)) return undefined;
  return [Number(first), Math.min(size, Number(last) + 1)];
}

/** A file that is open, and what is to be known of it, which holds for no other. */
class OpenFile {
  readonly path: string;
  readonly coding: Coding | "";
  readonly isFile: boolean;
  readonly isFolder: boolean;
  readonly size: number;
  /** When it was modified, in milliseconds. */
  readonly time: number;
  readonly #inode: number;
  readonly #descriptor: number;

  constructor(path: string, coding: Coding | "" = "") {
    this.path = path;
    this.coding = coding;
    this.#descriptor = openSync(path, OPEN_FLAGS);
    const info = fstatSync(this.#descriptor);
    this.isFile = info.isFile();
    this.isFolder = info.isDirectory();
    this.size = info.size;
    this.time = Math.floor(info.mtimeMs);
    this.#inode = info.ino;
  }
  [Symbol.dispose](): void {
    closeSync(this.#descriptor);
  }
  /** Bytes that are read at once: fewer, if the file has become shorter. */
  read(from: number, to: number): Uint8Array {
    const bytes = new Uint8Array(to - from);
    let size = 0;
    for (let count = -1; size < bytes.length && count !== 0; size += count) {
      count = readSync(this.#descriptor, bytes, size, bytes.length - size, from + size);
    }
    return bytes.subarray(0, size);
  }
  /** Bytes that are read as they are asked for. Until the first are, the file is closed. */
  async *pieces(from: number, to: number): AsyncGenerator<Uint8Array> {
    using file = new OpenFile(this.path);
    if (file.#inode !== this.#inode || file.size !== this.size || file.time !== this.time) {
      throw new Error(`${this.path} has changed since its size was told`);
    }
    while (from < to) {
      const piece = Buffer.allocUnsafeSlow(Math.min(PIECE, to - from));
      const count = await new Promise<number>((resolve, reject) => {
        const done = (error: unknown, count: number) => error ? reject(error) : resolve(count);
        read(file.#descriptor, piece, 0, piece.length, from, done);
      });
      if (count === 0) return; // It has become shorter: the server breaks the answer off.
      from += count;
      yield piece.subarray(0, count);
    }
  }
}

/** Opens what is really there, wherever links lead, if it lies within `folder`; or the answer that
 * says why it can't be had. */
function open(folder: string, path: string, coding?: Coding): OpenFile | HttpResponse {
  try {
    const real = realpathSync(join(folder, path));
    if (!join(real, sep).startsWith(join(folder, sep))) return NOT_FOUND;
    return new OpenFile(real, coding);
  } catch (error) {
    const { name, code = "" } = error as Error & { code?: string };
    if (/^(EMFILE|ENFILE)$/.test(code)) return UNAVAILABLE; // There are no descriptors left.
    if (MISSING.test(code || name)) return NOT_FOUND;
    throw error;
  }
}

/** Opens the first of the codings that lies beside the original. */
function openCoded(folder: string, path: string, original: OpenFile, codings: Coding[]) {
  const seconds = ({ time }: OpenFile) => Math.floor(time / 1000); // Some compressors keep no more.
  for (const coding of codings) {
    if (!existsSync(join(folder, path + SUFFIXES[coding]))) continue; // cheaper than to find it missing
    const file = open(folder, path + SUFFIXES[coding], coding);
    if (!(file instanceof OpenFile)) continue;
    if (file.isFile && seconds(file) >= seconds(original)) return file;
    file[Symbol.dispose]();
  }
  return undefined;
}
