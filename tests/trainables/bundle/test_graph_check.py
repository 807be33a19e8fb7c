"""Hostile graphs: whatever isn't plain arithmetic on weights of its own is refused unrun."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trainables.bundle.graph_check import check_graph
from trainables.bundle.verify import verify_bundle

Edit = Callable[[Path, Callable[[dict[str, Any]], object]], None]


def test_what_is_exported_passes(graphs: dict[str, Path]) -> None:
    for path in graphs.values():
        check_graph(path)


def test_weights_in_another_file_are_refused(
    bundle: Path, edit_manifest: Edit, tmp_path: Path
) -> None:
    model = onnx.load(str(bundle / "model.onnx"))
    onnx.save(
        model,
        str(tmp_path / "model.onnx"),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    (tmp_path / "model.onnx").replace(bundle / "model.onnx")
    edit_manifest(bundle, lambda _raw: None)

    with pytest.raises(ValueError, match="in another file, which the manifest's hashes don't"):
        verify_bundle(bundle)


def test_a_graph_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\xff\xff\xff")

    with pytest.raises(ValueError, match="is not an ONNX graph"):
        check_graph(tmp_path / "model.onnx")


def graph_of(*nodes: onnx.NodeProto, **constants: object) -> onnx.ModelProto:
    """Return a model of some nodes from x to y."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("evil", 1)]
    )


def body() -> onnx.GraphProto:
    """Return a graph inside a node."""
    return helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])],
        "body",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )


@pytest.mark.parametrize(
    ("node", "name"),
    [
        (helper.make_node("RunCode", ["x"], ["y"], domain="evil"), "evil::RunCode"),
        (helper.make_node("Add", ["x", "x"], ["y"], domain="evil"), "evil::Add"),
        (helper.make_node("PyOp", ["x"], ["y"], domain="com.microsoft"), "com.microsoft::PyOp"),
        (helper.make_node("ConstantOfShape", ["x"], ["y"]), "ConstantOfShape"),
        (helper.make_node("Tile", ["x", "x"], ["y"]), "Tile"),
        (helper.make_node("If", ["x"], ["y"], then_branch=body(), else_branch=body()), "If"),
        (helper.make_node("Loop", ["x", "x"], ["y"], body=body()), "Loop"),
    ],
)
def test_an_operator_that_no_bundle_has_is_named(
    tmp_path: Path, node: onnx.NodeProto, name: str
) -> None:
    onnx.save(graph_of(node), str(tmp_path / "model.onnx"))

    with pytest.raises(ValueError, match=f"has the operator {name} .* no bundle of ClickTune"):
        check_graph(tmp_path / "model.onnx")


def test_an_operator_inside_another_ones_graph_is_found(tmp_path: Path) -> None:
    inner = body()
    inner.node[0].CopyFrom(helper.make_node("RunCode", ["x"], ["z"], domain="evil"))
    # An allowed operator with a graph that it has no use for.
    node = helper.make_node("Identity", ["x"], ["y"])
    node.attribute.append(helper.make_attribute("body", inner))
    onnx.save(graph_of(node), str(tmp_path / "model.onnx"))

    with pytest.raises(ValueError, match="has the operator evil::RunCode"):
        check_graph(tmp_path / "model.onnx")


def test_functions_of_its_own_are_refused(tmp_path: Path) -> None:
    model = graph_of(helper.make_node("Identity", ["x"], ["y"]))
    function = helper.make_function(
        "", "Identity", ["x"], ["y"], [helper.make_node("Neg", ["x"], ["y"])], []
    )
    model.functions.append(function)
    onnx.save(model, str(tmp_path / "model.onnx"))

    with pytest.raises(ValueError, match="defines functions of its own"):
        check_graph(tmp_path / "model.onnx")


@pytest.mark.parametrize("given", ["initializer", "value", "value_ints"])
@pytest.mark.parametrize("size", [[10**12], [1 << 15, 1 << 15]])
def test_a_few_bytes_that_ask_for_terabytes_are_refused(
    tmp_path: Path, given: str, size: list[int]
) -> None:
    nodes = [helper.make_node("Expand", ["x", "size"], ["y"])]
    constants: dict[str, object] = {}
    if given == "initializer":
        constants["size"] = np.array(size, np.int64)
    else:
        value = numpy_helper.from_array(np.array(size, np.int64)) if given == "value" else size
        nodes.insert(0, helper.make_node("Constant", [], ["size"], **{given: value}))
    onnx.save(graph_of(*nodes, **constants), str(tmp_path / "bomb.onnx"))

    with pytest.raises(ValueError, match=r"asks for 1.*e\+\d+ numbers \(Expand"):
        check_graph(tmp_path / "bomb.onnx")


@pytest.mark.parametrize(("start", "stop", "step"), [(0, 10**12, 1), (0.0, 1e6, 1e-6)])
def test_a_range_without_end_is_refused(
    tmp_path: Path, start: float, stop: float, step: float
) -> None:
    node = helper.make_node("Range", ["start", "stop", "step"], ["y"])
    graph = graph_of(node, start=start, stop=stop, step=step)
    onnx.save(graph, str(tmp_path / "bomb.onnx"))

    with pytest.raises(ValueError, match=r"asks for 1e\+12 numbers \(Range"):
        check_graph(tmp_path / "bomb.onnx")


def test_sparse_weights_are_refused(tmp_path: Path) -> None:
    model = graph_of(helper.make_node("Identity", ["x"], ["y"]))
    values = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    places = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [10**12]))
    onnx.save(model, str(tmp_path / "model.onnx"))

    with pytest.raises(ValueError, match="has sparse weights"):
        check_graph(tmp_path / "model.onnx")


def test_a_hostile_graph_with_the_right_hashes_is_never_loaded(
    bundle: Path, edit_manifest: Edit
) -> None:
    node = helper.make_node("RunCode", ["x"], ["y"], domain="evil")
    onnx.save(graph_of(node), str(bundle / "model.onnx"))
    edit_manifest(bundle, lambda _raw: None)

    with pytest.raises(ValueError, match="has the operator evil::RunCode"):
        verify_bundle(bundle)
