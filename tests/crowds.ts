/** Crowds of clients that take as much of a server's memory as they can get. */

import { Client } from "./sockets.ts";

/** What a crowd does, once it is connected. */
export type Crowd = (clients: Client[]) => Promise<void>;

/** Each sends a head of 16 KiB, in pieces of so many bytes, but for its end. */
export function heads(piece: number): Crowd {
  return async (clients) => {
    const text = `GET / HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(16_300)}`;
    const bytes = new TextEncoder().encode(text);
    for (let at = 0; at < bytes.length; at += piece) {
      const next = bytes.subarray(at, at + piece);
      await Promise.all(clients.map((client) => client.send(next)));
    }
  };
}
/** Each asks for 20 MiB, and reads none of it. */
export const nonReaders: Crowd = async (clients) => {
  for (const client of clients) await client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
};
/** Each has had one answer, and stays. */
export const idlers: Crowd = async (clients) => {
  for (const client of clients) await client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  for (const client of clients) await client.read();
};

/** Connects a crowd, a few at a time. */
export async function connectAll(port: number, count: number): Promise<Client[]> {
  const clients: Client[] = [];
  while (clients.length < count) {
    const some = Array.from({ length: Math.min(100, count - clients.length) });
    clients.push(...await Promise.all(some.map(() => Client.connect(port))));
  }
  return clients;
}
