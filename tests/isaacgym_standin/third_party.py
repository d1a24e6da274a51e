"""Run legged_gym or unitree_rl_gym, unmodified, over the stand-in.

    python tests/isaacgym_standin/third_party.py REPOSITORY RSL_RL TASK [TASK ...]

REPOSITORY is a checkout of legged_gym or unitree_rl_gym, RSL_RL one of rsl_rl at v1.0.2; nothing is
fetched. For each task the environment makes 50 steps under random actions, and then the
repository's own train.py makes 5 iterations of PPO. Logs go where it puts them, into its folder.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
STEPS, ITERATIONS = 50, 5
TRY = """
import sys, isaacgym, torch
from legged_gym.envs import *
from legged_gym.utils import get_args, task_registry
env, _ = task_registry.make_env(name=sys.argv[1].split("=")[1], args=get_args())
env.reset()
ended, total = 0, 0.0
for _ in range({steps}):
    found = env.step(0.5 * torch.randn(env.num_envs, env.num_actions))
    assert all(torch.isfinite(x).all() for x in (found[0], found[2], env.root_states, env.torques))
    ended, total = ended + int(found[3].sum()), total + float(found[2].mean())
print(f"{steps} steps in {{env.num_envs}} worlds of {{env.num_bodies}} bodies and {{env.num_dof}} "
      f"DOFs: {{ended}} episodes ended, mean reward {{total / {steps}:.4f}}, "
      f"mean height {{float(env.root_states[:, 2].mean()):.3f}} m, largest contact force "
      f"{{float(env.contact_forces.norm(dim=-1).max()):.0f}} N")
"""


def environment(repository, rsl_rl):
    """Variables for a child process that finds the stand-in, the repository and rsl_rl."""
    path = [str(FOLDER), str(repository), str(rsl_rl), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "ISAACGYM_STANDIN": "setters=lose",  # they set root states twice in a step at times
        "CUDA_VISIBLE_DEVICES": "",
        "MPLBACKEND": "Agg",
        "PYTHONWARNINGS": "ignore",
    }


def run(repository, rsl_rl, task, worlds):
    """Both runs of one task; returns whether they ended well."""
    flags = [f"--task={task}", "--headless", f"--num_envs={worlds}", "--rl_device=cpu"]
    train = repository / "legged_gym" / "scripts" / "train.py"
    commands = (
        [sys.executable, "-c", TRY.format(steps=STEPS), *flags],
        [sys.executable, str(train), *flags, f"--max_iterations={ITERATIONS}"],
    )
    for command in commands:
        done = subprocess.run(
            command,
            env=environment(repository, rsl_rl),
            cwd=str(repository),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wanted = ("steps in", "Learning iteration", "Mean reward:", "Mean value_function")
        lines = done.stdout.splitlines()
        print("\n".join(x for x in lines if any(w in x for w in wanted)), flush=True)
        if done.returncode:
            print("\n".join(lines[-25:]))
            return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository", type=Path)
    parser.add_argument("rsl_rl", type=Path)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--worlds", type=int, default=8)
    args = parser.parse_args()
    for folder, inside in ((args.repository, "legged_gym"), (args.rsl_rl, "rsl_rl")):
        if not (folder / inside / "__init__.py").is_file():
            sys.exit(f"{folder} has no package {inside}: expected a checkout of its repository")
    failed = []
    for task in args.tasks:
        print(f"== {task}", flush=True)
        if not run(args.repository.resolve(), args.rsl_rl.resolve(), task, args.worlds):
            failed.append(task)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
