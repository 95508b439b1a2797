import json

from flask import Flask

app = Flask(__name__)


@app.route("/")
def home():
    with open("dashboard.json") as file:
        page_views = json.load(file)
    return "".join(f"<li>{url}: {count}</li>" for url, count in sorted(page_views.items()))
