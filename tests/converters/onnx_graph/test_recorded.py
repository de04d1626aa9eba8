"""The models' outputs against arrays that Caffe itself computed."""

import re

import pytest

from tests.recorded import GOLDEN, deviation, run_forward

pytest.importorskip("onnx", reason="needs onnx, the optional extra")
pytest.importorskip("onnxruntime", reason="needs onnxruntime, the optional extra")

from converters.onnx_graph.comparing import run_model
from converters.onnx_graph.model import to_onnx

#: Layers that are left out of a model, and those that ONNX cannot express.
NOT_IN_MODELS = re.compile(
    r'type: ("(\w+Loss|\w*Accuracy|DenseCRF|MultiStageMeanfield)"|SOFTMAX_LOSS|ELTWISE_ACCURACY)'
)
CASES = [
    case for case in sorted((GOLDEN / "layers").glob("*/*.prototxt")) if not NOT_IN_MODELS.search(case.read_text())
]


@pytest.mark.parametrize("case", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_model_computes_what_caffe_computed(case):
    net, want = run_forward(case)
    model = to_onnx(net).model
    found = run_model(model, {value.name: want[f"bottom:{value.name}"] for value in model.graph.input})
    assert found.keys() == {key.removeprefix("top:") for key in want if key.startswith("top:")}
    deviations = [deviation(name, values, want[f"top:{name}"], 2e-5, 2e-5) for name, values in found.items()]
    assert [text for text in deviations if text] == []


def test_cases_are_there():
    assert len(CASES) >= 180
