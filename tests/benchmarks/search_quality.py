"""Which algorithm and which scheduler find good configurations soonest, over seeds.

    python tests/benchmarks/search_quality.py [--seeds N] [--gp-seeds N] [--gp-trials N]
        [--results FILE] [--quick] [--make]

The product's algorithms and schedulers search the tabulated response surface of ``surface.py``:
configurations that were trained once (``--make`` trains those that the table lacks, each for ten
seconds or more of a core; it may be broken off). Nothing else trains, so each can be played with
fifty seeds. They are asked and told as a study's conductor does, without its ledger, which would
take most of the time. Two trials run at a time, epoch for epoch.

- Algorithms, every trial in full: regret, by how much the best of the first n trials is behind the
  best of the table, at 10, 20, 30 and 50 trials.
- Schedulers, with random and with tpe: regret over epochs spent, up to as many as thirty trials in
  full would take. `asha_epochs_random` and `asha_epochs_tpe` are the shares of these that ASHA
  needs to be as good, in the mean, as no scheduler is with all of them; 99 where it never is.

Differences to random search are paired by seed, intervals are of 95 %, from Student's t. A grid
isn't played: its first fifty points in order say more about the order than about grids. With
``--results`` what was played is kept, and a run goes on with it. The last line is JSON.
"""

import argparse
import dataclasses
import itertools
import json
import statistics
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import surface
import torch
from comparing import METRIC, Kept, paired_difference
from measuring import print_result
from scipy import stats

from search.algorithms import ALGORITHMS, Outcome
from search.schedulers import SCHEDULERS
from search.search_config import AlgorithmName, SchedulerName, SearchConfig
from spaces.trial_config import TrialConfig

NAMES: tuple[AlgorithmName, ...] = ("random", "sobol", "tpe", "gp", "cmaes")
SCHEDULED: tuple[AlgorithmName, ...] = ("random", "tpe")
"""Algorithms that every scheduler is played with."""
PLAYED = tuple(name for name in SCHEDULERS if name != "pbt")
"""Schedulers that are played: the table doesn't know what becomes of a trial that goes on with
another one's weights and other hyperparameters."""
TRIALS = 50
AT_TRIALS = (10, 20, 30, 50)
TARGET_TRIALS = 30
FULL_TRIALS = 30
"""Trials in full whose epochs a scheduler may spend."""
NEVER = 99.0
"""The share of epochs of a scheduler that wasn't as good with all of them; JSON has no infinity."""
SLOTS = 2
SEEDS, QUICK_SEEDS = 50, 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Played:
    """A search that was played."""

    algorithm: str
    scheduler: str
    seed: int
    trials: tuple[float, ...]
    """Each trial's best score, in the order of numbers."""
    incumbents: tuple[float, ...]
    """The best score so far after each epoch that any trial trained."""
    seconds: float
    """What deciding took."""


def play(config: SearchConfig, table: surface.Surface) -> Played:
    """Play a search; with a scheduler, until its epochs are spent."""
    limit = None if config.scheduler == "none" else FULL_TRIALS * surface.EPOCHS
    started = time.perf_counter()
    trials: dict[int, float] = {}
    incumbents: list[float] = []
    for number, score in itertools.islice(_reports(config, table), limit):
        trials[number] = max(score, trials.get(number, score))
        incumbents.append(max(score, incumbents[-1] if incumbents else score))
    return Played(
        algorithm=config.algorithm,
        scheduler=config.scheduler,
        seed=config.seed,
        trials=tuple(round(trials[number], 6) for number in sorted(trials)),
        incumbents=tuple(round(score, 6) for score in incumbents),
        seconds=round(time.perf_counter() - started, 2),
    )


def _reports(config: SearchConfig, table: surface.Surface) -> Iterator[tuple[int, float]]:
    """Ask and tell as a conductor does; yield each report's trial and score."""
    algorithm = ALGORITHMS[config.algorithm](table.space(), config.seed, config.trials)
    scheduler = SCHEDULERS[config.scheduler](config)
    waiting = iter(range(config.trials))
    live: deque[tuple[int, TrialConfig, list[float]]] = deque()
    while True:
        for number in itertools.islice(waiting, SLOTS - len(live)):
            if (point := algorithm.ask(number)) is not None:
                live.append((number, TrialConfig(**point), []))  # type: ignore[arg-type]
        if not live:
            return
        number, trial, scores = live.popleft()
        epoch = len(scores) + 1
        scores.append(table.metrics(trial, epoch)[METRIC])
        decision = scheduler.report(number, epoch, scores[-1])
        algorithm.tell_report(number, epoch, scores[-1])
        if epoch == surface.EPOCHS or decision == "stop":
            ended: Outcome = "completed" if epoch == surface.EPOCHS else "stopped"
            algorithm.tell(number, ended, max(scores))
        else:
            live.append((number, trial, scores))
        yield number, scores[-1]


class Searches:
    """Searches that were played, kept in a file."""

    def __init__(self, path: Path | None, table: surface.Surface) -> None:
        self._kept = Kept(path)
        self._table = table

    def play(
        self, algorithm: AlgorithmName, scheduler: SchedulerName, seed: int, trials: int = TRIALS
    ) -> Played:
        """Return a search, played unless the file has it."""
        config = SearchConfig(
            algorithm=algorithm,
            scheduler=scheduler,
            # With a scheduler, trials enough to spend every epoch.
            trials=trials if scheduler == "none" else FULL_TRIALS * surface.EPOCHS,
            epochs=surface.EPOCHS,
            metric=METRIC,
            seed=seed,
        )
        raw = self._kept.of(
            [algorithm, scheduler, seed], lambda: dataclasses.asdict(play(config, self._table))
        )
        lists = {name: tuple(raw[name]) for name in ("trials", "incumbents")}
        return Played(**{**raw, **lists})


def mean_and_half(values: np.ndarray) -> tuple[float, float]:
    """Return the mean and half its 95 % interval (Student's t)."""
    error = float(np.std(values, ddof=1)) / np.sqrt(len(values))
    return float(np.mean(values)), float(stats.t.ppf(0.975, len(values) - 1)) * error


def regrets_by_trial(searches: list[Played], best: float) -> np.ndarray:
    """Return (seed, trial) regrets of the best so far."""
    trials = min(TRIALS, *(len(played.trials) for played in searches))
    return best - np.maximum.accumulate([played.trials[:trials] for played in searches], axis=1)


def regrets_by_epoch(searches: list[Played], best: float) -> np.ndarray:
    """Return (seed, epoch) regrets of the best so far."""
    spent = FULL_TRIALS * surface.EPOCHS
    return best - np.array([played.incumbents[:spent] for played in searches])


def compare_algorithms(
    searches: Searches, best: float, sizes: Mapping[AlgorithmName, tuple[int, int]]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Print regret over trials; return by how much each is ahead of random, and details.

    Args:
        searches: Plays them.
        best: The table's.
        sizes: Seeds and trials of each algorithm.
    """
    found: dict[AlgorithmName, np.ndarray] = {}
    gains: dict[str, float] = {}
    details: dict[str, Any] = {}
    for name, (seeds, trials) in sizes.items():
        played = [searches.play(name, "none", seed, trials) for seed in range(seeds)]
        found[name] = regrets_by_trial(played, best)
        regret, ahead = {}, {}
        for n in (n for n in AT_TRIALS if n <= found[name].shape[1]):
            regret[n] = mean_and_half(found[name][:, n - 1])
            ahead[n] = paired_difference(found["random"][:seeds, n - 1], found[name][:, n - 1])
        if name != "random" and TARGET_TRIALS in ahead:
            # The lower end of the interval: above 0 it is ahead with confidence.
            mean, half = ahead[TARGET_TRIALS]
            gains[f"{name}_ahead_of_random_at_least"] = mean - half
        details[name] = {
            "regret": pairs(regret),
            "ahead_of_random": pairs(ahead),
            "seeds": seeds,
            "seconds": round(statistics.mean(each.seconds for each in played), 2),
        }
        print(f"{name}: {json.dumps(details[name])}", flush=True)
    return gains, details


def pairs(found: Mapping[int, tuple[float, float]]) -> dict[int, list[float]]:
    """Round means and halves of intervals for the line of JSON."""
    return {n: [round(mean, 5), round(half, 5)] for n, (mean, half) in found.items()}


def compare_schedulers(
    searches: Searches, seeds: int, best: float
) -> tuple[dict[str, float], dict[str, Any]]:
    """Print regret over epochs; return the share of epochs that each scheduler needs, and more."""
    shares: dict[str, float] = {}
    details: dict[str, Any] = {}
    spent = FULL_TRIALS * surface.EPOCHS
    for algorithm in SCHEDULED:
        in_full = None
        for scheduler in PLAYED:
            played = [searches.play(algorithm, scheduler, seed) for seed in range(seeds)]
            found = regrets_by_epoch(played, best)
            in_full = found if in_full is None else in_full
            name = f"{scheduler}_{algorithm}"
            share = _share(found, in_full)
            marks = _marks(spent)
            details[name] = {
                "regret": pairs({n: mean_and_half(found[:, n - 1]) for n in marks}),
                "ahead_of_none": pairs(
                    {n: paired_difference(in_full[:, n - 1], found[:, n - 1]) for n in marks}
                ),
                "epochs_share": round(share, 3),
                # After a third of the epochs, against all of the same seed's in full.
                "behind_all_in_full": pairs(
                    {spent // 3: paired_difference(found[:, spent // 3 - 1], in_full[:, -1])}
                ),
                "trials": round(statistics.mean(len(each.trials) for each in played), 1),
            }
            print(f"{name}: {json.dumps(details[name])}", flush=True)
            if scheduler != "none":
                shares[f"{scheduler}_epochs_{algorithm}"] = share
    return shares, details


def _marks(spent: int) -> tuple[int, ...]:
    return tuple(spent * part // 12 for part in (1, 2, 4, 8, 12))


def _share(found: np.ndarray, in_full: np.ndarray) -> float:
    """Return after which share of the epochs the mean regret is as low as that of all in full."""
    good = np.flatnonzero(found.mean(axis=0) <= in_full.mean(axis=0)[-1])
    return float(good[0] + 1) / found.shape[1] if len(good) else NEVER


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--make", action="store_true", help="train what the table lacks, and end")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="searches of each kind")
    parser.add_argument("--gp-seeds", type=int, help="of gp, which takes long; else as many")
    parser.add_argument("--gp-trials", type=int, default=TRIALS, help="of gp")
    parser.add_argument("--results", type=Path, help="keeps searches; a run goes on with them")
    parser.add_argument("--quick", action="store_true", help="three seeds")
    arguments = parser.parse_args()
    if arguments.make:
        surface.make()
        return
    torch.set_num_threads(1)
    seeds = QUICK_SEEDS if arguments.quick else arguments.seeds
    table = surface.Surface.read()
    best = table.best()
    searches = Searches(arguments.results, table)
    sizes = dict.fromkeys(NAMES, (seeds, TRIALS))
    sizes["gp"] = (min(seeds, arguments.gp_seeds or seeds), arguments.gp_trials)
    gains, algorithms = compare_algorithms(searches, best, sizes)
    shares, schedulers = compare_schedulers(searches, seeds, best)
    print_result(
        "search_quality",
        ratios={**gains, **shares},
        at_least={f"{name}_ahead_of_random_at_least": 0.0 for name in ("tpe", "gp")},
        at_most={f"asha_epochs_{name}": 1 / 3 for name in SCHEDULED},
        details={
            "best": best,
            "configurations": len(table.curves),
            "levels": table.levels,
            "seeds": seeds,
            "algorithms": algorithms,
            "schedulers": schedulers,
        },
        threads=1,
    )


if __name__ == "__main__":
    main()
