"""Whether threads take the processor from each other: played through with a clock of its own."""

from __future__ import annotations

import pytest

from lightbus.core.processor_use import ProcessorUse


def looked(computed: float, cpu: float) -> ProcessorUse:
    """Return what is known after a second in which handlers and the process have computed for so long."""
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
def test_fewer_handlers_run_where_all_of_them_compute(computed: float, cpu: float, is_shared: bool) -> None:
    """Only where handlers compute, and all of a processor is used, fewer of them do as much."""
    assert looked(computed, cpu).is_shared(2.1) is is_shared


def test_each_look_counts_anew() -> None:
    """What was computed before the last look is not counted twice."""
    processor = looked(1.0, 1.0)
    assert processor.computed == 0.0
    processor.look(6.0, 3.0, 1.0)
    assert not processor.is_shared(3.0)


def test_old_knowledge_is_none() -> None:
    """Where nothing ends any more, it is not known what the processor does."""
    processor = looked(1.0, 1.0)
    assert processor.look_at == 3.0
    assert processor.is_shared(3.9)
    assert not processor.is_shared(4.0)
