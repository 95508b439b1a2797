from flask import Flask

import lightbus

from .bus import bus

app = Flask(__name__)

lightbus.configure_logging()

PETS = ("http://store.example/1.jpg", "http://store.example/2.jpg", "http://store.example/3.jpg")


@app.route("/")
def home():
    html = "<h1>Online pet store</h1>"
    for number, image_url in enumerate(PETS):
        resized_url = bus.image.resize(url=image_url, width=200, height=200)
        html += f'<a href="/pet/{number}"><img src="{resized_url}"></a>'
    bus.store.page_viewed.fire(url="/")
    return html


@app.route("/pet/<int:number>")
def pet(number):
    resized_url = bus.image.resize(url=PETS[number], width=200, height=200)
    bus.store.page_viewed.fire(url=f"/pet/{number}")
    return f'<h1>Pet {number}</h1><img src="{resized_url}">'
