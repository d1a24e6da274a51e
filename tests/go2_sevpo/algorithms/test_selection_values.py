"""The rows that a frozen stage 1 selects: masks, windows and draws, for values set by hand."""

from types import SimpleNamespace

import pytest
import torch

from go2_sevpo.algorithms import selection
from go2_sevpo.algorithms.selection import Selection, select
from go2_sevpo.data.dataset import OfflineDataset
from tests.conftest import make_episodes


def mask(*values):
    return torch.tensor(values, dtype=torch.bool)


def on_rows(monkeypatch, *shares):
    """Let the uniform draws be known ones."""
    asked = []

    def rand(shape, **settings):
        asked.append((tuple(shape), settings["dtype"], settings["generator"]))
        return torch.tensor(shares, dtype=settings["dtype"])

    monkeypatch.setattr(selection.torch, "rand", rand)
    return asked


class Rows:
    """Stands in for a dataset: remembers the rows it is asked for."""

    def rows(self, index):
        return SimpleNamespace(index=index)


def test_shares_counts_and_rows_of_one_learner():
    safe = mask(0, 1, 0, 0, 1, 0, 0, 1)
    unsafe = mask(1, 0, 0, 0, 0, 1, 0, 0)
    only_safe, both = Selection(safe, unsafe, False), Selection(safe, unsafe, True)
    for found in (only_safe, both):
        assert found.safe is safe and found.unsafe is unsafe
        assert [share.item() for share in found.shares] == [0.375, 0.25]
    assert only_safe.count.item() == 3 and only_safe.order.tolist() == [1, 4, 7]
    assert both.count.item() == 5 and both.order.tolist() == [0, 1, 4, 5, 7]


def test_members_have_rows_of_their_own():
    safe = torch.stack([mask(0, 1, 0, 1), mask(0, 0, 1, 0)])
    unsafe = torch.stack([mask(1, 0, 0, 0), mask(0, 0, 0, 1)])
    found = Selection(safe, unsafe, False)
    assert found.count.tolist() == [2, 1]
    assert (
        found.order[0].tolist() == [1, 3] and found.order[1, 0] == 2 and found.order.shape == (2, 2)
    )
    assert found.shares[0].tolist() == [0.5, 0.25] and found.shares[1].tolist() == [0.25, 0.25]
    assert Selection(safe, unsafe, True).count.tolist() == [3, 2]


def test_many_rows_keep_their_order():
    """Beyond 16 entries torch's sort keeps the order of equal ones only if it is told to."""
    safe = torch.arange(200) % 3 == 1
    found = Selection(safe, torch.arange(200) % 3 == 2, False)
    assert found.order.tolist() == list(range(1, 200, 3))
    both = Selection(safe.expand(2, -1), ~safe.expand(2, -1), True)
    assert both.order.tolist() == [list(range(200))] * 2


def test_nothing_to_draw_from_is_an_error_even_for_one_member():
    nothing = torch.zeros(2, 4, dtype=torch.bool)
    one = torch.stack([mask(0, 1, 0, 0), mask(0, 0, 0, 0)])
    expected = "no transition of the data passes the region test; expected some within the limit l"
    expected = f"^{expected}$"
    with pytest.raises(ValueError, match=expected):
        Selection(one, nothing, True)
    with pytest.raises(ValueError, match=expected):
        Selection(one, ~nothing, False)
    assert Selection(one, ~nothing, True).count.tolist() == [4, 4]


def test_draws_divide_the_unit_interval_evenly_among_the_rows(monkeypatch):
    found = Selection(mask(0, 1, 0, 0, 1, 0, 1, 1), mask(1, 0, 0, 0, 0, 0, 0, 0), False)
    asked = on_rows(monkeypatch, 0.0, 0.2499, 0.25, 0.4999, 0.5, 0.7499, 0.75, 0.9999999999)
    batch = found.sample(Rows(), (8,), "generator")
    assert batch.index.tolist() == [1, 1, 4, 4, 6, 6, 7, 7]
    # double precision: single would round the greatest draws to 1, which is no row
    assert asked == [((8,), torch.float64, "generator")]


def test_draws_lie_where_the_rows_lie():
    """On torch's "meta" device, which has shapes but no numbers and mixes with no other."""
    found = Selection(mask(0, 1, 0, 1), mask(0, 0, 0, 0), False)
    found.order, found.count = found.order.to("meta"), found.count.to("meta")
    assert found.sample(Rows(), (5,), None).index.device == found.order.device


def test_draws_of_members_stay_within_their_own_rows(monkeypatch):
    safe = torch.stack([mask(1, 0, 1, 0, 1, 1), mask(0, 1, 0, 0, 1, 0)])
    found = Selection(safe, torch.zeros_like(safe), True)
    on_rows(monkeypatch, [0.1, 0.6, 0.99], [0.1, 0.6, 0.99])
    assert found.sample(Rows(), (2, 3), None).index.tolist() == [[0, 4, 5], [1, 4, 4]]


def test_masks_belong_to_the_rows_of_a_batch():
    safe, unsafe = mask(0, 1, 0, 1), mask(1, 0, 0, 0)
    found = Selection(safe, unsafe, True)
    s1, s2 = found.masks(SimpleNamespace(index=torch.tensor([3, 0, 2, 1, 3])))
    assert s1.tolist() == [True, False, False, True, True]
    assert s2.tolist() == [False, True, False, False, False]
    members = Selection(torch.stack([safe, ~safe]), torch.stack([unsafe, safe]), True)
    s1, s2 = members.masks(SimpleNamespace(index=torch.tensor([[0, 3], [0, 3]])))
    assert s1.tolist() == [[False, True], [True, False]]
    assert s2.tolist() == [[True, False], [False, True]]


def test_a_batch_keeps_the_datas_rows(monkeypatch):
    data = OfflineDataset([make_episodes((3, 2), n_obs=2, n_act=1)])
    found = Selection(mask(0, 1, 0, 0, 1), mask(0, 0, 0, 0, 0), False)
    on_rows(monkeypatch, 0.75, 0.25)
    batch = found.sample(data, (2,), None)
    assert batch.index.tolist() == [4, 1]
    torch.testing.assert_close(batch.act, data.act[[4, 1]])


# select: episodes of three rows (a fall at the end) and four rows (a time-out at the end)

V_C = [0.5, 2.0, 1.0, 0.25, 0.75, 1.5, 0.0]
Q_C = [[0.5, 0.0, 0.25, 1.25, 0.25, 0.0, -1.0], [0.25, 0.0, 1.0, 0.5, 0.75, 0.0, -2.0]]
AFTER = [2.0, 1.0, 8.0, 0.5, 1.5, -4.0, 16.0]
COST = [0.25, 0.0, 1.0, 0.0, 0.5, 0.0, 0.25]


class Judge:
    """A stage 1 whose values are the numbers above; an observation is the number of its frame."""

    def __init__(self, limit, members=None, bootstrap="terminals", cost_scale=1.0, lookahead=0):
        self.limit, self.members, self.bootstrap = limit, members, bootstrap
        self.config = SimpleNamespace(cost_scale=cost_scale, lookahead=lookahead)
        self.asked = []

    def seen_cost(self, cost, fall):
        assert fall.tolist() == [0, 0, 1, 0, 0, 0, 0]
        return self.config.cost_scale * cost

    def shape(self, n):
        return (n,) if self.members is None else (self.members, n)

    def _of_member(self, values):
        """The second member's values are one higher."""
        return values if self.members is None else values + torch.arange(self.members)[:, None]

    def v_c(self, obs):
        assert not torch.is_grad_enabled()
        self.asked.append(obs.shape[-2])
        return self._of_member(torch.tensor(V_C + AFTER)[obs[..., 0].long()])

    def q_c_target(self, obs, act):
        rows = obs[..., 0].long()
        assert torch.equal(act[..., 0].long(), 100 + rows)
        return torch.stack([self._of_member(torch.tensor(head)[rows]) for head in Q_C])

    def alive(self, batch):
        end = (
            batch.terminal
            if self.bootstrap == "terminals"
            else torch.maximum(batch.terminal, batch.timeout)
        )
        return 1.0 - end


@pytest.fixture
def data():
    data = OfflineDataset([make_episodes((3, 4), n_obs=2, n_act=1)])
    data.cost = torch.tensor(COST)
    data.frames, data.act = torch.arange(14.0)[:, None], 100.0 + torch.arange(7.0)[:, None]
    data.first, data.second = torch.arange(7), 7 + torch.arange(7)
    assert data.terminal.tolist() == [0, 0, 1, 0, 0, 0, 0] and data.timeout[6] == 1
    return data


def found_rows(judge, data, with_unsafe=True):
    found = select(judge, data, with_unsafe)
    return found.safe.nonzero().flatten().tolist(), found.unsafe.nonzero().flatten().tolist()


def test_the_regions_of_all_rows_are_found_by_the_larger_head(data):
    # row 3 is a safe state with an unsafe action; row 2 lies exactly at the limit
    assert found_rows(Judge(1.0), data) == ([0, 2, 4, 6], [1, 5])
    assert found_rows(Judge(0.5), data) == ([0, 6], [1, 2, 4, 5])


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100])
def test_judging_in_chunks_changes_nothing(data, chunk, monkeypatch):
    assert selection.CHUNK == 65536
    monkeypatch.setattr(selection, "CHUNK", chunk)
    judge = Judge(1.0)
    assert found_rows(judge, data) == ([0, 2, 4, 6], [1, 5])
    sizes = [min(chunk, 7 - start) for start in range(0, 7, chunk)]
    assert judge.asked == sizes
    ahead = Judge(2.0, lookahead=2)
    assert found_rows(ahead, data)[0] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # cost of the row + max(V_c, 0) of its successor, 0 behind the terminal of row 2; Algorithm
        # 1's test alone passes all rows at a limit of 2:  2.25  1  1  0.5  2  0  16.25
        ({"lookahead": 1}, [1, 2, 3, 4, 5]),
        # two rows, at most to the episode's end:  1.25  1  1  2  0.5  16.25  16.25
        ({"lookahead": 2}, [0, 1, 2, 3, 4]),
        # three rows:  1.25  1  1  0.5  16.75  16.25  16.25
        ({"lookahead": 3}, [0, 1, 2, 3]),
        ({"lookahead": 99}, [0, 1, 2]),
        # a time-out ends it too:  1.25  1  1  0.75  0.75  0.25  0.25
        ({"lookahead": 99, "bootstrap": "release"}, [0, 1, 2, 3, 4, 5, 6]),
        # costs three times as high:  3.75  3  3  2.25  2.25  0.75  0.75
        ({"lookahead": 99, "bootstrap": "release", "cost_scale": 3.0}, [5, 6]),
        ({"lookahead": 0, "cost_scale": 3.0}, [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_lookahead_asks_what_following_the_data_costs(data, settings, expected):
    assert found_rows(Judge(2.0, **settings), data)[0] == expected


def test_a_value_below_zero_pays_for_no_cost(data):
    data.cost = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 2.5, 0.0])
    # row 5: 2.5, whatever its successor's -4
    assert found_rows(Judge(2.0, lookahead=1), data)[0] == [0, 1, 2, 3, 4]


def test_lookahead_leaves_the_unsafe_states_as_they_are(data):
    assert found_rows(Judge(1.0, lookahead=99), data) == ([2], [1, 5])
    assert select(Judge(1.0, lookahead=99), data, False).order.tolist() == [2]
    assert select(Judge(1.0, lookahead=99), data, True).order.tolist() == [1, 2, 5]


def test_members_are_judged_by_their_own_values(data):
    found = select(Judge(1.0, members=2), data, True)
    assert found.safe.tolist() == [
        [True, False, True, False, True, False, True],
        [False] * 6 + [True],
    ]
    assert found.unsafe[1].tolist() == [True, True, True, True, True, True, False]
    ahead = select(Judge(3.0, members=2, lookahead=1), data, True)
    # the second member's row 0: 0.25 + 3 is beyond the limit; row 4: 0.5 + 2.5 is exactly at it
    assert ahead.safe[0].tolist() == [True] * 6 + [False]
    assert ahead.safe[1].tolist() == [False, True, True, True, True, True, False]
