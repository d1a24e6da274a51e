"""Configuration of PPO training: what is simulated and how PPO runs.

Presets are YAML files in ``configs/``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Tuple, Type, TypeVar

import yaml

from go2_sevpo.envs.go2.config import VERSIONS, ParkourConfig, Randomization
from go2_sevpo.envs.go2.description.course import Shape
from go2_sevpo.envs.go2.rewards import RewardWeights

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CONFIG_DIR = Path(__file__).parent / "configs"
_MIRROR = "go2_sevpo.data_collection.experts.rsl_rl_adapter:mirror_augmentation"
"""rsl_rl imports it by this name."""
_NESTED = {"randomization": Randomization, "reward": RewardWeights, "shape": Shape}
"""Keys of the environment's configuration that are configurations themselves."""
T = TypeVar("T", bound="DataclassInstance")


@dataclass(frozen=True)
class PpoConfig:
    """PPO as rsl_rl runs it; pairs are annealed linearly from the first to the second value."""

    iterations: int = 1000
    steps_per_iteration: int = 24
    hidden: Tuple[int, ...] = (256, 128, 64)
    epochs: int = 3
    minibatches: int = 3
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    desired_kl: float = 0.012
    entropy: Tuple[float, float] = (0.004, 0.0005)
    max_learning_rate: Tuple[float, float] = (2e-3, 2e-4)
    initial_std: float = 0.8
    critic_iterations: int = 0
    """First iterations that train the critic alone: for an actor that was not trained with it."""
    mirror: bool = True
    """Left-right mirrored samples appended to every minibatch."""

    def to_rsl_rl(self) -> Dict[str, Any]:
        """Return the configuration in rsl-rl-lib 5.x's form."""
        model = {
            "class_name": "MLPModel",
            "hidden_dims": list(self.hidden),
            "activation": "elu",
            "obs_normalization": False,
        }
        noise = {
            "class_name": "GaussianDistribution",
            "init_std": self.initial_std,
            "std_range": (0.05, 2.0),
            "std_type": "log",
        }
        symmetry = {
            "use_data_augmentation": True,
            "use_mirror_loss": False,
            "data_augmentation_func": _MIRROR,
        }
        return {
            "num_steps_per_env": self.steps_per_iteration,
            "save_interval": 10**9,  # never: the checkpoints are ours
            # The critic sees the simulation's truth too.
            "obs_groups": {"actor": ["policy"], "critic": ["policy", "privileged"]},
            "actor": {**model, "distribution_cfg": noise},
            "critic": dict(model),
            "algorithm": {
                "class_name": "PPO",
                "num_learning_epochs": self.epochs,
                "num_mini_batches": self.minibatches,
                "gamma": self.gamma,
                "lam": self.gae_lambda,
                "clip_param": self.clip,
                "desired_kl": self.desired_kl,
                "entropy_coef": self.entropy[0],
                "learning_rate": 1e-3,
                "schedule": "adaptive",
                "value_loss_coef": 1.0,
                "use_clipped_value_loss": True,
                "max_grad_norm": 1.0,
                "symmetry_cfg": symmetry if self.mirror else None,
            },
        }


@dataclass(frozen=True)
class ExpertConfig:
    """Everything that decides a training run."""

    env: ParkourConfig = field(default_factory=ParkourConfig)
    ppo: PpoConfig = field(default_factory=PpoConfig)


def _build(cls: Type[T], values: Dict[str, Any], where: str) -> T:
    """An instance of a dataclass from parsed YAML; ``where`` is what messages call the place.

    Raises:
        ValueError: a key that the dataclass does not have.
    """
    known = [f.name for f in fields(cls)]
    clean: Dict[str, Any] = {}
    for key in values:
        if key not in known:
            raise ValueError(f"unknown key '{key}' in {where}, expected one of {', '.join(known)}")
    for key, value in values.items():
        if key in _NESTED and isinstance(value, dict):
            value = _build(_NESTED[key], value, f"{where}.{key}")
        # YAML knows lists only, the dataclasses hold tuples.
        clean[key] = tuple(value) if isinstance(value, list) else value
    return cls(**clean)


def load_config(path: Path) -> ExpertConfig:
    """Read a training configuration from YAML.

    Raises:
        ValueError: the file is missing, or has a key or value that is not understood.
    """
    if not path.is_file():
        presets = ", ".join(sorted(p.stem for p in CONFIG_DIR.glob("*.yaml")))
        raise ValueError(f"no configuration at {path}; presets are {presets}")
    data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    for key in data:
        if key not in ("env", "ppo"):
            raise ValueError(f"unknown section '{key}' in {path}, expected env, ppo")
    env = dict(data.get("env", {}))
    if isinstance(env.get("version"), int) and env["version"] in VERSIONS:
        # What the preset does not name is as that version of the task has it.
        base = asdict(Randomization.of(env["version"]))
        env["randomization"] = {**base, **env.get("randomization", {})}
    return ExpertConfig(
        _build(ParkourConfig, env, "env"),
        _build(PpoConfig, data.get("ppo", {}), "ppo"),
    )
