"""An application as it was before the gateway: it publishes greetings with Flask-SSE."""

import os

from flask import Flask, request, send_file
from flask_sse import sse

app = Flask(__name__)
app.config["REDIS_URL"] = f"redis://127.0.0.1:{os.environ.get('REDIS_PORT', '6379')}/0"
# The blueprint may stay: the gateway takes the path before the application sees it.
app.register_blueprint(sse, url_prefix="/stream")


@app.get("/")
def page():
    return send_file("index.html")


@app.post("/greet")
def greet():
    name = request.form.get("name", "world")
    sse.publish({"message": f"Hello, {name}!"}, type="greeting")
    return "published\n"
