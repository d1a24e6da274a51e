"""Rows of CSV logs, and forgetting those that come again."""

import csv

from go2_sevpo.runs.csv_log import append_row, forget_after


def rows(path):
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.reader(handle))


def test_rows_after_a_step_are_dropped_and_written_again_below(tmp_path):
    path = tmp_path / "log.csv"
    for step in (200, 400, 600):
        append_row(path, {"step": step, "loss": 0.123456789})
    forget_after(path, "step", 400)
    assert rows(path) == [["step", "loss"], ["200", "0.123457"], ["400", "0.123457"]]
    append_row(path, {"step": 600, "loss": 1.0})
    assert rows(path)[1:] == [["200", "0.123457"], ["400", "0.123457"], ["600", "1"]]


def test_a_row_cut_short_is_dropped(tmp_path):
    path = tmp_path / "log.csv"
    append_row(path, {"step": 200.0, "loss": 1.0})
    with open(path, "a", encoding="utf-8") as handle:
        handle.write("40")
    forget_after(path, "step", 400)
    assert rows(path) == [["step", "loss"], ["200", "1"]]


def test_nothing_to_forget(tmp_path):
    forget_after(tmp_path / "none.csv", "step", 0)
    (tmp_path / "empty.csv").write_text("")
    forget_after(tmp_path / "empty.csv", "step", 0)
    assert not (tmp_path / "none.csv").exists() and (tmp_path / "empty.csv").read_text() == ""
