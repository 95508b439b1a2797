"""The web processes: `uvicorn web:app --workers 2`."""

from bus import bus
from fastapi import FastAPI

from lightbus.contrib.fastapi import Bus, health_route, lifespan

app = FastAPI(lifespan=lifespan(bus), routes=[health_route(bus, needs=["store"])])


@app.get("/price/{product}")
async def price(product: str, bus: Bus) -> int:
    return await bus.store.price.call_async(product=product)


@app.post("/orders", status_code=202)
async def order(product: str, customer: str, bus: Bus) -> str:
    message = await bus.store.order_placed.fire_async(product=product, customer=customer)
    return message.id
