"""A program that only uses the bus: it calls one service and fires an event of the other."""

from __future__ import annotations

import lightbus

bus = lightbus.create()

if __name__ == "__main__":
    is_valid = bus.auth.check_password(user="admin", password="secret")
    print("the password of admin is", "right" if is_valid else "wrong")

    # Two ways to fire an event. Both return when the customers service has taken it.
    bus.customers.new_customer(customer_name="Sally", email="sally@example.com")
    message = bus.customers.new_customer.fire(customer_name="Bertie", email="bertie@example.com")
    print("fired", message.canonical_name, "twice")
