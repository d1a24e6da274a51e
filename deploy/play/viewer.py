"""Play in an interactive viewer, in real time: MuJoCo's, or Isaac Gym's own where that simulates."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import torch

from go2_sevpo.deploy.play.go2 import evaluation_env, noise_scale
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.scene import scene_xml
from go2_sevpo.envs.go2.rollout import onnx_policy
from go2_sevpo.envs.seeds import play_stream
from go2_sevpo.policies.onnx_policy import OnnxPolicy

ISAACGYM_ROBOTS = 16


def view(policy: OnnxPolicy, args: Any) -> None:
    """Show episode after episode until the window is closed.

    Raises:
        RuntimeError: no screen to open a window on.
    """
    if args.simulator == "isaacgym":
        _view_isaacgym(policy, args)
        return
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        raise RuntimeError(
            "no screen to open a window on (DISPLAY is not set); use --video instead"
        )
    import mujoco.viewer

    act = onnx_policy(policy, play_stream(args.seed, 0), noise_scale(args, policy))
    episode = 0
    while True:
        env = evaluation_env(args, 1, episode)
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
                window.cam.type = mujoco.mjtCamera.mjCAMERA_TRACKING
                window.cam.trackbodyid = model.body("base").id
                window.cam.distance, window.cam.azimuth, window.cam.elevation = 2.6, 125.0, -18.0
            while window.is_running() and bool(env.active.any()):
                start = time.perf_counter()
                action, _ = act(obs, spent)
                obs, _, cost, *_ = env.step(torch.clamp(action, -1.0, 1.0))
                spent = spent + cost
                data.qpos[:] = env.sim.visual_state(0)[1]
                mujoco.mj_forward(model, data)
                window.sync()
                time.sleep(max(0.0, r.CONTROL_DT - (time.perf_counter() - start)))
            closed = not window.is_running()
        env.close()
        episode += 1
        if closed:
            return


def _view_isaacgym(policy: OnnxPolicy, args: Any) -> None:
    """One simulation for all episodes (Isaac Gym bears one per process), several robots in it; the
    camera follows the first.
    """
    env = evaluation_env(args, min(args.episodes, ISAACGYM_ROBOTS), viewer=True)
    act = onnx_policy(policy, play_stream(args.seed, 0), noise_scale(args, policy))
    window, episode = env.sim.window, 0
    try:
        while not window.closed:
            obs, spent = (
                env.reset(play_stream(args.seed, 0) + episode),
                torch.zeros(env.num_envs, device=env.device),
            )
            while bool(env.active.any()) and not window.closed:
                action, _ = act(obs, spent)
                obs, _, cost, *_ = env.step(torch.clamp(action, -1.0, 1.0))
                spent = spent + cost
            episode += 1
    finally:
        env.close()
