"""CUDA graphs: which steps are recorded and what the host does around them, with a recorder that
simply does the step.
"""

import pytest
import torch

from go2_sevpo.algorithms import make_algorithm, make_config
from go2_sevpo.algorithms import sevpo as module
from go2_sevpo.offline_training.graphs import WARM_UP, GraphedUpdates

SETTINGS = {
    "actor": "mlp",
    "width": 16,
    "depth": 2,
    "dropout": 0.0,
    "prediction": "clean",
    "limit": 0.3,
    "delta": 0.3,
    "critic_steps": 8,
    "policy_steps": 40,
    "critic_hidden": [16],
    "critic_batch": 16,
    "actor_batch": 32,
    "actor_updates": 2,
    "unsafe_samples": 8,
    "warmup": 0.25,
    "trust_start": 0.5,
    "critic_decay": True,
}


def make(dataset, members=None):
    torch.manual_seed(0)
    algorithm = make_algorithm("sevpo", make_config("sevpo", SETTINGS), dataset, members)
    algorithm.fixed_shapes = True
    return algorithm, torch.Generator().manual_seed(1)


def weights(algorithm):
    state = algorithm.state_dict()
    found = {"scale_r": state["scale_r"], "scale_c": state["scale_c"]}
    for name in algorithm.modules:
        found.update({f"{name}.{k}": v for k, v in state[name].items()})
    return found


class Recorder:
    """Stands for CUDA's recording: the first step of a phase is replayed, with whatever the host
    has changed since.
    """

    def __init__(self):
        self.recorded = []

    def __call__(self, step, generator):
        self.recorded.append(step)
        return step


@pytest.mark.parametrize("members", [None, 2])
def test_recorded_phases_train_like_plain_steps(dataset, members):
    plain, generator = make(dataset, members)
    for stage in plain.stages:
        for step in range(plain.steps(stage)):
            plain.update(stage, step, dataset, generator)
    graphed, generator = make(dataset, members)
    recorder = Recorder()
    runner = GraphedUpdates(graphed, dataset, generator, recorder)
    for stage in graphed.stages:
        for step in range(graphed.steps(stage)):
            runner.update(stage, step)
    assert len(recorder.recorded) == 4  # stage 1; warm start; before and after K_trust
    assert sum(runner.done.values()) == 48 and min(runner.done.values()) > WARM_UP
    expected, found = weights(plain), weights(graphed)
    assert all(torch.equal(expected[k], found[k]) for k in expected)
    assert graphed.critics_trained == 8


def test_spare_samples_do_not_count(dataset, monkeypatch):
    """With fixed shapes more states are sampled than are unsafe: the loss must be that of the
    unsafe ones alone.
    """
    algorithm, generator = make(dataset)
    for step in range(8):
        algorithm.update("critics", step, dataset, generator)
    monkeypatch.setattr(
        module.base,
        "own_noise",
        lambda obs, actor, n, g: torch.zeros(*obs.shape[:-1], actor.steps, n),
    )
    batch = dataset.sample(8, torch.Generator().manual_seed(3))
    v_c, unsafe, found = torch.linspace(0, 1, 8), torch.arange(8) % 4 == 1, []
    for fixed in (False, True):
        algorithm.fixed_shapes = fixed
        algorithm.scale_c.fill_(1.0)
        found.append(algorithm.unsafe_sampled(batch, v_c, unsafe, 0.0, generator))
    assert found[0] > 0 and torch.allclose(found[0], found[1], rtol=1e-5)
    nowhere = algorithm.unsafe_sampled(batch, v_c, torch.zeros(8, dtype=torch.bool), 0.0, generator)
    assert nowhere == 0


def test_what_cannot_be_recorded_is_named(dataset):
    algorithm, generator = make(dataset)
    with pytest.raises(ValueError, match="CUDA graphs need --device cuda, found cpu"):
        GraphedUpdates(algorithm, dataset, generator)
    cloning = make_algorithm("bc", make_config("bc", {"width": 16, "depth": 2}), dataset)
    with pytest.raises(ValueError, match="CUDA graphs are for sevpo, not for"):
        GraphedUpdates(cloning, dataset, generator)
