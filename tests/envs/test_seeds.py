"""No purpose sees what another one drew, whatever --seed and number of episodes a command
accepts.
"""

import itertools
import re

import numpy as np
import pytest

from go2_sevpo.data_collection.collect import Args as Collect
from go2_sevpo.data_collection.collect import Source, plan
from go2_sevpo.data_collection.experts.config import CONFIG_DIR, load_config
from go2_sevpo.deploy.play.cli import Args as Play
from go2_sevpo.deploy.play.go2 import evaluation_env
from go2_sevpo.envs import seeds
from go2_sevpo.envs.go2.config import ParkourConfig
from go2_sevpo.envs.go2.pool import CoursePool

ALL = (seeds.GO2_RANGES, seeds.SAFETY_RANGES, seeds.REACH_AVOID_RANGES)


@pytest.mark.parametrize("ranges", ALL)
def test_ranges_do_not_overlap(ranges):
    for one, other in itertools.combinations(ranges, 2):
        assert one.end <= other.first or other.end <= one.first


@pytest.mark.parametrize("group", [group for ranges in ALL for group in ranges])
def test_every_accepted_seed_and_episode_has_a_number_of_its_own_within_the_range(group):
    last_seed, last_episode = group.seeds - 1, group.episodes - 1
    assert group.number(0) == group.first
    assert group.number(last_seed, last_episode) == group.end - 1
    # The last episode of a seed and the first of the next are neighbours, not the same.
    if group.seeds > 1:
        assert group.number(0, last_episode) + 1 == group.number(1, 0)
    for seed in (-1, group.seeds):
        with pytest.raises(ValueError, match=f"seed is {seed}, expected 0 to {last_seed}"):
            group.number(seed)
    for episode, count in ((group.episodes, 1), (1, group.episodes), (-1, 1)):
        with pytest.raises(ValueError, match=f"expected at most {group.episodes}"):
            group.number(0, episode, count)


def test_numbers_fit_where_they_go():
    # numpy's generators and HDF5 take 63 bits, Safety-Gymnasium's random states 32.
    assert max(r.end for r in seeds.GO2_RANGES) < 2**63
    assert max(r.end for r in seeds.SAFETY_RANGES) < 2**32
    assert max(r.end for r in seeds.REACH_AVOID_RANGES) < 2**63


def test_published_evaluations_are_played_on_the_same_courses_as_ever():
    # go2-play's courses began at 5 000 000, with 10 000 for each seed; its noise at 1000 for each.
    assert seeds.PLAY.number(3, 250) == 5_030_250
    assert seeds.play_stream(3, 2) == 3002


def course_seeds(config):
    return {course.seed for course in CoursePool(config).courses}


def test_batches_of_play_have_courses_and_noise_of_their_own():
    args = Play("expert", seed=7, episodes=6, worlds=2, threads=1)
    seen, noise = set(), set()
    for batch in range(3):
        env = evaluation_env(args, 2, 2 * batch, batch)
        found = {course.seed for course in env.courses}
        env.close()
        assert len(found) == 2 and not found & seen
        seen |= found
        noise.add(seeds.play_stream(args.seed, batch))
    assert seen == set(range(5_070_000, 5_070_006)) and len(noise) == 3


@pytest.mark.parametrize("per_shard", [1, 250, 1500])
def test_shards_of_a_collection_never_share_a_course(per_shard):
    sources = [Source("expert", "simple", 3000), Source("weak", "hard", 40)]
    seen = []
    for seed in (0, 1):
        for job in plan(sources, per_shard):
            first = job.seed(seed)
            seen += range(first, first + job.episodes)
    assert len(seen) == len(set(seen)) == 2 * 3040
    assert min(seen) >= seeds.COLLECTION.first and max(seen) < seeds.COLLECTION.end


def test_a_collection_without_room_is_refused_in_words():
    with pytest.raises(ValueError, match="seed is -1, expected 0 to"):
        seeds.collection_number(-1, 0)
    with pytest.raises(ValueError, match="1001 sources, expected at most 1000"):
        seeds.collection_number(0, 1000)
    with pytest.raises(ValueError, match="expected at most 1000000"):
        plan([Source("expert", "simple", 1_000_001)], 600_000)[1].seed(0)
    assert Collect(out="x").seed == 0


@pytest.mark.parametrize("preset", sorted(p.stem for p in CONFIG_DIR.glob("*.yaml")))
def test_experts_are_trained_within_their_range(preset):
    env = load_config(CONFIG_DIR / f"{preset}.yaml").env
    last = env.course_seed + max(env.levels, 1) * env.variants - 1
    assert seeds.TRAINING.first <= env.course_seed and last < seeds.TRAINING.end


def test_a_pool_counts_on_from_its_first_seed():
    config = ParkourConfig(num_envs=3, courses=("simple",), variants=3, course_seed=40)
    assert course_seeds(config) == {40, 41, 42}


def test_the_greatest_numbers_make_courses():
    first = seeds.COLLECTION.number(seeds.ANY * seeds.SOURCES - 1, 999_999)
    config = ParkourConfig(num_envs=1, courses=("simple",), variants=1, course_seed=first)
    assert course_seeds(config) == {first}
    assert np.int64(first) == first


def test_ranges_are_said_in_the_docs(request):
    text = (request.config.rootpath / "docs" / "courses.md").read_text(encoding="utf-8")
    for group in seeds.GO2_RANGES:
        assert re.search(re.escape(group.purpose), text), (
            f"{group.purpose} is not in docs/courses.md"
        )


def test_ranges_are_laid_end_to_end():
    found = seeds._lay_out(("one", 3, 10), ("two", 1, 4), ("three", 2, 5))
    assert [(r.purpose, r.first, r.seeds, r.episodes, r.end) for r in found] == [
        ("one", 0, 3, 10, 30),
        ("two", 30, 1, 4, 34),
        ("three", 34, 2, 5, 44),
    ]


def test_no_episodes_are_an_empty_part_and_none_too_many_is_said():
    group = seeds.SeedRange("trying", 100, 2, 10)
    assert group.number(1, 4, 0) == 114 and group.number(1, 4, 6) == 114
    assert group.number(1, count=10) == 110
    with pytest.raises(
        ValueError, match="^12 episodes with one seed, expected at most 10 for tryi"
    ):
        group.number(1, 4, 8)
    with pytest.raises(ValueError, match="expected at most 10 for trying; use several seeds$"):
        group.number(1, 4, -1)


def test_the_bounds_of_a_collection_and_of_the_batches_of_play():
    first = seeds.COLLECTION.first
    assert seeds.collection_number(2, 3, 4) == first + (2 * 1000 + 3) * 1_000_000 + 4
    assert seeds.collection_number(0, 0) == first
    last = seeds.collection_number(seeds.ANY - 1, 999, 999_999)
    assert last == seeds.COLLECTION.end - 1  # one episode by default
    expected = "^seed is 2147483648, expected 0 to 2147483647 for go2-collect$"
    with pytest.raises(ValueError, match=expected):
        seeds.collection_number(seeds.ANY, 0)
    assert seeds.play_stream(0, 0) == 0 and seeds.play_stream(1, 999) == 1999
    for batch, text in ((1000, "^1001 batches"), (-1, "^0 batches")):
        with pytest.raises(
            ValueError, match=f"{text} of episodes, expected at most 1000; use more"
        ):
            seeds.play_stream(0, batch)
