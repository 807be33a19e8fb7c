"""Encoder + fields + task head."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import nn

from spaces.trial_config import TrialConfig
from trainables.data.fields import FieldShapes
from trainables.dropout import Dropout
from trainables.encoder import load_bert
from trainables.field_tower import FieldTower
from trainables.frozen_part import STATE_DTYPE, frozen_states, padding_mask

if TYPE_CHECKING:
    from transformers import BertModel


class ClickModel(nn.Module):
    """BERT, pooled by segment, with a linear head that gives the log-odds of a click.

    One text column is pooled to the mean of its token vectors u. With two segments (u and v) the
    head also sees ``|u - v|`` and ``u * v``, as in Sentence-BERT (Reimers and Gurevych 2019,
    section 3, https://arxiv.org/abs/1908.10084): how well a title answers a query is then one
    linear step away from what the pretrained vectors already say.
    """

    def __init__(
        self,
        encoder: "BertModel",
        *,
        num_segments: int,
        dropout: float,
    ) -> None:
        """Put a new head on an encoder.

        Args:
            encoder: Used as it is.
            num_segments: 1 or 2.
            dropout: Of what the head sees.
        """
        super().__init__()
        if num_segments not in (1, 2):
            raise ValueError(f"BERT takes one or two segments, got {num_segments}")
        self.encoder = encoder
        self.num_segments = num_segments
        self.num_frozen: int | None = None
        hidden = encoder.config.hidden_size
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(pooled_size(hidden, num_segments), 1)
        nn.init.normal_(self.head.weight, std=encoder.config.initializer_range)
        nn.init.zeros_(self.head.bias)
        # Joins text and fields, where rows have any.
        self.tower: FieldTower | None = None

    def set_base_rate(self, rate: float) -> None:
        """Start the head's bias at the log-odds of the base rate, so that no step learns it."""
        with torch.no_grad():
            self.head.bias.fill_(math.log(rate / (1 - rate)))

    @property
    def num_layers(self) -> int:
        """Layers of the encoder."""
        return len(self.encoder.encoder.layer)

    def freeze_below(self, tuned_layers: int) -> None:
        """Freeze the embeddings and all layers below the top ones, until :meth:`unfreeze`.

        What is frozen has no dropout either, so its output depends on the text alone.

        Args:
            tuned_layers: Top layers that stay as they are.

        Raises:
            ValueError: if the encoder has fewer.
        """
        if not 1 <= tuned_layers <= self.num_layers:
            raise ValueError(
                f"tuned_layers is {tuned_layers}, but the encoder has {self.num_layers} layers"
            )
        self.num_frozen = self.num_layers - tuned_layers
        for module in self._frozen_modules():
            module.requires_grad_(requires_grad=False)
        self.train(self.training)

    def unfreeze(self) -> None:
        """Let every weight train."""
        self.num_frozen = None
        self.requires_grad_(requires_grad=True)
        self.train(self.training)

    def _frozen_modules(self) -> list[nn.Module]:
        if self.num_frozen is None:
            return []
        return [self.encoder.embeddings, *self.encoder.encoder.layer[: self.num_frozen]]

    def train(self, mode: bool = True) -> Self:
        """Turn dropout on or off; in frozen layers it stays off."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def pool(
        self, hidden: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        """Reduce token vectors to one feature vector per row.

        Args:
            hidden: (batch, tokens, hidden_size) output of the encoder.
            attention_mask: (batch, tokens), 1 where there is a token.
            token_type_ids: (batch, tokens), 1 in segment B.

        Returns:
            (batch, hidden_size), or (batch, 4 * hidden_size) with two segments.
        """
        if self.num_segments == 1:
            return masked_mean(hidden, attention_mask)
        first = masked_mean(hidden, attention_mask * (1 - token_type_ids))
        second = masked_mean(hidden, attention_mask * token_type_ids)
        return torch.cat([first, second, (first - second).abs(), first * second], dim=-1)

    def forward(  # noqa: PLR0913 - the parts of a batch, by name
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
        states: torch.Tensor | None = None,
        codes: torch.Tensor | None = None,
        numbers: torch.Tensor | None = None,
        partners: torch.Tensor | None = None,
        own_share: float = 1.0,
    ) -> torch.Tensor:
        """Compute the log-odds of a click.

        Args:
            input_ids: int64 (batch, tokens); None where ``states`` are given.
            attention_mask: int64 (batch, tokens), 1 where there is a token.
            token_type_ids: int64 (batch, tokens), 1 in segment B.
            states: (batch, tokens, hidden_size) output of the frozen layers for the same rows, from
                :meth:`frozen_states`, in any precision.
            codes: int64 (batch, categorical columns), where rows have any.
            numbers: (batch, numbers), where rows have any.
            partners: int64 (batch,): which row's pooled features are mixed into each; None: no
                mixing. See :class:`trainables.mixup.Mixing`.
            own_share: A row's share in its mixture.

        Returns:
            (batch,) log-odds.
        """
        if self.num_frozen is None:
            hidden = self.encoder(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            ).last_hidden_state
        else:
            if states is None:
                assert input_ids is not None, "a batch needs token ids or states"
                states = self.frozen_states(input_ids, attention_mask, token_type_ids)
            hidden = self._tuned(states.to(self.head.weight.dtype), attention_mask)
        pooled = self.pool(hidden, attention_mask, token_type_ids)
        pooled = _mixed(pooled, partners, own_share)
        with full_precision(pooled.device):
            logits: torch.Tensor = self.head(self.dropout(pooled))[:, 0]
            if self.tower is not None:
                fields = _mixed(self.tower.embed(codes, numbers), partners, own_share)
                logits = logits + self.tower(fields, pooled)
        return logits

    def frozen_states(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        """Run the frozen layers: (batch, tokens, hidden_size), rounded as they are stored."""
        assert self.num_frozen is not None, "nothing is frozen"
        states = frozen_states(
            self.encoder, self.num_frozen, input_ids, attention_mask, token_type_ids
        )
        return states.to(STATE_DTYPE)

    def _tuned(self, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        mask = padding_mask(self.encoder, hidden, attention_mask)
        for layer in self.encoder.encoder.layer[self.num_frozen :]:
            hidden = layer(hidden, mask)
        return hidden


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Compute in float32 what autocast would in bf16.

    A head's matrix is small, and log-odds in bf16 would tie rows: around -3 they are 1/64 apart.
    """
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


def pooled_size(hidden_size: int, num_segments: int) -> int:
    """Return how many numbers a row's text is pooled to."""
    return hidden_size if num_segments == 1 else 4 * hidden_size


def _mixed(features: torch.Tensor, partners: torch.Tensor | None, share: float) -> torch.Tensor:
    """Mix rows' features, (batch, features), with those of their partners, if they have any."""
    if partners is None:
        return features
    return share * features + (1 - share) * features[partners]


def masked_mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average (batch, tokens, size) vectors where the mask is 1; 0 where it is nowhere."""
    weights = mask[..., None].to(hidden.dtype)
    # A row padded to the batch's length can't be empty, but a segment that was truncated away can.
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


class FieldModel(nn.Module):
    """The log-odds of a click from a row's fields alone."""

    num_frozen = None
    """There is no encoder that could be frozen."""

    def __init__(self, tower: FieldTower) -> None:
        super().__init__()
        self.tower = tower

    def set_base_rate(self, rate: float) -> None:
        """See :meth:`ClickModel.set_base_rate`."""
        with torch.no_grad():
            self.tower.output.bias.fill_(math.log(rate / (1 - rate)))

    def unfreeze(self) -> None:
        """Let every weight train."""
        self.requires_grad_(requires_grad=True)

    def forward(
        self,
        codes: torch.Tensor | None = None,
        numbers: torch.Tensor | None = None,
        partners: torch.Tensor | None = None,
        own_share: float = 1.0,
        **_text: torch.Tensor | None,
    ) -> torch.Tensor:
        """Compute the log-odds of a click, (batch,); see :meth:`ClickModel.forward`."""
        with full_precision(self.tower.output.weight.device):
            fields = _mixed(self.tower.embed(codes, numbers), partners, own_share)
            logits: torch.Tensor = self.tower(fields, None)
        return logits


Model = ClickModel | FieldModel
"""What a trial trains."""


def build_model(
    encoder_folder: Path,
    trial: TrialConfig,
    *,
    num_segments: int,
    fields: FieldShapes | None = None,
    base_rate: float | None = None,
    share_weights: bool = False,
) -> Model:
    """Put the pretrained encoder under a new head, seeded by the trial.

    Args:
        encoder_folder: Folder of the encoder (see ``trainables/encoder.py``).
        trial: Gives what the model sees, the dropout and the seed.
        num_segments: 1, or 2 where rows have a segment B; 0 where they have no text.
        fields: What rows have beside text; None: nothing.
        base_rate: Training clicks over impressions, where the head's bias starts.
        share_weights: As for :func:`trainables.encoder.load_bert`.

    Raises:
        ValueError: if rows have nothing of what the trial sees.
    """
    reads_text = bool(num_segments) and trial.inputs != "fields"
    seen = fields if trial.inputs != "text" else None
    model: Model
    if reads_text:
        model = build_text_model(
            encoder_folder,
            trial,
            num_segments=num_segments,
            fields=seen,
            share_weights=share_weights,
        )
    elif seen:
        with _seeded(trial):
            model = FieldModel(_tower(seen, trial, text_size=0))
    else:
        raise ValueError(
            f"inputs is {trial.inputs}, but the rows have no such columns; use inputs: all"
        )
    if base_rate is not None:
        model.set_base_rate(base_rate)
    return model


def build_text_model(
    encoder_folder: Path,
    trial: TrialConfig,
    *,
    num_segments: int,
    fields: FieldShapes | None = None,
    share_weights: bool = False,
) -> ClickModel:
    """Build a model that reads text; arguments as for :func:`build_model`."""
    encoder = load_bert(
        encoder_folder,
        dropout=trial.dropout,
        layers=trial.encoder_layers,
        share_weights=share_weights,
    )
    if trial.loss == "in_batch" and trial.architecture != "two_tower":
        raise ValueError(
            "loss is in_batch, which compares the vectors of segments, but architecture is "
            f"{trial.architecture}; use architecture: two_tower, or another loss"
        )
    if trial.architecture == "two_tower":
        return _build_two_tower(encoder, trial, num_segments=num_segments, fields=fields)
    with _seeded(trial):
        size = pooled_size(encoder.config.hidden_size, num_segments)
        model = ClickModel(encoder, num_segments=num_segments, dropout=trial.dropout)
        if fields:
            model.tower = _tower(fields, trial, text_size=size)
        return model


def _tower(fields: FieldShapes, trial: TrialConfig, *, text_size: int) -> FieldTower:
    return FieldTower(
        fields,
        text_size=text_size,
        units=trial.field_units,
        dropout=trial.dropout,
    )


def _build_two_tower(
    encoder: "BertModel", trial: TrialConfig, *, num_segments: int, fields: FieldShapes | None
) -> ClickModel:
    from trainables.two_tower import TwoTowerModel

    if num_segments != 2:
        raise ValueError(
            f"architecture is two_tower, which compares two segments, but rows have {num_segments};"
            " name two or more text columns (data.columns.text)"
        )
    if fields:
        raise ValueError(
            "architecture is two_tower, which reads text alone, but rows have fields; use "
            "inputs: text"
        )
    if trial.tuned_layers is not None:
        raise ValueError(
            "architecture is two_tower, which trains all layers, but tuned_layers is "
            f"{trial.tuned_layers}; leave tuned_layers out"
        )
    return TwoTowerModel(encoder, dropout=trial.dropout)


@contextlib.contextmanager
def _seeded(trial: TrialConfig) -> Iterator[None]:
    """Draw a model's first weights from the trial's seed, and leave other draws as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)
        yield
