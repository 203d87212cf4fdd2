"""The guard: which steps it skips, the limit of skips in a row, and its saved state."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
import torch

from fastvae.train.watch.guard import Guard, GuardConfig, GuardState, Skip

NUM_EXAMPLES = 8
Numbers = Sequence[tuple[float, float]]  # loss in nats per example and gradient norm of each step


def guard_from(state: GuardState, config: GuardConfig | None = None, lag: int = 0) -> Guard:
    return Guard(config or GuardConfig(), state, torch.device("cpu"), NUM_EXAMPLES, lambda t: t.clone(), lag=lag)


def judge(guard: Guard, numbers: Iterable[tuple[float, float]], first_step: int = 0) -> tuple[list[bool], list[Skip]]:
    accepted, skips = [], []
    for step, (loss, norm) in enumerate(numbers, first_step + 1):
        guard.begin(step)
        accepted.append(bool(guard.accept(torch.tensor(loss * NUM_EXAMPLES), torch.tensor(norm))))
        skips += guard.settle(step)
    return accepted, skips


def clean_steps(seed: int, num: int, fall: float = 100.0) -> list[tuple[float, float]]:
    """Decreasing losses with noise, and gradient norms with a long upper tail, as in real runs."""
    random = np.random.default_rng(seed)
    loss = 100 + fall * np.exp(-np.arange(num) / 300) + random.standard_t(5, num)
    norm = (10 + fall * np.exp(-np.arange(num) / 400)) * random.lognormal(0, 0.4, num)
    return list(zip(loss.tolist(), norm.tolist(), strict=True))


@pytest.mark.parametrize("bad", [(math.nan, 1.0), (math.inf, 1.0), (100.0, math.nan), (100.0, math.inf)])
def test_nonfinite_steps_are_skipped_from_the_first_step_on(bad: tuple[float, float]) -> None:
    accepted, skips = judge(guard_from(GuardState()), [bad, (100.0, 1.0), bad, bad])
    assert accepted == [False, True, False, False]
    assert [(skip.step, skip.finite, skip.not_finite_in_a_row) for skip in skips] == [
        (1, False, 1),
        (3, False, 1),
        (4, False, 2),
    ]


@pytest.mark.parametrize("spike", [(1e6, 1.0), (100.0, 1e4)])
def test_a_spike_is_skipped_and_does_not_enter_the_window(spike: tuple[float, float]) -> None:
    guard, state = (guard_from(s := GuardState()), s)
    judge(guard, clean_steps(0, 400))
    before = state.to_json()
    accepted, skips = judge(guard, [spike], first_step=400)
    assert accepted == [False]
    assert skips[0].finite
    assert {**state.to_json(), "spikes_in_a_row": 0} == before


def test_spikes_require_a_full_window_and_a_threshold() -> None:
    steps = [*clean_steps(0, 100), (1e6, 1e6)]
    assert all(judge(guard_from(GuardState()), steps)[0])
    steps = [*clean_steps(0, 400), (1e6, 1e6), (math.nan, 1.0)]
    accepted, _ = judge(guard_from(GuardState(), GuardConfig(spike_sigma=None)), steps)
    assert accepted == [True] * 401 + [False]


@pytest.mark.parametrize("factor", [1.5, 100.0])
def test_a_new_level_is_accepted_after_a_few_steps(factor: float) -> None:
    steps = [*clean_steps(0, 400), *((factor * loss, factor * norm) for loss, norm in clean_steps(1, 1000, 0.0))]
    accepted, _ = judge(guard_from(GuardState()), steps)
    assert accepted.count(False) <= GuardConfig().spikes_in_a_row


def test_an_increasing_loss_is_not_skipped_indefinitely() -> None:
    """At most 3 steps in a row are skipped, and none while the window fills again."""
    steps = [*clean_steps(0, 300), *((100.0, 1e6 * 1e4 ** (i // 60)) for i in range(480))]
    accepted, _ = judge(guard_from(GuardState(), GuardConfig(spike_window=50)), steps)
    runs = "".join("+" if ok else "-" for ok in accepted).split("+")
    assert max(map(len, runs)) == 3
    assert accepted.count(False) == 8 * 3


def test_at_most_one_clean_step_in_1000_is_skipped() -> None:
    def num_skipped(config: GuardConfig) -> int:
        streams = (clean_steps(seed, 2000, fall) for seed in range(10) for fall in (0.0, 100.0))
        return sum(judge(guard_from(GuardState(), config), steps)[0].count(False) for steps in streams)

    assert num_skipped(GuardConfig()) <= 20 * 2000 / 1000
    assert num_skipped(GuardConfig(spike_sigma=3)) > 20 * 2000 / 1000


@pytest.mark.parametrize("lag", [0, 4])
def test_a_restored_guard_continues_identically(lag: int) -> None:
    steps = [*clean_steps(0, 300), (1e6, 2.0), (math.nan, 1.0), *clean_steps(1, 300)]
    whole = judge(guard_from(GuardState(), lag=lag), steps)
    for stop in (150, 301, 302, 305, 450):
        state = GuardState()
        first = judge(guard_from(state, lag=lag), steps[:stop])
        saved = json.loads(json.dumps(state.to_json(), allow_nan=False))
        second = judge(guard_from(GuardState.from_json(saved), lag=lag), steps[stop:], first_step=stop)
        assert first[0] + second[0] == whole[0]
        assert [skip.step for skip in first[1] + second[1]] == [skip.step for skip in whole[1]]


def test_verdicts_may_arrive_after_later_steps() -> None:
    guard = guard_from(GuardState(), lag=4)
    accepted, skips = judge(guard, [(math.nan, 1.0)] * 5)
    assert accepted == [False] * 5
    assert [skip.step for skip in skips] == [1]
    assert [skip.step for skip in guard.settle(5, wait=True)] == [2, 3, 4, 5]


def test_a_verdict_names_its_step_when_the_player_skipped_steps() -> None:
    guard = guard_from(state := GuardState(), lag=4)
    for step in range(1, 12):
        if step % 3 == 0:
            guard.begin(step)
            guard.accept(torch.tensor(math.nan), torch.tensor(1.0))
        assert [skip.step for skip in guard.settle(step)] == [number for number in (3, 6) if number == step - 4]
    saved = json.loads(json.dumps(state.to_json(), allow_nan=False))
    resumed = guard_from(GuardState.from_json(saved), lag=4)
    assert [skip.step for skip in resumed.settle(13)] == [9]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"stop_after": 0}, r"train\.guard\.stop_after must be at least 1, got 0"),
        ({"spike_sigma": 1.0}, r"train\.guard\.spike_sigma must be a number >= 3"),
        ({"spike_sigma": math.nan}, r"train\.guard\.spike_sigma must be a number >= 3"),
        ({"spike_window": 3}, r"train\.guard\.spike_window must be at least 10"),
        ({"spikes_in_a_row": 0}, r"train\.guard\.spikes_in_a_row must be at least 1"),
    ],
)
def test_settings_are_checked(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GuardConfig(**setting)
