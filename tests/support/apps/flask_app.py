"""The same small application in Flask."""

import hashlib
import os
import time
from collections.abc import Iterator

from flask import Flask, Response, jsonify, redirect, request

app = Flask(__name__)


@app.get("/")
def home() -> Response:
    """Who answered, and what was asked."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    peer = [request.environ.get("REMOTE_ADDR"), request.environ.get("REMOTE_PORT")]
    return jsonify(pid=os.getpid(), headers=headers, path=request.path, peer=peer)


@app.route("/digest", methods=["POST", "PUT"])
def digest() -> str:
    """SHA-256 of the body."""
    return hashlib.sha256(request.get_data()).hexdigest()


@app.get("/events")
def events() -> Response:
    """Three server-sent events with a pause before each but the first."""

    def say() -> Iterator[str]:
        for n in range(3):
            if n:
                time.sleep(0.1)
            yield f"data: {n}\n\n"

    return Response(say(), mimetype="text/event-stream")


@app.get("/cookies")
def cookies() -> Response:
    """Two cookies and a redirect."""
    response = redirect("/")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response  # type: ignore[return-value]


@app.get("/fail")
def fail() -> tuple[str, int]:
    """The application's own error."""
    return "mine", 503
