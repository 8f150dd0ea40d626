"""Prints a token as a login service would give it out (RFC 7519, HS256). Needs nothing but Python.

usage: token.py [SECONDS [SCOPE]]

SECONDS (default 3600) is how long it is good for, SCOPE (default quotes.read) what it allows; JWT_SECRET is the key that the gateway knows too.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time


def part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 3600
claims = {
    "iss": "https://login.example",
    "aud": "quotes",
    "sub": "ada",
    "scope": sys.argv[2] if len(sys.argv) > 2 else "quotes.read",
    "exp": int(time.time()) + seconds,
}
signed = ".".join(part(json.dumps(piece).encode()) for piece in ({"alg": "HS256", "typ": "JWT"}, claims))
signature = hmac.new(os.environ["JWT_SECRET"].encode(), signed.encode(), hashlib.sha256).digest()
print(f"{signed}.{part(signature)}")
