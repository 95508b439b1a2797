"""Fires as many orders as it is told, says so, and lives on until it is killed."""

import sys

import bus as sites

bus = sites.north()
bus.client.start_in_background()
for number in range(int(sys.argv[1])):
    bus.orders.placed.fire(number=number, customer=("ada", "bob", "cyd")[number % 3])
print("all are fired", flush=True)
sys.stdin.read()
