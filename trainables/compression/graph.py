"""A model as an ONNX graph in one file."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainables.data.fields import FieldShapes

if TYPE_CHECKING:
    from trainables.model import Model

OUTPUT = "logits"
VECTORS = ("first", "second")
"""What a two-tower graph gives beside: the vectors of a row's segments."""


def export_graph(
    model: "Model", path: Path, *, max_tokens: int, fields: FieldShapes | None = None
) -> None:
    """Write a model on the CPU as ONNX: a batch of rows in, log-odds out, any batch and length.

    The graph's inputs are named as :meth:`trainables.data.row_inputs.RowInputs.batch` names them;
    what the model doesn't read isn't among them.

    Args:
        model: Put into eval mode.
        path: The file; all weights are in it.
        max_tokens: Longest input.
        fields: What the model sees beside text; None: nothing.
    """
    from trainables.model import ClickModel
    from trainables.two_tower import TwoTowerGraph, TwoTowerModel

    model.eval()
    module: torch.nn.Module = model
    outputs = [OUTPUT]
    if isinstance(model, TwoTowerModel):
        module, outputs = TwoTowerGraph(model).eval(), [OUTPUT, *VECTORS]
    batch = torch.export.Dim("batch")
    example: dict[str, torch.Tensor] = {}
    dynamic: dict[str, Any] = {}
    if isinstance(model, ClickModel):
        # Two rows of two lengths: a dimension of size 1 would be taken for a constant.
        ids = torch.ones(2, min(6, max_tokens), dtype=torch.int64)
        tokens = torch.export.Dim("tokens", max=max_tokens)
        example = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "token_type_ids": torch.zeros_like(ids),
        }
        dynamic = {name: {0: batch, 1: tokens} for name in example}
    if fields is not None and fields.num_codes:
        example["codes"] = torch.ones(2, len(fields.num_codes), dtype=torch.int64)
        dynamic["codes"] = {0: batch}
    if fields is not None and fields.num_numbers:
        example["numbers"] = torch.zeros(2, fields.num_numbers)
        dynamic["numbers"] = {0: batch}
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            (),
            kwargs=example,
            dynamo=True,
            dynamic_shapes=dynamic,
            input_names=list(example),
            output_names=outputs,
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
