"""Every layer type against arrays that Caffe computed, forward and backward."""

import pytest

from tests.recorded import GOLDEN, layer_case

CASES = sorted((GOLDEN / "layers").glob("*/*.prototxt"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_layer_computes_what_caffe_computed(case):
    assert layer_case(case) == []


def test_cases_are_there():
    assert len(CASES) >= 50
