"""What the six services have in common: a small HTTP service that can be told to misbehave.

    /health   200 {"status": "ok"}
    /crash    ends the process with exit code 1
    /hang     from now on nothing is answered any more, though the process lives
    /break    from now on /health and / say 500; /mend undoes it
    other paths are the service's own
"""

import html
import json
import os
import signal
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def ask(url, timeout=2):
    """The JSON that another service answers, or {"error": why not}."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return json.load(answer)
    except (OSError, ValueError) as error:
        return {"error": str(error)}


def serve(name, port, pages):
    """Serves `pages` (path -> function of the query, giving text or a dict) until SIGTERM."""
    broken = threading.Event()
    hung = threading.Event()

    def respond(path, query):
        if path in ("/health", "/") and broken.is_set():
            return 500, {"status": "broken"}
        if path == "/health":
            return 200, {"status": "ok", "service": name}
        if path == "/crash":
            print("asked to crash", flush=True)
            os._exit(1)
        if path == "/hang":
            print("asked to hang", flush=True)
            hung.set()
            return 200, {"status": "this was the last answer"}
        if path == "/break":
            broken.set()
            return 200, {"status": "broken from now on"}
        if path == "/mend":
            broken.clear()
            return 200, {"status": "ok again"}
        if path in pages:
            return 200, pages[path](query)
        return 404, {"error": f"{name} has no {path}"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            while hung.is_set():
                threading.Event().wait()
            path, _, query = self.path.partition("?")
            status, body = respond(path, query)
            kind = "text/html" if isinstance(body, str) else "application/json"
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"{name} listens on 127.0.0.1:{port}, process {os.getpid()}", flush=True)
    server.serve_forever()


def table(title, rows):
    """A page with one line for each of `rows` (a dict)."""
    lines = "".join(
        f"<tr><td>{key}</td><td>{html.escape(json.dumps(value))}</td></tr>" for key, value in rows.items()
    )
    return f"<!doctype html><title>{title}</title><h1>{title}</h1><table>{lines}</table>"
