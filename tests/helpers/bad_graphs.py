"""ONNX models that no process should run without limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnx import TensorProto, helper, save

SAVE_GRAPH = """
import os, shutil
shutil.copy(os.environ["EM_SOURCE_DIR"] + "/model.onnx", os.environ["EM_MODEL_DIR"])
"""
"""A script that saves the model.onnx beside it."""


def _graph(path: Path, nodes: list[Any], columns: int, *weights: Any) -> None:
    """A graph from the columns x to the values y."""
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", columns]) for name in ("x", "y")]
    made = helper.make_graph(nodes, "g", sides[:1], sides[1:], list(weights))
    path.parent.mkdir(exist_ok=True)
    save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def endless(path: Path, columns: int = 2) -> None:
    """A loop whose condition stays true."""
    truth = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    flags = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go", "still")]
    rows = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("before", "after")]
    round_ = helper.make_tensor_value_info("round", TensorProto.INT64, [])
    nodes = [helper.make_node("Identity", ["go"], ["still"]), helper.make_node("Neg", ["before"], ["after"])]
    body = helper.make_graph(nodes, "body", [round_, flags[0], rows[0]], [flags[1], rows[1]])
    _graph(path, [helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)], columns, truth)


def huge(path: Path, columns: int = 2) -> None:
    """A tensor of 3 GiB on the way from the columns to as many values."""
    size = helper.make_tensor("size", TensorProto.INT64, [1], [3 * 2**28])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Expand", ["sum", "size"], ["many"]),
        helper.make_node("ReduceMax", ["many"], ["most"], keepdims=0),
        helper.make_node("Add", ["x", "most"], ["y"]),
    ]
    _graph(path, nodes, columns, size)
