"""Train-collect-train: the whole loop at a tiny size, and the door that stays shut for unsafe
policies.
"""

import json
from dataclasses import replace

import pytest

from go2_sevpo.data_collection.collect import Args as CollectArgs
from go2_sevpo.data_collection.collect import collect
from go2_sevpo.offline_training.loop.cli import Args, run
from go2_sevpo.offline_training.loop.worlds import collector
from go2_sevpo.policies.onnx_policy import OnnxPolicy
from go2_sevpo.runs.settings import keep_settings
from tests.offline_training.test_table5 import TINY

pytestmark = pytest.mark.xdist_group("loop")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loop")
    (folder / "tiny.yaml").write_text(TINY)
    collect(CollectArgs(out=folder / "data", policy="weak", course="simple", episodes=2, threads=1))
    return folder


def options(place, **changes):
    return Args(
        (place / "data",),
        place / "out",
        courses=("simple",),
        episodes=2,
        preset=str(place / "tiny.yaml"),
        play_episodes=2,
        threads=1,
        **changes,
    )


@pytest.mark.slow
def test_unsafe_policies_may_not_collect_safe_ones_may_with_more_noise_if_asked_to(
    place, capsys, in_process
):
    noisy = {"collect_temperature": 0.7, "set": ["mu1=4", "weight_clip=7"]}
    closed = run(options(place, rounds=1, safe_enough=-1.0, **noisy))
    assert len(closed) == 1 and not closed[0]["may_collect"]
    assert "not safe enough to collect; stopped" in capsys.readouterr().out
    opened = run(options(place, rounds=1, safe_enough=1.0, **noisy))
    assert [len(r["data"]) for r in opened] == [1, 2]
    said = capsys.readouterr().out
    assert "=== collect on simple" in said
    assert said.count("=== train on") == 1  # the first training was kept
    assert json.loads((place / "out" / "loop.json").read_text()) == opened
    assert "| 1 | 2 | simple |" in (place / "out" / "loop.md").read_text()
    first = place / "out" / "round_0"
    assert OnnxPolicy(first / "collector.onnx").contract["sampler"]["temperature"] == 0.7
    assert OnnxPolicy(first / "policy.onnx").contract["sampler"]["temperature"] == 1.0
    config = json.loads((first / "train" / "config.json").read_text())["config"]
    assert (config["mu1"], config["weight_clip"]) == (4, 7)
    manifest = json.loads((first / "data_simple" / "manifest.json").read_text())
    assert manifest["sources"][0]["policy"].endswith("collector.onnx")


def test_another_setting_is_an_error_not_an_old_table(place, in_process):
    folder = place / "kept"
    given = {"rounds": 0, "safe_enough": 1.0}
    keep_settings(folder, vars(replace(options(place, **given), out=folder)))
    for changes, text in (
        ({"algorithm": "bc"}, "algorithm: sevpo -> bc"),
        ({"seed": 3}, "seed: 0 -> 3"),
        ({"play_episodes": 5}, "play_episodes: 2 -> 5"),
    ):
        with pytest.raises(ValueError, match=f"was begun with other settings: {text}"):
            run(replace(options(place, **given), out=folder, **changes))


def test_the_trained_policy_itself_collects_by_default(place):
    folder = place / "default"
    assert collector(options(place), folder, folder / "policy.onnx") == folder / "policy.onnx"
    assert not folder.exists()


def test_a_failing_step_is_named(place, in_process):
    with pytest.raises(ValueError, match=r"train on nowhere stopped with status 1"):
        run(Args((place / "nowhere",), place / "other", courses=("simple",)))
