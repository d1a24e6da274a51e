"""``go2-doctor``: what is installed, what works, what is missing and how to get it."""

from __future__ import annotations

import sys

from go2_sevpo.envs.simulators.isaacgym.early import prepare

# Isaac Gym, if it is asked for, must be imported before torch.
prepare(["--simulator", "isaacgym"] if "--isaacgym" in sys.argv[1:] else [])

import os
import platform
import time
from dataclasses import dataclass
from importlib import import_module
from typing import Callable, Iterable, Iterator, List, Optional, Tuple

import tyro

_PACKAGES = (
    ("numpy", "numpy", ""),
    ("torch", "torch", ""),
    ("mujoco", "mujoco", ""),
    ("gymnasium", "gymnasium", ""),
    ("h5py", "h5py", ""),
    ("safetensors", "safetensors", ""),
    ("onnx", "onnx", ""),
    ("onnxruntime", "onnxruntime", ""),
    ("rsl_rl", "rsl-rl-lib", "only to train experts: pip install 'go2-sevpo[expert]'"),
    ("tensorboard", "tensorboard", ""),
    ("matplotlib", "matplotlib", ""),
    ("imageio", "imageio", ""),
)
_SIMULATORS = (
    ("mujoco", "MuJoCo (default, CPU)", "pip install mujoco"),
    ("mujoco_warp", "MuJoCo Warp (NVIDIA GPU)", "pip install mujoco-warp; needs an NVIDIA GPU"),
    ("isaacgym", "Isaac Gym Preview 4", "download from NVIDIA, Python 3.8 only"),
)


@dataclass
class Check:
    """One line of the report: ``ok`` None means optional and absent."""

    name: str
    ok: Optional[bool]
    text: str


def _version(distribution: str, module: str) -> Optional[str]:
    try:
        from importlib.metadata import PackageNotFoundError, version
    except ImportError:
        return None
    # A package may be there under another distribution's name; then the module itself is asked.
    try:
        return version(distribution)
    except PackageNotFoundError:
        pass
    try:
        return str(getattr(import_module(module), "__version__", "unknown version"))
    except ImportError:
        return None


def packages() -> List[Check]:
    """Versions of what the stack uses."""
    checks = []
    for module, distribution, hint in _PACKAGES:
        found = _version(distribution, module)
        absent = None if hint else False  # what comes with a hint is optional
        missing = hint or f"missing: pip install {distribution}"
        checks.append(Check(distribution, True if found else absent, found or missing))
    return checks


def simulators() -> List[Check]:
    """Which simulators can be imported."""
    checks = []
    for module, name, hint in _SIMULATORS:
        found = _version(module.replace("_", "-"), module)
        absent = False if module == "mujoco" else None  # the others are optional
        checks.append(Check(name, True if found else absent, found or f"not found; {hint}"))
    return checks


def threads() -> List[Check]:
    """Thread settings that decide speed."""
    import torch

    policy = os.environ.get("OMP_WAIT_POLICY", "not set")
    note = ""
    if policy.lower() != "passive":
        note = " (PASSIVE is faster when torch shares cores with physics; the trainers set it)"
    cuda = torch.cuda.is_available()
    return [
        Check("cores", True, str(os.cpu_count())),
        Check("torch threads", True, str(torch.get_num_threads())),
        Check("OMP_WAIT_POLICY", True, policy + note),
        Check("CUDA", cuda or None, "available" if cuda else "no NVIDIA GPU; not needed"),
    ]


def graphics() -> List[Check]:
    """Whether pictures and videos can be rendered."""
    from go2_sevpo.deploy.play.video import graphics_problem

    problem = graphics_problem()
    if problem is None:
        return [Check("rendering", True, f"works ({os.environ.get('MUJOCO_GL', 'default')})")]
    hint = "only needed for videos; on Debian or Ubuntu: apt-get install libegl1 libgl1"
    return [Check("rendering", None, f"{problem}; {hint}")]


def physics(seconds: float = 1.0) -> List[Check]:
    """Stand in 16 worlds and check weight and height; says how fast it went.

    Args:
        seconds: of simulated time.
    """
    import torch

    from go2_sevpo.envs.go2.description import robot as r
    from go2_sevpo.envs.go2.description.course import make_course
    from go2_sevpo.envs.simulators.mujoco import MujocoSimulator

    worlds = 16
    sim = MujocoSimulator(worlds, [make_course("flat")])
    target = torch.tensor(r.DEFAULT_JOINT_POSITIONS).repeat(worlds, 1)  # (N, 12)
    steps = round(seconds / r.CONTROL_DT)
    start = time.perf_counter()
    for _ in range(steps):
        sim.step(target)
    rate = worlds * steps / (time.perf_counter() - start)
    state = sim.read()
    sim.close()
    # At rest the feet carry the robot: sum of forces / g is its mass, kg.
    weight = float(state.foot_force[0].sum()) / 9.81
    height = float(state.base_position[0, 2])
    right = abs(weight - r.TOTAL_MASS) < 0.5 and 0.2 < height < 0.4
    text = (
        f"stands at {height:.3f} m, feet carry {weight:.2f} kg (expected {r.TOTAL_MASS}), "
        f"{rate:.0f} control steps/s"
    )
    return [Check("physics self-test", right, text)]


def policies() -> List[Check]:
    """Whether the shipped policies load and fit."""
    from go2_sevpo.envs.go2.contract import fitting_version
    from go2_sevpo.policies.contract import ContractError
    from go2_sevpo.policies.onnx_policy import OnnxPolicy, find_policy

    checks = []
    for name in ("expert", "weak"):
        try:
            policy = OnnxPolicy(find_policy(name))
            version = fitting_version(policy.contract, name)
            digest = policy.identity["sha256"][:12]
            text = f"loads and fits version {version} of the task, SHA-256 {digest}"
            checks.append(Check(f"policy {name}", True, text))
        except ContractError as error:
            checks.append(Check(f"policy {name}", False, str(error)))
    return checks


Section = Tuple[str, Callable[[], Iterable[Check]]]
SECTIONS: Tuple[Section, ...] = (
    ("packages", packages),
    ("simulators", simulators),
    ("threads", threads),
    ("graphics", graphics),
    ("physics", physics),
    ("policies", policies),
)


def isaacgym() -> Iterator[Check]:
    """What public sources leave open about Isaac Gym, measured."""
    from go2_sevpo.deploy.doctor.isaacgym import examine

    for name, right, text in examine():
        yield Check(name, right, text)


def _all_of(title: str, section: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """The doctor reports every fault instead of stopping at the first."""
    try:
        yield from section()
    except Exception as error:
        yield Check(title, False, f"{type(error).__name__}: {error}")


@dataclass
class Args:
    """Report versions, simulators, threads, graphics and a one-second physics self-test."""

    isaacgym: bool = False
    """Measure Isaac Gym instead, on a machine that has it; send us the report."""


def main() -> None:
    """Entry point of ``go2-doctor``; exits with 1 if something needed is missing or wrong."""
    args = tyro.cli(Args)
    measured: Tuple[Section, ...] = (("packages", packages), ("Isaac Gym", isaacgym))
    chosen = measured if args.isaacgym else SECTIONS
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    wrong = 0
    for title, section in chosen:
        print(f"\n{title}")
        for check in _all_of(title, section):
            mark = {True: "ok  ", False: "FAIL", None: "--  "}[check.ok]
            wrong += check.ok is False
            print(f"  {mark} {check.name:40s} {check.text}", flush=True)
    print(f"\n{'all that is needed works' if not wrong else f'{wrong} problems'}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
