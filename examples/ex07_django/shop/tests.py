"""`manage.py test`: the view with a mock in the place of the bus, and the worker on a bus in memory."""

from django.test import TestCase, TransactionTestCase

from lightbus.contrib.django import get_bus
from lightbus.contrib.django.testing import BusMockMixin, MemoryBusMixin

from .models import Order, Product


class OrderTests(BusMockMixin, TestCase):
    def setUp(self):
        super().setUp()
        Product.objects.create(name="lamp", stock=1)
        self.bus_mock.mock_event_firing("store.order_placed")

    def test_an_order_is_told(self):
        with self.captureOnCommitCallbacks(execute=True):
            self.assertEqual(self.client.post("/orders/lamp/ada").status_code, 202)
        self.bus_mock.assert_events_fired("store.order_placed", times=1)

    def test_what_is_rolled_back_is_not_told(self):
        Product.objects.update(stock=0)
        with self.captureOnCommitCallbacks(execute=True):
            self.assertEqual(self.client.post("/orders/lamp/ada").status_code, 409)
        self.bus_mock.assert_event_not_fired("store.order_placed")


class ShippingTests(MemoryBusMixin, TransactionTestCase):
    def test_an_order_is_shipped(self):
        Product.objects.create(name="lamp", stock=3)
        self.assertEqual(get_bus().store.stock(product="lamp"), 3)
        self.client.post("/orders/lamp/ada")
        self.hub.wait_until_handled()
        self.assertTrue(Order.objects.get().is_shipped)
