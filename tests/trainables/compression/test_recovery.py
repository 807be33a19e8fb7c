"""Recovery: a pruned model comes nearer to its teacher, and never ends worse than it began."""

import copy

import numpy as np
import torch

from tests.trainables.compression.conftest import logits_of
from trainables.compression.config import CompressionConfig
from trainables.compression.pruning import choose_kept, measure_importance, prune
from trainables.compression.recovery import ask_teacher, recover
from trainables.data.prepared import Rows
from trainables.model import ClickModel

CONFIG = CompressionConfig(recovery_epochs=8, recovery_learning_rate=5e-3)


def _pruned(model: ClickModel, rows: Rows) -> ClickModel:
    student = copy.deepcopy(model)
    prune(student, choose_kept(measure_importance(model, rows, np.arange(len(rows))), 0.5))
    return student


def test_a_student_comes_nearer_to_its_teacher(model: ClickModel, rows: Rows) -> None:
    teaching = ask_teacher(model, rows, np.arange(len(rows)))
    wanted = logits_of(model, rows)
    student = _pruned(model, rows)
    word_vectors = student.encoder.embeddings.word_embeddings.weight.clone()

    def nearness(candidate: ClickModel) -> float:
        return -float((logits_of(candidate, rows) - wanted).square().mean())

    before = nearness(student)
    after = recover(student, rows, teaching, CONFIG, nearness, before=before)

    assert after > before / 2
    assert nearness(student) == after
    assert torch.equal(student.encoder.embeddings.word_embeddings.weight, word_vectors)
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert not student.training


def test_recovery_is_reproducible(model: ClickModel, rows: Rows) -> None:
    teaching = ask_teacher(model, rows, np.arange(40))
    results = []
    for _ in range(2):
        student = _pruned(model, rows)
        recover(student, rows, teaching, CONFIG, lambda _student: 1.0, before=0.0)
        results.append(logits_of(student, rows))

    assert torch.equal(*results)


def test_weights_come_back_if_no_epoch_is_better(model: ClickModel, rows: Rows) -> None:
    teaching = ask_teacher(model, rows, np.arange(40))
    student = _pruned(model, rows)
    before = logits_of(student, rows)

    best = recover(student, rows, teaching, CONFIG, lambda _student: 0.4, before=0.5)

    assert best == 0.5
    assert torch.equal(logits_of(student, rows), before)


def test_the_teacher_is_asked_row_by_row(model: ClickModel, rows: Rows) -> None:
    indices = np.array([5, 80, 2])

    teaching = ask_teacher(model, rows, indices)

    assert sorted(teaching.indices.tolist()) == [2, 5, 80]
    expected = torch.sigmoid(logits_of(model, rows)).numpy()[teaching.indices]
    np.testing.assert_allclose(teaching.probabilities, expected, atol=1e-6)
    assert teaching.features.shape == (3, 32)
