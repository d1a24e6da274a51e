"""Play in an interactive viewer, in real time.

It is MuJoCo's, or Isaac Gym's own where that simulates.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, cast

import torch

from go2_sevpo.deploy.play.arguments import Args
from go2_sevpo.deploy.play.go2 import evaluation_env, noise_scale
from go2_sevpo.envs.go2.contract import task_version
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.scene import scene_xml
from go2_sevpo.envs.go2.rollout import onnx_policy
from go2_sevpo.envs.seeds import play_stream
from go2_sevpo.policies.onnx_policy import OnnxPolicy

if TYPE_CHECKING:
    import mujoco

    from go2_sevpo.envs.simulators.isaacgym.simulator import IsaacGymSimulator

ISAACGYM_ROBOTS = 16
"""Robots in Isaac Gym's viewer at most."""


def view(policy: OnnxPolicy, args: Args) -> None:
    """Show episode after episode until the window is closed.

    Raises:
        RuntimeError: no screen to open a window on.
    """
    if args.simulator == "isaacgym":
        _view_isaacgym(policy, args)
        return
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not screen:
        raise RuntimeError(
            "no screen to open a window on (DISPLAY is not set); use --video instead"
        )
    import mujoco.viewer

    act = onnx_policy(policy, play_stream(args.seed, 0), noise_scale(args, policy))
    episode = 0
    while True:
        env = evaluation_env(args, 1, episode, version=task_version(policy.contract))
        # A second model of the course, with the robot's looks: it only shows, env simulates.
        model = mujoco.MjModel.from_xml_string(scene_xml(env.courses[0], visuals=True))
        data = mujoco.MjData(model)
        obs, spent = env.reset(play_stream(args.seed, 0) + episode), torch.zeros(1)
        try:
            window = mujoco.viewer.launch_passive(
                model, data, show_left_ui=False, show_right_ui=False
            )
        except Exception as error:
            raise RuntimeError(
                f"cannot open a window: {error}; use --video on a machine without a screen"
            ) from error
        with window:
            with window.lock():
                _follow(window.cam, model.body("base").id)
            while window.is_running() and bool(env.active.any()):
                start = time.perf_counter()
                action, _ = act(obs, spent)
                obs, _, cost, *_ = env.step(torch.clamp(action, -1.0, 1.0))
                spent = spent + cost
                data.qpos[:] = env.sim.visual_state(0)[1]
                mujoco.mj_forward(model, data)
                window.sync()
                # Real time: what is left of the control step.
                time.sleep(max(0.0, r.CONTROL_DT - (time.perf_counter() - start)))
            closed = not window.is_running()
        env.close()
        episode += 1
        if closed:
            return


def _follow(camera: mujoco.MjvCamera, body: int) -> None:
    """Let the camera follow ``body`` from the side, 2.6 m away and 18 degrees above."""
    import mujoco

    camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING
    camera.trackbodyid = body
    camera.distance, camera.azimuth, camera.elevation = 2.6, 125.0, -18.0


def _view_isaacgym(policy: OnnxPolicy, args: Args) -> None:
    """One simulation for all episodes (Isaac Gym bears one per process), several robots in it.

    The camera follows the first.
    """
    robots, version = min(args.episodes, ISAACGYM_ROBOTS), task_version(policy.contract)
    env = evaluation_env(args, robots, viewer=True, version=version)
    act = onnx_policy(policy, play_stream(args.seed, 0), noise_scale(args, policy))
    window, episode = cast("IsaacGymSimulator", env.sim).window, 0
    assert window is not None  # viewer=True opens one
    try:
        while not window.closed:
            obs = env.reset(play_stream(args.seed, 0) + episode)
            spent = torch.zeros(env.num_envs, device=env.device)  # (N,) cost so far
            while bool(env.active.any()) and not window.closed:
                action, _ = act(obs, spent)
                obs, _, cost, *_ = env.step(torch.clamp(action, -1.0, 1.0))
                spent = spent + cost
            episode += 1
    finally:
        env.close()
