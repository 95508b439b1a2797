"""The program: `gunicorn --preload --config gunicorn.conf.py web:app`."""

import os

from bus import bus
from flask import Flask

from lightbus.contrib.flask import Lightbus, current_bus

app = Flask(__name__)
app.config["PRICES"] = {"lamp": 40, "chair": 50}
Lightbus(app, bus, health="/health", needs=["store"])


@app.get("/price/<product>")
def price(product):
    return {"price": current_bus().store.price(product=product), "asked_by": os.getpid()}


@app.post("/orders/<product>/<customer>")
def order(product, customer):
    message = current_bus().store.order_placed.fire(product=product, customer=customer)
    return {"order": message.id}, 202
