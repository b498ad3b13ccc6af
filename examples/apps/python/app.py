"""A web server of one file on the standard library."""

import os
import signal
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GREETING = os.environ.get("GREETING", "Hello")


class Server(ThreadingHTTPServer):
    """Waits at its end for the requests in flight."""

    daemon_threads = False


class Handler(BaseHTTPRequestHandler):
    """Answers `/` and `/healthz`."""

    def do_GET(self) -> None:
        pages = {"/": f"{GREETING} from Python", "/healthz": "ok"}
        text = pages.get(self.path.partition("?")[0])
        status = HTTPStatus.OK if text else HTTPStatus.NOT_FOUND
        body = f"{text or 'not found'}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serves until told to stop."""
    with Server(("", int(os.environ.get("PORT", "8080"))), Handler) as server:
        # `shutdown` waits for the end of the loop below, so another thread has to call it.
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: threading.Thread(target=server.shutdown).start())
        print(f"listening on port {server.server_port}", flush=True)
        server.serve_forever()
    print("stopped", flush=True)


if __name__ == "__main__":
    main()
