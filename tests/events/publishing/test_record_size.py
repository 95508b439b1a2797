"""An event that is too large for any message is refused when it is fired."""

from __future__ import annotations

import pytest

from helpers.published import Out, run
from lightbus.exceptions import DeformError, PayloadTooLarge
from lightbus.message import EventMessage


def test_an_unpublishable_event_is_refused() -> None:
    """An event that is too large, or cannot be encoded, is an error of its caller, and takes no number."""

    async def test(out: Out) -> None:
        event = out.apis.get("auth").get_event("seen")
        large = EventMessage(api_name="auth", event_name="seen", kwargs={"what": "x" * 3000})
        with pytest.raises(PayloadTooLarge, match=r"arguments of auth\.seen take 30\d\d bytes; .* have 3000"):
            out.publisher.publish(large, event)
        odd = EventMessage(api_name="auth", event_name="seen", kwargs={"what": object()})
        with pytest.raises(DeformError, match=r"arguments of auth\.seen cannot be sent: kwargs\.what is an object"):
            out.publisher.publish(odd, event)
        assert (out.journals.journal.size, out.publisher.waiting) == ((0, 0), 0)

    run(test, max_message_size=3000)
