"""The text format: everything that Caffe's C++ reads, and every mistake at its place."""

import math

import pytest
from google.protobuf import text_format

from prototxt import caffe_pb2, text
from prototxt.caffe_pb2 import LayerParameter, NetParameter
from prototxt.errors import FormatError, MissingFileError
from tests.shared import SHARED, needs_shared


def layer(content):
    return text.parse(content, LayerParameter, "f.prototxt")[0]


def problems(content, message_type=NetParameter):
    with pytest.raises(FormatError) as caught:
        text.parse(content, message_type, "f.prototxt")
    return caught.value.problems


@pytest.mark.parametrize(
    "content",
    [
        "loss_param: { ignore_label: 11 }",
        "loss_param { ignore_label: 11 }",
        "loss_param < ignore_label: 11 >",
        "loss_param: < ignore_label: 0xB; >",
        "loss_param { ignore_label: 013 }",
        "loss_param\n{\nignore_label\n:\n11 # a comment with { and ' in it\n}",
        "loss_param{ignore_label:11},",
    ],
)
def test_ways_to_write_one_thing(content):
    assert layer(content) == LayerParameter(loss_param={"ignore_label": 11})


def test_several_fields_a_line_and_separators():
    assert layer("""name: 'a'; type: "ReLU", bottom: 'x' bottom: "y" """) == LayerParameter(
        name="a", type="ReLU", bottom=["x", "y"]
    )


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (r"""'it\'s'""", "it's"),
        (r'''"{\'phase\': \"TEST\"}"''', """{'phase': "TEST"}"""),
        ("'one' \"two\"\n'three'", "onetwothree"),
        (r'"tab\t nul\101 \x41 \u00e9 \n"', "tab\t nulA A é \n"),
        ('"straße # no comment"', "straße # no comment"),
    ],
)
def test_strings(written, value):
    assert layer(f"name: {written}").name == value


@pytest.mark.parametrize(
    ("written", "value"),
    [("1", 1), ("-1.5", -1.5), ("1.", 1), (".5", 0.5), ("1e-3", 1e-3), ("2.5f", 2.5), ("1E+2F", 100), ("inf", math.inf),
     ("-Infinity", -math.inf), ("- 3", -3)],
)  # fmt: skip
def test_numbers(written, value):
    assert math.isclose(layer(f"loss_weight: {written}").loss_weight[0], value, rel_tol=1e-7)


def test_nan():
    assert math.isnan(layer("loss_weight: nan").loss_weight[0])


@pytest.mark.parametrize(("word", "value"), [("true", True), ("t", True), ("1", True), ("False", False), ("0", False)])
def test_booleans(word, value):
    assert layer(f"propagate_down: {word}").propagate_down[0] is value


def test_lists():
    expected = LayerParameter(loss_weight=[1, 2.5], include=[{"phase": 0}, {"level" * 0 + "phase": 1}])
    assert layer("loss_weight: [1, 2.5] include [ { phase: TRAIN }, { phase: 1 } ]") == expected
    assert layer("loss_weight: []") == LayerParameter()


def test_places():
    net, places = text.parse('name: "n"\nlayer {\n  name: "a" }\n  layer { top: "x"\n top: "y" }', NetParameter)
    assert len(net.layer) == 2
    assert places[("layer", 1)] == (4, 3) and places.line("layer", 0, "name") == 3
    assert places[("layer", 1, "top", 1)] == (5, 2) and places.line("layer", 2) is None


def test_every_mistake_at_its_line_and_column():
    found = problems("""layer {
  name: "a"
  convolution_parm { kernel_size: 3 pad { 1 } }
  pooling_param { pool: MAXIMUM stride: -1 kernel_size: 2.5 }
  name: "b"
  loss_weight: "x"
}
""")
    assert [problem.split(": ")[0] for problem in found] == [
        f"f.prototxt:{place}" for place in ("3:3", "4:25", "4:41", "4:57", "5:3", "6:16")
    ]
    assert "unknown field 'convolution_parm' in LayerParameter" in found[0] and "'convolution_param'" in found[0]
    assert "MAX, AVE, STOCHASTIC" in found[1]
    assert "0 to 4294967295" in found[2]
    assert "2.5" in found[3] and "whole number" in found[3]
    assert "given twice, first at 2:3" in found[4]
    assert "a number" in found[5]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("layer { name: 'a'", r"1:18: found the end of the file; expected '}' to close 'layer', opened at 1:7"),
        ("layer { name 'a' }", r"1:14: found \"'a'\"; expected ':'"),
        ("layer { name: 'a }", r"1:15: found a string that does not end"),
        ("layer { name: }", r"1:15: found '}'; expected a value for 'name'"),
        ("}", r"1:1: found '}'; expected the name of a field of NetParameter"),
        ("layer : 3", r"1:9: found '3'; expected '{'"),
        ("input_dim: 12abc", r"1:12: found '1'|1:12"),
        ("force_backward: 2", r"expected true or false"),
        ("input_dim: 3000000000", r"-2147483648 to 2147483647"),
    ],
)
def test_mistakes(content, said):
    with pytest.raises(FormatError, match=said):
        text.parse(content, NetParameter, "f.prototxt")


def test_unknown_fields_are_passed_over_whatever_they_hold():
    assert len(problems("aaa { b { } [ 1 ] } bbb: [1, 2] ccc: 'x' 'y' ddd: -1 eee < f: 1 > name: 'n' fff: 1")) == 6


def test_binary_file_is_told(tmp_path):
    (tmp_path / "x.prototxt").write_bytes(NetParameter(name="n", input_dim=[1]).SerializeToString() + b"\xff\0")
    with pytest.raises(FormatError, match=r"x\.prototxt: a binary file; expected a prototxt"):
        text.read(tmp_path / "x.prototxt", NetParameter)


def test_missing_file(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.prototxt"):
        text.read(tmp_path / "none.prototxt", NetParameter)


def test_byte_order_mark_and_dos_lines(tmp_path):
    (tmp_path / "x.prototxt").write_bytes(b"\xef\xbb\xbfname: 'n'\r\nlayer {\r\n}\r\n")
    net, places = text.read(tmp_path / "x.prototxt", NetParameter)
    assert net.name == "n" and places[("layer", 0)] == (2, 1)


def fill(message, depth=3):
    """Something in every field."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None:
            if depth:
                fill(
                    getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name), depth - 1
                )
                if not field.is_repeated:
                    getattr(message, field.name).SetInParent()
            continue
        value = {
            field.CPPTYPE_STRING: b"\0\xff'" if field.type == field.TYPE_BYTES else "a\"'\\\né",
            field.CPPTYPE_BOOL: True,
            field.CPPTYPE_FLOAT: 0.1,
            field.CPPTYPE_DOUBLE: -1e-300,
        }.get(field.cpp_type, field.enum_type.values[-1].number if field.enum_type else 7)
        if field.is_repeated:
            getattr(message, field.name).extend([value, value])
        else:
            setattr(message, field.name, value)
    return message


@pytest.mark.parametrize("name", sorted(caffe_pb2.DESCRIPTOR.message_types_by_name))
def test_what_is_formatted_parses_to_the_same(name):
    message_type = getattr(caffe_pb2, name)
    message = fill(message_type())
    assert text.parse(text.format(message), message_type)[0] == message


@needs_shared
@pytest.mark.parametrize("path", sorted((SHARED / "prototxt").rglob("*.prototxt")), ids=lambda path: path.name)
def test_original_files_are_read_as_protobuf_reads_them(path):
    content = path.read_text()
    message_type = caffe_pb2.SolverParameter if "base_lr:" in content else NetParameter
    assert text.read(path, message_type)[0] == text_format.Parse(content, message_type())
