"""A pool of three threads, one connection each at a time: how a server is first taught."""

import base64
import hashlib
import pathlib
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

book = (pathlib.Path(__file__).parents[2] / "book.json").read_bytes()
etag = base64.b64encode(hashlib.sha256(book).digest()).decode()


def respond(status, content_type, fields, body):
    head = (
        f"HTTP/1.1 {status}\r\nDate: {formatdate(usegmt=True)}\r\nContent-Type: {content_type}\r\n"
        f"X-Content-Type-Options: nosniff\r\n{fields}Connection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def handle(connection):
    with connection:
        received = b""
        while b"\r\n\r\n" not in received:
            piece = connection.recv(1024)
            if not piece:
                return
            received += piece
        method, path, _ = received.split(b"\r\n", 1)[0].decode().split(" ")
        if method == "GET" and path == "/book":
            fields = f'ETag: "{etag}"\r\nCache-Control: no-cache\r\n'
            answer = respond("200 OK", "application/json", fields, book)
        else:
            answer = respond("404 Not Found", "text/plain; charset=utf-8", "", b"404 Not Found")
        connection.sendall(answer)


with ThreadPoolExecutor(max_workers=3) as pool:
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=511)
    while True:
        connection, _ = listener.accept()
        pool.submit(handle, connection)
