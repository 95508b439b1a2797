"""The customers service of the demo: publishes that there is a new customer, and listens to what comes of it."""

from __future__ import annotations

import lightbus
from lightbus.cli.demo_services.observer import observe

bus = lightbus.create()


class CustomersApi(lightbus.Api):
    """One event."""

    new_customer = lightbus.Event(parameters=["customer_name", "email"])

    class Meta:
        """Its name on the bus."""

        name = "customers"


bus.client.register_api(CustomersApi())


@bus.client.on_start()
def on_start() -> None:
    """Listen to the other service."""
    bus.auth.user_registered.listen(welcome_user)


def welcome_user(event_message: lightbus.EventMessage, user: str, email: str) -> None:
    """Do what a real service would: send a mail, say. The observer shows that it was called."""


observe(bus.client)
