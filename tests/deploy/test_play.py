import json
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch

from go2_sevpo.deploy.export.cli import write_onnx
from go2_sevpo.deploy.play.arguments import Args
from go2_sevpo.deploy.play.cli import main, play
from go2_sevpo.deploy.play.go2 import evaluate, show
from go2_sevpo.policies.contract import ContractError
from go2_sevpo.policies.onnx_graph import add_metadata
from go2_sevpo.policies.onnx_policy import OnnxPolicy
from go2_sevpo.policies.torch_policy import GaussianPolicy
from tests.conftest import contract_of

KEYS = {
    "policy",
    "course",
    "difficulty",
    "seed",
    "episodes",
    "success_rate",
    "success_interval",
    "fall_rate",
    "fall_interval",
    "timeout_rate",
    "return_mean",
    "cost_mean",
    "cost_max",
    "failure_rate",
    "steps_mean",
    "inference_ms_p50",
    "inference_ms_p99",
    "non_finite_actions",
}


def arguments(path, out, **changes):
    return Args(
        str(path), **{"episodes": 5, "noise": 1.0, "seed": 3, "out": out, "threads": 1, **changes}
    )


def strip(report):
    return {k: v for k, v in report.items() if k not in ("control_steps_per_second", "arguments")}


@pytest.fixture(scope="module")
def short(request):
    """Episodes of 3 seconds keep the tests quick."""
    from go2_sevpo.envs.go2.config import ParkourConfig

    patch = pytest.MonkeyPatch()
    original = ParkourConfig.__init__

    def init(self, *args, **kwargs):
        original(self, *args, **{**kwargs, "episode_seconds": 3.0})

    patch.setattr(ParkourConfig, "__init__", init)
    yield
    patch.undo()


def test_report_has_every_promised_number_and_a_record_per_episode(gaussian_onnx, tmp_path, short):
    report = play(arguments(gaussian_onnx, tmp_path))
    saved = json.loads((tmp_path / "report.json").read_text())
    assert set(saved) >= KEYS
    assert len(saved["episodes_detail"]) == saved["episodes"] == 5
    low, high = saved["success_interval"]
    assert low <= saved["success_rate"] <= high
    assert saved["success_rate"] + saved["failure_rate"] == pytest.approx(1.0)
    assert saved["success_rate"] + saved["fall_rate"] + saved["timeout_rate"] == pytest.approx(1.0)
    page = (tmp_path / "report.html").read_text()
    assert "fall" in page
    assert page.count("data:image/png") >= 1
    assert "success" in show(report)


def test_same_seed_gives_the_same_report_whatever_the_threads(gaussian_onnx, tmp_path, short):
    reports = [
        evaluate(OnnxPolicy(gaussian_onnx), arguments(gaussian_onnx, tmp_path, threads=t))
        for t in (1, 2)
    ]
    assert strip(reports[0]) == strip(reports[1])
    other = evaluate(OnnxPolicy(gaussian_onnx), arguments(gaussian_onnx, tmp_path, seed=4))
    assert strip(other)["episodes_detail"] != strip(reports[0])["episodes_detail"]


def test_policy_for_another_robot_is_refused(gaussian_onnx, tmp_path):
    policy = OnnxPolicy(gaussian_onnx)
    policy.contract["kp"][0] = 55.0
    with pytest.raises(ContractError, match=r"field 'kp\[0\]' is 55.0, the environment has 30.0"):
        evaluate(policy, arguments(gaussian_onnx, tmp_path))


def test_bad_arguments_are_named(gaussian_onnx, tmp_path):
    with pytest.raises(ValueError, match="unknown course 'moon'"):
        play(arguments(gaussian_onnx, tmp_path, course="moon"))
    with pytest.raises(ValueError, match="episodes is 0"):
        play(arguments(gaussian_onnx, tmp_path, episodes=0))
    with pytest.raises(ContractError, match="candidates is 0"):
        play(arguments(gaussian_onnx, tmp_path, candidates=0))


def test_viewer_without_a_screen_says_so(gaussian_onnx, tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(RuntimeError, match="no screen to open a window on"):
        play(arguments(gaussian_onnx, tmp_path, viewer=True))


@pytest.mark.slow
def test_video_shows_the_robot_moving(gaussian_onnx, tmp_path, short):
    from go2_sevpo.deploy.play.video import graphics_problem

    if graphics_problem():
        pytest.skip(f"no graphics here: {graphics_problem()}")
    import imageio
    from PIL import Image

    play(arguments(gaussian_onnx, tmp_path, episodes=1, video=True))
    with imageio.get_reader(tmp_path / "video.mp4") as reader:
        frames = [reader.get_data(k) for k in range(reader.count_frames())]
    assert len(frames) >= 10
    assert frames[0].shape == (360, 640, 3)
    assert frames[0].std() > 20
    assert abs(frames[0].astype(float) - frames[8].astype(float)).mean() > 0.1
    assert "<video" in (tmp_path / "report.html").read_text()
    with Image.open(tmp_path / "video.webp") as animation:
        # The still frames at the end become one.
        assert animation.n_frames >= len(frames) // 2 - 7 and animation.size == (384, 216)


def test_command_line_prints_one_line_and_fails(tmp_path):
    import subprocess
    import sys

    done = subprocess.run(
        [str(Path(sys.executable).with_name("go2-play")), "nothing"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.strip().startswith("go2-play: no policy 'nothing'")
    assert len(done.stderr.strip().splitlines()) == 1


def test_actions_that_are_not_finite_end_the_command_with_an_error(tmp_path, monkeypatch, short):
    torch.manual_seed(0)
    policy = GaussianPolicy([265, 4, 12], torch.zeros(12), 1.0).eval()
    path = tmp_path / "broken.onnx"
    write_onnx(policy, contract_of(policy), torch.zeros(8, 265), path)
    model = onnx.load(str(path))
    for weight in model.graph.initializer:
        if onnx.numpy_helper.to_array(weight).dtype == np.float32:
            values = np.full(tuple(weight.dims), np.nan, np.float32)
            weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    add_metadata(model, "by", "hand")  # written so, not damaged
    onnx.save(model, str(path))
    words = ["go2-play", str(path), "--episodes", "2", "--threads", "1", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit, match="^go2-play: [1-9][0-9]* actions were not finite"):
        main()
    assert json.loads((tmp_path / "report.json").read_text())["non_finite_actions"] > 0
