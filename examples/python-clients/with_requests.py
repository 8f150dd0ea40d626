"""Follows a quote with sseclient over requests. usage: with_requests.py [URL]"""

import sys

import sseclient

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080/quotes/ACME"
events = sseclient.SSEClient(url)
print("reading", url, file=sys.stderr, flush=True)
for event in events:
    # This client also hands over what has no data, such as the `retry` that a stream begins with.
    if event.data:
        print(event.event, event.id, event.data, flush=True)
