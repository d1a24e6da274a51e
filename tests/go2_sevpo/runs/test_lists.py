"""Options of several values that are given more than once."""

import pytest

from go2_sevpo.offline_training.loop.cli import main as loop
from go2_sevpo.offline_training.train import main as train
from go2_sevpo.runs.lists import joined_lists


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("data --set a=1 --out x --set b=2", "data --set a=1 b=2 --out x"),
        ("--set a=1 b=2", "--set a=1 b=2"),
        ("--set=a=1 --set=b=2 --out x", "--set a=1 b=2 --out x"),
        ("--set a=1 c=3 --seed 3 --set b=[1, 2]", "--set a=1 c=3 b=[1, 2] --seed 3"),
        ("data --out x", "data --out x"),
        ("--set", "--set"),
    ],
)
def test_values_come_behind_the_first_mention(given, expected):
    assert joined_lists(given.split(" "), "--set") == expected.split(" ")


@pytest.mark.parametrize("main", [train, loop])
def test_every_override_counts(main, tmp_path, monkeypatch, capsys):
    """The first one is refused, which a parser that keeps the last would never see."""
    (tmp_path / "data").mkdir()
    words = [str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--set", "mu3=1"]
    monkeypatch.setattr("sys.argv", ["command", *words, "--set", "mu1=2.0"])
    seen = []

    def take(args):
        seen.append(args.set)
        raise ValueError("enough")

    monkeypatch.setattr(f"{main.__module__}.{'train' if main is train else 'run'}", take)
    with pytest.raises(SystemExit, match="enough"):
        main()
    assert seen == [["mu3=1", "mu1=2.0"]]
