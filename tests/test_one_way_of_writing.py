"""Whatever leaves the project as a file goes through one room, and says what made it."""

import ast
import json
import sys
from pathlib import Path

import pytest

import go2_sevpo
from go2_sevpo.runs.provenance import made_by, write_result

ROOT = Path(__file__).parent.parent
ROOMS = ("go2_sevpo", "envs", "data_collection", "offline_training", "deploy", "benchmarks")
ALLOWED = {
    "go2_sevpo/runs/files.py": "the room itself",
    "go2_sevpo/runs/csv_log.py": "rows are appended",
    "data_collection/safety_gymnasium/cli.py": "a download grows until it is checked",
    "offline_training/reproduce/jobs.py": "logs of commands",
    "deploy/robot/messagelog.py": "messages are written as they come",
}
"""Who else opens files to write, and why."""
INTO_TEMPORARY = {"temporary", "str(temporary)", "new", "str(new)", "buffer"}
"""What an atomic path is called where a library writes to it, or what lies in memory."""


def writes(tree):
    """Lines that write a file, with how."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else None
        if isinstance(node.func, ast.Name) and node.func.id == "open":
            modes = [a for a in (*node.args[1:2], *(k.value for k in node.keywords[:1]))]
            if any(isinstance(m, ast.Constant) and set(str(m.value)) & set("wax+") for m in modes):
                yield node.lineno, ast.unparse(node)
        elif name in ("write_text", "write_bytes", "savefig", "imwrite", "savez"):
            target = ast.unparse(node.args[0]) if node.args else ""
            owner = ast.unparse(node.func.value)
            if target not in INTO_TEMPORARY and owner not in INTO_TEMPORARY:
                yield node.lineno, ast.unparse(node)


needs_unparse = pytest.mark.skipif(
    sys.version_info < (3, 9), reason="ast.unparse came with Python 3.9"
)


@needs_unparse
def test_nothing_else_opens_a_file_to_write_it():
    found = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            place = path.relative_to(ROOT).as_posix()
            lines = list(writes(ast.parse(path.read_text(encoding="utf-8"))))
            if lines and place not in ALLOWED:
                found[place] = lines
    assert not found


@needs_unparse
def test_the_check_would_notice():
    bad = "open('x', 'w'); open('x', mode='ab'); p.write_text('x'); f.savefig(path, dpi=1)"
    assert len(list(writes(ast.parse(bad)))) == 4
    good = "open('x'); open('x', encoding='utf-8'); temporary.write_text(''); f.savefig(temporary)"
    assert not list(writes(ast.parse(good)))


def test_a_result_names_version_and_commit(tmp_path):
    write_result(tmp_path / "r.json", {"a": 1})
    found = json.loads((tmp_path / "r.json").read_text())
    assert found == {"a": 1, "made_by": made_by()}
    assert found["made_by"]["version"] == go2_sevpo.__version__ != "unknown"
    commit = found["made_by"]["commit"]
    if (ROOT / ".git").exists():
        assert len(commit.partition("-")[0]) == 40
