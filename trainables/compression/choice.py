"""Which candidate becomes the bundle."""

import dataclasses
from collections.abc import Sequence

from trainables.compression.config import CompressionConfig
from trainables.compression.report import Candidate

LATENCY_NOISE = 0.10
"""Latencies closer than this share are taken for equal: on a busy machine repeated measurements
differ by as much, and who deploys a bundle would rather have one a third smaller than that."""
FINALIST_MARGIN = 0.5
"""What seems slower than the fastest by no more than this share may have had a bad moment."""


def choose(
    candidates: Sequence[Candidate], config: CompressionConfig, metric: str
) -> tuple[int | None, str]:
    """Choose the fastest candidate within all limits; of about equally fast ones the smallest.

    Args:
        candidates: What was tried; at least one.
        config: The limits.
        metric: Name of the metric that ``metric_drop`` is about.

    Returns:
        The candidate's number and why it was chosen, or None and how far the nearest one missed.
    """
    within = [i for i, candidate in enumerate(candidates) if not _misses(candidate, config)]
    if not within:
        return None, _explain_nearest(candidates, config, metric)
    fastest = min(candidates[i].latency_ms for i in within)
    about = [i for i in within if candidates[i].latency_ms <= fastest * (1 + LATENCY_NOISE)]
    best = min(about, key=lambda i: (candidates[i].size_mb, candidates[i].latency_ms))
    chosen = candidates[best]
    place = "fastest"
    if chosen.latency_ms > fastest:
        place = f"smallest of the {len(about)} fastest (within {LATENCY_NOISE:.0%})"
    return best, (
        f"{chosen.name} is the {place} of {len(within)} candidates within the limits: "
        f"{_facts(chosen, config, metric)}"
    )


def find_finalists(candidates: Sequence[Candidate], config: CompressionConfig) -> list[int]:
    """Return the numbers of those that might be chosen if all were timed again."""
    apart = dataclasses.replace(config, max_latency_ms=None)
    within = [i for i, candidate in enumerate(candidates) if not _misses(candidate, apart)]
    fastest = min((candidates[i].latency_ms for i in within), default=0.0)
    return [i for i in within if candidates[i].latency_ms <= fastest * (1 + FINALIST_MARGIN)]


def _misses(candidate: Candidate, config: CompressionConfig) -> dict[str, float]:
    """Return by how much of each limit a candidate misses it."""
    misses = {}
    # Written so that a NaN misses.
    if not candidate.metric_drop_at_most <= config.max_metric_drop:
        over = candidate.metric_drop_at_most - config.max_metric_drop
        # A limit of 0 has no share; a thousandth is the least that a metric can be asked to keep.
        misses["max_metric_drop"] = over / max(config.max_metric_drop, 1e-3)
    for name, value, limit in (
        ("max_latency_ms", candidate.latency_ms, config.max_latency_ms),
        ("max_size_mb", candidate.size_mb, config.max_size_mb),
    ):
        if limit is not None and value > limit:
            misses[name] = value / limit - 1
    return misses


def _explain_nearest(
    candidates: Sequence[Candidate], config: CompressionConfig, metric: str
) -> str:
    missed = [_misses(candidate, config) for candidate in candidates]
    nearest = min(range(len(candidates)), key=lambda i: sum(missed[i].values()))
    limits = ", ".join(f"{name} {getattr(config, name):g}" for name in missed[nearest])
    less_sure = "lower its confidence, " if config.confidence > 0.5 else ""
    which = "that limit" if len(missed[nearest]) == 1 else "these limits"
    return (
        f"none of {len(candidates)} candidates is within the limits; nearest is "
        f"{candidates[nearest].name} ({_facts(candidates[nearest], config, metric)}), beyond "
        f"{limits}; "
        f"raise {which} under compression, {less_sure}or try other layer_fractions and "
        "keep_fractions"
    )


def _facts(candidate: Candidate, config: CompressionConfig, metric: str) -> str:
    change = f"{abs(candidate.metric_drop):.4f}"
    direction = "worse" if candidate.metric_drop > 0 else "better"
    sure = ""
    if config.confidence > 0.5:
        most = max(candidate.metric_drop_at_most, 0.0)
        sure = f", at most {most:.4f} worse with {config.confidence:.0%} confidence"
    return (
        f"{metric} {candidate.metrics[metric]:.4f} ({change} {direction} than uncompressed{sure}), "
        f"{candidate.latency_ms:.2f} ms, {candidate.size_mb:.1f} MB"
    )
