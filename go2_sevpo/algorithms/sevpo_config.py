"""SEVPO's settings: the paper's symbols, Table 8's values, and the readings of unclear places.

docs/algorithm.md explains every option.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from go2_sevpo.algorithms.conservative import ConservativeConfig, check_choice
from go2_sevpo.policies.torch_policy import CHOICES

UNSAFE_OBJECTIVES = ("gradient", "search", "awr", "none", "printed")
ADVANTAGES = ("baseline", "paper")
PENALTIES = ("signed", "paper", "none")
TRUST_REGIONS = ("added", "printed", "off")


@dataclass(frozen=True)
class SevpoConfig(ConservativeConfig):
    """Hyper-parameters; the comments name the paper's symbol or Table 8's entry.

    Raises:
        ValueError: an option that is none, or a number out of its range.
    """

    delta: float = 1.0
    """delta of Eq. 10, in the units of ``limit``."""
    episode_delta: Optional[float] = None
    """If given, replaces ``delta`` as ``episode_limit`` does; with Q_c^pi's discount gamma."""
    lookahead: int = 0
    """S1 also asks that the data's own cost over this many steps, and V_c then, is at most l.

    0: only Algorithm 1's test.
    """
    # safe objective
    mu1: float = 3.0
    """Temperature of the weights exp(mu1 A_r) of Eq. 13."""
    b1: float = 1.0
    """Weight of the safe objective in Eq. 16."""
    advantage: str = "baseline"
    """``baseline``: Eq. 10 minus its mean under the policy; ``paper``: Eq. 10 as printed."""
    normalize_advantage: bool = True
    """Divide the advantage by its running root mean square, so that mu1 has no unit."""
    normalize_weights: bool = True
    """Divide the weights by their mean over S1 of the batch."""
    penalty: str = "signed"
    """Eq. 10 above delta: ``signed`` moves Q_r down for either sign.

    ``paper`` divides by Q_c; ``none`` leaves it.
    """
    data_cost_penalty: float = 0.0
    """Subtracts this times the data action's excess Q_c^pi from the advantage."""
    weight_clip: float = 100.0
    """The weights exp(.) are at most this, before they are normalised."""
    # unsafe objective
    unsafe_objective: str = "gradient"
    """Eq. 14: ``gradient`` through the sampler of exp(+mu2 A_c); ``printed`` with the minus sign.

    ``search`` imitates actions found by Q_c; ``awr`` weights data actions; ``none``.
    """
    mu2: float = 5.0
    """Temperature of Eq. 14."""
    b2: float = 3.0
    """Weight of the unsafe objective in Eq. 16."""
    unsafe_candidates: int = 32
    """``search``: uniform actions judged per unsafe state, beside the data's."""
    unsafe_samples: int = 256
    """Own actions are sampled on at most this many unsafe states of a batch."""
    exponent_clip: float = 2.0
    """exp() is continued linearly beyond this exponent."""
    unsafe_cloning: float = 0.0
    """Weight of plain cloning on unsafe states."""
    trust_region: str = "added"
    """Eq. 15: ``added`` to Eq. 14, ``printed`` replaces it, ``off``."""
    trust_weight: float = 1.0
    """Weight of Eq. 15 beside Eq. 14."""
    trust_start: float = 0.5
    """K_trust as a share of the stage's steps."""
    trust_interval: int = 5
    """k: z' of Eq. 15 is the actor of at most this many steps ago."""
    # training
    policy_steps: int = 1000000
    actor_rate: Optional[float] = None
    """The actor's learning rate; ``rate`` if not given."""
    actor_batch: int = 1024
    actor_updates: int = 2
    """Actor updates per step, each on its own batch (the base method splits 2048 in two)."""
    warmup: float = 0.0
    """Share of the policy stage in which the actor clones S1 unweighted (warm start)."""
    ema: float = 0.001
    """Rate of the averaged actor, which is what acts."""
    # networks
    actor: str = "resnet"
    width: int = 256
    depth: int = 3
    dropout: float = 0.1
    diffusion_steps: int = 5
    prediction: str = "noise"
    # acting
    temperature: float = 1.0
    critic_temperature: Optional[float] = None
    """Sampling temperature of a' in Eqs. 8 and 9; the acting one if not given."""
    acting_noise: float = 0.0
    """Share of the action noise that the last sampling step leaves out and that is added again
    when acting (and to a' in Eqs. 8 and 9); 1 restores the data's.
    """
    choice: str = "argmin_cost"
    acting_share: Optional[float] = None
    """Candidates are judged by this share of l.

    None: 0.3 where networks see how near a lidar's readings are, as Q_c then comes out too small in
    places the data hardly hold (measured, docs/safety_gymnasium.md), else 1.
    """

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: naming the option, what was found and what was expected.
        """
        super().__post_init__()
        check_choice(self, "unsafe_objective", UNSAFE_OBJECTIVES)
        check_choice(self, "advantage", ADVANTAGES)
        check_choice(self, "penalty", PENALTIES)
        check_choice(self, "trust_region", TRUST_REGIONS)
        check_choice(self, "choice", CHOICES)
        if self.acting_share is not None and self.acting_share < 0:
            raise ValueError(f"acting_share is {self.acting_share:g}, expected 0 or more")
        if self.acting_noise < 0:
            raise ValueError(f"acting_noise is {self.acting_noise:g}, expected 0 or more")
        if self.lookahead < 0:
            raise ValueError(f"lookahead is {self.lookahead}, expected 0 or more steps")


__all__ = ["ADVANTAGES", "PENALTIES", "TRUST_REGIONS", "UNSAFE_OBJECTIVES", "SevpoConfig"]
