"""A legacy API: share quotes as JSON, for whoever asks again and again. Needs nothing but Python.

usage: api.py [PORT [SECONDS]]

PORT defaults to 8001; 0 takes a free one. Every SECONDS (default 1) some quotes change; 0: only by PUT and DELETE.

GET /              the page beside this file
GET /quotes        {"market": "open", "quotes": [{"symbol": "ACME", "bid": 101.5, "ask": 101.7}, ...]}, by symbol
GET /quotes/ACME   one of them
PUT /quotes/ACME   {"bid": 101.5, "ask": 101.7}
DELETE /quotes/ACME
"""

import json
import os
import pathlib
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = pathlib.Path(__file__).with_name("index.html")
SYMBOLS = "ACME BOLT CORK DUNE ECHO FERN GLOW HAZE IRIS JUTE KELP LIME MOSS NOVA OPAL PINE QUAY REED SAGE TEAL".split()

lock = threading.Lock()
quotes = {symbol: {"bid": 100.0 + n, "ask": 100.2 + n} for n, symbol in enumerate(SYMBOLS)}


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        symbol = self.symbol()
        with lock:
            if self.path == "/":
                self.answer(200, PAGE.read_bytes(), "text/html; charset=utf-8")
            elif self.path == "/quotes":
                everything = [{"symbol": symbol, **quotes[symbol]} for symbol in sorted(quotes)]
                self.answer_json(200, {"market": "open", "quotes": everything})
            elif symbol in quotes:
                self.answer_json(200, {"symbol": symbol, **quotes[symbol]})
            else:
                self.answer_json(404, {"error": "no such quote"})

    def do_PUT(self):
        symbol = self.symbol()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            asked = json.loads(body)
            quote = {"bid": float(asked["bid"]), "ask": float(asked["ask"])}
        except (ValueError, KeyError, TypeError):
            return self.answer_json(400, {"error": "bid and ask must be numbers"})
        if not symbol:
            return self.answer_json(404, {"error": "no such path"})
        with lock:
            quotes[symbol] = quote
        self.answer_json(200, {"symbol": symbol, **quote})

    def do_DELETE(self):
        with lock:
            gone = quotes.pop(self.symbol(), None)
        self.answer_json(200 if gone else 404, {})

    def symbol(self):
        return self.path.removeprefix("/quotes/") if self.path.startswith("/quotes/") else ""

    def answer_json(self, status, value):
        self.answer(status, json.dumps(value).encode(), "application/json")

    def answer(self, status, body, content_type):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Polls would fill the screen."""


def move(seconds):
    while True:
        time.sleep(seconds)
        with lock:
            for symbol in random.sample(sorted(quotes), min(2, len(quotes))):
                bid = max(1.0, quotes[symbol]["bid"] + random.choice([-0.5, -0.1, 0.1, 0.5]))
                quotes[symbol] = {"bid": round(bid, 2), "ask": round(bid + 0.2, 2)}


def main():
    port, seconds = (sys.argv[1:] + ["8001", "1"][len(sys.argv) - 1 :])[:2]
    if float(seconds) > 0:
        threading.Thread(target=move, args=[float(seconds)], daemon=True).start()
    server = ThreadingHTTPServer((os.environ.get("ADDRESS", "127.0.0.1"), int(port)), Api)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
