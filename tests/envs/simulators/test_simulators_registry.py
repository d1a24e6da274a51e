"""Back ends by name, the environment above MuJoCo Warp, and what a user without a package reads."""

import builtins

import pytest
import torch

from go2_sevpo.envs.go2.config import ParkourConfig
from go2_sevpo.envs.go2.description.course import make_course
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.simulators.base import Dynamics, SimulationError
from go2_sevpo.envs.simulators.registry import make_simulator


def test_unknown_name_lists_the_known():
    with pytest.raises(
        ValueError,
        match="unknown simulator 'bullet', expected one of mujoco, mujoco-warp, isaacgym",
    ):
        make_simulator("bullet", 1, [make_course("flat", 0.0, 0)])


def test_missing_package_is_one_clear_line(monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.split(".")[0] == "mujoco_warp":
            raise ImportError("No module named 'mujoco_warp'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(
        ValueError,
        match=r"needs the packages mujoco-warp and warp-lang .*pip install 'go2-sevpo\[warp\]'",
    ):
        make_simulator("mujoco-warp", 1, [make_course("flat", 0.0, 0)])


@pytest.fixture
def warp_on_cpu(monkeypatch):
    pytest.importorskip("mujoco_warp")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.slow
def test_environment_runs_alike_on_both_back_ends(warp_on_cpu):
    """Same seeds, same actions: the same courses and draws, and after 0.3 s of standing still
    nearly the same state.
    """
    states = {}
    for name in ("mujoco", "mujoco-warp"):
        env = Go2Parkour(
            ParkourConfig(
                num_envs=4, courses=("simple", "hard"), shares=(0.5, 0.5), simulator=name
            ),
            True,
        )
        obs = env.reset(3)
        for _ in range(15):
            obs, _, cost, terminated, truncated, _ = env.step(torch.zeros(4, 12))
            assert torch.isfinite(obs).all()
            assert not terminated.any() and not truncated.any()
        states[name] = env.sim.read()
        env.close()
    a, b = states.values()
    assert torch.allclose(a.base_position, b.base_position, atol=0.01)
    assert torch.allclose(a.joint_position, b.joint_position, atol=0.05)
    assert (a.foot_force.sum(1) - b.foot_force.sum(1)).abs().max() < 40.0


def test_overflow_is_raised_not_printed(warp_on_cpu, monkeypatch):
    from go2_sevpo.envs.simulators import mujoco_warp as module

    monkeypatch.setattr(
        module, "CONSTRAINTS_PER_WORLD", 14
    )  # twelve rows of dry friction leave two for contacts
    sim = module.MujocoWarpSimulator(2, [make_course("flat", 0.0, 0)])
    target = sim.read().joint_position
    with pytest.raises(
        SimulationError,
        match="world 0 on course flat .* more contacts or constraints than were allocated",
    ):
        for _ in range(10):
            sim.step(target)
    sim.close()


def test_payload_out_of_range_is_refused(warp_on_cpu):
    sim = make_simulator("mujoco-warp", 1, [make_course("flat", 0.0, 0)])
    with pytest.raises(
        ValueError, match=r"payload is \[100.0\] kg, expected within \[-5.0, 15.0\]"
    ):
        sim.assign(
            torch.tensor([0]),
            torch.tensor([0]),
            Dynamics(torch.ones(1), torch.tensor([100.0]), torch.ones(1)),
        )
    sim.close()
