import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.schedulers import SCHEDULERS, Scheduler
from search.schedulers.hyperband import Hyperband, bracket_graces, bracket_sizes, spread
from search.schedulers.median import MedianStopping
from search.schedulers.pbt import choose_exploits
from search.schedulers.successive_halving import SuccessiveHalving
from search.search_config import SchedulerName, SearchConfig


def build(name: SchedulerName, *, epochs: int = 9) -> Scheduler:
    """Make a scheduler whose rungs, where it has any, stand at 1 and 3 of nine epochs."""
    search = SearchConfig(scheduler=name, epochs=epochs, reduction_factor=3, confirm_trials=0)
    return SCHEDULERS[name](search)


def test_none_stops_nothing() -> None:
    scheduler = build("none")

    assert {scheduler.report(n, 1, -float(n)) for n in range(50)} == {"continue"}


@pytest.mark.parametrize(
    ("grace", "factor", "epochs", "rungs"),
    [
        (1, 3, 9, (1, 3)),
        (1, 3, 3, (1,)),
        (1, 2, 9, (1, 2, 4, 8)),
        (2, 3, 20, (2, 6, 18)),
        (1, 3, 1, ()),
    ],
)
def test_rungs_stand_at_powers_of_the_reduction_factor(
    grace: int, factor: int, epochs: int, rungs: tuple[int, ...]
) -> None:
    asha = SuccessiveHalving(grace_epochs=grace, reduction_factor=factor, max_epochs=epochs)

    assert asha.rungs == rungs


def test_asha_lets_the_best_third_of_a_rung_go_on() -> None:
    asha = build("asha")

    decisions = [asha.report(n, 1, s) for n, s in enumerate([0.5, 0.6, 0.4, 0.7, 0.55, 0.65, 0.9])]

    # The first two have too few against them; then a third of those there go on.
    assert decisions == ["continue", "continue", "stop", "continue", "stop", "continue", "continue"]


def test_asha_decides_nothing_between_rungs() -> None:
    asha = build("asha")

    assert {asha.report(n, 2, -float(n)) for n in range(30)} == {"continue"}


def test_asha_keeps_ties() -> None:
    asha = build("asha")

    assert {asha.report(n, 1, 0.5) for n in range(30)} == {"continue"}


def test_asha_stops_a_score_that_is_no_number_once_there_is_a_choice() -> None:
    asha = build("asha")
    for number in range(3):
        asha.report(number, 1, 0.5)

    assert asha.report(3, 1, math.nan) == "stop"


def test_asha_stops_about_two_thirds_of_random_trials() -> None:
    asha = build("asha")
    values = [(n * 7919 % 1000) / 1000 for n in range(300)]

    stopped = [asha.report(n, 1, value) for n, value in enumerate(values)].count("stop")

    assert stopped / 300 == pytest.approx(2 / 3, abs=0.05)


@pytest.mark.parametrize(
    ("epochs", "graces"), [(1, [1]), (3, [1, 3]), (10, [1, 3, 9, 10]), (81, [1, 3, 9, 27, 81])]
)
def test_last_bracket_stops_nothing(epochs: int, graces: list[int]) -> None:
    assert bracket_graces(1, 3, epochs) == graces


def test_brackets_have_the_sizes_of_hyperbands_algorithm() -> None:
    # Li et al. 2018, algorithm 1, for R = 81 and eta = 3.
    assert bracket_sizes(5, 3) == [81, 34, 15, 8, 5]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_brackets_take_turns_in_proportion(sizes: list[int]) -> None:
    order = spread(sizes)

    assert [order.count(index) for index in range(len(sizes))] == sizes
    for length in range(1, len(order) + 1):
        for index, size in enumerate(sizes):
            assert abs(order[:length].count(index) - length * size / len(order)) < len(sizes)


def test_a_trial_is_compared_with_its_own_bracket_alone() -> None:
    hyperband = Hyperband(grace_epochs=1, reduction_factor=3, max_epochs=9)
    second = [number for number in range(40) if hyperband.bracket(number) == 1]

    assert {hyperband.report(number, 1, -number) for number in second} == {"continue"}
    assert "stop" in {hyperband.report(number, 3, -number) for number in second}


def test_fewer_brackets_are_those_with_the_fewest_grace_epochs() -> None:
    one = Hyperband(grace_epochs=1, reduction_factor=3, max_epochs=9, num_brackets=1)

    assert one.rungs == (1, 3)
    assert {one.bracket(number) for number in range(40)} == {0}


def test_median_compares_the_best_score_with_the_averages_of_the_others() -> None:
    median = MedianStopping(grace_epochs=2, min_peers=3, max_epochs=9)
    for number, (first, second) in enumerate([(0.2, 0.6), (0.4, 0.6), (0.6, 0.8)]):
        median.report(number, 1, first)
        assert median.report(number, 2, second) == "continue"

    # Averages 0.4, 0.5, 0.7: a trial that once had 0.5 goes on, one that had less doesn't.
    assert [median.report(3, epoch, score) for epoch, score in ((1, 0.5), (2, 0.1))] == [
        "continue",
        "continue",
    ]
    assert [median.report(4, epoch, 0.44) for epoch in (1, 2)] == ["continue", "stop"]


def test_median_waits_for_enough_others() -> None:
    median = MedianStopping(grace_epochs=1, min_peers=3, max_epochs=9)

    decisions = [median.report(number, 1, score) for number, score in enumerate([3, 2, 1, 0])]

    assert decisions == ["continue", "continue", "continue", "stop"]


@pytest.mark.parametrize(
    ("every", "epochs", "rungs"),
    [(1, 4, (1, 2, 3)), (2, 7, (2, 4, 6)), (3, 6, (3,)), (2, 2, ())],
)
def test_members_of_a_population_wait_every_so_many_epochs(
    every: int, epochs: int, rungs: tuple[int, ...]
) -> None:
    search = SearchConfig(
        scheduler="pbt", perturbation_epochs=every, epochs=epochs, confirm_trials=0
    )

    assert SCHEDULERS["pbt"](search).rungs == rungs


populations = st.dictionaries(st.integers(0, 99), st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5]))
fractions = st.floats(0.0, 0.5, exclude_min=True)


@given(populations, fractions)
def test_the_worst_are_replaced_by_better_ones_of_the_best(
    scores: dict[int, float], fraction: float
) -> None:
    exploits = choose_exploits(scores, fraction)

    losers = {exploit.loser for exploit in exploits}
    donors = {donor for exploit in exploits for donor in exploit.donors}
    stay = scores.keys() - losers
    assert len(losers) == len(exploits) <= max(int(len(scores) * fraction), len(scores) >= 4)
    assert not losers & donors
    assert all(scores[d] > scores[e.loser] for e in exploits for d in e.donors)
    assert all(exploit.donors for exploit in exploits)
    if losers:
        # Nobody stays who is worse than one that is replaced, and the best is among the donors.
        assert min(scores[n] for n in stay) >= max(scores[n] for n in losers)
        assert max(scores.values()) in {scores[n] for n in donors}


@given(populations, fractions, st.randoms(use_true_random=False))
def test_who_is_replaced_does_not_depend_on_the_order_of_the_reports(
    scores: dict[int, float],
    fraction: float,
    rng: random.Random,
) -> None:
    pairs = list(scores.items())
    rng.shuffle(pairs)

    assert choose_exploits(dict(pairs), fraction) == choose_exploits(scores, fraction)


@pytest.mark.parametrize(
    ("num_members", "fraction", "num_replaced"),
    [(3, 0.25, 0), (4, 0.25, 1), (4, 0.01, 1), (9, 0.25, 2), (8, 0.5, 4), (3, 0.5, 1), (1, 0.5, 0)],
)
def test_a_fraction_is_replaced_and_at_least_one_of_four(
    num_members: int, fraction: float, num_replaced: int
) -> None:
    exploits = choose_exploits({n: float(n) for n in range(num_members)}, fraction)

    assert [exploit.loser for exploit in exploits] == list(reversed(range(num_replaced)))
