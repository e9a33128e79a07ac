"""A Flask application that says who answered. See README.md for the commands."""

import os

from flask import Flask, request
from werkzeug.middleware.proxy_fix import ProxyFix

app = Flask(__name__)
# One proxy, fastlb, stands before this application and replaces what clients claim.
app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)


@app.get("/")
def index() -> str:
    """The process that answers, and the client as fastlb saw it."""
    return f"process {os.getpid()} answers {request.remote_addr} for {request.url}\n"


@app.get("/healthy")
def healthy() -> tuple[str, int]:
    """What a health check asks for. Answer 503 here to be taken out."""
    return "", 204
