"""What the trainer asks of every algorithm, and the pieces they share."""

from __future__ import annotations

import copy
import math
from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, List, Optional, Protocol, Tuple, overload

import torch
from torch import nn

from go2_sevpo.data.dataset import OfflineDataset
from go2_sevpo.networks.diffusion import Diffusion
from go2_sevpo.networks.layers import Denoiser, Network, Normalizer, member
from go2_sevpo.policies.torch_policy import Policy

Metrics = Dict[str, torch.Tensor]
"""What an update reports: zero-dimensional tensors by name."""


class Algorithm(Protocol):
    """One offline learner: named stages, one gradient step at a time.

    With ``members`` K it trains K independent copies side by side, each on draws of its own:
    tensors carry K before the batch axis, losses are means over the batch and sums over members, so
    that no member feels another.

    Attributes:
        members: K, or None for plain networks.
    """

    members: Optional[int]

    @property
    def stages(self) -> Tuple[str, ...]:
        """Names of the stages, in the order in which they are trained."""

    def steps(self, stage: str) -> int:
        """Gradient steps of a stage."""

    def update(
        self, stage: str, step: int, data: OfflineDataset, generator: torch.Generator
    ) -> Metrics:
        """Do step number ``step`` (from 0) of ``stage``; return scalars to log.

        All random numbers are drawn from ``generator``, which lives on the data's device.
        """

    def policy(self, choice: Optional[str] = None, member: int = 0) -> Policy:
        """Return the deployable policy (of one member).

        ``choice`` among candidates replaces the configuration's own, if given.
        """

    def state_dict(self) -> Dict[str, Any]:
        """Return everything that training changes."""

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""


class State:
    """Modules and optimisers by attribute name, saved and restored together."""

    stages: Tuple[str, ...] = ()
    modules: Tuple[str, ...] = ()
    optimizers: Tuple[str, ...] = ()
    members: Optional[int] = None

    def shape(self, n: int) -> Tuple[int, ...]:
        """Shape of a batch of ``n`` transitions."""
        return (n,) if self.members is None else (self.members, n)

    @overload
    def one(self, module: Network, k: int) -> Network: ...
    @overload
    def one(self, module: None, k: int) -> None: ...
    def one(self, module: Optional[Network], k: int) -> Optional[Network]:
        """A network of member ``k``; as it is where there are no members, or where it is None."""
        return module if module is None or self.members is None else member(module, k)

    def state_dict(self) -> Dict[str, Any]:
        """Return everything that training changes."""
        return {name: getattr(self, name).state_dict() for name in self.modules + self.optimizers}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        for name in self.modules + self.optimizers:
            getattr(self, name).load_state_dict(state[name])


def adam(params: Iterable[nn.Parameter], rate: float) -> torch.optim.Adam:
    """Adam; ``foreach`` keeps the many small tensors cheap."""
    return torch.optim.Adam(list(params), lr=rate, foreach=True)


def frozen_copy(module: Network) -> Network:
    """A copy that never gets gradients, for targets and averages."""
    return copy.deepcopy(module).requires_grad_(False).eval()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module without dropout while the block runs."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def cosine(rate: float, step: float, total: float) -> float:
    """Cosine decay from ``rate`` to zero."""
    return 0.5 * rate * (1.0 + math.cos(math.pi * min(step / max(total, 1), 1.0)))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all groups.

    Of a rate that lives on the device (:func:`make_capturable`) the content is set, which a graph
    reads.
    """
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def make_capturable(optimizer: torch.optim.Optimizer) -> None:
    """Let a CUDA graph hold an Adam's steps: its counts and rate move to the parameters' device."""
    for group in optimizer.param_groups:
        device = group["params"][0].device
        group["capturable"] = True
        group["lr"] = torch.as_tensor(float(group["lr"]), device=device)
        for p in group["params"]:
            # Parameters that have not been stepped yet have no count.
            if "step" in optimizer.state[p]:
                optimizer.state[p]["step"] = optimizer.state[p]["step"].to(device)


def make_actor(
    data: OfflineDataset,
    kind: str,
    width: int,
    depth: int,
    dropout: float,
    steps: int,
    prediction: str,
    members: Optional[int] = None,
) -> Diffusion:
    """A diffusion actor for the dataset's sizes; see :class:`Denoiser` and :class:`Diffusion`."""
    denoiser = Denoiser(data.num_obs, data.num_actions, kind, width, depth, dropout, members)
    return Diffusion(denoiser, steps, prediction).to(data.device)


def make_normalizer(data: OfflineDataset) -> Normalizer:
    """The dataset's observation statistics as a module."""
    return Normalizer(data.mean, data.std, data.lidar)


def cloning_loss(
    actor: Diffusion, obs: torch.Tensor, act: torch.Tensor, generator: torch.Generator
) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Per-sample diffusion loss (B,), with the drawn noise (B, A) and steps (B,).

    ||z - z_theta(a_t, s, t)||^2 of Eq. 13, not yet weighted, at one random step for each action.
    """
    noise = torch.randn(act.shape, generator=generator, device=act.device)
    t = torch.randint(actor.steps, act.shape[:-1], generator=generator, device=act.device)
    return actor.loss(obs, act, noise, t), noise, t


def own_noise(
    obs: torch.Tensor, actor: Diffusion, n_act: int, generator: torch.Generator, more: int = 0
) -> torch.Tensor:
    """Noise (B, T + ``more``, A) for sampling own actions at ``obs`` (B, S)."""
    return torch.randn(
        (*obs.shape[:-1], actor.steps + more, n_act), generator=generator, device=obs.device
    )


@torch.no_grad()
def lost_noise(
    actor: Diffusion,
    obs: torch.Tensor,
    act: torch.Tensor,
    mask: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Root mean square of :meth:`Diffusion.residual` where ``mask`` (B,) is 1, (A,) per member."""
    noise = torch.randn(act.shape, generator=generator, device=act.device)
    square = actor.residual(obs, act, noise).square()  # (B, A)
    return mean_over(square.transpose(-1, -2), mask[..., None, :]).sqrt()


def loss_of(values: torch.Tensor) -> torch.Tensor:
    """Mean over the batch, sum over members (and heads): so each has its own gradient."""
    return values.mean(-1).sum()  # (..., B) -> (...) -> ()


def mean_over(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of ``values`` (B,) where ``mask`` (B,) is 1, per member; 0 where it is nowhere."""
    # The clamp: 0 / 1 where the mask is empty.
    return (values * mask).sum(-1) / mask.sum(-1).clamp_min(1.0)


def descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """One optimiser step; other networks that the loss goes through get no gradients."""
    optimizer.zero_grad(set_to_none=True)
    # With ``inputs`` named, backward() leaves out the others' gradients.
    loss.backward(inputs=[p for group in optimizer.param_groups for p in group["params"]])
    optimizer.step()


def summary(**values: torch.Tensor) -> Metrics:
    """Means of tensors of any shape, detached, for the log; they stay on the device."""
    return {k: v.detach().float().mean() for k, v in values.items()}


__all__: List[str] = [
    "Algorithm",
    "Metrics",
    "State",
    "adam",
    "cloning_loss",
    "cosine",
    "descend",
    "evaluating",
    "frozen_copy",
    "loss_of",
    "lost_noise",
    "make_actor",
    "make_capturable",
    "make_normalizer",
    "mean_over",
    "own_noise",
    "set_rate",
    "summary",
]
