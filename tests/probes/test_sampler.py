import threading
import time

import pytest

from collector.bundle.schema import TelemetryRow
from collector.probes.sampler import Sampler


class Card:
    """Memory in use follows a script; the last value holds."""

    def __init__(self, *used: float | None) -> None:
        self.used = list(used)
        self.threads: set[str] = set()

    def sample(self, index: int, t_s: float) -> TelemetryRow:
        self.threads.add(threading.current_thread().name)
        used = self.used.pop(0) if len(self.used) > 1 else self.used[0]
        return TelemetryRow(t_s=t_s, gpu=index, vram_used_mib=used)


def wait_for(rows: list[TelemetryRow], n: int) -> None:
    deadline = time.monotonic() + 5
    while len(rows) < n:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_rows_come_from_another_thread_with_the_callers_clock() -> None:
    rows: list[TelemetryRow] = []
    card = Card(10.0)
    with Sampler(card, 3, rows.append, hz=200, clock=lambda: 42.0):
        wait_for(rows, 3)
    assert {(r.t_s, r.gpu) for r in rows} == {(42.0, 3)}
    assert card.threads == {"gpu-sampler"}


def test_the_peak_is_the_highest_seen_and_can_be_reset() -> None:
    rows: list[TelemetryRow] = []
    with Sampler(Card(10.0, 900.0, 20.0), 0, rows.append, hz=200) as sampler:
        wait_for(rows, 4)
        assert sampler.peak_mib == 900
        sampler.reset_peak()
        wait_for(rows, len(rows) + 2)
        assert sampler.peak_mib == 20


def test_a_card_that_does_not_tell_has_no_peak() -> None:
    rows: list[TelemetryRow] = []
    with Sampler(Card(None), 0, rows.append, hz=200) as sampler:
        wait_for(rows, 2)
    assert sampler.peak_mib is None


def test_nothing_comes_after_stop_and_stopping_twice_is_fine() -> None:
    rows: list[TelemetryRow] = []
    sampler = Sampler(Card(1.0), 0, rows.append, hz=200).start()
    wait_for(rows, 1)
    sampler.stop()
    n = len(rows)
    time.sleep(0.03)
    sampler.stop()
    assert len(rows) == n


def test_the_rate_is_kept() -> None:
    rows: list[TelemetryRow] = []
    with Sampler(Card(1.0), 0, rows.append, hz=50):
        time.sleep(0.5)
    assert 15 <= len(rows) <= 27  # 25 and the one at the start; fewer on a busy box


def test_a_failure_to_append_is_raised_at_the_end() -> None:
    def full(_row: TelemetryRow) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"), Sampler(Card(1.0), 0, full, hz=200):
        time.sleep(0.05)
