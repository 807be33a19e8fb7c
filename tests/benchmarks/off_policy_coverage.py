"""How often off-policy intervals hold a policy's true value, by how much the log tells.

    python tests/benchmarks/off_policy_coverage.py [--quick]

Fresh simulated logs of each size, on each of them the policies and the mediocre model of
``tests/trainables/simulated_placements.py``. Coverage is the share of logs whose 95 % interval
holds what the policy earns on the log's rows in expectation. At the largest size it has to be
nominal: the targets are between which all coverages of 99 % of runs lie if each interval holds the
value with 95 %. The last line is JSON.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.stats import binom

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from measuring import print_result

from tests.trainables.simulated_placements import (
    estimate_all,
    policies,
    simulate_placements,
    true_value,
)

SIZES = (600, 1_500, 6_000, 12_000)
"""Impressions of a log."""
FIRST_SEED = 10_000
"""Other logs than the test's."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="50 logs of two sizes")
    quick = parser.parse_args().quick
    sizes, num_logs = (SIZES[:2], 50) if quick else (SIZES, 400)
    print("impressions | policy | estimator | ESS | clicks | coverage | below | above | warned")
    ratios = {}
    for size in sizes:
        for (policy, estimator), cells in measure(size, num_logs).items():
            ess, clicks, below, above, warned, held = np.mean(cells, axis=0)
            print(
                f"{size:,} | {policy} | {estimator} | {ess:.0f} | {clicks:.1f} | {held:.3f} | "
                f"{below:.3f} | {above:.3f} | {warned:.3f}",
                flush=True,
            )
            ratios[f"{policy}_{estimator}_{size}"] = held
    at_largest = [held for name, held in ratios.items() if name.endswith(f"_{SIZES[-1]}")]
    # All of them together, by Bonferroni.
    low, high = binom.interval(1 - 0.01 / max(len(at_largest), 1), num_logs, 0.95)
    if at_largest:
        ratios |= {"lowest": min(at_largest), "highest": max(at_largest)}
    print_result(
        "off_policy_coverage",
        ratios=ratios,
        at_least={"lowest": low / num_logs},
        at_most={"highest": high / num_logs},
        details={"num_logs": num_logs},
        threads=1,
    )


def measure(num_impressions: int, num_logs: int) -> dict[tuple[str, str], list[list[float]]]:
    """Estimate on so many logs: ESS, weighted clicks, truth below, above, warned, held."""
    found: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for seed in range(FIRST_SEED, FIRST_SEED + num_logs):
        log = simulate_placements(seed, num_impressions)
        for name, policy in policies(log).items():
            truth = true_value(log, policy)
            weighted = policy[np.arange(num_impressions), log.placements] > 0
            clicks = float(log.clicks[weighted].sum())
            for estimator, value in estimate_all(log, policy, log.predicted).items():
                below, above = truth < value.low, truth > value.high
                found[name, estimator].append(
                    [
                        value.effective_sample_size,
                        clicks,
                        below,
                        above,
                        value.warning != "",
                        not (below or above),
                    ]
                )
    return found


if __name__ == "__main__":
    main()
