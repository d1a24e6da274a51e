import importlib.util
import json

import pytest

from go2_sevpo.deploy.demo import safety_gymnasium as demo_safety
from go2_sevpo.deploy.demo.go2 import Args, demo
from go2_sevpo.deploy.demo.steps import table
from tests.offline_training.test_safety_tables import TINY, generated

PRESET = """
sevpo: {critic_steps: 20, policy_steps: 20, critic_hidden: [16], critic_batch: 16,
        actor_batch: 16, actor_updates: 1,
        actor: mlp, width: 16, depth: 2, choice: first}
bc: {steps: 20, batch: 16, width: 16, depth: 2}
"""


@pytest.mark.slow
@pytest.mark.xdist_group("demo")
def test_demo_runs_every_step_once_and_compares_both_policies(gaussian_onnx, tmp_path, capfd):
    (tmp_path / "mix.yaml").write_text(
        f"sources:\n- {{policy: {gaussian_onnx}, course: simple, episodes: 3, noise: 3.0}}\n"
    )
    (tmp_path / "preset.yaml").write_text(PRESET)
    args = Args(
        tmp_path / "demo",
        mix=str(tmp_path / "mix.yaml"),
        preset=str(tmp_path / "preset.yaml"),
        episodes=2,
        video=False,
    )
    text = demo(args)
    out = capfd.readouterr().out
    for command in ("go2-collect", "go2-train", "go2-export", "go2-play"):
        assert f"$ {command}" in out
    assert "SEVPO" in text
    assert "cloning" in text
    reports = [
        json.loads((tmp_path / "demo" / f"play_{n}" / "report.json").read_text())
        for n in ("sevpo", "bc")
    ]
    assert all(r["episodes"] == 2 for r in reports)
    assert f"{100 * reports[0]['success_rate']:.1f}%" in text
    assert demo(args).splitlines()[3:6] == text.splitlines()[3:6]  # nothing is done twice
    assert "$ go2" not in capfd.readouterr().out


def test_table_aligns_its_columns():
    lines = table([["policy", "success"], ["a long name", "1%"]]).splitlines()
    assert lines[0].index("success") == lines[2].index("1%")


@pytest.mark.skipif(
    importlib.util.find_spec("safety_gymnasium") is None, reason="Safety-Gymnasium is not installed"
)
@pytest.mark.slow
@pytest.mark.xdist_group("demo")
def test_safety_demo_runs_every_step_once(tmp_path, capfd):
    (tmp_path / "preset.yaml").write_text(TINY + "bc: {steps: 4, batch: 16, width: 16, depth: 2}\n")
    out = tmp_path / "demo" / "x"
    generated(out / "generated_CarGoal1.hdf5")
    (out / "generated_CarGoal1.json").write_text('{"task": "CarGoal1"}')
    args = demo_safety.Args(
        out,
        safe_samples=100,
        preset=str(tmp_path / "preset.yaml"),
        set=("policy_steps=3",),
        set_bc=("steps=3",),
        episodes=2,
        video=False,
    )
    text = demo_safety.demo(args)
    said = capfd.readouterr().out
    assert all(f"$ {c}" in said for c in ("go2-dsrl mix", "go2-train", "go2-export", "go2-play"))
    assert "not DSRL's" in text and text.count("\n") >= 4
    report = json.loads((out / "play_sevpo" / "report.json").read_text())
    assert report["episodes"] == 2 and f"{report['return_mean']:.1f}" in text
    assert json.loads((out / "sevpo" / "config.json").read_text())["config"]["policy_steps"] == 3
    assert demo_safety.demo(args).splitlines()[2:] == text.splitlines()[2:]
    assert "$ go2" not in capfd.readouterr().out
