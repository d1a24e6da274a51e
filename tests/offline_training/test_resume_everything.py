"""Every algorithm with every preset's settings goes on from a checkpoint bit for bit.

The run that is not interrupted saves as often as the other: saving must change nothing.
"""

import pytest
import torch
import yaml

from go2_sevpo.algorithms import ALGORITHMS, make_algorithm, make_config
from go2_sevpo.data.dataset import OfflineDataset
from go2_sevpo.offline_training.train import CONFIG_DIR, SAME_SECTION, SettingsLoader
from go2_sevpo.offline_training.trainer import Trainer
from tests.conftest import make_episodes

SMALL = {
    **dict.fromkeys(("width", "batch", "critic_batch", "actor_batch", "vae_hidden"), 8),
    **dict.fromkeys(("weight_hidden", "ood_actions", "unsafe_candidates"), 4),
    **dict.fromkeys(("hidden", "critic_hidden"), [8, 8]),
    "depth": 1,
    "latent": 4,
    "steps": 12,
    "critic_steps": 6,
    "policy_steps": 6,
    "vae_steps": 4,
    "limit": 0.05,
    "actor_name": "policy 1",
    "cost_limit": 10.0,
}
PARTS = ("lidar", "safety_gymnasium", "tasks", "reward_scale", "until_settled")


def sections():
    for path in sorted(CONFIG_DIR.glob("*.yaml")):
        found = yaml.load(path.read_text(encoding="utf-8"), SettingsLoader)
        for name in ALGORITHMS:
            section = SAME_SECTION.get(name, name)
            if section in found:
                values = {k: v for k, v in (found[section] or {}).items() if k not in PARTS}
                yield pytest.param(name, values, id=f"{path.stem}-{name}")


def data():
    torch.manual_seed(0)
    episodes = make_episodes(lengths=(20, 30, 25, 15))
    rows = episodes.rows
    episodes.columns["actor"] = torch.arange(rows).remainder(2).numpy()
    episodes.actors = ("policy 0", "policy 1")
    episodes.columns["constraint"] = torch.linspace(-1.0, 1.0, rows).numpy()
    return OfflineDataset([episodes])


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else value
    return [t for v in inner for t in tensors(v)] if isinstance(value, (dict, list, tuple)) else []


@pytest.mark.slow
@pytest.mark.parametrize("members", [None, 2])
@pytest.mark.parametrize(("name", "values"), list(sections()))
def test_it_goes_on_bit_for_bit(tmp_path, name, values, members):
    known = ALGORITHMS[name][1].__dataclass_fields__
    small = {key: value for key, value in SMALL.items() if key in known}
    dataset = data()

    def trainer(out, seed):
        torch.manual_seed(seed)
        config = make_config(name, {**values, **small})
        algorithm = make_algorithm(name, config, dataset, members)
        (tmp_path / out).mkdir(exist_ok=True)
        info = {"algorithm": name, "seed": 0}
        return Trainer(algorithm, dataset, tmp_path / out, info, 0, 3, 2, lambda _: None)

    whole = trainer("whole", 0)
    assert whole.run()
    total = sum(whole.algorithm.steps(stage) for stage in whole.algorithm.stages)
    cuts, part, done = [3, total // 2, total - 1], trainer("part", 0), 0
    for cut in cuts:
        assert not part.run(cut - done)
        part, done = trainer("part", 99), cut
        part.load()
    assert part.run()
    expected, found = (tensors(t.algorithm.state_dict()) for t in (whole, part))
    assert len(expected) == len(found) > 5
    assert all(torch.equal(a, b) for a, b in zip(expected, found))
