"""Whether threads compete for the processor, simulated with a clock."""

from __future__ import annotations

import pytest

from lightbus.core.processor_use import ProcessorUse


def looked(computed: float, cpu: float) -> ProcessorUse:
    """Return the result after a second in which handlers and the process have computed for so long."""
    processor = ProcessorUse()
    processor.look(5.0, 1.0, 1.0)
    processor.computed += computed
    processor.look(5.0 + cpu, 2.0, 1.0)
    return processor


@pytest.mark.parametrize(
    ("computed", "cpu", "is_shared"),
    [
        pytest.param(1.0, 1.0, True, id="handlers alone"),
        pytest.param(0.6, 1.0, True, id="handlers and the loop that refuses"),
        pytest.param(0.1, 1.0, False, id="others"),
        pytest.param(0.6, 0.7, False, id="there is more to be had"),
        pytest.param(0.0, 0.0, False, id="nobody"),
    ],
)
def test_competing_handlers_are_detected(computed: float, cpu: float, is_shared: bool) -> None:
    """Only if handlers compute and the process uses a whole processor."""
    assert looked(computed, cpu).is_shared(2.1) is is_shared


def test_each_look_starts_counting_again() -> None:
    """Time computed before the last look is not counted twice."""
    processor = looked(1.0, 1.0)
    assert processor.computed == 0.0
    processor.look(6.0, 3.0, 1.0)
    assert not processor.is_shared(3.0)


def test_old_measurement_does_not_count() -> None:
    """If no call ends any more, the state of the processor is unknown."""
    processor = looked(1.0, 1.0)
    assert processor.look_at == 3.0
    assert processor.is_shared(3.9)
    assert not processor.is_shared(4.0)
