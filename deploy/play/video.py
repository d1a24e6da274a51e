"""Videos of episodes, and MuJoCo's viewer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Optional

import numpy as np

from go2_sevpo.deploy.play.go2 import evaluation_env, noise_scale
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.go2.rollout import onnx_policy, run_episodes
from go2_sevpo.envs.seeds import play_stream
from go2_sevpo.policies.onnx_policy import OnnxPolicy

FPS = 25


def graphics_problem() -> Optional[str]:
    """Why pictures cannot be rendered here, or None if they can."""
    try:
        import mujoco

        mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 16, 16).close()
    except Exception as error:  # every GL back end fails in its own way
        return (
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        )
    return None


def record_video(
    policy: OnnxPolicy, args: Any, path: Path, width: int = 640, height: int = 360
) -> Optional[Path]:
    """Render one episode to an mp4, and beside it to a small animated WebP for web pages; returns
    the film's path.

    None (with a line saying why) without graphics.
    """
    problem = graphics_problem()
    if problem:
        print(
            f"no video: {problem}. On Debian or Ubuntu: apt-get install libegl1 libgl1 (or set MUJOCO_GL=osmesa)",
            flush=True,
        )
        return None
    env, stream = evaluation_env(args, 1), play_stream(args.seed, 0)
    frames: List[np.ndarray] = []

    def each_step(world: Go2Parkour, _values: Any, _info: Any) -> None:
        if int(world.episode_length[0]) % round(1.0 / (FPS * 0.02)) == 0:
            frames.append(env.sim.render(0, width, height))

    try:
        run_episodes(
            env, onnx_policy(policy, stream, noise_scale(args, policy)), stream, each_step=each_step
        )
    finally:
        env.close()
    frames.extend(frames[-1:] * (FPS // 2))
    write_animation(path.with_suffix(".webp"), frames)
    return write_mp4(path, frames)


def write_mp4(path: Path, frames: List[np.ndarray], fps: int = FPS) -> Path:
    """Write images (height, width, 3) uint8 as a film."""
    import imageio

    path.parent.mkdir(parents=True, exist_ok=True)
    with imageio.get_writer(
        str(path), fps=fps, codec="libx264", quality=7, macro_block_size=8
    ) as writer:
        for image in frames:
            writer.append_data(image)
    return path


def write_animation(path: Path, frames: List[np.ndarray], fps: int = FPS) -> Path:
    """Write every second image (height, width, 3) uint8 at 60% of its size as an animated WebP that
    repeats.
    """
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    size = round(0.6 * width), round(0.6 * height)
    images = [Image.fromarray(f).resize(size) for f in frames[::2]]
    images[0].save(
        str(path),
        save_all=True,
        append_images=images[1:],
        duration=round(2000 / fps),
        loop=0,
        quality=60,
        method=4,
    )
    return path
