"""A greedy graph whose output layer knows the first tokens only: as fast as a shortlist could be. Its answers mean nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx

source, target, rows = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
model = onnx.load(source, load_external_data=False)
[body] = [attribute.g for node in model.graph.node for attribute in node.attribute if attribute.name == "body"]
output = next(node for node in body.node if node.name == "output.product")
if output.op_type != "MatMulNBits":
    sys.exit(f"expected an output layer in eight or four bits, found {output.op_type}")
for place in (1, 2):  # values and scales, a row for each token
    whole = next(tensor for tensor in model.graph.initializer if tensor.name == output.input[place])
    part = onnx.TensorProto()
    part.CopyFrom(whole)
    part.name = f"shortlist_{place}"
    part.dims[0] = rows
    for entry in part.external_data:
        if entry.key == "length":
            entry.value = str(int(entry.value) * rows // whole.dims[0])
    model.graph.initializer.append(part)
    output.input[place] = part.name
for attribute in output.attribute:
    if attribute.name == "N":
        attribute.i = rows
target.write_bytes(model.SerializeToString())
