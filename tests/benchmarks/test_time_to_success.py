"""Training time against success, from a run's own logs."""

import pytest

from benchmarks.time_to_success import curve


def test_time_is_that_of_the_steps_of_all_stages(tmp_path):
    (tmp_path / "critics.csv").write_text("step,steps_per_second\n200,100\n400,50\n")  # 2 s + 4 s
    (tmp_path / "policy.csv").write_text(
        "step,steps_per_second\n100,10\n200,20\n300,10\n"
    )  # 10, 15, 25 s
    (tmp_path / "evaluation.csv").write_text("step,member,success\n200,0,0.5\n300,0,0.9\n")
    found = curve(tmp_path, 40)
    assert [(r["step"], r["seconds"], r["success"]) for r in found] == [
        (200, 21.0, 0.5),
        (300, 31.0, 0.9),
    ]
    low, high = found[0]["interval"]
    assert 0.3 < low < 0.5 < high < 0.7


def test_a_run_without_evaluations_is_named(tmp_path):
    with pytest.raises(
        ValueError, match="has no evaluation.csv, expected a run of go2-train --evaluate-every"
    ):
        curve(tmp_path, 40)
