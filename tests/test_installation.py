"""What is installed: one name, and it works beside a user's folders of the same names as ours."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("envs", "deploy", "assets", "data_collection", "offline_training")


def run(*command, cwd):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built as a release would be."""
    out = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source") / "checkout"
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split("\n")
    for name in filter(None, names):  # a build writes into its folder
        if (ROOT / name).is_file() and not name.startswith(("docs/", "tests/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", out, source, cwd=out)
    (found,) = out.glob("*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_installs_one_top_level_name(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert {n for n in top if not n.endswith(".dist-info")} == {"go2_sevpo"}
    in_git = run("git", "ls-files", "*.py", "*.yaml", "*.onnx", "assets", cwd=ROOT).split()
    for name in in_git:
        folder = name.split("/")[0]
        if folder in OURS:
            assert f"go2_sevpo/{name}" in names
        elif folder == "go2_sevpo":
            assert name in names


@pytest.mark.slow
def test_an_installed_policy_plays_from_a_folder_with_the_same_names(wheel, tmp_path):
    venv.create(tmp_path / "clean", with_pip=False, symlinks=True)
    python = tmp_path / "clean" / "bin" / "python"
    site = Path(
        run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=tmp_path).strip()
    )
    # Everything installed here, but not this project's editable installation.
    others = tmp_path / "others"
    others.mkdir()
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "go2_sevpo" not in entry.name and entry.suffix != ".pth":
            (others / entry.name).symlink_to(entry)
    (site / "others.pth").write_text(f"{others}\n")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps")
    run(*pip, wheel, cwd=tmp_path)

    folder = tmp_path / "project"
    for name in (*OURS, "tyro"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise ImportError('the user\\'s {name}')\n")
    command = (
        "sevpo",
        "--course",
        "simple",
        "--episodes",
        "2",
        "--threads",
        "1",
        "--out",
        "report",
    )
    play = tmp_path / "clean" / "bin" / "go2-play"
    assert "success" in run(play, *command, cwd=folder)
    report = json.loads((folder / "report" / "report.json").read_text())
    assert report["episodes"] == 2 and report["policy"]["name"] == "sevpo"
    where = "import go2_sevpo.envs as e; print(e.__file__)"
    assert str(site) in run(
        python, "-P" if sys.version_info >= (3, 11) else "-I", "-c", where, cwd=folder
    )


def test_every_folder_is_a_package_of_the_one_name(monkeypatch):
    import setuptools

    told = {}
    monkeypatch.setattr(setuptools, "setup", lambda **options: told.update(options))
    monkeypatch.chdir(ROOT)
    exec(compile((ROOT / "setup.py").read_text(encoding="utf-8"), "setup.py", "exec"), {})
    expected = set()
    for folder in ("go2_sevpo", *OURS):
        for init in (ROOT / folder).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT).parts
            expected.add(".".join(parts if parts[0] == "go2_sevpo" else ("go2_sevpo", *parts)))
        # A folder of modules without __init__ would be missing from an installation.
        assert {f.parent for f in (ROOT / folder).rglob("*.py")} == {
            f.parent for f in (ROOT / folder).rglob("__init__.py")
        }
    assert set(told["packages"]) == expected
    assert {name.split(".")[0] for name in told["packages"]} == {"go2_sevpo"}
