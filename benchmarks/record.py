"""Keep benchmark results with the machine they were measured on."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any, Dict


def machine() -> Dict[str, Any]:
    """Processor, cores and versions."""
    import mujoco
    import torch

    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "mujoco": mujoco.__version__,
    }


def record(path: Path, name: str, values: Dict[str, Any]) -> None:
    """Print ``values`` and store them under ``name`` in the JSON file at ``path``."""
    for key, value in values.items():
        print(
            f"{name}.{key}: {value:.4g}" if isinstance(value, float) else f"{name}.{key}: {value}"
        )
    data = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    data[name] = {**values, "machine": machine()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
