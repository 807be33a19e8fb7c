"""DeepSpeed trains, stops and goes on as if it had never stopped, at every ZeRO stage."""

import dataclasses
from pathlib import Path

import pytest
import torch

from spaces.trial_config import TrialConfig
from trainables.deepspeed_config import DeepSpeedConfig
from trainables.engine import Engine, open_engine
from trainables.model import ClickModel, build_text_model
from trainables.trial_setup import Worker
from trainables.tuning import choose_trained


def _model(encoder: Path, trial: TrialConfig) -> ClickModel:
    model = build_text_model(encoder, trial, num_segments=1)
    choose_trained(model, trial)
    return model


def _train(engine: Engine, seed: int, steps: int) -> list[float]:
    torch.manual_seed(seed)
    engine.train()
    losses = []
    for _ in range(steps):
        ids = torch.randint(5, 40, (8, 6))
        logits = engine.forward(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            token_type_ids=torch.zeros_like(ids),
        )
        loss = (logits - 1).pow(2).mean()
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_resumed_engine_continues_exactly(
    tiny_encoder: Path, tmp_path: Path, zero_stage: int, method: str
) -> None:
    trial = TrialConfig(method=method, learning_rate=1e-3)  # type: ignore[arg-type]
    config = DeepSpeedConfig(zero_stage=zero_stage, precision="fp32")  # type: ignore[arg-type]
    with open_engine(_model(tiny_encoder, trial), trial, config, Worker(), total_steps=8) as engine:
        _train(engine, seed=1, steps=4)
        engine.start_saving(tmp_path / "state", tmp_path / "weights")
        engine.finish_saving()
        uninterrupted = _train(engine, seed=2, steps=4)

    with open_engine(_model(tiny_encoder, trial), trial, config, Worker(), total_steps=8) as engine:
        engine.load(tmp_path / "state")
        resumed = _train(engine, seed=2, steps=4)

    assert resumed == uninterrupted


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_another_trials_state_is_trained_on_with_ones_own_rate_and_decay(
    tiny_encoder: Path, tmp_path: Path, zero_stage: int
) -> None:
    config = DeepSpeedConfig(zero_stage=zero_stage, precision="fp32")  # type: ignore[arg-type]
    # Without decay all its weights train alike; they are divided all the same.
    donor = TrialConfig(method="full", learning_rate=1e-3, weight_decay=0.0, warmup_fraction=0.5)
    own = dataclasses.replace(donor, learning_rate=4e-3, weight_decay=0.2)
    with open_engine(_model(tiny_encoder, donor), donor, config, Worker(), total_steps=8) as engine:
        _train(engine, seed=1, steps=2)
        engine.start_saving(tmp_path / "state", tmp_path / "weights")
        engine.finish_saving()
        trained = {name: weight.clone() for name, weight in engine.trained_weights().items()}

    with open_engine(_model(tiny_encoder, own), own, config, Worker(), total_steps=8) as engine:
        engine.load(tmp_path / "state")
        groups = engine._optimizer.param_groups
        loaded = {name: weight.clone() for name, weight in engine.trained_weights().items()}
        # Two of eight steps are done, and half of them warm up.
        assert {group["lr"] for group in groups} == {4e-3 * 3 / 4}
        assert sorted(group["weight_decay"] for group in groups) == [0.0, 0.2]
        _train(engine, seed=2, steps=1)
        assert {group["lr"] for group in groups} == {4e-3}

    assert trained.keys() == loaded.keys()
    assert all(torch.equal(trained[name], loaded[name]) for name in trained)


def test_all_zero_stages_train_alike(tiny_encoder: Path) -> None:
    trial = TrialConfig(method="full", learning_rate=1e-3)
    losses = {}
    for zero_stage in (0, 1, 2, 3):
        config = DeepSpeedConfig(zero_stage=zero_stage, precision="fp32")  # type: ignore[arg-type]
        model = _model(tiny_encoder, trial)
        with open_engine(model, trial, config, Worker(), total_steps=6) as engine:
            losses[zero_stage] = _train(engine, seed=1, steps=6)

    assert losses[0][-1] < losses[0][0]
    for zero_stage in (1, 2, 3):
        assert losses[zero_stage] == pytest.approx(losses[0], abs=1e-4)


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_bf16_trains_nearly_as_fp32_and_keeps_weights_and_log_odds_in_it(
    tiny_encoder: Path, zero_stage: int
) -> None:
    trial = TrialConfig(method="full", learning_rate=1e-3, dropout=0.0)
    losses = {}
    for precision in ("fp32", "bf16"):
        config = DeepSpeedConfig(zero_stage=zero_stage, precision=precision)  # type: ignore[arg-type]
        model = _model(tiny_encoder, trial)
        with open_engine(model, trial, config, Worker(), total_steps=6) as engine:
            losses[precision] = _train(engine, seed=1, steps=6)
            assert {weight.dtype for weight in engine.trained_weights().values()} == {torch.float32}
            engine.eval()
            ids = torch.randint(5, 40, (64, 6))
            with torch.no_grad():
                logits = engine.forward(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    token_type_ids=torch.zeros_like(ids),
                )
            assert len(logits.unique()) > 50

    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)


def test_gathered_weights_are_the_trained_ones(tiny_encoder: Path) -> None:
    trial = TrialConfig(method="lora", learning_rate=1e-2)
    model = _model(tiny_encoder, trial)
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    config = DeepSpeedConfig(zero_stage=3, precision="fp32")
    with open_engine(model, trial, config, Worker(), total_steps=4) as engine:
        _train(engine, seed=1, steps=3)
        weights = engine.trained_weights()

    assert set(weights) == set(before)
    assert all(weights[name].shape == before[name].shape for name in before)
    assert any(not torch.equal(weights[name], before[name]) for name in before)


def test_an_incomplete_state_is_an_error(tiny_encoder: Path, tmp_path: Path) -> None:
    trial = TrialConfig()
    model = _model(tiny_encoder, trial)
    with (
        open_engine(
            model, trial, DeepSpeedConfig(precision="fp32"), Worker(), total_steps=4
        ) as engine,
        pytest.raises(RuntimeError, match="the checkpoint is incomplete"),
    ):
        engine.load(tmp_path)


def test_two_workers_need_a_process_group(tiny_encoder: Path) -> None:
    trial = TrialConfig()
    model = _model(tiny_encoder, trial)

    with (
        pytest.raises(RuntimeError, match="2 workers needs a process group of that many"),
        open_engine(
            model, trial, DeepSpeedConfig(precision="fp32"), Worker(world_size=2), total_steps=4
        ),
    ):
        pass
