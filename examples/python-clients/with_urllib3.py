"""Follows a quote with sseclient-py over urllib3. usage: with_urllib3.py [URL]"""

import sys

import sseclient
import urllib3

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080/quotes/ACME"
response = urllib3.PoolManager().request(
    "GET", url, headers={"Accept": "text/event-stream"}, preload_content=False
)
print("reading", url, file=sys.stderr, flush=True)
for event in sseclient.SSEClient(response).events():
    print(event.event, event.id, event.data, flush=True)
