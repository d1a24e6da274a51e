"""Logs by their exact text: header, digits, and which rows a resumed run forgets."""

import pytest

from go2_sevpo.runs.csv_log import append_row, forget_after

HEAD = "step,loss\r\n"


def text(path):
    return path.read_bytes().decode("utf-8")


def test_a_new_file_begins_with_the_names_and_floats_have_six_digits(tmp_path):
    path = tmp_path / "log.csv"
    append_row(path, {"step": 1234567, "loss": 1234567.0, "name": "a, b", "flag": True})
    append_row(path, {"step": 2, "loss": 0.000123456789, "name": "ü", "flag": None})
    assert text(path) == (
        'step,loss,name,flag\r\n1234567,1.23457e+06,"a, b",True\r\n2,0.000123457,ü,\r\n'
    )


@pytest.mark.parametrize(
    "last, kept", [(99, 0), (99.5, 0), (100, 1), (199, 1), (200, 2), (201, 2), (300, 3), (1e9, 3)]
)
def test_rows_beyond_the_last_are_forgotten_and_the_last_itself_is_kept(tmp_path, last, kept):
    path = tmp_path / "log.csv"
    rows = ["100,1\r\n", "200,2\r\n", "300,3\r\n"]
    path.write_bytes((HEAD + "".join(rows)).encode())
    forget_after(path, "step", last)
    assert text(path) == HEAD + "".join(rows[:kept])
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]


def test_the_column_is_found_by_its_name(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"member,step,loss\r\n5,1,9\r\n0,7,0\r\n9,2,8\r\n")
    forget_after(path, "step", 2)
    assert text(path) == "member,step,loss\r\n5,1,9\r\n9,2,8\r\n"


def test_rows_that_a_kill_cut_short_are_dropped(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes((HEAD + "100,1\r\n20").encode())
    forget_after(path, "step", 500)
    assert text(path) == HEAD + "100,1\r\n"
    path.write_bytes((HEAD + "100,1\r\n200,2,3\r\n").encode())
    forget_after(path, "step", 500)
    assert text(path) == HEAD + "100,1\r\n"


def test_files_without_the_column_or_without_anything_stay_as_they_are(tmp_path):
    other = tmp_path / "other.csv"
    other.write_bytes(b"epoch,loss\n100,1\n2\n")
    forget_after(other, "step", 5)
    assert other.read_bytes() == b"epoch,loss\n100,1\n2\n"
    # Nothing to forget: not written again (line ends stay what they were).
    plain = tmp_path / "plain.csv"
    plain.write_bytes(b"step,loss\n100,1\n")
    forget_after(plain, "step", 100)
    assert plain.read_bytes() == b"step,loss\n100,1\n"
    empty = tmp_path / "empty.csv"
    empty.write_bytes(b"")
    forget_after(empty, "step", 0)
    assert empty.read_bytes() == b""
    forget_after(tmp_path / "none.csv", "step", 0)
    assert not (tmp_path / "none.csv").exists()


def test_text_beyond_ascii_and_quoted_commas_survive_forgetting(tmp_path):
    path = tmp_path / "log.csv"
    for step in (1, 2):
        append_row(path, {"step": step, "name": 'ü, "x"'})
    forget_after(path, "step", 1)
    assert text(path) == 'step,name\r\n1,"ü, ""x"""\r\n'
