"""Files are whole or not there, whatever happens while they are written."""

import os

import pytest

from go2_sevpo.runs import files
from go2_sevpo.runs.files import atomic_path, write_atomically


def test_a_file_gets_its_name_when_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "er" / "a.bin"
    with atomic_path(path) as temporary:
        assert temporary == path.with_name("a.bin.tmp") and path.parent.is_dir()
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
    assert done == ["fsync", (tmp_path / "b.tmp", tmp_path / "b")]


def test_text_is_utf_8(tmp_path):
    write_atomically(tmp_path / "c", "\u00b1 1")
    assert (tmp_path / "c").read_bytes() == b"\xc2\xb1 1"
    write_atomically(tmp_path / "c", "2")
    assert (tmp_path / "c").read_text() == "2"
