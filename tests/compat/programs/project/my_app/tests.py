from bus import bus
from django.contrib.auth.models import User
from django.test import TestCase

from lightbus.utilities.testing import BusMocker, bus_mocker


class RegisterTestCase(TestCase):
    def test_user_is_registered(self):
        with BusMocker(bus) as bus_mock:
            bus_mock.mock_event_firing("auth.user_registered")

            self.client.get("/register/ada/secret")

            bus_mock.assert_events_fired("auth.user_registered", times=1)
            message = bus_mock.get_event_messages("auth.user_registered")[0]
            assert message.kwargs == {"username": "ada", "email": "ada@example.com"}
            assert User.objects.filter(username="ada").exists()

    @bus_mocker(bus)
    def test_user_logs_in(self, bus_mock):
        bus_mock.mock_rpc_call("auth.check_password", result=True)

        assert self.client.get("/log-in/ada/secret").content == b"True"

        bus_mock.assert_rpc_called("auth.check_password", times=1)
        message = bus_mock.get_rpc_messages("auth.check_password")[0]
        assert message.kwargs == {"username": "ada", "password": "secret"}

    def test_what_is_not_mocked(self):
        with BusMocker(bus, require_mocking=False) as bus_mock:
            self.client.get("/register/ada/secret")
            self.client.get("/log-in/ada/secret")
            bus_mock.assertEventFired("auth.user_registered")
            bus_mock.assertRpcCalled("auth.check_password")
