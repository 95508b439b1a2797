"""The auth service of the demo: creates a user for each new customer."""

from __future__ import annotations

import lightbus
from lightbus.cli.demo_services.observer import observe

bus = lightbus.create()


class AuthApi(lightbus.Api):
    """Users, in memory."""

    user_registered = lightbus.Event(parameters=["user", "email"])

    class Meta:
        """The options of the API."""

        name = "auth"

    def __init__(self) -> None:
        self._emails = {"admin": "admin@example.com"}

    def check_password(self, user: str, password: str) -> bool:
        """Return whether this is the user's password: `secret` is everybody's."""
        return user in self._emails and password == "secret"

    def create_user(self, name: str, email: str) -> None:
        """Create a user, and fire an event about it."""
        self._emails[name] = email
        bus.auth.user_registered(user=name, email=email)


bus.client.register_api(AuthApi())


@bus.client.on_start()
def on_start() -> None:
    """Listen to the other service."""
    bus.customers.new_customer.listen(create_user_for_customer)


def create_user_for_customer(event_message: lightbus.EventMessage, customer_name: str, email: str) -> None:
    """Call a procedure for each event."""
    bus.auth.create_user(name=customer_name, email=email)


observe(bus.client)
