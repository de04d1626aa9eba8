"""The one schema for all dialects: generated code up to date, numbers where they must lie."""

import pytest

from prototxt import caffe_pb2, generate


def test_regenerating_changes_nothing():
    pytest.importorskip("grpc_tools", reason="needs grpcio-tools, the protobuf compiler, to compare")
    assert generate.generate() == generate.GENERATED.read_text()


def test_check_notices_a_difference(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generate, "generate", lambda: "new")
    monkeypatch.setattr(generate, "GENERATED", tmp_path / "caffe_pb2.py")
    generate.GENERATED.write_text("old")
    assert generate.main(["--check"]) == 1
    assert "python -m prototxt.generate" in capsys.readouterr().err
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


def test_generated_code_imports_with_older_protobuf():
    assert "ValidateProtobufRuntimeVersion" not in generate.GENERATED.read_text()


@pytest.mark.parametrize(
    ("message", "field", "number"),
    [
        ("LayerParameter", "bn_param", 45),
        ("LayerParameter", "upsample_param", 137),
        ("LayerParameter", "dense_image_data_param", 138),
        ("LayerParameter", "batch_norm_param", 139),
        ("LossParameter", "weight_by_label_freqs", 3),
        ("LossParameter", "class_weighting", 4),
        ("V1LayerParameter", "bn_param", 45),
        ("NetParameter", "layer", 100),
    ],
)
def test_segnet_keeps_its_wire_numbers(message, field, number):
    assert caffe_pb2.DESCRIPTOR.message_types_by_name[message].fields_by_name[field].number == number


def test_nothing_is_required():
    fields = [f for m in caffe_pb2.DESCRIPTOR.message_types_by_name.values() for f in m.fields]
    assert len(fields) > 400
    assert not [f.full_name for f in fields if f.is_required]


@pytest.mark.parametrize(("message", "field"), [("LossParameter", "normalize"), ("ImageDataParameter", "batch_size")])
def test_no_default_where_dialects_disagree(message, field):
    assert not caffe_pb2.DESCRIPTOR.message_types_by_name[message].fields_by_name[field].has_default_value
