"""Gradients that are not finite are named, though the loss is finite."""

import math

import pytest
import torch

from go2_sevpo.algorithms import make_algorithm, make_config
from go2_sevpo.offline_training.trainer import CHECKPOINT, Trainer
from go2_sevpo.runs.finite import NotFiniteError, check_gradients


def test_the_norm_is_over_all_parameters_of_an_optimiser():
    weights = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    check_gradients({"actor": optimizer}, "here")  # none yet
    weights[0].grad = torch.tensor([3.0, 4.0])
    check_gradients({"actor": optimizer}, "here")
    weights[1].grad = torch.tensor([math.inf])
    with pytest.raises(
        NotFiniteError, match="^here: gradient norm of actor is inf, expected a fin"
    ):
        check_gradients(
            {"critics": torch.optim.SGD([torch.zeros(1)], lr=1), "actor": optimizer}, "here"
        )


def test_a_root_at_zero_has_a_finite_value_and_no_finite_gradient():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([weight])
    loss = (weight * 0.0).sqrt().sum()
    loss.backward()
    assert float(loss.detach()) == 0.0
    with pytest.raises(NotFiniteError, match="gradient norm of q is nan"):
        check_gradients({"q": optimizer}, "step 1")


def test_a_training_ends_with_it_and_keeps_its_checkpoint(tmp_path, dataset):
    settings = {"steps": 9, "batch": 8, "width": 8, "depth": 1}
    algorithm = make_algorithm("bc", make_config("bc", settings), dataset)
    info = {"algorithm": "bc"}
    trainer = Trainer(algorithm, dataset, tmp_path, info, 0, log_every=1, save_every=2)
    trainer.run(4)
    before = (tmp_path / CHECKPOINT).read_bytes()
    (weight, *_) = [p for g in algorithm.optimizer.param_groups for p in g["params"]]
    weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NotFiniteError, match="stage policy, step 5: gradient norm of optimizer"):
        trainer.run()
    assert (tmp_path / CHECKPOINT).read_bytes() == before
