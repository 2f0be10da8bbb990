"""A page that counts its visits in redis. Python's standard library only.

    /         the page
    /health   200 while redis answers, else 503
    /crash    ends this process with exit code 1, for you to see what happens then
"""

import html
import os
import signal
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = int(os.environ["PORT"])
REDIS = ("127.0.0.1", int(os.environ["REDIS_PORT"]))
GREETING = os.environ.get("GREETING", "Hello")


def redis(*words):
    """One command, one answer, in redis' own protocol (RESP2: simple strings, integers, errors)."""
    request = b"*%d\r\n" % len(words)
    for word in words:
        data = word.encode()
        request += b"$%d\r\n%s\r\n" % (len(data), data)
    with socket.create_connection(REDIS, timeout=2) as connection:
        connection.sendall(request)
        answer = connection.makefile("rb").readline().strip()
    if answer[:1] not in (b"+", b":"):
        raise OSError(f"redis answered {answer!r}")
    return answer[1:].decode()


def wait_for_redis(seconds=10):
    """redis has been started before us, but it may still be reading its data."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return redis("PING")
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"redis does not answer on port {REDIS[1]}: {error}")
            time.sleep(0.05)


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/":
            self.visit()
        elif self.path == "/health":
            self.health()
        elif self.path == "/crash":
            self.answer(200, "Good bye. Look at `relume status` now.\n", "text/plain")
            print("asked to crash", flush=True)
            os._exit(1)
        else:
            self.answer(404, "Nothing here\n", "text/plain")

    def visit(self):
        try:
            count = redis("INCR", "visits")
        except OSError as error:
            self.answer(503, f"redis does not answer: {error}\n", "text/plain")
            return
        self.answer(200, f"""<!doctype html>
<title>relume quickstart</title>
<h1>{html.escape(GREETING)}</h1>
<p>Visit number {count}, served by process {os.getpid()}.</p>
<p>Now <a href="/crash">crash it</a>, come back here, and see <code>relume status</code>.</p>
""", "text/html")

    def health(self):
        try:
            redis("PING")
        except OSError as error:
            self.answer(503, f"{error}\n", "text/plain")
            return
        self.answer(200, "ok\n", "text/plain")

    def answer(self, status, text, kind):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    wait_for_redis()
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Page)
    print(f"listening on 127.0.0.1:{PORT}, process {os.getpid()}", flush=True)
    server.serve_forever()


main()
