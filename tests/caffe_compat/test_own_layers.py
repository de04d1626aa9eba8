"""Layer types of the user's own, as the documentation shows them, and the table of all types."""

import re
from pathlib import Path

import numpy as np
import pytest

from caffe_compat import layer_table, registry
from caffe_compat.errors import NetError
from tests.caffe_compat.nets import inputs, net

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (
    inputs(data=(1, 2))
    + """
layer { name: "a" type: "Double" bottom: "data" top: "a" }
layer { name: "b" type: "Doubel" bottom: "a" top: "b" }"""
)


@pytest.fixture
def documented():
    """Run the code of the documentation; take its type back afterwards."""
    exec(re.search(r"```python\n(.*?)```", (DOCS / "own-layers.md").read_text("utf-8"), re.DOTALL)[1], {})
    yield
    del registry._classes[("Double", None)]


def test_documented_layer_runs(documented):
    built = net(TEXT.replace("Doubel", "Double"))
    assert built.forward(data=np.array([[1, 2]]))["b"].tolist() == [[4, 8]]
    with pytest.raises(NetError, match="did you mean 'Double'"):
        net(TEXT)


def test_all_unknown_types_in_one_error():
    with pytest.raises(NetError) as caught:
        net(TEXT)
    assert [problem.split(":")[1] for problem in caught.value.problems] == ["2", "3"]
    assert '@caffe_compat.layer("Name")' in str(caught.value)


def test_a_type_is_registered_once(documented):
    with pytest.raises(ValueError, match="already registered, by Double"):
        registry.layer("Double")(object)


def test_table_of_layers_is_true():
    assert (DOCS / "layers.md").read_text("utf-8") == layer_table.render(), "run `python -m caffe_compat.layer_table`"
