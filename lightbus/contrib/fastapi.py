"""A bus in a FastAPI program: the lifespan, the health route, and the bus as a dependency."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from ..path import BusPath
from . import starlette
from .starlette import health_route, lifespan

__all__ = ["Bus", "get_bus", "health_route", "lifespan"]


async def get_bus(request: Request) -> BusPath:
    """Return the bus of the program that a request came to: `app.dependency_overrides[get_bus]` puts another there."""
    return await starlette.get_bus(request)


Bus = Annotated[BusPath, Depends(get_bus)]
"""The type of a parameter that is the bus: `async def login(name: str, bus: Bus): ...`"""
