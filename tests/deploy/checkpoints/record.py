"""Makes the checkpoints of other libraries that stand beside this file, by running those libraries.

``python -m tests.deploy.checkpoints.record OUT`` records with the rsl_rl that Python imports; run
it once for each version, in an environment of its own::

    pip install --no-deps --target lib/5.4.2 rsl-rl-lib==5.4.2     (2.3.3, 3.1.0, 3.3.0 likewise)
    pip install --no-deps --target lib/1.0.2 git+https://github.com/leggedrobotics/rsl_rl@v1.0.2
    PYTHONPATH=lib/5.4.2 python -m tests.deploy.checkpoints.record tests/deploy/checkpoints

Each case is a few iterations of the library's own runner on a toy environment whose observations
are far from standard normal, saved by the runner's own ``save``. The file ``NAME.json`` beside it
holds observations and what the library's own inference policy answered.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch

OBSERVATIONS, PRIVILEGED, ACTIONS, WORLDS = 5, 7, 12, 4
HIDDEN = [8, 6]
ROWS = 6
"""Recorded observations."""


class Toy:
    """Observations (4, 5) drawn anew at every step, with means and deviations far from 0 and 1."""

    num_envs, num_obs, num_privileged_obs, num_actions = WORLDS, OBSERVATIONS, PRIVILEGED, ACTIONS
    max_episode_length, device, cfg = 10, "cpu", {}

    def __init__(self, style: str) -> None:
        self.style = style
        self.generator = torch.Generator().manual_seed(7)
        self.episode_length_buf = torch.zeros(WORLDS, dtype=torch.long)
        self.unwrapped = self

    def draw(self, rows: int) -> torch.Tensor:
        """Observations (rows, 5)."""
        spread = torch.tensor([0.05, 0.5, 2.0, 10.0, 30.0])
        centre = torch.tensor([0.3, -1.0, 4.0, 0.0, -60.0])
        return centre + spread * torch.randn(rows, OBSERVATIONS, generator=self.generator)

    def _privileged(self) -> torch.Tensor:
        return torch.randn(WORLDS, PRIVILEGED, generator=self.generator)

    def _groups(self) -> Any:
        from tensordict import TensorDict

        wide = self._privileged()
        groups = {"policy": self.draw(WORLDS), "critic": wide, "teacher": wide}
        return TensorDict(groups, batch_size=[WORLDS])

    def get_observations(self) -> Any:
        """Observations in the form this version expects."""
        if self.style == "plain":
            return self.draw(WORLDS)
        if self.style == "extras":
            return self.draw(WORLDS), {"observations": {"critic": self._privileged()}}
        return self._groups()

    def get_privileged_observations(self) -> torch.Tensor:
        """What a critic of version 1 sees, (4, 7)."""
        return self._privileged()

    def reset(self) -> Tuple[Any, Any]:
        """Observations; the environment has no state."""
        if self.style == "plain":
            return self.draw(WORLDS), self._privileged()
        return self.get_observations(), {}

    def step(self, actions: torch.Tensor) -> Any:
        """Rewards small actions."""
        reward = -actions.square().mean(1)
        self.episode_length_buf = self.episode_length_buf + 1
        done = (self.episode_length_buf >= self.max_episode_length).long()
        self.episode_length_buf = self.episode_length_buf * (1 - done)
        extras: Dict[str, Any] = {"time_outs": done.float()}
        if self.style == "plain":
            return self.draw(WORLDS), self._privileged(), reward, done, extras
        if self.style == "extras":
            extras["observations"] = {"critic": self._privileged()}
            return self.draw(WORLDS), reward, done, extras
        return self._groups(), reward, done, extras


PPO: Dict[str, Any] = {
    "class_name": "PPO",
    "num_learning_epochs": 2,
    "num_mini_batches": 2,
    "learning_rate": 1e-2,
    "schedule": "fixed",
}


def found_version() -> str:
    """Version of the rsl_rl that is imported; the git tag v1.0.2 does not say."""
    import rsl_rl

    home = str(Path(str(rsl_rl.__file__)).parent.parent)
    for found in distributions(name="rsl-rl-lib", path=[home]):
        return found.version
    return "1.0.2"


def run_1(policy: str, **options: Any) -> Tuple[Any, str]:
    """A runner of v1.0.2."""
    config = {
        "runner": {
            "policy_class_name": policy,
            "algorithm_class_name": "PPO",
            "num_steps_per_env": 6,
            "save_interval": 10**9,
        },
        "algorithm": {k: v for k, v in PPO.items() if k != "class_name"},
        "policy": {"actor_hidden_dims": HIDDEN, "critic_hidden_dims": HIDDEN, **options},
    }
    return config, "plain"


def run_2(policy: str, normalise: bool, **options: Any) -> Tuple[Any, str]:
    """A runner of 2.x; 3.x differs in the observation groups."""
    config = {
        "num_steps_per_env": 6,
        "save_interval": 10**9,
        "empirical_normalization": normalise,
        "algorithm": dict(PPO),
        "policy": {
            "class_name": policy,
            "actor_hidden_dims": HIDDEN,
            "critic_hidden_dims": HIDDEN,
            **options,
        },
    }
    return config, "extras"


def run_3(policy: str, normalise: bool, **options: Any) -> Tuple[Any, str]:
    """A runner of 3.x."""
    config, _ = run_2(policy, normalise, **options)
    del config["empirical_normalization"]
    config["policy"].update(actor_obs_normalization=normalise, critic_obs_normalization=normalise)
    config["obs_groups"] = {"policy": ["policy"], "critic": ["critic"]}
    return config, "groups"


def run_5(model: str, normalise: bool, distribution: Dict[str, Any], **options: Any) -> Any:
    """A runner of 5.x."""
    common = {"hidden_dims": HIDDEN, "obs_normalization": normalise, **options}
    config = {
        "num_steps_per_env": 6,
        "save_interval": 10**9,
        "obs_groups": {"actor": ["policy"], "critic": ["critic"]},
        "algorithm": dict(PPO),
        "actor": {"class_name": model, "distribution_cfg": distribution, **common},
        "critic": {"class_name": model, **common},
    }
    return config, "groups"


DISTILLATION = {
    "class_name": "Distillation",
    "num_learning_epochs": 2,
    "gradient_length": 3,
    "learning_rate": 1e-2,
}


def distil_3() -> Tuple[Any, str]:
    """A student of 3.x."""
    config, style = run_3("StudentTeacher", True)
    config["algorithm"] = dict(DISTILLATION)
    config["policy"] = {
        "class_name": "StudentTeacher",
        "student_obs_normalization": True,
        "teacher_obs_normalization": True,
        "student_hidden_dims": HIDDEN,
        "teacher_hidden_dims": HIDDEN,
    }
    config["obs_groups"] = {"policy": ["policy"], "teacher": ["teacher"]}
    return config, style


def distil_5() -> Tuple[Any, str]:
    """A student of 5.x."""
    config, style = run_5("MLPModel", True, dict(GAUSSIAN))
    config["student"], config["teacher"] = config.pop("actor"), config.pop("critic")
    config["algorithm"] = dict(DISTILLATION)
    config["obs_groups"] = {"student": ["policy"], "teacher": ["teacher"]}
    return config, style


RNN = {"rnn_type": "lstm", "rnn_num_layers": 1}
GAUSSIAN = {"class_name": "GaussianDistribution", "init_std": 0.7, "std_type": "log"}
SPREAD = {"class_name": "HeteroscedasticGaussianDistribution", "init_std": 0.7}
BETA = {"class_name": "BetaDistribution", "action_range": (-2.0, 1.0)}

CASES: Dict[str, Dict[str, Callable[[], Tuple[Any, str]]]] = {
    "1.0.2": {
        "plain": lambda: run_1("ActorCritic", activation="selu"),
        "recurrent": lambda: run_1("ActorCriticRecurrent", rnn_hidden_size=4),
    },
    "2.3.3": {
        "normalised": lambda: run_2("ActorCritic", True, noise_std_type="log"),
        "plain": lambda: run_2("ActorCritic", False, activation="tanh"),
        "recurrent": lambda: run_2("ActorCriticRecurrent", True, rnn_hidden_dim=4),
    },
    "3.1.0": {"normalised": lambda: run_3("ActorCritic", True)},
    "3.3.0": {
        "normalised": lambda: run_3("ActorCritic", True),
        "student": distil_3,
        "spread": lambda: run_3("ActorCritic", True, state_dependent_std=True),
        "recurrent": lambda: run_3("ActorCriticRecurrent", True, rnn_hidden_dim=4),
    },
    "5.4.2": {
        "normalised": lambda: run_5("MLPModel", True, dict(GAUSSIAN)),
        "student": distil_5,
        "spread": lambda: run_5("MLPModel", True, dict(SPREAD)),
        "beta": lambda: run_5("MLPModel", True, dict(BETA)),
        "recurrent": lambda: run_5("RNNModel", True, dict(GAUSSIAN), **RNN, rnn_hidden_dim=4),
    },
}


def record(name: str, config: Dict[str, Any], style: str, out: Path) -> None:
    """Train, save and ask for one case; writes ``NAME.pt`` and, unless recurrent, ``NAME.json``."""
    from rsl_rl import runners

    distils = name.endswith("student")
    runner_class = runners.DistillationRunner if distils else runners.OnPolicyRunner
    torch.manual_seed(11)
    env = Toy(style)
    with tempfile.TemporaryDirectory() as folder:
        runner = runner_class(env, config, log_dir=folder, device="cpu")
        if distils:  # the teacher is an untrained one
            runner.alg.teacher_loaded = True
            getattr(runner.alg, "policy", runner.alg).loaded_teacher = True
        recurrent = name.endswith("recurrent")
        runner.learn(0 if recurrent else 3)
        runner.save(str(out / f"{name}.pt"))
    if recurrent:  # such a policy is refused; there is nothing to compare
        return
    policy = runner.get_inference_policy(device="cpu")
    observations = env.draw(ROWS)
    with torch.inference_mode():
        actions = ask(policy, style, observations)
    held = {"observations": observations.tolist(), "actions": actions.tolist()}
    (out / f"{name}.json").write_text(json.dumps(held), encoding="utf-8")


def ask(policy: Callable[[Any], torch.Tensor], style: str, rows: torch.Tensor) -> torch.Tensor:
    """The library's own actions (rows, 12), without noise."""
    if style != "groups":
        return policy(rows)
    from tensordict import TensorDict

    wide = torch.zeros(len(rows), PRIVILEGED)
    groups = {"policy": rows, "critic": wide, "teacher": wide}
    return policy(TensorDict(groups, batch_size=[len(rows)]))


def main(arguments: Optional[List[str]] = None) -> None:
    """Record every case of the version that is imported."""
    out = Path((arguments or sys.argv[1:])[0])
    found = found_version()
    if found not in CASES:
        sys.exit(f"rsl_rl {found} has no cases here, expected one of {', '.join(CASES)}")
    for case, make in CASES[found].items():
        name = f"rsl_rl_{found}_{case}"
        with contextlib.redirect_stdout(io.StringIO()):
            record(name, *make(), out)
        print(f"{name}: {(out / f'{name}.pt').stat().st_size} bytes")


if __name__ == "__main__":
    main()
