"""Shared fixtures: small synthetic datasets and quiet torch threads."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import contextlib
import importlib
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from go2_sevpo.data.dataset import OfflineDataset
from go2_sevpo.data.shards import Episodes
from go2_sevpo.deploy.export.cli import write_onnx
from go2_sevpo.envs.go2.contract import environment_contract
from go2_sevpo.envs.reach_avoid.truth import Resolution, load_truth
from go2_sevpo.networks.diffusion import Diffusion
from go2_sevpo.networks.layers import Critic, Denoiser, Normalizer, Value
from go2_sevpo.policies.torch_policy import DiffusionPolicy, GaussianPolicy
from go2_sevpo.runs import processes

torch.set_num_threads(1)


class _Done:
    stdin = None
    """A child process that has ended already."""

    def __init__(self, returncode):
        self.returncode = returncode

    def poll(self):
        return self.returncode

    wait = poll

    def terminate(self):
        pass


def call_in_process(command, log=None, folder=None):
    """Stand in for :func:`go2_sevpo.runs.processes.start`: the same ``main`` in this process.

    It has imported torch already.
    """
    assert list(command[:3]) == processes.module("")[:3], "one of the project's own modules"
    main = importlib.import_module(command[3]).main
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    argv, sys.argv = sys.argv, list(command[3:])
    status = 0
    with contextlib.ExitStack() as stack:
        if log is not None:
            stack.enter_context(contextlib.redirect_stdout(log))
            stack.enter_context(contextlib.redirect_stderr(log))
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        finally:
            sys.argv = argv
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return _Done(status)


@pytest.fixture
def in_process(monkeypatch):
    """Chains of commands run in this process; that they run in their own is for the slow tests."""
    monkeypatch.setattr(processes, "start", call_in_process)


@pytest.fixture(autouse=True)
def seeded():
    """Networks start from the same weights whatever ran before in this process: some starts leave
    nothing in the safe region.
    """
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def reach_avoid_truth(tmp_path_factory) -> Path:
    """The reach-avoid ground truth on coarse grids: most of a minute, so its tests share a process
    (``xdist_group``).
    """
    resolution = Resolution(
        cells=31, speeds=11, headings=32, distances=121, fine_speeds=11, fine_headings=41
    )
    path = tmp_path_factory.mktemp("truth") / "truth.safetensors"
    load_truth(path, resolution, lambda _: None)
    return path


def make_episodes(lengths=(20, 30, 25), n_obs=4, n_act=2, seed=0, fall_every=2):
    """Random whole episodes; every ``fall_every``-th ends in a fall, the others in a time-out."""
    rng = np.random.default_rng(seed)
    columns = {
        k: []
        for k in (
            "observations",
            "next_observations",
            "actions",
            "rewards",
            "costs",
            "terminals",
            "timeouts",
        )
    }
    table = {k: [] for k in ("length", "return", "cost", "success", "fall")}
    for k, n in enumerate(lengths):
        frames = rng.normal(size=(n + 1, n_obs)).astype(np.float32)
        fall = k % fall_every == 0
        costs = np.zeros(n, np.float32)
        costs[-1] = float(fall)
        rewards = rng.normal(size=n).astype(np.float32)
        ends = np.zeros(n, np.float32)
        ends[-1] = 1.0
        columns["observations"].append(frames[:-1])
        columns["next_observations"].append(frames[1:])
        columns["actions"].append(rng.uniform(-1, 1, size=(n, n_act)).astype(np.float32))
        columns["rewards"].append(rewards)
        columns["costs"].append(costs)
        columns["terminals"].append(ends * fall)
        columns["timeouts"].append(ends * (not fall))
        for key, value in zip(table, (n, rewards.sum(), costs.sum(), int(not fall), int(fall))):
            table[key].append(value)
    return Episodes(
        {k: np.concatenate(v) for k, v in columns.items()},
        {k: np.array(v) for k, v in table.items()},
    )


@pytest.fixture
def episodes():
    return make_episodes()


@pytest.fixture
def dataset(episodes):
    return OfflineDataset([episodes])


def contract_of(policy, candidates=1):
    """The environment's contract with this policy's sampler."""
    return {
        **environment_contract(),
        "kind": "test",
        "sampler": {**policy.sampler, "candidates": candidates},
    }


@pytest.fixture(scope="session")
def gaussian_onnx(tmp_path_factory) -> Path:
    """A small random Gaussian policy as a file: it stands and trembles."""
    torch.manual_seed(0)
    policy = GaussianPolicy([265, 16, 12], torch.full((12,), 0.3), 0.25).eval()
    path = tmp_path_factory.mktemp("policy") / "trembler.onnx"
    write_onnx(policy, contract_of(policy), torch.randn(64, 265), path)
    return path


def diffusion_policy(choice="argmin_cost", kind="mlp"):
    """A small random diffusion policy with critics, for the Go2's sizes."""
    torch.manual_seed(0)
    n, a = 265, 12
    diffusion = Diffusion(Denoiser(n, a, kind, 16, 2, 0.0), 5, "clean")
    critics = Critic(n, a, (16,)), Critic(n, a, (16,)), Value(n, (16,))
    return DiffusionPolicy(
        Normalizer(torch.zeros(n), torch.ones(n)), diffusion, 1.0, choice, *critics, limit=0.0
    ).eval()


needs_torch_2 = pytest.mark.skipif(
    int(torch.__version__.split(".")[0]) < 2, reason="torch 1 has no default device for a block"
)
