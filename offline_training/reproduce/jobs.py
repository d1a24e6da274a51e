"""Several commands at once, each with a log of its own: on this machine, or on many through Ray."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple


@dataclass
class Job:
    """A command, what to call it, and where its output goes."""

    title: str
    command: Sequence[str]
    log: Path


def module(name: str, *arguments: Any) -> List[str]:
    """Command that runs one of the project's modules with this interpreter."""
    return [sys.executable, "-m", name, *map(str, arguments)]


def run_all(jobs: Sequence[Job], processes: int, ray: Optional[str] = None) -> None:
    """Run all, ``processes`` at a time; prints the last line of each as it ends, and an estimate of the rest.

    ``ray`` is the address of a Ray cluster (``auto``: one that was started here; ``local``: one of this machine alone) whose machines
    share this folder and this installation; each job then takes one of its CPUs and ``processes`` does not matter.

    Raises:
        ValueError: a command failed; the others are stopped. Or Ray is not installed, or not there.
    """
    if ray is not None and jobs:
        _run_on_ray(jobs, ray)
        return
    waiting, total, began = list(jobs), len(jobs), time.perf_counter()
    running: List[Tuple[Job, "subprocess.Popen[bytes]"]] = []
    try:
        while waiting or running:
            while waiting and len(running) < max(processes, 1):
                job = waiting.pop(0)
                print(f"{job.title} begins, log in {job.log}", flush=True)
                with open(job.log, "a", encoding="utf-8") as handle:
                    running.append((job, subprocess.Popen(job.command, stdout=handle, stderr=handle)))
            for entry in list(running):
                job, process = entry
                if process.poll() is None:
                    continue
                running.remove(entry)
                if process.returncode:
                    raise ValueError(f"{job.title} stopped with status {process.returncode}; see {job.log}")
                _say_ended(job, len(waiting) + len(running), total, began)
            time.sleep(0.5)
    finally:
        for _, process in running:
            process.terminate()
        for _, process in running:
            process.wait()


def _say_ended(job: Job, left: int, total: int, began: float) -> None:
    eta = (time.perf_counter() - began) * left / (total - left)
    last = (job.log.read_text(encoding="utf-8").splitlines() or ["nothing said"])[-1]
    print(f"{job.title}: {last}; {left} of {total} left, ETA {eta / 60:.0f} min", flush=True)


def run_logged(command: Sequence[str], log: str, folder: str) -> int:
    """Run one command in ``folder`` with its output added to ``log``; returns its status. Cancelling ends the command too."""
    with open(log, "a", encoding="utf-8") as handle:
        process = subprocess.Popen(list(command), stdout=handle, stderr=handle, cwd=folder)
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise


def _run_on_ray(jobs: Sequence[Job], address: str) -> None:
    try:
        import ray
    except ImportError:
        raise ValueError("--ray needs the package ray (pip install ray)") from None
    try:
        ray.init(address=None if address == "local" else address, include_dashboard=False, log_to_driver=False)
    except ConnectionError as error:
        raise ValueError(
            f"no Ray cluster at '{address}': {error}; start one with 'ray start --head', or use --ray local"
        ) from None
    remote: Any = ray.remote(num_cpus=1, max_retries=0)(run_logged)
    here, began = str(Path.cwd()), time.perf_counter()
    found = {remote.remote(list(j.command), str(j.log.resolve()), here): j for j in jobs}
    print(f"{len(jobs)} jobs on {ray.cluster_resources().get('CPU', 0):.0f} CPUs of the Ray cluster", flush=True)
    try:
        while found:
            (done,), _ = ray.wait(list(found), num_returns=1)
            job = found.pop(done)
            status = ray.get(done)
            if status:
                raise ValueError(f"{job.title} stopped with status {status}; see {job.log}")
            _say_ended(job, len(found), len(jobs), began)
    finally:
        for reference in found:
            ray.cancel(reference)
        ray.wait(list(found), num_returns=len(found), timeout=30) if found else None
        ray.shutdown()
