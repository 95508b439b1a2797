"""A web application that uses its bus before gunicorn, with --preload, forks its workers."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from flask import Flask
from work import bus

app = Flask(__name__)
served_by = bus.work.who()


@app.get("/sync/<int:number>")
def sync(number: int) -> dict[str, Any]:
    return {"number": bus.work.echo(value=number), "web": os.getpid(), "worker": bus.work.who_def()}


@app.get("/async/<int:number>")
def through_a_loop(number: int) -> dict[str, Any]:
    return {"number": asyncio.run(bus.work.echo.call_async(value=number)), "web": os.getpid(), "worker": served_by}
