"""Makes the folder ``mjlab_1.6.0`` beside this file: a run of our task in mjlab, by mjlab.

In an environment with ``pip install -e '.[mjlab]'``::

    python -m tests.deploy.checkpoints.record_mjlab tests/deploy/checkpoints/mjlab_1.6.0
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

WORLDS, ROWS = 4, 3


def main() -> None:
    """Train two iterations with mjlab's own runner, save with it, ask its inference policy."""
    import mjlab.tasks  # noqa: F401  (fills the registry)
    from mjlab.envs import ManagerBasedRlEnv
    from mjlab.rl import MjlabOnPolicyRunner, RslRlVecEnvWrapper
    from mjlab.tasks.registry import load_env_cfg, load_rl_cfg
    from mjlab.utils.os import dump_yaml
    from tensordict import TensorDict

    out = Path(sys.argv[1])
    env_cfg, rl_cfg = load_env_cfg("go2_parkour"), load_rl_cfg("go2_parkour")
    action = env_cfg.actions["joint_targets"]
    action.parkour = replace(action.parkour, variants=2, levels=2)
    env_cfg.scene.num_envs, env_cfg.seed, rl_cfg.num_steps_per_env = WORLDS, 3, 8
    for model in (rl_cfg.actor, rl_cfg.critic):
        model.hidden_dims, model.activation, model.obs_normalization = (4, 4), "tanh", True
    torch.manual_seed(5)
    wrapped = RslRlVecEnvWrapper(ManagerBasedRlEnv(env_cfg, device="cpu"), rl_cfg.clip_actions)
    agent = asdict(rl_cfg)
    dump_yaml(out / "params" / "agent.yaml", agent)
    runner = MjlabOnPolicyRunner(wrapped, agent, None, "cpu")
    runner.learn(2)
    runner.save(str(out / "model_1.pt"))
    rows = (0.5 * torch.randn(ROWS, 265)).round(decimals=3)
    groups = {"actor": rows, "critic": torch.zeros(ROWS, 279)}
    with torch.inference_mode():
        actions = runner.get_inference_policy("cpu")(TensorDict(groups, batch_size=[ROWS]))
    held = {"observations": rows.tolist(), "actions": actions.tolist()}
    held["observations"] = [[round(x, 3) for x in row] for row in held["observations"]]
    (out / "expected.json").write_text(json.dumps(held), encoding="utf-8")


if __name__ == "__main__":
    main()
