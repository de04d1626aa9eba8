"""Which layers take part."""

import pytest

from prototxt import text
from prototxt.caffe_pb2 import TEST, TRAIN, NetParameter
from prototxt.errors import FormatError
from prototxt.state import filter_net


def kept(rules, phase=TEST, level=0, stages=(), own=""):
    net, _ = text.parse(f"{own} layer {{ name: 'x' {rules} }} layer {{ name: 'y' }}", NetParameter)
    filtered, indices = filter_net(net, phase, level, stages)
    assert [layer.name for layer in filtered.layer] == ["xy"[i] for i in indices]
    return 0 in indices


@pytest.mark.parametrize(
    ("rules", "state", "takes_part"),
    [
        ("", {}, True),
        ("include { phase: TRAIN }", {}, False),
        ("include { phase: TRAIN }", {"phase": TRAIN}, True),
        ("include { phase: TRAIN } include { phase: TEST }", {}, True),
        ("exclude { phase: TRAIN }", {}, True),
        ("exclude { phase: TEST }", {}, False),
        ("exclude { phase: TRAIN } exclude { stage: 'a' }", {"stages": ["a"]}, False),
        ("include { min_level: 2 }", {"level": 1}, False),
        ("include { min_level: 2 }", {"level": 2}, True),
        ("include { max_level: 2 }", {"level": 3}, False),
        ("include { min_level: -1 max_level: 0 }", {}, True),
        ("include { stage: 'a' stage: 'b' }", {"stages": ["a"]}, False),
        ("include { stage: 'a' stage: 'b' }", {"stages": ["b", "a", "c"]}, True),
        ("include { not_stage: 'a' }", {"stages": ["a"]}, False),
        ("include { stage: 'b' not_stage: 'a' }", {"stages": ["b"]}, True),
        ("include { phase: TEST stage: 'a' }", {"phase": TRAIN, "stages": ["a"]}, False),
        ("include { }", {}, True),
        ("phase: TRAIN", {}, True),
        (
            "include { min_level: 2 stage: 'a' stage: 'b' }",
            {"own": "state { level: 2 stage: 'a' }", "stages": ["b"]},
            True,
        ),
        ("include { max_level: 1 }", {"own": "state { level: 2 }", "level": 1}, True),
        ("include { phase: TEST }", {"own": "state { phase: TRAIN }"}, True),
    ],
)
def test_rules(rules, state, takes_part):
    assert kept(rules, **state) is takes_part


def test_both_kinds_of_rules_are_an_error():
    with pytest.raises(FormatError, match="layer 'x': both `include` and `exclude`"):
        kept("include { phase: TRAIN } exclude { phase: TEST }")
