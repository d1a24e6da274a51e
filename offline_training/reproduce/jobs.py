"""Several commands at once, each with a log of its own: on this machine, or on many through Ray."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

from go2_sevpo.runs import processes as children
from go2_sevpo.runs.progress import Progress


@dataclass
class Job:
    """A command, what to call it, and where its output goes."""

    title: str
    command: Sequence[str]
    log: Path


def run_all(jobs: Sequence[Job], processes: int, ray: Optional[str] = None) -> None:
    """Run all, ``processes`` at a time; prints the last line of each as it ends.

    With that stands an estimate of the time the rest takes.

    Args:
        jobs: in the order in which they begin.
        processes: how many run at a time on this machine.
        ray: address of a Ray cluster (``auto``: one that was started here; ``local``: one of this
            machine alone) whose machines share this folder and this installation; each job then
            takes one of its CPUs and ``processes`` does not matter.

    Raises:
        ValueError: a command failed; the others are stopped. Or Ray is not installed, or not there.
    """
    if ray is not None and jobs:
        _run_on_ray(jobs, ray)
        return
    waiting, progress = list(jobs), Progress(len(jobs))
    running: List[Tuple[Job, "subprocess.Popen[bytes]"]] = []
    try:
        while waiting or running:
            while waiting and len(running) < max(processes, 1):
                job = waiting.pop(0)
                print(f"{job.title} begins, log in {job.log}", flush=True)
                with open(job.log, "a", encoding="utf-8") as handle:
                    running.append((job, children.start(job.command, handle)))
            for entry in list(running):
                job, process = entry
                if process.poll() is None:
                    continue
                running.remove(entry)
                children.close(process)
                _check(job, process.returncode)
                _say_ended(job, progress)
            time.sleep(0.5)
    finally:
        children.end([process for _, process in running])


def _check(job: Job, status: int) -> None:
    if status:
        raise ValueError(f"{job.title} stopped with status {status}; see {job.log}")


def _say_ended(job: Job, progress: Progress) -> None:
    progress.advance(1)
    left = progress.total - progress.done
    last = (job.log.read_text(encoding="utf-8").splitlines() or ["nothing said"])[-1]
    print(
        f"{job.title}: {last}; {left:.0f} of {progress.total:.0f} left, {progress.text()}",
        flush=True,
    )


def run_logged(command: Sequence[str], log: str, folder: str) -> int:
    """Run one command in ``folder`` with its output added to ``log``; returns its status.

    Cancelling ends the command too.
    """
    with open(log, "a", encoding="utf-8") as handle:
        return children.run(command, handle, folder)


def _run_on_ray(jobs: Sequence[Job], address: str) -> None:
    try:
        import ray
    except ImportError:
        raise ValueError("--ray needs the package ray (pip install ray)") from None
    try:
        ray.init(
            address=None if address == "local" else address,
            include_dashboard=False,
            log_to_driver=False,
        )
    except ConnectionError as error:
        raise ValueError(
            f"no Ray cluster at '{address}': {error}; "
            "start one with 'ray start --head', or use --ray local"
        ) from None
    remote: Any = ray.remote(num_cpus=1, max_retries=0)(run_logged)
    here, progress = str(Path.cwd()), Progress(len(jobs))
    found = {remote.remote(list(j.command), str(j.log.resolve()), here): j for j in jobs}
    print(
        f"{len(jobs)} jobs on {ray.cluster_resources().get('CPU', 0):.0f} CPUs of the Ray cluster",
        flush=True,
    )
    try:
        while found:
            (done,), _ = ray.wait(list(found), num_returns=1)
            job = found.pop(done)
            _check(job, ray.get(done))
            _say_ended(job, progress)
    finally:
        for reference in found:
            ray.cancel(reference)
        if found:
            # Cancelled commands write their checkpoints first.
            ray.wait(list(found), num_returns=len(found), timeout=30)
        ray.shutdown()
