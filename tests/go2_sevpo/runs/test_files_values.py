"""Files are whole or not there, whatever happens while they are written."""

import os
import subprocess
import sys
import time

import pytest

from go2_sevpo.runs import files
from go2_sevpo.runs.files import atomic_path, save_figure, unfinished, write_atomically


def test_a_file_gets_its_name_when_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "er" / "a.bin"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent and path.parent.is_dir()
        assert temporary.name.startswith("a.bin.") and temporary.suffix == ".tmp"
        temporary.write_bytes(b"123")
        assert not path.exists()
    assert path.read_bytes() == b"123" and [p.name for p in path.parent.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_was_there_stays_if_writing_fails(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with pytest.raises(error), atomic_path(path):  # before anything was written
        raise error
    assert path.read_text() == "old"


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda n: (done.append("fsync"), fsync(n)))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (done.append((a, b)), replace(a, b)))
    write_atomically(tmp_path / "b", "x")
    # The content before the name, and the name itself after it.
    assert done[0] == done[2] == "fsync" and done[1][1] == tmp_path / "b" and len(done) == 3


def test_writers_of_one_file_do_not_touch_each_others(tmp_path):
    path = tmp_path / "p.onnx"
    with atomic_path(path) as first, atomic_path(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
        assert sorted(unfinished(path)) == sorted([first, second])
    assert path.read_text() == "first" and not list(unfinished(path))


def test_what_a_killed_writer_left_goes_with_the_next_one_but_not_what_is_alive(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    old = time.time() - 3600
    names = {
        "dead": f"a.bin.{gone.pid}-00000000.tmp",
        "alive": f"a.bin.{os.getpid()}-00000000.tmp",
        "fresh": f"a.bin.{gone.pid}-11111111.tmp",
        "another": f"b.bin.{gone.pid}-00000000.tmp",
    }
    for name, file in names.items():
        (tmp_path / file).write_text(name)
        if name != "fresh":
            os.utime(tmp_path / file, (old, old))
    write_atomically(tmp_path / "a.bin", "x")
    left = {name for name, file in names.items() if (tmp_path / file).exists()}
    assert left == {"alive", "fresh", "another"}


def test_figures_are_written_like_everything_else(tmp_path):
    from matplotlib.figure import Figure

    save_figure(tmp_path / "f.png", Figure(), 20)
    assert (tmp_path / "f.png").read_bytes()[:4] == b"\x89PNG"
    assert len(list(tmp_path.iterdir())) == 1


def test_text_is_utf_8(tmp_path):
    write_atomically(tmp_path / "c", "\u00b1 1")
    assert (tmp_path / "c").read_bytes() == b"\xc2\xb1 1"
    write_atomically(tmp_path / "c", "2")
    assert (tmp_path / "c").read_text() == "2"
