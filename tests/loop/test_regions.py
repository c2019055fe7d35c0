"""Trust regions replayed from told rows, against a plain loop over the same rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bojax import data
from bojax.loop import _regions
from bojax.loop._regions import Rules, replay, starting


def observations(X, y, capacity):
    return data.from_numpy(np.asarray(X, float), np.asarray(y, float), capacity, np.float64)


def pending(X, d):
    return data.pending_from_numpy(np.asarray(X, float).reshape(-1, d), 4, np.float64)


def by_hand(rules, X, y):
    """One region: lengths, restarts, failures and members after all rows, in plain Python."""
    length, wins, losses, restarts = 0.8, 0, 0, 0
    members: list[int] = []
    won, hits, base = 0, 0, -np.inf
    for i, value in enumerate(y):
        members.append(i)
        values = [y[j] for j in members[:-1] if np.isfinite(y[j])]
        in_design = len(members) - 1 < rules.num_initial or len(values) < 2
        best = max(values, default=-np.inf)
        if in_design:
            base = max([*values, value]) if np.isfinite(value) else best
        else:
            hits += 1
            won += bool(np.isfinite(value) and value > best + 1e-3 * min(abs(best), best - base))
        if (i + 1) % rules.q:
            continue
        if won:
            wins, losses = wins + 1, 0
        elif hits:
            wins, losses = 0, losses + hits
        won = hits = 0
        if wins >= rules.success_tolerance:
            length, wins = min(2 * length, 1.6), 0
        if losses >= rules.failure_tolerance:
            length, losses = length / 2, 0
        if length < 0.5**7:
            length, wins, losses, restarts, members = 0.8, 0, 0, restarts + 1, []
    return length, wins, losses, restarts, members


@pytest.mark.parametrize("q", [1, 3])
def test_lengths_and_counters_are_those_of_a_plain_loop(x64, q):
    rules = Rules(1, 4, q, 3, 5)
    run = jax.jit(lambda seen, waits: replay(rules, seen, waits))
    compared = set()
    for seed, chance in enumerate((0.0, 0.1, 0.4, 0.8)):
        rng = np.random.default_rng(seed)
        X, y = rng.random((110, 6)), np.zeros(110)
        for i in range(110):
            y[i] = y[:i].max(initial=0.0) + 1.0 if rng.random() < chance else rng.normal()
        y[rng.random(110) < 0.1] = np.nan
        for n in range(5, 111, 7):
            regions, member = run(observations(X[:n], y[:n], 128), pending([], 6))
            length, wins, losses, restarts, members = by_hand(rules, X[:n], y[:n])
            got = [x.item() for x in (regions.length, regions.successes, regions.failures, regions.restarts)]
            assert got == [length, wins, losses, restarts], f"seed {seed}, {n} rows"
            assert np.flatnonzero(np.asarray(member) == 0).tolist() == members
            compared.add((length, restarts))
            values = [(y[j], j) for j in members if np.isfinite(y[j])]
            if values:
                assert regions.best[0] == max(values)[0]
                np.testing.assert_array_equal(regions.center[0], X[max(values)[1]])
    assert len(compared) > 6 and max(restarts for _, restarts in compared) >= 1


def test_regions_fill_their_designs_in_turn_and_then_take_what_is_near(x64):
    rules = Rules(2, 2, 1, 3, 4)
    X = np.array([[0.1, 0.1], [0.2, 0.2], [0.9, 0.9], [0.7, 0.8], [0.8, 0.9], [0.3, 0.1]])
    y = np.array([1.0, 0.0, 2.0, 0.0, 5.0, 3.0])
    regions, member = replay(rules, observations(X, y, 8), pending([], 2))
    assert np.asarray(member).tolist() == [0, 0, 1, 1, 1, 0, -1, -1]
    np.testing.assert_array_equal(regions.center, X[[5, 4]])
    assert regions.successes.tolist() == [1, 1], "a batch says nothing about the region it does not touch"


def test_what_is_pending_fills_designs_but_no_counters(x64):
    rules = Rules(1, 3, 1, 3, 2)
    X, y = np.random.default_rng(0).random((2, 3)), np.zeros(2)
    for waiting, young in (([], True), ([[0.5, 0.5, 0.1]], False)):
        regions, _ = replay(rules, observations(X, y, 4), pending(waiting, 3))
        assert bool(starting(rules, regions)[0]) == young
    more = np.random.default_rng(1).random((4, 3))
    regions, _ = replay(rules, observations(X, y, 4), pending(more, 3))
    assert regions.length[0] == 0.8 and regions.failures[0] == 0


def test_what_was_under_way_at_a_restart_is_no_part_of_the_design(x64):
    rules = Rules(1, 2, 1, 3, 1)
    X = np.concatenate([np.full((1, 2), 0.5), np.full((9, 2), 0.52), [[0.51, 0.5], [0.1, 0.8]]])
    y = np.concatenate([[1.0], np.zeros(9), [0.9, 0.2]])
    regions, member = replay(rules, observations(X, y, 16), pending([], 2))
    assert regions.restarts[0] == 1 and regions.length[0] == 0.8
    assert np.flatnonzero(np.asarray(member) == 0).tolist() == [11], "not the row beside the point it left"
    assert regions.count[0] == 1


def test_failures_alone_stay_in_the_design_and_bad_points_break_nothing(x64):
    rules = Rules(1, 2, 1, 3, 2)
    X = np.random.default_rng(0).random((5, 2))
    regions, _ = replay(rules, observations(X, np.full(5, np.nan), 8), pending([], 2))
    assert bool(starting(rules, regions)[0]) and regions.failures[0] == 0
    X[1, 0] = np.nan
    seen = observations(X, [0.0, 1.0, 2.0, 0.5, 0.1], 8)
    seen = seen._replace(mask=seen.mask & jnp.all(jnp.isfinite(seen.X), axis=1))
    regions, _ = replay(rules, seen, pending([], 2))
    assert regions.best[0] == 2.0 and np.isfinite(regions.center).all()


def test_tiny_improvements_do_not_count_and_a_constant_changes_nothing(x64):
    rules = Rules(1, 2, 1, 2, 3)
    X, lengths = np.random.default_rng(0).random((8, 4)), []
    for offset, last in ((0.0, [2.0, 2.001]), (1e5, [2.0, 2.001]), (0.0, [1.0 + 1e-4, 1.0 + 2e-4])):
        y = offset + np.array([0.0, -1.0, 1.0, -3.0, -3.0, *last])
        lengths.append(replay(rules, observations(X[:7], y, 8), pending([], 4))[0].length.item())
    assert lengths == [0.8, 0.8, 0.4]


def test_lengths_are_those_of_the_paper():
    assert (_regions.LENGTH_INIT, _regions.LENGTH_MIN, _regions.LENGTH_MAX) == (0.8, 1 / 128, 1.6)
