"""Videos of episodes, and MuJoCo's viewer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import torch

from go2_sevpo.deploy.play.arguments import Args
from go2_sevpo.deploy.play.go2 import evaluation_env, noise_scale
from go2_sevpo.envs.go2.contract import task_version
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.go2.rollout import onnx_policy, run_episodes
from go2_sevpo.envs.seeds import play_stream
from go2_sevpo.policies.onnx_policy import OnnxPolicy
from go2_sevpo.runs.files import atomic_path

FPS = 25


def graphics_problem() -> Optional[str]:
    """Why pictures cannot be rendered here, or None if they can."""
    try:
        import mujoco

        mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 16, 16).close()
    except Exception as error:  # every GL back end fails in its own way
        message = str(error).splitlines()[0] if str(error) else "no message"
        return f"{type(error).__name__}: {message}"
    return None


def record_video(
    policy: OnnxPolicy, args: Args, path: Path, width: int = 640, height: int = 360
) -> Optional[Path]:
    """Render one episode to the mp4 ``path``; returns the path.

    A small animated WebP for web pages is written beside it. None (with a line saying why) without
    graphics.
    """
    problem = graphics_problem()
    if problem:
        print(
            f"no video: {problem}. On Debian or Ubuntu: apt-get install libegl1 libgl1 "
            "(or set MUJOCO_GL=osmesa)",
            flush=True,
        )
        return None
    version = task_version(policy.contract)
    env, stream = evaluation_env(args, 1, version=version), play_stream(args.seed, 0)
    frames: List[np.ndarray] = []  # (height, width, 3) uint8 each
    interval = round(1.0 / (FPS * r.CONTROL_DT))  # control steps per picture

    def each_step(world: Go2Parkour, _values: torch.Tensor, _info: Dict[str, Any]) -> None:
        if int(world.episode_length[0]) % interval == 0:
            frames.append(env.sim.render(0, width, height))

    try:
        act = onnx_policy(policy, stream, noise_scale(args, policy))
        run_episodes(env, act, stream, each_step=each_step)
    finally:
        env.close()
    frames.extend(frames[-1:] * (FPS // 2))  # half a second on the last picture
    write_animation(path.with_suffix(".webp"), frames)
    return write_mp4(path, frames)


def write_mp4(path: Path, frames: List[np.ndarray], fps: int = FPS) -> Path:
    """Write images (height, width, 3) uint8 as a film."""
    import imageio

    coding: Dict[str, Any] = {"codec": "libx264", "quality": 7, "macro_block_size": 8}
    with atomic_path(path) as temporary:
        # ffmpeg goes by the ending of the name.
        film = temporary.with_suffix(path.suffix)
        try:
            with imageio.get_writer(str(film), fps=fps, **coding) as writer:
                for image in frames:
                    # The stub names the writer's base class.
                    writer.append_data(image)  # type: ignore[attr-defined]
            film.replace(temporary)
        finally:
            film.unlink(missing_ok=True)
    return path


def write_animation(path: Path, frames: List[np.ndarray], fps: int = FPS) -> Path:
    """Write images (height, width, 3) uint8 as an animated WebP that repeats.

    Every second image at 60% of its size keeps the file small.
    """
    from PIL import Image

    height, width = frames[0].shape[:2]
    size = round(0.6 * width), round(0.6 * height)
    images = [Image.fromarray(f).resize(size) for f in frames[::2]]
    duration = round(2000 / fps)  # ms per image, twice a frame's
    animation: Dict[str, Any] = {"duration": duration, "loop": 0, "quality": 60, "method": 4}
    with atomic_path(path) as temporary:
        images[0].save(str(temporary), "WEBP", save_all=True, append_images=images[1:], **animation)
    return path
