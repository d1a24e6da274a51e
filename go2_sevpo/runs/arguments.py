"""Arguments are checked before work begins, and what goes wrong outside is told in one line."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

import torch

EXPECTED = (ValueError, OSError, ImportError)
"""What a command tells in one line: bad input and the machine's own faults. Others are faults of
the code, whose traceback is needed.
"""


def complaint(error: BaseException) -> str:
    """What to tell about an error, in one line."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}; free it, or name another place"
    return " ".join(str(error).split("\n")) or type(error).__name__


def at_least(name: str, value: float, least: float) -> None:
    """Check a number of an option.

    Raises:
        ValueError: it is less, or no number.
    """
    if not value >= least:
        raise ValueError(f"{name} is {value}, expected at least {least}")


def finite(name: str, value: float) -> None:
    """Check a number of an option.

    Raises:
        ValueError: it is infinite or no number.
    """
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}, expected a finite number")


def check_device(name: str) -> None:
    """Check that torch can compute on a device.

    Raises:
        ValueError: no such device here.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device is '{name}', expected cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device is '{name}', but torch {torch.__version__} sees no NVIDIA GPU here; "
            "use --device cpu"
        )


def check_writable(folder: Path) -> None:
    """Make ``folder`` and write something into it, before hours are spent on what goes there.

    Raises:
        OSError: that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".writable", dir=str(folder))
    except OSError as error:
        # Whatever part of the path it was: the folder is what was asked for.
        raise OSError(error.errno, os.strerror(error.errno or 0), str(folder)) from None
    os.close(handle)
    os.unlink(name)
