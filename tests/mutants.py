"""Put single faults into the code, one at a time, and count which of them the tests notice.

``python -m tests.mutants [MODULE ...]`` (``make mutants``) runs mutmut over a copy of the sources
in build/mutants and prints killed and surviving mutants by module. A survivor is either listed in
tests/mutants_equivalent.json with the reason why it changes nothing, or it is a gap in the tests.
Ends with status 1 if fewer than 90% die or a survivor is not listed.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter

from tests.source_tree import ROOT, lay_out

LEAST_KILLED = 0.9
KNOWN = ROOT / "tests" / "mutants_equivalent.json"
FOLDER = ROOT / "build" / "mutants"
MODULES = (
    "go2_sevpo/algorithms/*.py",
    "go2_sevpo/networks/diffusion.py",
    "go2_sevpo/networks/layers.py",
    "go2_sevpo/networks/lidar.py",
    "go2_sevpo/networks/mish.py",
    "go2_sevpo/policies/torch_policy.py",
    "go2_sevpo/policies/onnx_policy.py",
    "go2_sevpo/metrics.py",
    "go2_sevpo/data/*.py",
    "go2_sevpo/envs/seeds.py",
    "go2_sevpo/envs/go2/observations.py",
    "go2_sevpo/envs/go2/rewards.py",
    "go2_sevpo/envs/go2/symmetry.py",
    "go2_sevpo/envs/go2/description/geometry.py",
    "go2_sevpo/envs/simulators/mujoco.py",
    "go2_sevpo/offline_training/trainer.py",
    "go2_sevpo/offline_training/evaluation/best.py",
)
TESTS = (
    *("go2_sevpo", "envs/go2", "envs/simulators", "offline_training"),
    *("envs/test_seeds.py", "go2_sevpo/data/test_hostile_files.py"),
)
CONFIGURATION = """
[tool.mutmut]
source_paths = ["go2_sevpo"]
only_mutate = {only}
also_copy = ["benchmarks", "docs"]
pytest_add_cli_args = ["-p", "no:xdist", "-p", "no:cacheprovider", "-x"]
pytest_add_cli_args_test_selection = {tests}
use_setproctitle = false
track_dependencies = false
use_git_change_detection = false
"""


def prepare(modules):
    """A copy of everything, with only the exact-value tests: those that take milliseconds."""
    lay_out(FOLDER, copy=True)
    tests = sorted(
        str(path.relative_to(ROOT))
        for name in TESTS
        for path in (
            (ROOT / "tests" / name).rglob("test_*values.py")
            if "." not in name
            else [ROOT / "tests" / name]
        )
    )
    settings = FOLDER / "pyproject.toml"
    text = settings.read_text(encoding="utf-8")
    more = CONFIGURATION.format(only=json.dumps(list(modules)), tests=json.dumps(tests))
    settings.write_text(text + more, encoding="utf-8")


def mutmut(*arguments):
    """Run mutmut in the copy; returns what it said."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER)}
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(
        command, cwd=FOLDER, env=environment, capture_output=True, text=True, check=False
    ).stdout


def change(name):
    """The lines a mutant takes out and puts in, without their indentation."""
    diff = mutmut("show", name).splitlines()
    lines = [line for line in diff if re.match(r"[-+](?![-+]{2} )", line)]
    return (
        "\n".join(line[1:].strip() for line in lines if line[0] == "-"),
        "\n".join(line[1:].strip() for line in lines if line[0] == "+"),
    )


def place(name):
    """Module and function of a mutant's name."""
    module, _, function = name.rpartition(".")
    return module, re.sub(r"^x_?|__mutmut_\d+$", "", function).replace("ǁ", ".").lstrip(".")


def main():
    """Run, compare with the list, print."""
    chosen = [m for m in MODULES if any(w in m for w in sys.argv[1:])] if sys.argv[1:] else MODULES
    prepare(chosen)
    children = str(os.cpu_count() or 1)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER)}
    log = FOLDER / "run.log"
    print(f"mutating {len(chosen)} groups of modules; progress in {log}", flush=True)
    with open(log, "w", encoding="utf-8") as handle:
        status = subprocess.run(
            [sys.executable, "-m", "mutmut", "run", "--max-children", children],
            cwd=FOLDER,
            env=environment,
            stdout=handle,
            stderr=handle,
            check=False,
        ).returncode
    results = [line.strip().split(": ") for line in mutmut("results", "--all", "true").splitlines()]
    results = [entry for entry in results if len(entry) == 2]
    if status or not results:
        sys.exit(f"mutmut ended with status {status}: {log.read_text(encoding='utf-8')[-2000:]}")
    known = json.loads(KNOWN.read_text(encoding="utf-8")) if KNOWN.is_file() else []
    reasons = {(k["module"], k["before"], k["after"]): k["reason"] for k in known}
    total, killed, listed, gaps = Counter(), Counter(), Counter(), []
    for name, outcome in results:
        module, function = place(name)
        total[module] += 1
        if outcome in ("killed", "timeout", "segfault", "caught by type check"):
            killed[module] += 1
            continue
        before, after = change(name)
        if (module, before, after) in reasons:
            listed[module] += 1
        else:
            gaps.append(
                {
                    "module": module,
                    "function": function,
                    "outcome": outcome,
                    "before": before,
                    "after": after,
                }
            )
    for module in sorted(total):
        print(
            f"{module:55s} {killed[module]:5d} of {total[module]:5d} killed, "
            f"{listed[module]:3d} change nothing"
        )
    share = sum(killed.values()) / sum(total.values())
    print(
        f"{sum(killed.values())} of {sum(total.values())} killed ({100 * share:.1f}%), "
        f"{sum(listed.values())} "
        f"listed as changing nothing, {len(gaps)} not listed"
    )
    (FOLDER / "gaps.json").write_text(json.dumps(gaps, indent=1), encoding="utf-8")
    for gap in gaps:
        print(
            f"- {gap['module']} {gap['function']} ({gap['outcome']})\n    {gap['before']}\n   "
            f" {gap['after']}"
        )
    sys.exit(share < LEAST_KILLED or bool(gaps))


if __name__ == "__main__":
    main()
