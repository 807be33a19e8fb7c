"""What training minimizes: the likelihood of each row, or the order of the rows of a group.

A batch of a ranking loss holds whole groups (``trainables.data.batching.group_batches``). Such a
loss doesn't change when all log-odds of a group rise alike, so it leaves the level of the predicted
probabilities where the base rate put it: they rank, and log loss and calibration error say little
until calibration (``trainables/calibration.py``) sets their level.
"""

import torch

from spaces.trial_config import COMPARING_LOSSES


def binomial_loss(
    logits: torch.Tensor, *, clicks: torch.Tensor, impressions: torch.Tensor
) -> torch.Tensor:
    """Sum of the negative log-likelihood of the clicks, without the constant binomial coefficient.

    ``sum(impressions * softplus(logit) - clicks * logit)``; for one impression a row this is the
    usual binary cross-entropy.

    Args:
        logits: (batch,) log-odds.
        clicks: (batch,) clicks of each row.
        impressions: (batch,) impressions of each row.

    Returns:
        A scalar in nats, float32.
    """
    logits = logits.float()
    return (impressions * torch.nn.functional.softplus(logits) - clicks * logits).sum()


def pairwise_loss(
    logits: torch.Tensor, *, rates: torch.Tensor, groups: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logistic loss on the difference of two rows' log-odds (Burges et al. 2005, RankNet).

    Of each pair of rows of one group, the one that was clicked more often should be above; a pair
    weighs as much as the two click rates differ. A group's loss is the mean over its pairs, so that
    a long list doesn't outweigh many short ones.

    Args:
        logits: (batch,) log-odds.
        rates: (batch,) click rate of each row.
        groups: (batch,) number of each row's group, from 0.

    Returns:
        The sum over groups, and how many groups have such a pair; scalars, float32.
    """
    logits, rates = logits.float(), rates.float()
    weights = (rates[:, None] - rates[None, :]).clamp(min=0)
    weights = weights * (groups[:, None] == groups[None, :])
    losses = torch.nn.functional.softplus(logits[None, :] - logits[:, None])
    by_group = _sum_by_group((weights * losses).sum(dim=1), groups)
    total = _sum_by_group(weights.sum(dim=1), groups)
    has_pair = total > 0
    mean = by_group / torch.where(has_pair, total, torch.ones_like(total))
    return mean.sum(), has_pair.sum().float()


def listwise_loss(
    logits: torch.Tensor, *, rates: torch.Tensor, groups: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of a softmax over each group (Cao et al. 2007, ListNet's top-one).

    What a group should give its rows is their share of its click rates; groups without a click, and
    rows that are alone, are left out.

    Args:
        logits: (batch,) log-odds.
        rates: (batch,) click rate of each row.
        groups: (batch,) number of each row's group, from 0.

    Returns:
        The sum over groups, and how many groups count; scalars, float32.
    """
    logits, rates = logits.float(), rates.float()
    total = _sum_by_group(rates, groups)
    counts = (total > 0) & (_sum_by_group(torch.ones_like(rates), groups) > 1)
    # Less the largest, so that no exponential overflows; the loss doesn't depend on it.
    largest = torch.full_like(total, -torch.inf).scatter_reduce(
        0, groups, logits.detach(), reduce="amax"
    )
    shifted = logits - largest[groups]
    normalizer = _sum_by_group(shifted.exp(), groups).clamp(min=1).log()
    shares = torch.where(
        counts[groups], rates / torch.where(counts, total, torch.ones_like(total))[groups], 0.0
    )
    return (shares * (normalizer[groups] - shifted)).sum(), counts.sum().float()


def in_batch_loss(
    logits: torch.Tensor, *, clicks: torch.Tensor, excluded: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of a softmax over the batch's second segments (Henderson et al. 2017, 4.4).

    The other rows' items are each clicked row's negatives. Frequent items are negatives more often;
    that isn't corrected for.

    Args:
        logits: (batch, batch) of row i's first segment with row j's second.
        clicks: (batch,) clicks of each row: how much it counts.
        excluded: bool (batch, batch): items j that are no negatives for row i.

    Returns:
        The sum over clicks, and how many there are; scalars, float32.
    """
    logits, clicks = logits.float(), clicks.float()
    own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(excluded & ~own, -torch.inf)
    losses = torch.logsumexp(logits, dim=1) - logits.diagonal()
    return (clicks * losses).sum(), clicks.sum()


def _sum_by_group(values: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Add up (batch,) values of each group: (groups,)."""
    num_groups = int(groups.max()) + 1 if len(groups) else 0
    return values.new_zeros(num_groups).index_add(0, groups, values)


RANKING_LOSSES = dict(zip(COMPARING_LOSSES, (pairwise_loss, listwise_loss), strict=True))
"""The losses that compare the rows of a group, by name."""
