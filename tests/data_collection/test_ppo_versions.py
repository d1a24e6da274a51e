"""Which rsl_rl is driven how.

The v1.0.2 below is a record of that version's signatures; 5.x or 2.x is tested for real, whichever
is installed (test_train_expert.py).
"""

import sys
import types
from dataclasses import replace

import pytest
import torch
from torch import nn

from go2_sevpo.data_collection.experts import ppo
from go2_sevpo.data_collection.experts.config import PpoConfig
from go2_sevpo.envs.go2.config import ParkourConfig
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.go2.symmetry import observation_mirror, privileged_mirror


class ActorCritic(nn.Module):
    is_recurrent = False

    def __init__(
        self,
        num_actor_obs,
        num_critic_obs,
        num_actions,
        actor_hidden_dims=(256, 256, 256),
        critic_hidden_dims=(256, 256, 256),
        activation="elu",
        init_noise_std=1.0,
        **kwargs,
    ):
        assert not kwargs
        super().__init__()
        self.sizes = num_actor_obs, num_critic_obs
        self.actor = nn.Sequential(
            nn.Linear(num_actor_obs, actor_hidden_dims[0]),
            nn.ELU(),
            nn.Linear(actor_hidden_dims[0], num_actions),
        )
        self.std = nn.Parameter(init_noise_std * torch.ones(num_actions))


class PPO:
    def __init__(
        self,
        actor_critic,
        num_learning_epochs=1,
        num_mini_batches=1,
        clip_param=0.2,
        gamma=0.998,
        lam=0.95,
        value_loss_coef=1.0,
        entropy_coef=0.0,
        learning_rate=1e-3,
        max_grad_norm=1.0,
        use_clipped_value_loss=True,
        schedule="fixed",
        desired_kl=0.01,
        device="cpu",
    ):
        self.actor_critic, self.learning_rate, self.entropy_coef = (
            actor_critic,
            learning_rate,
            entropy_coef,
        )
        self.optimizer = torch.optim.Adam(actor_critic.parameters())
        self.noted = []

    def init_storage(
        self, num_envs, num_transitions_per_env, actor_obs_shape, critic_obs_shape, action_shape
    ):
        self.storage = (
            num_envs,
            num_transitions_per_env,
            actor_obs_shape,
            critic_obs_shape,
            action_shape,
        )

    def act(self, obs, critic_obs):
        assert (obs.shape[1], critic_obs.shape[1]) == self.actor_critic.sizes
        return self.actor_critic.actor(obs)

    def process_env_step(self, rewards, dones, infos):
        self.noted.append((rewards, dones, infos["time_outs"].unsqueeze(1)))

    def compute_returns(self, last_critic_obs):
        assert last_critic_obs.shape[1] == self.actor_critic.sizes[1]

    def update(self):
        return 0.5, 0.25


@pytest.fixture
def env():
    made = Go2Parkour(ParkourConfig(num_envs=2, variants=2, threads=1), True)
    made.reset()
    yield made
    made.close()


def test_v1_is_driven_without_symmetry(env, monkeypatch):
    for name, member in (("rsl_rl.algorithms", PPO), ("rsl_rl.modules", ActorCritic)):
        module = types.ModuleType(name)
        setattr(module, member.__name__, member)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(ppo, "installed_version", lambda: "1.0.2")
    config = replace(PpoConfig(), hidden=(16,), steps_per_iteration=8)
    learner = ppo.make_learner(env, config, 0.25)
    assert isinstance(learner, ppo.Ppo2) and not learner.mirrored
    assert learner.alg.storage == (2, 8, [265], [279], [12])
    action = learner.act()
    assert action.shape == (2, 12)
    learner.note(torch.ones(2), torch.zeros(2, dtype=torch.long), torch.zeros(2))
    learner.finish()
    assert learner.update() == {"value": 0.5, "surrogate": 0.25}
    learner.learning_rate, learner.entropy = 3e-4, 0.002
    assert (learner.alg.learning_rate, learner.alg.entropy_coef) == (3e-4, 0.002)
    assert learner.std() == pytest.approx(config.initial_std)
    assert set(learner.actor()) == {"0.weight", "0.bias", "2.weight", "2.bias", "std"}


def test_versions_in_between_are_refused(env, monkeypatch):
    monkeypatch.setattr(ppo, "installed_version", lambda: "3.1.0")
    with pytest.raises(
        ValueError, match="rsl_rl 3.1.0 is not supported, expected 5.x, 2.x or v1.0.2"
    ):
        ppo.make_learner(env, PpoConfig(), 0.25)


def test_mirror_hook_of_2x_is_an_involution():
    obs, actions = torch.randn(3, 265), torch.randn(3, 12)
    critic = torch.cat([obs, torch.randn(3, 14)], dim=1)
    twice, acted = ppo.mirror_plain(obs, actions, None, False)
    assert torch.equal(twice[:3], obs) and torch.equal(acted[:3], actions)
    assert torch.equal(ppo.mirror_plain(twice[3:], acted[3:], None, False)[0][3:], obs)
    wide, nothing = ppo.mirror_plain(critic, None, None, True)
    assert nothing is None and wide.shape == (6, 279)
    index, sign = observation_mirror()
    assert torch.equal(wide[3:, :265], obs[:, index] * sign)
    index, sign = privileged_mirror()
    assert torch.equal(wide[3:, 265:], critic[:, 265:][:, index] * sign)
