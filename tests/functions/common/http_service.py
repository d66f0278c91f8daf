# SPDX-License-Identifier: Apache-2.0
"""A small HTTP service: one function per path, one connection per request."""
import os
import socketserver
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qsl, urlsplit


class Server(HTTPServer):
    request_queue_size = 128

    def server_bind(self):
        # HTTPServer's own asks the resolver for the host name, which may be slow in a sandbox.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


def listen_port():
    """argv[1], else PORT of the environment, else 8080."""
    return int(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("PORT", "8080"))


def serve(routes):
    """Answers for ever. `routes` maps a path to a function of (query: dict, body: bytes) that returns
    the text of the answer; ValueError and KeyError from it are the client's mistake (status 400)."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # a silent client must not hold up the others for ever

        def answer(self):
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            route = routes.get(url.path)
            if route is None:
                return self.send(404, f"no such path: {url.path}\n")
            try:
                text = route(dict(parse_qsl(url.query)), body)
            except (ValueError, LookupError) as error:
                return self.send(400, f"bad request: {error!r}\n")
            self.send(200, text)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def send(self, status, text):
            data = text.encode()
            self.send_response_only(status)
            kind = "text/html" if text.startswith("<!DOCTYPE html>") else "text/plain"
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    Server(("0.0.0.0", listen_port()), Handler).serve_forever()
