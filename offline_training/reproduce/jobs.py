"""Several commands at once, each with a log of its own."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import List, Sequence, Tuple


@dataclass
class Job:
    """A command, what to call it, and where its output goes."""

    title: str
    command: Sequence[str]
    log: Path


def run_all(jobs: Sequence[Job], processes: int) -> None:
    """Run all, ``processes`` at a time; prints the last line of each as it ends, and an estimate of the rest.

    Raises:
        ValueError: a command failed; the others are stopped.
    """
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
                left = len(waiting) + len(running)
                eta = (time.perf_counter() - began) * left / (total - left)
                last = (job.log.read_text(encoding="utf-8").splitlines() or ["nothing said"])[-1]
                print(f"{job.title}: {last}; {left} of {total} left, ETA {eta / 60:.0f} min", flush=True)
            time.sleep(0.5)
    finally:
        for _, process in running:
            process.terminate()
        for _, process in running:
            process.wait()
