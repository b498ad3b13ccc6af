"""Shows a quote that another application knows."""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

API_URL = os.environ["API_URL"]
TIMEOUT_SECONDS = 5


class Handler(BaseHTTPRequestHandler):
    """Answers every path with a quote, or says that there is none to be had."""

    def do_GET(self) -> None:
        try:
            with urlopen(f"{API_URL}/quote", timeout=TIMEOUT_SECONDS) as reply:
                quote = json.load(reply)
            status, text = 200, f"“{quote['text']}” ({quote['by']})\n"
        except (OSError, ValueError) as error:
            status, text = 502, f"no quote today: {error}\n"
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    # The first process of a sandbox only hears the signals it asks for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
