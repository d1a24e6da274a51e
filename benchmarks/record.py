"""Keep benchmark results with the machine they were measured on."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any, Dict

from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.reading import read_json


def machine() -> Dict[str, Any]:
    """Processor, cores and versions."""
    import mujoco
    import torch

    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [s for s in info.read_text().splitlines() if s.startswith("model name")]
        if lines:
            model = lines[0].split(":", 1)[1].strip()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "mujoco": mujoco.__version__,
    }


def record(path: Path, name: str, values: Dict[str, Any]) -> None:
    """Print ``values`` and store them under ``name`` in the JSON file at ``path``."""
    for key, value in values.items():
        text = f"{value:.4g}" if isinstance(value, float) else value
        print(f"{name}.{key}: {text}")
    data = read_json(path) if path.is_file() else {}
    data[name] = {**values, "machine": machine()}
    write_atomically(path, json.dumps(data, indent=1) + "\n")
