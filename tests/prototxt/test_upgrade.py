"""Older generations become what Caffe's own upgrade tools made of them."""

from pathlib import Path

import pytest

from prototxt import text
from prototxt.caffe_pb2 import NetParameter, SolverParameter, V1LayerParameter
from prototxt.errors import FormatError
from prototxt.upgrade import to_current, upgrade_net, upgrade_solver

GOLDEN = Path(__file__).parents[1] / "golden" / "upgrade"


def parse(content):
    return text.parse(content, NetParameter)[0]


@pytest.mark.parametrize("name", ["v0_small", "v1_small"])
@pytest.mark.parametrize("dialect", ["segnet", "bvlc"])
def test_upgrade_gives_what_caffes_tool_gave(name, dialect):
    net, _ = text.read(GOLDEN / f"{name}.prototxt", NetParameter)
    before = net.SerializeToString()
    recorded, _ = text.read(GOLDEN / f"{name}.upgraded_{dialect}.prototxt", NetParameter)
    assert to_current(net, dialect) == recorded
    assert net.SerializeToString() == before


def test_origins_survive_padding_and_input_layers():
    net, _ = text.read(GOLDEN / "v0_small.prototxt", NetParameter)
    assert upgrade_net(net, "segnet")[1] == [1, 2, 3, 4, 5, 6, 7]
    assert upgrade_net(net, "bvlc")[1] == [None, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("number", "name"),
    [(11, "Im2col"), (21, "SoftmaxWithLoss"), (27, "SigmoidCrossEntropyLoss"), (9, "HDF5Data"), (39, "Deconvolution"),
     (42, "Unpooling"), (43, "BN"), (46, "ImageSegData"), (49, "BinaryAccuracy"), (0, "")],
)  # fmt: skip
def test_types_of_v1(number, name):
    assert to_current(NetParameter(layers=[V1LayerParameter(type=number)])).layer[0].type == name


def test_deconvnets_own_fields_come_along():
    net = parse(
        "layers { type: UNPOOLING unpooling_param { unpool_h: 14 } } layers { type: BN bn_param { bn_mode: 1 } }"
    )
    up, bn = to_current(net).layer
    assert up.unpooling_param.unpool_h == 14 and bn.bn_param.bn_mode == 1


def test_every_mistake_of_v0_at_once():
    net = parse("""layers { layer { name: 'a' type: 'konv' } } layers { layer { name: 'b' type: 'padding' } }
        layers { layer { name: 'p' type: 'padding' pad: 1 } bottom: 'x' top: 'p' }
        layers { layer { name: 'c' type: 'lrn' } bottom: 'p' top: 'c' }""")
    with pytest.raises(FormatError) as caught:
        upgrade_net(net)
    assert [name in text for name, text in zip("abc", caught.value.problems, strict=True)] == [True] * 3
    assert "0 bottoms" in caught.value.problems[1] and "padding" in caught.value.problems[2]


def test_padding_ends_where_its_name_is_given_anew():
    net = parse("""layers { layer { name: 'p' type: 'padding' pad: 1 } bottom: 'x' top: 'p' }
        layers { layer { name: 'c' type: 'conv' } bottom: 'p' top: 'p' }
        layers { layer { name: 'd' type: 'conv' pad: 2 } bottom: 'p' top: 'd' }""")
    c, d = to_current(net).layer
    assert (c.bottom, c.convolution_param.pad) == (["x"], [1])
    assert (d.bottom, d.convolution_param.pad) == (["p"], [2])


def test_padding_of_padding_is_an_error():
    twice = "".join(f"layers {{ layer {{ type: 'padding' }} bottom: '{a}' top: '{b}' }}" for a, b in ("xy", "yz"))
    with pytest.raises(FormatError, match="padded already"):
        to_current(parse(twice))


def test_older_generation_decides():
    net = parse("layers { name: 'old' } layer { name: 'new' }")
    assert [layer.name for layer in to_current(net).layer] == ["old"]


def test_bvlc_fixes_the_statistics_of_batch_norm():
    net = parse("layer { type: 'BatchNorm' param { } param { lr_mult: 2 } param { } } layer { type: 'BatchNorm' }")
    three, none = to_current(net, "bvlc").layer
    assert [(p.lr_mult, p.decay_mult) for p in three.param] == [(0, 0)] * 3 and not none.param
    assert to_current(net, "segnet") == net


@pytest.mark.parametrize(
    ("old", "new"), [("SGD", "SGD"), ("NESTEROV", "Nesterov"), ("ADADELTA", "AdaDelta"), ("ADAM", "Adam")]
)
def test_solver_type_in_words(old, new):
    solver, _ = text.parse(f"solver_type: {old} base_lr: 1", SolverParameter)
    assert upgrade_solver(solver) == SolverParameter(type=new, base_lr=1)


def test_two_solver_types_are_an_error():
    solver, _ = text.parse("solver_type: ADAM type: 'Adam'", SolverParameter)
    with pytest.raises(FormatError, match="both"):
        upgrade_solver(solver)


def test_v0_field_of_another_type_is_left_out(caplog):
    (layer,) = to_current(parse("layers { layer { name: 'b' type: 'relu' num_output: 3 } }")).layer
    assert layer.type == "ReLU" and "`num_output` is left out" in caplog.text
