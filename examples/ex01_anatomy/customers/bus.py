"""The customers service: says when there is a new customer, and takes note when one can log in."""

from __future__ import annotations

import lightbus

bus = lightbus.create()


class CustomersApi(lightbus.Api):
    """Only an event: whoever wants to act on it listens to it."""

    new_customer = lightbus.Event(parameters=["customer_name", "email"])

    class Meta:
        name = "customers"


bus.client.register_api(CustomersApi())


@bus.client.on_start()
def on_start() -> None:
    bus.auth.user_registered.listen(note_login)


def note_login(event_message: lightbus.EventMessage, user: str, email: str) -> None:
    print(f"the customer {user} can log in now", flush=True)
