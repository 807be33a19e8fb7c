"""A model as an ONNX graph in one file."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from trainables.model import ClickModel

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "logits"


def export_graph(model: "ClickModel", path: Path, *, max_tokens: int) -> None:
    """Write a model on the CPU as ONNX: token ids in, log-odds out, any batch and length.

    Args:
        model: Put into eval mode.
        path: The file; all weights are in it.
        max_tokens: Longest input.
    """
    model.eval()
    # Two rows of two lengths: a dimension of size 1 would be taken for a constant.
    ids = torch.ones(2, min(6, max_tokens), dtype=torch.int64)
    batch = torch.export.Dim("batch")
    tokens = torch.export.Dim("tokens", max=max_tokens)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            model,
            (ids, torch.ones_like(ids), torch.zeros_like(ids)),
            dynamo=True,
            dynamic_shapes={name: {0: batch, 1: tokens} for name in INPUTS},
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about itself out of the user's terminal.

    They are about torchvision (not needed), its own deprecated calls and its names of dimensions;
    what goes wrong is raised.
    """
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
