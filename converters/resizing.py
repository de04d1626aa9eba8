"""A net for images of another size."""

from __future__ import annotations

from caffe_compat import registry
from caffe_compat.errors import LayerError, NetError
from caffe_compat.layer_base import Context
from caffe_compat.paths import Paths
from caffe_compat.shapes import Shape
from prototxt.caffe_pb2 import TEST, TRAIN, LayerParameter, NetParameter
from prototxt.net_file import NetFile
from prototxt.state import filter_net


def resize_net(file: NetFile, size: tuple[int, int]) -> tuple[NetParameter, list[str]]:
    """The net with its image inputs at (height, width) ``size``, and what was changed, for people.

    Inputs, Input layers and DenseImageData layers get the size; every Upsample says the plane of its pooling. Layers
    of both phases are followed.

    Raises:
        NetError: layers that do not fit the new size, or a data layer whose size cannot be written.
    """
    net = NetParameter()
    net.CopyFrom(file.message)
    told: list[str] = []
    shapes = _resize_inputs(net, size, told)
    for layer in net.layer:
        _resize_source(layer, size, told)
    problems: list[str] = []
    for phase in (TRAIN, TEST):
        _, kept = filter_net(net, phase)
        context = Context(phase, file.dialect, Paths(file.path), image_size=size)
        problems += _follow([net.layer[i] for i in kept], dict(shapes), context, told)
    if problems:
        raise NetError([f"{file.path}: {problem}" for problem in dict.fromkeys(problems)])
    return net, list(dict.fromkeys(told))


def _resize_inputs(net: NetParameter, size: tuple[int, int], told: list[str]) -> dict[str, Shape]:
    """Give the net's own inputs the size. Returns their shapes."""
    for start in range(0, len(net.input_dim) - 3, 4):
        if tuple(net.input_dim[start + 2 : start + 4]) != (1, 1):
            net.input_dim[start + 2 : start + 4] = size
    for shape in net.input_shape:
        if len(shape.dim) == 4 and tuple(shape.dim[2:]) != (1, 1):
            shape.dim[2:] = size
    by_dims = [tuple(net.input_dim[4 * i : 4 * i + 4]) for i in range(len(net.input_dim) // 4)]
    shapes = [tuple(shape.dim) for shape in net.input_shape] or by_dims
    told += [f"input {name}: {shape}" for name, shape in zip(net.input, shapes, strict=False)]
    return dict(zip(net.input, shapes, strict=False))


def _resize_source(layer: LayerParameter, size: tuple[int, int], told: list[str]) -> None:
    """Give an Input or a DenseImageData layer the size; say of other data layers that theirs stays."""
    if layer.type == "Input":
        for shape in layer.input_param.shape:
            if len(shape.dim) == 4 and tuple(shape.dim[2:]) != (1, 1):
                shape.dim[2:] = size
        told.append(f"{layer.name}: shapes {[tuple(shape.dim) for shape in layer.input_param.shape]}")
    elif layer.type == "DenseImageData":
        param = layer.dense_image_data_param
        kind = "crop" if param.crop_height else "new"
        for axis, length in zip(("height", "width"), size, strict=True):
            setattr(param, f"{kind}_{axis}", length)
        told.append(f"{layer.name}: {kind}_height {size[0]}, {kind}_width {size[1]}")
    elif layer.type.endswith("Data"):
        told.append(f"{layer.name} ({layer.type}): left as it is; its images must come at {size[0]}x{size[1]}")


def _follow(layers: list[LayerParameter], shapes: dict[str, Shape], context: Context, told: list[str]) -> list[str]:
    """Find every shape in order, and write sizes of upsampling that fit. Returns what does not fit."""
    problems = []
    for message in layers:
        cls = registry.find(message.type, context.dialect)
        bottoms = [shapes.get(bottom) for bottom in message.bottom]
        if cls is None or None in bottoms:
            continue
        if message.type == "Upsample" and (plane := getattr(bottoms[1], "plane", None)):
            _set_plane(message, plane, told)
        own = LayerParameter()
        own.CopyFrom(message)  # a layer may add to its message
        try:
            shapes.update(zip(message.top, cls(own, context).top_shapes(*bottoms), strict=False))
        except LayerError as error:
            problems += error.at(f"layer {message.name!r} ({message.type})")
    return problems


def _set_plane(message: LayerParameter, plane: tuple[int, int], told: list[str]) -> None:
    param = message.upsample_param
    if (param.upsample_h, param.upsample_w) == plane:
        return
    param.Clear()
    param.upsample_h, param.upsample_w = plane
    told.append(f"{message.name}: upsample_h {plane[0]}, upsample_w {plane[1]}")
