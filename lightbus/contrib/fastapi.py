"""A bus in a FastAPI program: the lifespan, the health route, and the bus as a dependency."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from ..path import BusPath
from . import starlette
from .starlette import health_route, lifespan

__all__ = ["Bus", "get_bus", "health_route", "lifespan"]


async def get_bus(request: Request) -> BusPath:
    """Return the bus of the program that handles a request; `app.dependency_overrides[get_bus]` replaces it."""
    return await starlette.get_bus(request)


Bus = Annotated[BusPath, Depends(get_bus)]
"""The annotation of a parameter that gets the bus: `async def login(name: str, bus: Bus): ...`"""
