"""The rate and the time left, by a clock that the test moves."""

import types

import pytest

from go2_sevpo.metrics import percent
from go2_sevpo.runs import progress
from go2_sevpo.runs.progress import Progress, duration


@pytest.fixture
def clock(monkeypatch):
    now = types.SimpleNamespace(seconds=100.0)
    now.perf_counter = lambda: now.seconds
    monkeypatch.setattr(progress, "time", now)
    return now


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0 s"),
        (99.4, "99 s"),
        (100, "2 min"),
        (5990, "100 min"),
        (6000, "1.7 h"),
        (36000, "10.0 h"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_rate_and_time_left_count_what_was_done_since_the_start(clock):
    work = Progress(50, done=10)
    assert work.rate == 0 and work.left == float("inf") and work.text() == "ETA unknown"
    clock.seconds += 8
    work.advance(4)
    assert (work.done, work.seconds, work.rate, work.left) == (14, 8, 0.5, 72)
    assert work.text() == "ETA 72 s"
    work.done = 50
    assert work.rate == 5 and work.left == 0 and work.text() == "ETA 0 s"


def test_pauses_do_not_count(clock):
    work = Progress(4)
    clock.seconds += 30
    work.paused += 20
    work.advance(2)
    assert work.seconds == 10 and work.rate == 0.2 and work.left == 10


def test_no_time_at_all_is_no_division_by_zero(clock):
    work = Progress(2)
    work.advance(1)
    assert work.seconds == 1e-9 and work.left == pytest.approx(1e-9)


def test_rates_have_one_text():
    assert percent(0.974, (0.962, 0.9815)) == "97.4% [96.2, 98.2]"
    assert percent(0.05, (0.021, 0.1), 0) == "5% [2, 10]"
    assert percent(1.0, (0.9963, 1.0), sign="") == "100.0 [99.6, 100.0]"
