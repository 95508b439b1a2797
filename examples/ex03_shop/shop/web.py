"""The shop: a web process without a worker. It keeps what it fires on disk itself, and publishes it while it lives."""

import uuid

from bus import bus
from flask import Flask, request

app = Flask(__name__)


@app.get("/")
def front_page():
    return view("the front page")


@app.get("/products/<name>")
def product(name):
    return view(f"the page of {name}")


@app.post("/images")
def upload():
    image_id = uuid.uuid4().hex[:8]
    bus.store.image_uploaded(image_id=image_id, picture=request.get_data())
    return {"image_id": image_id}, 202


@app.get("/statistics")
def statistics():
    return bus.dashboard.views()


def view(text):
    # Back before anybody has counted it: the page does not wait for the dashboard, and need not even have one.
    bus.store.page_viewed(url=request.path, visitor=request.remote_addr or "somebody")
    return text


if __name__ == "__main__":
    import sys

    app.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
