"""The auth service: knows users, and makes one of each new customer."""

from __future__ import annotations

import lightbus

bus = lightbus.create()


class AuthApi(lightbus.Api):
    """Users and their passwords, in memory: an example has no database."""

    user_registered = lightbus.Event(parameters=["user", "email"])

    class Meta:
        name = "auth"

    def __init__(self) -> None:
        self._emails = {"admin": "admin@example.com"}

    def check_password(self, user: str, password: str) -> bool:
        return user in self._emails and password == "secret"

    def create_user(self, name: str, email: str) -> None:
        self._emails[name] = email
        print(f"created the user {name} <{email}>", flush=True)
        bus.auth.user_registered(user=name, email=email)  # calling an event fires it

    def get_email(self, user: str) -> str | None:
        return self._emails.get(user)


bus.client.register_api(AuthApi())


@bus.client.on_start()
def on_start() -> None:
    bus.customers.new_customer.listen(create_user_for_customer)


def create_user_for_customer(event_message: lightbus.EventMessage, customer_name: str, email: str) -> None:
    """Answer an event of the other service with a call. The call finds its way, here back into this very worker."""
    bus.auth.create_user(name=customer_name, email=email)
