"""Lay the folders out as the one package they are installed as: ``python -m tests.source_tree
OUT``.

Tools that read files instead of importing them (type checker, import-linter, mutation testing) do
not see setup.py's mapping. In OUT they find ``go2_sevpo/envs`` and the others where an installation
has them.
"""

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("envs", "data_collection", "offline_training", "deploy", "assets")
BESIDE = ("benchmarks", "tests", "docs", "README.md", "pyproject.toml", "setup.py")


def lay_out(out: Path, copy: bool = False) -> Path:
    """Make ``out`` anew, with links to the folders or (``copy``) copies of them."""
    shutil.rmtree(out, ignore_errors=True)
    package = out / "go2_sevpo"
    package.mkdir(parents=True)
    inside = {
        p: package / p.name for p in (ROOT / "go2_sevpo").iterdir() if p.name != "__pycache__"
    }
    inside.update({ROOT / name: package / name for name in FOLDERS})
    inside.update({ROOT / name: out / name for name in BESIDE})
    for source, target in inside.items():
        if not copy:
            os.symlink(source, target)
        elif source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    return out


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]), "--copy" in sys.argv[2:])
