"""What a row's fields add to a model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from spaces.trial_config import TrialConfig
from trainables.data.fields import FieldShapes
from trainables.deepspeed_config import DeepSpeedConfig
from trainables.engine import Engine, _parameter_groups, open_engine
from trainables.field_tower import FieldTower
from trainables.model import ClickModel, FieldModel, build_model, build_text_model
from trainables.trial_setup import Worker

SHAPES = FieldShapes(num_codes=(4, 3), num_numbers=2)
CODES = torch.tensor([[0, 2], [3, 0]])
NUMBERS = torch.tensor([[0.5, 0.0], [-1.0, 1.0]])
BATCH = {
    "input_ids": torch.tensor([[2, 9, 3], [2, 7, 3]]),
    "attention_mask": torch.ones(2, 3, dtype=torch.int64),
    "token_type_ids": torch.zeros(2, 3, dtype=torch.int64),
}


def tower(units: int = 8) -> FieldTower:
    torch.manual_seed(0)
    built = FieldTower(SHAPES, text_size=0, units=units, dropout=0.0)
    torch.nn.init.normal_(built.output.weight)
    return built.eval()


def test_a_tower_begins_with_nothing_to_add(tiny_encoder: Path) -> None:
    plain = build_text_model(tiny_encoder, TrialConfig(), num_segments=1).eval()
    model = build_text_model(tiny_encoder, TrialConfig(), num_segments=1, fields=SHAPES).eval()

    assert torch.equal(model(**BATCH, codes=CODES, numbers=NUMBERS), plain(**BATCH))


def test_columns_do_not_share_the_meaning_of_a_code() -> None:
    built = tower()

    one, other = built(built.embed(torch.tensor([[1, 0], [0, 1]]), torch.zeros(2, 2)), None)

    assert one != other


@pytest.mark.parametrize(("column", "code"), [(0, 1), (1, 1)])
def test_every_category_can_change_the_output(column: int, code: int) -> None:
    built = tower()
    changed = CODES.clone()
    changed[0, column] = code

    before, after = (built(built.embed(codes, NUMBERS), None) for codes in (CODES, changed))

    assert before[0] != after[0]
    assert before[1] == after[1]


def test_every_number_can_change_the_output() -> None:
    built = tower()
    numbers = NUMBERS.clone().requires_grad_()

    built(built.embed(CODES, numbers), None).sum().backward()

    assert numbers.grad is not None
    assert (numbers.grad != 0).all()


def test_mixing_rows_mixes_their_fields(tiny_encoder: Path) -> None:
    trial = TrialConfig(inputs="fields")
    model = build_model(tiny_encoder, trial, num_segments=1, fields=SHAPES).eval()
    assert isinstance(model, FieldModel)
    torch.nn.init.normal_(model.tower.output.weight)
    swapped = torch.tensor([1, 0])

    alone = model(codes=CODES, numbers=NUMBERS)
    exchanged = model(codes=CODES, numbers=NUMBERS, partners=swapped, own_share=0.0)

    assert torch.allclose(exchanged, alone.flip(0))


@pytest.mark.parametrize(
    ("inputs", "kind", "has_tower"),
    [("all", ClickModel, True), ("text", ClickModel, False), ("fields", FieldModel, True)],
)
def test_a_trial_builds_what_its_inputs_need(
    tiny_encoder: Path, inputs: str, kind: type, has_tower: bool
) -> None:
    trial = TrialConfig(inputs=inputs)  # type: ignore[arg-type]

    model = build_model(tiny_encoder, trial, num_segments=1, fields=SHAPES, base_rate=0.2)

    assert isinstance(model, kind)
    assert (model.tower is not None) == has_tower
    odds = model.eval()(**BATCH, codes=CODES, numbers=NUMBERS)
    assert odds.shape == (2,)
    if inputs == "fields":
        assert odds.tolist() == pytest.approx([np.log(0.25)] * 2)


@pytest.mark.parametrize(("inputs", "segments"), [("fields", 1), ("text", 0)])
def test_inputs_that_rows_do_not_have_are_refused(
    tiny_encoder: Path, inputs: str, segments: int
) -> None:
    trial = TrialConfig(inputs=inputs)  # type: ignore[arg-type]
    fields = SHAPES if inputs == "text" else FieldShapes()

    with pytest.raises(ValueError, match=f"inputs is {inputs}, but the rows have no such columns"):
        build_model(tiny_encoder, trial, num_segments=segments, fields=fields)


def test_the_tower_trains_at_a_rate_of_its_own(tiny_encoder: Path) -> None:
    trial = TrialConfig(learning_rate=1e-4, field_learning_rate=1e-2, weight_decay=0.1)
    model = build_model(tiny_encoder, trial, num_segments=1, fields=SHAPES)

    groups = _parameter_groups(model, trial)

    assert {(group["lr"], group["weight_decay"]) for group in groups} == {
        (1e-4, 0.1),
        (1e-4, 0.0),
        (1e-2, 0.1),
        (1e-2, 0.0),
    }
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def _train(engine: Engine, steps: int) -> list[float]:
    torch.manual_seed(1)
    engine.train()
    losses = []
    for _ in range(steps):
        logits = engine.forward(**BATCH, codes=CODES, numbers=NUMBERS)
        loss = (logits - torch.tensor([1.0, -1.0])).pow(2).mean()
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
    return losses


def test_a_model_with_fields_trains_alike_at_every_zero_stage_and_resumes(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    trial = TrialConfig(learning_rate=1e-3, field_learning_rate=1e-2, method="full", dropout=0.0)
    losses = {}
    for stage in (0, 1, 2, 3):
        config = DeepSpeedConfig(zero_stage=stage, precision="fp32")  # type: ignore[arg-type]
        folder = tmp_path / str(stage)
        model = build_text_model(tiny_encoder, trial, num_segments=1, fields=SHAPES)
        with open_engine(model, trial, config, Worker(), total_steps=8) as engine:
            _train(engine, 3)
            engine.start_saving(folder / "state", folder / "weights")
            engine.finish_saving()
            losses[stage] = _train(engine, 3)
        model = build_text_model(tiny_encoder, trial, num_segments=1, fields=SHAPES)
        with open_engine(model, trial, config, Worker(), total_steps=8) as engine:
            engine.load(folder / "state")
            assert _train(engine, 3) == losses[stage]

    for stage in (1, 2, 3):
        assert losses[stage] == pytest.approx(losses[0], abs=1e-4)


def test_log_odds_of_fields_alone_stay_float32_in_bf16(tiny_encoder: Path) -> None:
    trial = TrialConfig(inputs="fields", field_learning_rate=1e-2)
    model = build_model(tiny_encoder, trial, num_segments=1, fields=SHAPES, base_rate=0.05)
    config = DeepSpeedConfig(precision="bf16")
    with open_engine(model, trial, config, Worker(), total_steps=2) as engine:
        _train(engine, 2)
        logits = engine.forward(codes=CODES, numbers=NUMBERS)

    assert logits.dtype == torch.float32
