"""Follows a quote with httpx-sse. usage: with_httpx.py [URL]"""

import sys

import httpx
from httpx_sse import connect_sse

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080/quotes/ACME"
# Between two events there may be any time; the gateway's heartbeats come every 15 seconds.
with httpx.Client(timeout=httpx.Timeout(10, read=40)) as client:
    with connect_sse(client, "GET", url) as source:
        source.response.raise_for_status()
        print("reading", url, file=sys.stderr, flush=True)
        for event in source.iter_sse():
            # The stream begins with `retry` alone, which this package tells as an event without data.
            if event.data:
                print(event.event, event.id, event.data, flush=True)
