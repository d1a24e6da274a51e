"""What ``go2-export`` was given: the policy file of a run of ours, or another library's checkpoint.

Isaac Lab and mjlab write the configuration of a run to ``params/agent.yaml`` beside its
checkpoints; what the weights do not say is taken from there.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Dict

import yaml

from go2_sevpo.deploy.export.layout import DISTRIBUTIONS
from go2_sevpo.runs.checkpoint import CheckpointError

TORCH_SUFFIXES = (".pt", ".pth")
"""Files that torch saved."""
SUPPORTED = (
    "a run folder of go2-train or go2-train-expert, a policy's .safetensors, "
    "or model_N.pt of rsl_rl, legged_gym, mjlab or extreme-parkour"
)

_DISTRIBUTIONS = {
    "GaussianDistribution": DISTRIBUTIONS[0],
    "HeteroscedasticGaussianDistribution": DISTRIBUTIONS[1],
    "BetaDistribution": DISTRIBUTIONS[2],
}


def find_source(run: Path, best: bool) -> Path:
    """The file to export: ``run`` itself, or the last or ``best`` policy in that folder.

    Raises:
        CheckpointError: naming what is there instead.
    """
    if run.is_file():
        if run.suffix not in (".safetensors", *TORCH_SUFFIXES):
            raise CheckpointError(
                f"{run} is a {run.suffix or 'nameless'} file, expected {SUPPORTED}"
            )
        return run
    path = run / f"policy_{'best' if best else 'last'}.safetensors"
    if path.is_file():
        return path
    if run.suffix in TORCH_SUFFIXES:
        raise CheckpointError(
            f"no checkpoint at {run}: there is no such file, expected {SUPPORTED}"
        )
    models = [p for p in run.glob("model_*.pt") if p.stem[len("model_") :].isdigit()]
    if models:
        newest = max(models, key=lambda p: int(p.stem[len("model_") :]))
        raise CheckpointError(
            f"no checkpoint at {path}; the folder is another library's: give {newest} itself"
        )
    raise CheckpointError(f"no checkpoint at {path}, expected {SUPPORTED}")


def other_archive(path: Path) -> str:
    """What a file that torch cannot read as weights is, as part of a message; else nothing."""
    if not zipfile.is_zipfile(str(path)):
        return ""
    with zipfile.ZipFile(str(path)) as archive:
        names = [name.split("/")[-1] for name in archive.namelist()]
    if "constants.pkl" in names:
        return "it is a TorchScript module, exported already; expected model_N.pt"
    if "policy.pth" in names:
        return "it is Stable-Baselines3's, which is not understood"
    return ""


class _Plain(yaml.SafeLoader):
    """YAML that other programs wrote: tuples are lists, any other Python object is nothing."""


def _tuple(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    return (
        loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else None
    )


_Plain.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)
_Plain.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def recorded_layout(checkpoint: Path) -> Dict[str, Any]:
    """What the run's own configuration says of its actor, as part of a layout.

    Nothing where there is none.

    Raises:
        CheckpointError: there is one, and it cannot be read or is of another kind.
    """
    path = checkpoint.parent / "params" / "agent.yaml"
    if not path.is_file():
        return {}
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=_Plain)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}, the run's configuration, cannot be read: {str(error).splitlines()[0]}"
        ) from None
    # rsl_rl to 3.x has one policy, later ones an actor and a critic; a student is distilled.
    models = (
        [config.get(k) for k in ("actor", "student", "policy")] if isinstance(config, dict) else []
    )
    model = next((m for m in models if isinstance(m, dict)), None)
    if model is None:
        raise CheckpointError(
            f"{path} is not the configuration of an rsl_rl run: "
            "expected a mapping with actor, student or policy"
        )
    found: Dict[str, Any] = {}
    if model.get("activation") is not None:
        found["activation"] = str(model["activation"]).lower()
    if config.get("clip_actions") is not None:
        found["clip_actions"] = float(config["clip_actions"])
    distribution = model.get("distribution_cfg")
    if isinstance(distribution, dict):
        name = str(distribution.get("class_name", "")).split(":")[-1].split(".")[-1]
        if name not in _DISTRIBUTIONS:
            raise CheckpointError(
                f"{path}: the distribution is {name}, expected one of {', '.join(_DISTRIBUTIONS)}"
            )
        found["distribution"] = _DISTRIBUTIONS[name]
        if "action_range" in distribution:
            found["action_range"] = list(distribution["action_range"])
    elif model.get("state_dependent_std"):
        found["distribution"] = DISTRIBUTIONS[1]
    return found
