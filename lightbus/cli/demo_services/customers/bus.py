"""The customers service of the demo: publishes new customers, and listens to the events of the auth service."""

from __future__ import annotations

import lightbus
from lightbus.cli.demo_services.observer import observe

bus = lightbus.create()


class CustomersApi(lightbus.Api):
    """An API with one event."""

    new_customer = lightbus.Event(parameters=["customer_name", "email"])

    class Meta:
        """The options of the API."""

        name = "customers"


bus.client.register_api(CustomersApi())


@bus.client.on_start()
def on_start() -> None:
    """Listen to the other service."""
    bus.auth.user_registered.listen(welcome_user)


def welcome_user(event_message: lightbus.EventMessage, user: str, email: str) -> None:
    """Do nothing; a real service would send a mail. The observer shows the call."""


observe(bus.client)
