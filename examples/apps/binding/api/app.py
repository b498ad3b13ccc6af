"""Serves quotes as JSON."""

import itertools
import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

QUOTES = itertools.cycle(
    [
        {"text": "What I cannot create, I do not understand.", "by": "Richard Feynman"},
        {"text": "The purpose of computing is insight, not numbers.", "by": "Richard Hamming"},
        {"text": "Simplicity is prerequisite for reliability.", "by": "Edsger Dijkstra"},
    ]
)


class Handler(BaseHTTPRequestHandler):
    """Answers `/quote`."""

    def do_GET(self) -> None:
        found = self.path == "/quote"
        body = json.dumps(next(QUOTES) if found else {"error": "only /quote is here"}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    # The first process of a sandbox only hears the signals it asks for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
