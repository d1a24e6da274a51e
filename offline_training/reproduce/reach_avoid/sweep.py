"""Which form of SEVPO keeps policies safe: one option at a time on reach-avoid data.

The command is ``go2-reproduce sweep``. All forms share stage 1 where they may, so that differences
are the actor's. Every actor is played alone (N = 1) and with each way of choosing among candidates.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Set, Tuple

import torch

from go2_sevpo.algorithms import make_algorithm, make_config
from go2_sevpo.algorithms.sevpo import Sevpo
from go2_sevpo.data.dataset import load
from go2_sevpo.envs.reach_avoid import play
from go2_sevpo.envs.reach_avoid.truth import load_truth
from go2_sevpo.envs.seeds import REACH_AVOID_PLAY, REACH_AVOID_STARTS
from go2_sevpo.offline_training import train as training
from go2_sevpo.offline_training.reproduce.jobs import Job, run_all
from go2_sevpo.offline_training.reproduce.reach_avoid import figure1
from go2_sevpo.offline_training.reproduce.settings import plain
from go2_sevpo.runs.checkpoint import load_checkpoint, save_checkpoint
from go2_sevpo.runs.cpu import use_cpu
from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.processes import module
from go2_sevpo.runs.provenance import write_result
from go2_sevpo.runs.reading import read_json
from go2_sevpo.runs.settings import keep_settings

VARIANTS: Dict[str, Dict[str, Any]] = {
    "default": {},
    "unsafe objective: none": {"unsafe_objective": "none", "b2": 0.0},
    "unsafe objective: awr": {"unsafe_objective": "awr"},
    "unsafe objective: printed sign": {"unsafe_objective": "printed"},
    "b2 = 0.1": {"b2": 0.1},
    "b2 = 0.3": {"b2": 0.3},
    "b2 = 3 (Table 8)": {"b2": 3.0},
    "b2 = 0.3, mu1 = 0.5": {"b2": 0.3, "mu1": 0.5},
    "mu1 = 0 (mask only)": {"mu1": 0.0},
    "mu1 = 0.5": {"mu1": 0.5},
    "mu1 = 3 (Table 8)": {"mu1": 3.0},
    "weights not normalised": {"normalize_weights": False},
    "advantage without baseline": {"advantage": "paper"},
    "as printed: no baseline, not normalised, mu1 = 3": {
        "advantage": "paper",
        "normalize_weights": False,
        "normalize_advantage": False,
        "mu1": 3.0,
    },
    "penalty on excess Q_c^pi, 0.5": {"data_cost_penalty": 0.5},
    "penalty on excess Q_c^pi, 2": {"data_cost_penalty": 2.0},
    "penalty Q_r / Q_c as printed": {"penalty": "paper"},
    "no penalty": {"penalty": "none"},
    "trust region off": {"trust_region": "off"},
    "trust region replaces (14)": {"trust_region": "printed"},
    "K_trust = 0": {"trust_start": 0.0},
    "unsafe cloning 0.1": {"unsafe_cloning": 0.1},
    "noise prediction": {"prediction": "noise"},
    "alpha = 1": {"alpha": 1.0},
    "V_c not floored in (7)": {"floor": False},
    "tau = 0.9 (Table 8)": {"tau": 0.9},
    "tau = 0.7": {"tau": 0.7},
    "critics' rate constant": {"critic_decay": False},
    "stage 1 of 10000 steps": {"critic_steps": 10000},
    "l = delta = 1": {"limit": 1.0, "delta": 1.0},
    "l = delta = 0.5": {"limit": 0.5, "delta": 0.5},
    "temperature 1": {"temperature": 1.0},
}
"""Name: what differs from the preset."""

ACTING: Tuple[Tuple[str, int], ...] = (("first", 1), ("argmin_cost", 16), ("argmax_reward", 16))
"""Choice and N."""

STAGE_ONE = (
    *("tau", "gamma", "alpha", "cost_scale", "bootstrap", "critic_steps", "critic_batch"),
    *("rate", "target_rate", "floor", "critic_hidden", "critic_decay"),
)
"""Settings that decide what stage 1 learns."""

CRITICS = ("v_c", "q_c", "q_c_target")
"""Networks that stage 1 trains."""


MAY_CHANGE = ("out", "truth", "only", "processes")
"""Settings that the same working folder may be gone on with otherwise."""


@dataclass
class Sweep:
    """Train SEVPO with one option changed at a time on reach-avoid data; tabulate safety, success
    and violations.
    """

    out: Path = Path("runs/sweep")
    truth: Path = Path("runs/reach_avoid_truth.safetensors")
    """Cache of the ground truth; solved if missing (about a minute)."""
    preset: str = "reach_avoid"
    ratio: float = 5
    """Safe to unsafe transitions."""
    members: int = 3
    """Training seeds, side by side."""
    safe: int = 400_000
    starts: int = 300
    paper_repeats: int = 20
    processes: int = 2
    only: Tuple[str, ...] = ()
    """Names of the variants to run; all if empty."""
    seed: int = 0


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


def _result(args: Sweep, name: str) -> Path:
    return args.out / f"{_slug(name)}.json"


def _settings(args: Sweep, name: str) -> Dict[str, Any]:
    base = training.settings_of(training.Args((), Path(), "sevpo", args.preset))
    return {**base, **VARIANTS[name]}


def _stage_one_file(args: Sweep, settings: Dict[str, Any]) -> Path:
    config = make_config("sevpo", settings)
    key = "_".join(f"{name}={getattr(config, name)}" for name in STAGE_ONE)
    return args.out / f"stage_one_{hashlib.sha256(key.encode()).hexdigest()[:12]}.safetensors"


def train_stage_one(args: Sweep, name: str) -> None:
    """Train the conservative critics a variant needs, unless they are there."""
    settings = _settings(args, name)
    path = _stage_one_file(args, settings)
    if path.is_file():
        return
    data = load(args.out / "data")
    torch.manual_seed(args.seed)
    config = make_config("sevpo", settings)
    algorithm = make_algorithm("sevpo", config, data, args.members)
    generator = torch.Generator().manual_seed(args.seed)
    for step in range(config.critic_steps):
        metrics = algorithm.update("critics", step, data, generator)
        if step % 1000 == 999:
            values = f"V_c {metrics['v_c']:.3f} Q loss {metrics['q_loss']:.3f}"
            print(f"stage 1 {step + 1}/{config.critic_steps} {values}", flush=True)
    state = {name: getattr(algorithm, name).state_dict() for name in CRITICS}
    save_checkpoint(path, "stage_one", {**state, "critics_trained": algorithm.critics_trained})


def train_variant(args: Sweep, name: str) -> None:
    """Stage 2 and evaluation of one variant."""
    out = _result(args, name)
    if out.is_file():
        return
    settings = _settings(args, name)
    stage_one = load_checkpoint(_stage_one_file(args, settings), "stage_one")
    data = load(args.out / "data")
    # Seeds of its own: stage 2 is the same, wherever its stage 1 was trained.
    torch.manual_seed(args.seed + 1)
    config = make_config("sevpo", settings)
    algorithm = make_algorithm("sevpo", config, data, args.members)
    for key in CRITICS:
        getattr(algorithm, key).load_state_dict(stage_one[key])
    # Stage 2 begins only with critics that were trained to their end.
    algorithm.critics_trained = stage_one["critics_trained"]
    generator = torch.Generator().manual_seed(args.seed + 1)
    clipped = 0.0  # mean over the steps
    for step in range(config.policy_steps):
        metrics = algorithm.update("policy", step, data, generator)
        clipped += float(metrics["clipped_share"]) / config.policy_steps
        if step % 1000 == 999:
            loss = f"loss {metrics['actor_loss']:.3f}"
            print(f"stage 2 {step + 1}/{config.policy_steps} {loss}", flush=True)
    result = {
        "name": name,
        "changes": VARIANTS[name],
        "clipped_share": clipped,
        **_evaluate(args, algorithm),
    }
    write_atomically(out, json.dumps(result))
    print(figure1.line(result["acting"]["first_1"]), flush=True)


def _evaluate(args: Sweep, algorithm: Sevpo) -> Dict[str, Any]:
    """All members with every way of acting, and how well they know the regions."""
    truth, seed = load_truth(args.truth), REACH_AVOID_STARTS.number(args.seed)
    starts = play.evaluation_starts(truth, args.starts, args.paper_repeats, seed)
    acting: Dict[str, Any] = {}
    for choice, n in ACTING:
        members = []
        for k in range(args.members):
            seed = REACH_AVOID_PLAY.number(args.seed, k)
            members.append(play.evaluate(algorithm.policy(choice, k), starts, n, seed))
        acting[f"{choice}_{n}"] = play.summarise(members, starts)
    policies = [algorithm.policy("first", k) for k in range(args.members)]
    agreement = [play.region_agreement(policy, starts) for policy in policies]
    regions = {key: sum(a[key] for a in agreement) / len(agreement) for key in agreement[0]}
    return {"acting": acting, "regions": regions}


def table(results: List[Dict[str, Any]], args: Sweep) -> str:
    """All variants as Markdown."""
    columns = ["form", *("N = 1: P", "F", "V"), *("argmin Q_c, N = 16: P", "F", "V")]
    columns += [*("argmax Q_r within l, N = 16: P", "F", "V"), "regions", "clipped weights"]
    lines = [
        f"`go2-reproduce sweep --ratio {args.ratio:g}`: {args.members} training seeds, "
        f"{args.starts} feasible and infeasible starts each. "
        "F: feasible starts safe and successful, in percent; "
        "V: violation steps from infeasible starts over the least possible; "
        "P: the paper's start safe and successful, in percent. "
        "Regions: percent of the feasible starts that V_c <= l calls safe, "
        "and of the infeasible ones it calls unsafe.",
        "",
        f"| {' | '.join(columns)} |",
        "|---" * len(columns) + "|",
    ]
    for result in results:
        cells = [result["name"]]
        for choice, n in ACTING:
            summary = result["acting"][f"{choice}_{n}"]
            cells += [
                f"{100 * summary['paper']['safe_success']['rate']:.0f}",
                f"{100 * summary['feasible']['safe_success']['rate']:.1f}",
                f"{summary['infeasible']['ratio']:.2f}",
            ]
        safe, unsafe = (
            f"{100 * result['regions'][key]:.0f}"
            for key in ("feasible_called_safe", "infeasible_called_unsafe")
        )
        cells += [f"{safe} / {unsafe}", f"{100 * result['clipped_share']:.1f}%"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def run(args: Sweep, job: Optional[str] = None) -> None:
    """Everything, or one variant in this process.

    Raises:
        ValueError: an unknown variant, or a part that failed.
    """
    names = args.only or tuple(VARIANTS)
    for name in names:
        if name not in VARIANTS:
            raise ValueError(f"unknown variant '{name}', expected some of: {'; '.join(VARIANTS)}")
    use_cpu(1)
    if job is not None:
        train_stage_one(args, job)
        train_variant(args, job)
        return
    keep_settings(args.out, vars(args), MAY_CHANGE)
    load_truth(args.truth)
    figure1.collect_one(args.out / "data", args)
    settings = json.dumps(plain(args))
    base = module("go2_sevpo.offline_training.reproduce.reach_avoid.sweep_job", settings)
    # The first variant that needs some stage 1 trains it; those that share it wait.
    begun: Set[Path] = set()
    first: List[Job] = []
    rest: List[Job] = []
    for name in names:
        if _result(args, name).is_file():
            continue
        path = _stage_one_file(args, _settings(args, name))
        variant = Job(name, [*base, name], _result(args, name).with_suffix(".log"))
        (rest if path.is_file() or path in begun else first).append(variant)
        begun.add(path)
    run_all(first, args.processes)
    run_all(rest, args.processes)
    results = [read_json(_result(args, name)) for name in names]
    text = table(results, args)
    write_atomically(args.out / "sweep.md", text)
    whole = {"settings": plain(args), "results": results}
    write_result(args.out / "sweep.json", whole)
    print(text)
