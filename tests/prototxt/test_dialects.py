"""Numbers on the wire by dialect, and the dialect that a text gives away."""

import pytest
from google.protobuf import text_format

from prototxt import caffe_pb2, dialects
from prototxt.errors import CaffeError


def number(message, field):
    return caffe_pb2.DESCRIPTOR.message_types_by_name[message].fields_by_name[field].number


@pytest.mark.parametrize(
    ("dialect", "message", "field", "wire"),
    [
        ("segnet", "LayerParameter", "upsample_param", 137),
        ("enet", "LayerParameter", "upsample_param", 147),
        ("bvlc", "LayerParameter", "upsample_param", None),
        ("bvlc", "LayerParameter", "embed_param", 137),
        ("segnet", "LayerParameter", "dense_image_data_param", 138),
        ("cudnn5", "LayerParameter", "dense_image_data_param", 46),
        ("bvlc", "LayerParameter", "input_param", 143),
        ("deeplab", "LayerParameter", "input_param", None),
        ("deeplab", "LayerParameter", "interp_param", 143),
        ("crf", "LayerParameter", "multi_stage_meanfield_param", 1000),
        ("crf", "InfogainLossParameter", "axis", 2),
        ("crf", "SolverParameter", "layer_wise_reduce", 41),
        ("crf", "SolverParameter", "weights", None),
        ("deconvnet", "V1LayerParameter", "unpooling_param", 44),
        ("segnet", "V1LayerParameter", "unpooling_param", None),
        ("bvlc", "LossParameter", "normalization", 3),
        ("segnet", "LossParameter", "weight_by_label_freqs", 3),
        ("segnet", "LossParameter", "normalization", None),
        ("deconvnet", "SolverParameter", "iter_size", 35),
        ("segnet", "PoolingParameter", "kernel_size", 2),
    ],
)
def test_wire_numbers_and_the_way_back(dialect, message, field, wire):
    ours = number(message, field)
    assert dialects.WIRE[dialect][message].get(ours) == wire
    if wire is not None:
        assert dialects.SUPERSET[dialect][message][wire] == ours


def test_no_dialect_writes_two_fields_under_one_number():
    for dialect, messages in dialects.WIRE.items():
        for message, numbers in messages.items():
            assert len(dialects.SUPERSET[dialect][message]) == len(numbers), (dialect, message)


def test_every_row_names_a_field_of_the_schema():
    for message, rows in dialects.FIELDS.items():
        assert set(rows) <= set(caffe_pb2.DESCRIPTOR.message_types_by_name[message].fields_by_name)
        for writers in rows.values():
            assert set(writers) <= set(dialects.DIALECTS)


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("layer { type: 'Convolution' } layer { type: 'BN' } layer { type: 'Upsample' }", None),
        ("layers { type: CONVOLUTION }", None),
        ("layers { type: UNPOOLING }", "deconvnet"),
        ("layers { type: IMAGE_SEG_DATA }", "deconvnet"),
        ("layers { type: SOFTMAX unpooling_param { unpool_size: 2 } }", "deconvnet"),
        ("layer { type: 'Unpooling' } layer { type: 'BN' } layer { type: 'ImageSegData' }", "deconvnet"),
        ("layer { type: 'ImageSegData' }", "deeplab"),
        ("layer { type: 'Interp' } layer { type: 'Input' }", "deeplab"),
        ("layer { type: 'MultiStageMeanfield' } layer { type: 'BN' } layer { type: 'Input' }", "crf"),
        ("layer { type: 'Input' }", "bvlc"),
        ("layer { type: 'Crop' } layer { type: 'BN' }", "enet"),
        ("layer { type: 'Scale' } layer { loss_param { weight_by_label_freqs: true } }", "enet"),
        ("layer { type: 'DenseImageData' dense_image_data_param { label_divide_factor: 8 } }", "enet"),
        ("layer { type: 'Python' python_param { param_str: '1' } }", "bvlc"),
        ("layer { type: 'Convolution' convolution_param { dilation: 2 } }", "bvlc"),
        ("layer { type: 'Swish' } layer { type: 'Upsample' }", "enet"),
    ],
)
def test_a_text_gives_its_dialect_away(text, dialect):
    assert dialects.detect(text_format.Parse(text, caffe_pb2.NetParameter())) == dialect


def test_unknown_dialect_is_named_with_its_neighbours():
    assert dialects.check_dialect("crf") == "crf"
    with pytest.raises(CaffeError, match=r"unknown dialect 'segnat'.*did you mean 'segnet'"):
        dialects.check_dialect("segnat")
