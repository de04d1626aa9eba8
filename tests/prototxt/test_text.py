"""The text format: everything that Caffe's C++ reads, and every mistake at its place."""

import math
import random
import struct

import pytest
from google.protobuf import text_format

from prototxt import caffe_pb2, text
from prototxt.caffe_pb2 import LayerParameter, NetParameter
from prototxt.dialects import REQUIRED
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
     ("-Infinity", -math.inf), ("- 3", -3), ("1e39", math.inf), ("0x10", 16), ("010", 8), ("00.5", 0.5)],
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


def test_places_in_a_list():
    _, places = text.parse("layer [ { },\n  { } ]", NetParameter)
    assert places[("layer", 0)] == (1, 9) and places[("layer", 1)] == (2, 3)


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
        ("layer { name 'a' }", r"1:14: found 'a'; expected ':'"),
        ("layer { name: 'a }", r"1:15: found a string that does not end"),
        ("layer { name: }", r"1:15: found '}'; expected a value for 'name'"),
        ("}", r"1:1: found '}'; expected the name of a field of NetParameter"),
        ("layer : 3", r"1:9: found '3'; expected '{'"),
        ("input_dim: 12abc", r"1:12: found '12abc'; expected a value"),
        ("input_dim: 08", r"found 08 for 'input_dim'; expected a whole number"),
        ("input_dim: [1,]", r"1:15: found '\]'; expected a value"),
        ("input_dim: [1 2]", r"1:15: found '2'; expected ',' or '\]'"),
        ("input_dim: +3", r"1:12: found '\+'"),
        (r"name: 'C:\data'", r"found the escape \\d in 'name'.* a path is written with /"),
        (r"name: '\x'", r"found the escape \\x"),
        (r"name: '\U00110000'", r"found the escape \\U"),
        (r"name: '\377'", r"found .* for 'name'; expected text in UTF-8"),
        ("layer { phase: test }", r"expected one of TRAIN, TEST; did you mean 'TEST'"),
        ("layer { phase: 'TEST' }", r"expected one of TRAIN, TEST, without quotes"),
        ("layer { phase: 2 }", r"found 2 for 'phase'; expected one of TRAIN, TEST"),
        ("layer { clip_param { min: 0 } }", r"1:20: found ClipParameter without 'max'"),
        ("layer { kernel_size: 3 }", r"it belongs into `convolution_param`, `pooling_param`"),
        ("layer { pooling_param { top: 'x' } }", r"it belongs into the LayerParameter around it"),
        ("base_lr: 0.1 net: 'x'", r"^f.prototxt: the prototxt of a solver; expected that of a net$"),
        ("force_backward: 2", r"expected true or false"),
        ("input_dim: 3000000000", r"-2147483648 to 2147483647"),
    ],
)
def test_mistakes(content, said):
    with pytest.raises(FormatError, match=said):
        text.parse(content, NetParameter, "f.prototxt")


@pytest.mark.parametrize(
    ("content", "places"),
    [
        ("layer { name 'a' nam: 'b' }", ["1:14", "1:18"]),
        ("layer {\n  bottom:\n  type: ReLU\n}", ["3:3", "3:9"]),
        ("layer { nam: }\nlayer { nam: 'x' }", ["1:9", "2:9"]),
        ("layer { name: “a” }\nlayer { nam: 'x' }", ["1:15", "2:9"]),
        ("layer { name: 'a\n}\nlayer { nam: 'x' }", ["1:15", "3:9"]),
        ("} layer { nam: 'x' }", ["1:1", "1:11"]),
        ("layer { loss_param < normalize: 1 } nam: 'x' }", ["1:35", "1:37"]),
        ("layer { loss_param { normalize: 1 > } nam: 'x' }", ["1:35", "1:39"]),
        ("layer { loss_weight: [1 2] nam: 'x' }", ["1:25", "1:28"]),
        ("layer: ReLU\nlayer { nam: 'x' }", ["1:8", "2:9"]),
        ("layer { name: 'a'\nlayer { name: 'b' }\nlayer { nam: 'c' }", ["2:1", "3:9"]),
        ("layer { param { lr_mult: 1 param { lr_mul: 2 } }", ["1:28", "1:36"]),
        ("layer { concat_param { axis: 1 } concat_param { axes: 1 } nam: 'x' }", ["1:34", "1:59"]),
        ("layer { a b: 1 }", ["1:9", "1:11"]),
    ],
)
def test_mistakes_do_not_hide_later_ones(content, places):
    assert [problem.split(": ")[0].removeprefix("f.prototxt:") for problem in problems(content)] == places


def test_missing_bracket_is_told_where_the_next_layer_begins():
    (problem,) = problems("layer { name: 'a'\nlayer { name: 'b' }\nlayer { name: 'c' }")
    assert problem == "f.prototxt:2:1: found 'layer'; expected '}' to close 'layer', opened at 1:7"


def test_unknown_fields_are_passed_over_whatever_they_hold():
    assert len(problems("aaa { b { } [ 1 ] } bbb: [1, 2] ccc: 'x' 'y' ddd: -1 eee < f: 1 > name: 'n' fff: 1")) == 6


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (NetParameter(layer=[{"name": "conv1"}]).SerializeToString(), "a binary file, as weights are"),
        (b"\x89PNG\r\n\x1a\n\0\0", "a binary file: a PNG image; give a prototxt"),
        ("name: 'n'".encode("utf-16"), "text in UTF-16; save it as UTF-8"),
        (b"<!DOCTYPE html>\n<html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\nsize 12\n", "a git-LFS pointer"),
    ],
)
def test_file_that_is_no_prototxt(tmp_path, content, said):
    (tmp_path / "x.prototxt").write_bytes(content)
    with pytest.raises(FormatError, match=rf"x\.prototxt: {said}"):
        text.read(tmp_path / "x.prototxt", NetParameter)


def test_comments_in_any_encoding(tmp_path):
    (tmp_path / "x.prototxt").write_bytes("# 数据\nname: 'n'  # 层".encode("gbk"))
    assert text.read(tmp_path / "x.prototxt", NetParameter)[0].name == "n"
    (tmp_path / "x.prototxt").write_bytes("name: '数据'".encode("gbk"))
    with pytest.raises(FormatError, match=r"1:7: found .* expected text in UTF-8"):
        text.read(tmp_path / "x.prototxt", NetParameter)


def test_missing_file(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.prototxt"):
        text.read(tmp_path / "none.prototxt", NetParameter)


def test_byte_order_mark_and_dos_lines(tmp_path):
    (tmp_path / "x.prototxt").write_bytes(b"\xef\xbb\xbfname: 'n'\r\nlayer {\r\n}\r\n")
    net, places = text.read(tmp_path / "x.prototxt", NetParameter)
    assert net.name == "n" and places[("layer", 0)] == (2, 1)


def random_text(draw):
    return "".join(draw.choices("a0 \"'\\\\\n\t\r{}<>#:é层\x7f\x01?", k=draw.randrange(9)))


def random_real(draw, format):
    """Of any size; all bits of the mantissa."""
    value = math.nan
    while math.isnan(value):
        (value,) = struct.unpack(format, draw.randbytes(struct.calcsize(format)))
    return value


def random_value(draw, field):
    """Any value of a field that is no message."""
    if field.enum_type is not None:
        return draw.choice(field.enum_type.values).number
    return {
        field.CPPTYPE_STRING: lambda: draw.randbytes(5) if field.type == field.TYPE_BYTES else random_text(draw),
        field.CPPTYPE_BOOL: lambda: draw.random() < 0.5,
        field.CPPTYPE_FLOAT: lambda: random_real(draw, "<f"),
        field.CPPTYPE_DOUBLE: lambda: random_real(draw, "<d"),
        field.CPPTYPE_INT32: lambda: draw.randrange(-(2**31), 2**31),
        field.CPPTYPE_INT64: lambda: draw.randrange(-(2**63), 2**63),
        field.CPPTYPE_UINT32: lambda: draw.randrange(2**32),
    }[field.cpp_type]()


def fill(draw, message, depth=3):
    """Something in some of the fields; of what is required, in all."""
    for field in message.DESCRIPTOR.fields:
        required = field.name in REQUIRED.get(message.DESCRIPTOR.name, ())
        for _ in range(1 if required else draw.randrange(3 if field.is_repeated else 2)):
            value = getattr(message, field.name)
            if field.message_type is not None and depth:
                fill(draw, value.add() if field.is_repeated else value, depth - 1)
            elif field.message_type is None and field.is_repeated:
                value.append(random_value(draw, field))
            elif field.message_type is None:
                setattr(message, field.name, random_value(draw, field))
    return message


@pytest.mark.parametrize("name", sorted(caffe_pb2.DESCRIPTOR.message_types_by_name))
def test_what_is_formatted_parses_to_the_same(name):
    message_type = getattr(caffe_pb2, name)
    draw = random.Random(name)
    for _ in range(5):
        message = fill(draw, message_type(), depth=2)
        assert text.parse(text.format(message), message_type)[0] == message


@needs_shared
@pytest.mark.parametrize("path", sorted((SHARED / "prototxt").rglob("*.prototxt")), ids=lambda path: path.name)
def test_original_files_are_read_as_protobuf_reads_them(path):
    content = path.read_text()
    message_type = caffe_pb2.SolverParameter if "base_lr:" in content else NetParameter
    assert text.read(path, message_type)[0] == text_format.Parse(content, message_type())
