// The exercises of README.md, tried on whatever listens at port 8080, or at the port that is given:
//
//   deno run --allow-net steps/exercises.ts
//
// steps/7.ts passes none of them; `server.ts --request-timeout 5` passes all.
import { connect } from "node:net";
import process from "node:process";

const port = Number(process.argv[2] ?? 8080);

/** Sends pieces, one each `pause` milliseconds, begins to read a moment later, and returns what has come
 * when the server closes, or when nothing has come for a second after the last piece. */
function ask(pieces: string[], pause = 50): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1").pause();
    setTimeout(() => socket.resume(), 300);
    let received = "";
    const done = () => {
      clearInterval(sending);
      clearTimeout(patience);
      socket.destroy();
      resolve(received);
    };
    let patience: ReturnType<typeof setTimeout> | undefined;
    const wait = () => {
      clearTimeout(patience);
      if (pieces.length === 0) patience = setTimeout(done, 1000);
    };
    const sending = setInterval(() => {
      if (pieces.length > 0) socket.write(pieces.shift()!);
      if (pieces.length === 0 && patience === undefined) wait();
    }, pause);
    socket.on("data", (bytes) => {
      received += bytes.toString("latin1");
      wait();
    });
    socket.on("close", done).on("error", () => {});
  });
}
const host = "Host: a\r\n";
const close = `${host}Connection: close\r\n`;

const EXERCISES: [name: string, pieces: string[], wanted: RegExp, pause?: number][] = [
  [
    "1. HEAD gets what GET would get, without the content",
    [`HEAD / HTTP/1.1\r\n${close}\r\n`],
    /^HTTP\/1\.1 200 [^]*\r\nContent-Length: [1-9][0-9]*\r\n([^]+\r\n)?\r\n$/i,
  ],
  [
    "2. A colon needs no space behind it",
    [`POST / HTTP/1.1\r\n${close}Content-Length:5\r\n\r\nhello`],
    /^HTTP\/1\.1 200 [^]*\r\n\r\nhello$/,
  ],
  [
    "3. HTTP/1.1 without a Host is 400",
    ["GET / HTTP/1.1\r\nConnection: close\r\n\r\n"],
    /^HTTP\/1\.1 400 /,
  ],
  [
    "4. Two lengths are 400, and the connection is closed",
    [
      `POST / HTTP/1.1\r\n${host}Content-Length: 0\r\nContent-Length: 40\r\n\r\n` +
      `GET /nope HTTP/1.1\r\n${close}\r\n`,
    ],
    /^HTTP\/1\.1 400 (?![^]*HTTP\/1\.1)/,
  ],
  [
    "5. A negative length is 400",
    [`POST / HTTP/1.1\r\n${close}Content-Length: -5\r\n\r\n`],
    /^HTTP\/1\.1 400 /,
  ],
  [
    "6. A client that asks gets 100 before it sends the content",
    [`POST / HTTP/1.1\r\n${close}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n`],
    /^HTTP\/1\.1 100 Continue\r\n\r\n$/,
  ],
  [
    "7. Content can come in chunks",
    [
      `POST / HTTP/1.1\r\n${close}Transfer-Encoding: chunked\r\n\r\n5\r\nhel`,
      "lo\r\n6\r\n, you!\r\n0",
      "\r\n\r\n",
    ],
    /^HTTP\/1\.1 200 [^]*\r\n\r\nhello, you!$/,
  ],
  [
    "8. A refusal arrives, though the client goes on sending",
    [`POST / HTTP/1.1\r\n${host}Content-Length: 5000000\r\n\r\n${"x".repeat(5_000_000)}`],
    /^HTTP\/1\.1 413 /,
  ],
  [
    "9. A request that trickles in is 408 after some seconds",
    [..."GET / HTTP/1.1\r\nX: y"],
    /^HTTP\/1\.1 408 /,
    500,
  ],
];

const outcomes = await Promise.all(EXERCISES.map(async ([name, pieces, wanted, pause]) => {
  const received = await ask([...pieces], pause);
  const seen = received === "" ? "no answer" : JSON.stringify(received.slice(0, 60));
  return wanted.test(received) ? `done     ${name}` : `not yet  ${name}: ${seen}`;
}));
console.log(outcomes.join("\n"));
process.exit(outcomes.every((line) => line.startsWith("done")) ? 0 : 1);
