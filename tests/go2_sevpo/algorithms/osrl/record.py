"""Record what OSRL's and CCAC's own code makes of given weights, batches and noise.

``python -m tests.go2_sevpo.algorithms.osrl.record OSRL CCAC/OSRL`` with checkouts of
https://github.com/liuzuxin/OSRL and https://github.com/BU-DEPEND-Lab/CCAC writes one ``NAME.npz``
per method beside this file: the data, the weights before and after, the rows, noise and losses of
every step. The losses are what their trainers report. Nothing of theirs is kept but these numbers.
"""

import importlib
import importlib.machinery
import sys
import types
from pathlib import Path

import numpy as np
import torch

from go2_sevpo.data.dataset import OfflineDataset
from go2_sevpo.data.shards import Episodes

HERE = Path(__file__).parent
STEPS, ROWS = 3, 12
SIZES = {"state_dim": 3, "action_dim": 2, "max_action": 1.0, "episode_len": 1000, "device": "cpu"}
HIDDEN = {"a_hidden_sizes": [6, 6], "c_hidden_sizes": [6, 6]}
VAE = {"vae_hidden_sizes": 6, "beta": 0.5}
RATES = {"actor_lr": 0.01, "critic_lr": 0.02, "vae_lr": 0.02}
ALPHA = {"alpha_lr": 0.05}
TWO = {"num_q": 2, "num_qc": 2, "tau": 0.05}


def make_columns():
    """Five episodes of eight steps: two end by a terminal, three by a time-out."""
    rng = np.random.default_rng(0)
    n = 40
    columns = {
        "observations": rng.normal(size=(n, 3)),
        "actions": np.tanh(rng.normal(size=(n, 2))),
        "rewards": rng.normal(size=n),
        "costs": (rng.random(n) < 0.4).astype(float),
        "terminals": np.zeros(n),
        "timeouts": np.zeros(n),
    }
    columns["next_observations"] = np.roll(columns["observations"], -1, 0)
    for k, end in enumerate(range(7, n, 8)):
        columns["terminals" if k % 2 else "timeouts"][end] = 1.0
    return {k: v.astype(np.float32) for k, v in columns.items()}


def dataset_of(columns):
    """The columns as the project's dataset; it normalises observations."""
    costs, rewards = (columns[k].reshape(5, 8).sum(1) for k in ("costs", "rewards"))
    table = {"length": np.full(5, 8), "return": rewards, "cost": costs}
    return OfflineDataset([Episodes(columns, {**table, "success": 0 * costs, "fall": 0 * costs})])


class Tape:
    """Stands in for torch's sources of normal noise and keeps what it gave."""

    def __init__(self):
        self.given, self.generator = [], torch.Generator().manual_seed(1)

    def draw(self, *shape):
        shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        self.given.append(torch.randn(tuple(shape), generator=self.generator))
        return self.given[-1].clone()

    def install(self, module):
        normal = torch.distributions.Normal

        def sample(dist, shape=()):
            return dist.loc + dist.scale * fake.draw(torch.Size(shape) + dist.loc.shape)

        fake = self
        normal.rsample = sample
        normal.sample = lambda dist, shape=(): sample(dist, shape).detach()
        module.torch = types.ModuleType("torch")
        module.torch.__dict__.update(torch.__dict__)
        module.torch.randn_like = lambda x: self.draw(x.shape)
        module.torch.randn = lambda *shape, **_: self.draw(*shape)


class Logger:
    def __init__(self):
        self.found = {}

    def store(self, tab=None, **values):
        self.found.update({k.split("/")[-1]: float(v) for k, v in values.items()})


def stub(name, *names):
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    for key in names:
        setattr(module, key, Logger)
    sys.modules[name] = module


def theirs(root, name):
    """Their module of an algorithm, and their data's, freshly imported from ``root``."""
    for key in [k for k in sys.modules if k.split(".")[0] == "osrl"]:
        del sys.modules[key]
    sys.path.insert(0, str(root))
    try:
        return importlib.import_module(f"osrl.algorithms.{name}"), importlib.import_module(
            "osrl.common.dataset"
        )
    finally:
        sys.path.pop(0)


def spread(model, shift):
    """Larger weights; cost values on both sides of the limit, some generated pairs dear."""
    with torch.no_grad():
        for key, value in model.named_parameters():
            value.mul_(2.0)
            if value.shape == (1,) and key.startswith(("cost_critic", "classifier")):
                value.add_(shift)


def kept(key):
    """Whether a weight is kept after the steps: losses say enough of the others."""
    return key.startswith(("actor.", "actor_lag", "qc_lag", "log_", "tau", "lmbda"))


def write(name, model, columns, tape, run, extra=()):
    """Do the steps and save everything."""
    found = {f"data/{k}": v for k, v in columns.items()}
    state = {**model.state_dict(), **{k: getattr(model, k) for k in extra}}
    found.update(
        {f"before/{k}": v.detach().clone().numpy() for k, v in state.items() if "_old." not in k}
    )
    rng = np.random.default_rng(2)
    for step in range(STEPS):
        rows = rng.permutation(len(columns["rewards"]))[:ROWS]
        tape.given.clear()
        losses = run(rows)
        found[f"rows/{step}"] = rows
        found.update({f"noise/{step}/{k}": v.numpy() for k, v in enumerate(tape.given)})
        found.update({f"loss/{step}/{k}": np.float64(v) for k, v in losses.items()})
    state = {**model.state_dict(), **{k: getattr(model, k) for k in extra}}
    found.update({f"after/{k}": v.detach().clone().numpy() for k, v in state.items() if kept(k)})
    np.savez_compressed(HERE / f"{name}.npz", **found)
    print(name, {k: round(v, 4) for k, v in losses.items()})


def record(name, root, algorithm, settings, rates, extra=()):
    """One method's file."""
    torch.manual_seed(0)
    module, files = theirs(root, algorithm)
    columns = make_columns()
    data = dataset_of(columns)
    seen = {
        **{k: columns[k].copy() for k in ("actions", "rewards", "costs", "terminals", "timeouts")},
        "observations": data.frames[data.first].numpy(),
        "next_observations": data.frames[data.second].numpy(),
    }
    if algorithm == "ccac":
        low, high = files.set_cost_thresholds(seen)
        settings = {**settings, "state_min": low, "state_max": high}
    start = files.TransitionDataset(seen, state_init=algorithm == "coptidice")
    if algorithm == "coptidice":
        share, obs_std, act_std = start.get_dataset_states()
        settings = {**settings, "init_state_propotion": share}
        settings.update({"observations_std": obs_std, "actions_std": act_std})
    classes = {"bc": "BC", "cpq": "CPQ", "bcql": "BCQL", "bearl": "BEARL", "ccac": "CCAC"}
    kind = classes.get(algorithm, "COptiDICE")
    # The same noise for whatever class draws it, networks' module included.
    tape = Tape()
    tape.install(module)
    tape.install(sys.modules["osrl.common.net"])
    model = getattr(module, kind)(**{**SIZES, **settings})
    spread(model, 2.6 if algorithm in ("bcql", "bearl") else 0.9)
    for old, new in (("actor_old", "actor"), ("critic_old", "critic")):
        if hasattr(model, old):
            getattr(model, old).load_state_dict(getattr(model, new).state_dict())
    if hasattr(model, "cost_critic_old"):
        model.cost_critic_old.load_state_dict(model.cost_critic.state_dict())
    logger = Logger()
    trainer = getattr(module, f"{kind}Trainer")(model, None, logger=logger, **rates)

    def run(rows):
        columns_of = {
            "bc": ("observations", "actions"),
            "ccac": (
                *("observations", "next_observations", "actions", "rewards", "costs"),
                *("cost_thresholds", "next_cost_thresholds", "done"),
            ),
        }
        usual = ("observations", "next_observations", "actions", "rewards", "costs", "done")
        keys = columns_of.get(algorithm, usual)
        batch = [torch.from_numpy(np.asarray(start.dataset[k][rows])) for k in keys]
        logger.found = {}
        if algorithm == "coptidice":
            trainer.train_one_step([*batch, torch.from_numpy(start.dataset["is_init"][rows])])
        elif algorithm == "ccac":
            trainer.train_one_step_cvae(*batch)
        else:
            trainer.train_one_step(*batch)
        return dict(logger.found)

    write(name, model, columns, tape, run, extra)


def main():
    """Write all files."""
    osrl, ccac = (Path(x) for x in sys.argv[1:3])
    for name, names in (
        ("fsrl", ()),
        ("fsrl.utils", ("DummyLogger", "WandbLogger")),
        ("oapackage", ()),
        ("tqdm", ()),
        ("tqdm.auto", ("trange",)),
    ):
        stub(name, *names)
    sys.modules["tqdm.auto"].trange = lambda n, **_: range(n)
    many = {"sample_action_num": 3}
    record("bc-osrl", osrl, "bc", {"a_hidden_sizes": [6, 6]}, {"actor_lr": 0.01})
    record(
        *("cpq-osrl", osrl, "cpq", {**HIDDEN, **VAE, **TWO, **many}, {**RATES, **ALPHA}),
        extra=("log_alpha",),
    )
    dice = {**HIDDEN, "f_type": "softchi", "num_nu": 2, "num_chi": 2}
    rates = {"actor_lr": 0.01, "critic_lr": 0.01, "scalar_lr": 0.01}
    record("coptidice-osrl", osrl, "coptidice", dice, rates, extra=("tau", "lmbda"))
    record("bcq-lag", osrl, "bcql", {**HIDDEN, **VAE, **TWO, **many}, {**RATES, "actor_lr": 0.02})
    bear = {**HIDDEN, **VAE, **TWO, **many, "mmd_sigma": 5.0, "num_samples_mmd_match": 3}
    record(
        *("bear-lag", osrl, "bearl", {**bear, "start_update_policy_step": 0}),
        *({**RATES, "actor_lr": 0.02, **ALPHA},),
        extra=("log_alpha",),
    )
    sizes = {**HIDDEN, **VAE, "vae_latent_sizes": 4, "num_q": 4, "num_qc": 4, "tau": 0.05}
    record("ccac-osrl", ccac, "ccac", sizes, RATES)


if __name__ == "__main__":
    main()
