"""The benchmark's methods against numbers that their authors' code gave (record.py).

Same weights, rows and noise: every loss of three steps in a row, and the actor's weights after
them, so that optimisers, targets and multipliers are held, too.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from go2_sevpo.algorithms import make_algorithm, make_config
from tests.go2_sevpo.algorithms.osrl.record import dataset_of

HERE = Path(__file__).parent
STEPS, ROWS = 3, 12
SMALL = {"hidden": (6, 6), "batch": ROWS}
VAE = {"vae_hidden": 6, "rate": 0.02, "target_rate": 0.05}
SETTINGS = {
    "bc-osrl": {"rate": 0.01},
    "cpq-osrl": {**VAE, "actor_rate": 0.01, "alpha_rate": 0.05, "ood_actions": 3},
    "coptidice-osrl": {"rate": 0.01},
    "bcq-lag": {**VAE, "draws": 3},
    "bear-lag": {**VAE, "draws": 3, "samples": 3, "width": 5.0, "alpha_rate": 0.05},
    "ccac-osrl": {**VAE, "latent": 4, "actor_rate": 0.01},
}
# Our names of their noise, in the order in which they draw it; None: drawn and not used.
NOISE = {
    "bc-osrl": [],
    "cpq-osrl": ["latent", "next_r", "next_c", None, "trial", None, "actor"],
    "coptidice-osrl": ["obs", "act", None],
    "bcq-lag": ["latent", "next_r", "next_c", "actor"],
    "bear-lag": ["latent", "next_r", "next_c", "decoded", "actor"],
    "ccac-osrl": ["latent", "next_r", "next_c", "pairs", "actor"],
}
# Their names of our losses.
LOSSES = {
    "vae_loss": "loss_vae",
    "class_loss": "loss_class",
    "q_r_loss": "critic_loss",
    "q_c_loss": "cost_critic_loss",
    "actor_loss": "actor_loss",
    "penalty": "qc_penalty",
    "multiplier": "lagrangian",
    "discrepancy": "mmd_loss",
    "chi_loss": "chi_loss",
    "tau_loss": "tau_loss",
    "nu_loss": "nu_loss",
    "weight_loss": "lmbda_loss",
    "divergence": "D_kl",
    "tau": "tau",
    "cost_weight": "lmbda",
    "weight_pairs_loss": "loss_qc_lag",
    "weight_policy_loss": "loss_actor_lag",
}
EXPECTED = {
    "bc-osrl": {"actor_loss"},
    "cpq-osrl": {"vae_loss", "q_r_loss", "q_c_loss", "actor_loss"},
    "coptidice-osrl": {
        *("chi_loss", "tau_loss", "nu_loss", "weight_loss", "actor_loss"),
        *("divergence", "tau", "cost_weight"),
    },
    "bcq-lag": {"vae_loss", "q_r_loss", "q_c_loss", "actor_loss", "penalty", "multiplier"},
    "ccac-osrl": {
        *("vae_loss", "class_loss", "q_r_loss", "q_c_loss", "actor_loss"),
        *("weight_pairs_loss", "weight_policy_loss"),
    },
}
EXPECTED["bear-lag"] = {*EXPECTED["bcq-lag"], "discrepancy"}


def fill_mlp(mlp, state, *groups):
    """Weights of an Mlp; a group of several layers of theirs is one of ours, joined."""
    layers = [m for m in mlp.net if isinstance(m, torch.nn.Linear)]
    assert len(layers) == len(groups)
    for layer, names in zip(layers, groups):
        for part in ("weight", "bias"):
            values = torch.cat([state[f"{n}.{part}"] for n in names])
            getattr(layer, part).data.copy_(values)


def fill_critic(critic, state, *nets):
    """Weights of a critic: each of their nets is a head."""
    for number, layer in enumerate(critic.layers):
        for head, net in enumerate(nets):
            layer.weight.data[head] = state[f"{net}.{2 * number}.weight"].T
            layer.bias.data[head, 0] = state[f"{net}.{2 * number}.bias"]


def plain(name, *numbers):
    return [(f"{name}.{k}",) for k in numbers]


def gaussian(name):
    heads = (f"{name}.mu_layer", f"{name}.log_std_layer")
    return [*plain(f"{name}.net", 0, 2), heads]


def fill(name, ours, state):
    """Put their weights into our networks."""
    if name == "bc-osrl":
        fill_mlp(ours.actor, state, *plain("actor.pi", 0, 2, 4))
        return
    fill_actor(name, ours, state)
    if name == "coptidice-osrl":
        for net in ("nu", "chi"):
            heads = [f"{net}_network.q_nets.{k}" for k in range(2)]
            fill_critic(getattr(ours, net), state, *heads)
        for p, key in zip(ours.multipliers, ("lmbda", "tau")):
            p.data.copy_(state[key][0])
        return
    for our, their in (("q_r", "critic"), ("q_c", "cost_critic")):
        heads = sorted({k.rsplit(".", 2)[0] for k in state if k.startswith(f"{their}.")})
        for suffix in ("", "_target"):
            fill_critic(getattr(ours, our + suffix), state, *heads)
    if name == "ccac-osrl":
        encoder = (*plain("cvae", "e1", "e2"), ("cvae.mean", "cvae.log_std"))
        fill_mlp(ours.vae.encoder, state, *encoder)
        fill_mlp(ours.vae.decoder, state, *plain("cvae", "sa_d1", "sa_d2", "sa_d3"))
        for our, their in (
            ("classifier", "classifier"),
            ("weight_pairs", "qc_lag"),
            ("weight_policy", "actor_lag"),
        ):
            fill_mlp(getattr(ours, our), state, *plain(f"{their}.net", 0, 2, 4))
        return
    fill_mlp(ours.vae.encoder, state, *plain("vae", "e1", "e2"), ("vae.mean", "vae.log_std"))
    fill_mlp(ours.vae.decoder, state, *plain("vae", "d1", "d2", "d3"))
    if hasattr(ours, "actor_target"):
        ours.actor_target.load_state_dict(ours.actor.state_dict())


def fill_actor(name, ours, state):
    if name == "bcq-lag":
        fill_mlp(ours.actor, state, *plain("actor.pi", 0, 2, 4))
    else:
        fill_mlp(ours.actor.body, state, *gaussian("actor"))


def reshaped(name, key, value):
    """Their noise in our shape: (B, n, D) for several draws a row."""
    if key == "trial":
        return value.transpose(0, 1)  # theirs are (n, B, A)
    if value.dim() == 2 and len(value) > ROWS:
        return value.unflatten(0, (ROWS, -1))
    return value


def read(name):
    with np.load(HERE / f"{name}.npz") as found:
        return {k: torch.from_numpy(found[k]) for k in found}


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_losses_of_three_steps_are_theirs(name):
    found = read(name)
    data = dataset_of({k[5:]: v.numpy() for k, v in found.items() if k.startswith("data/")})
    config = make_config(name, {**SMALL, **SETTINGS[name]})
    ours = make_algorithm(name, config, data)
    before = {k[7:]: v for k, v in found.items() if k.startswith("before/")}
    fill(name, ours, before)
    for step in range(STEPS):
        given = [found[f"noise/{step}/{k}"] for k in range(len(NOISE[name]))]
        assert f"noise/{step}/{len(NOISE[name])}" not in found
        noise = {k: reshaped(name, k, v) for k, v in zip(NOISE[name], given) if k is not None}
        drawn = ours.draw(torch.Generator().manual_seed(0))
        assert {k: v.shape for k, v in noise.items()} == {k: v.shape for k, v in drawn.items()}
        metrics = ours.descend("policy", data.rows(found[f"rows/{step}"].long()), noise)
        theirs = {
            our: float(found[f"loss/{step}/{their}"])
            for our, their in LOSSES.items()
            if f"loss/{step}/{their}" in found and our in EXPECTED[name]
        }
        assert set(theirs) == EXPECTED[name]
        for key, value in theirs.items():
            assert float(metrics[key]) == pytest.approx(value, rel=1e-4, abs=1e-5), (step, key)
    after = {k[6:]: v for k, v in found.items() if k.startswith("after/")}
    again = make_algorithm(name, config, data)
    if name == "bc-osrl":
        fill(name, again, after)
    else:
        fill_actor(name, again, after)
    for ours_p, their_p in zip(ours.actor.parameters(), again.actor.parameters()):
        torch.testing.assert_close(ours_p, their_p, rtol=1e-3, atol=1e-4)
    if "log_alpha" in after:
        assert float(ours.weight.value) == pytest.approx(float(after["log_alpha"]), rel=1e-4)


def test_the_recorded_steps_touch_every_branch():
    """A loss that is zero throughout would hold nothing."""
    for name, key in (("bcq-lag", "lagrangian"), ("bear-lag", "lagrangian")):
        assert all(float(read(name)[f"loss/{k}/{key}"]) > 1e-3 for k in range(STEPS))
    pairs = [float(read("ccac-osrl")[f"loss/{k}/loss_qc_lag"]) for k in range(STEPS)]
    assert all(abs(x) > 1e-3 for x in pairs)
