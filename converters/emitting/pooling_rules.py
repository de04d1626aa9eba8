"""Pooling and its ways back: Upsample, Unpooling."""

from __future__ import annotations

from converters.emitting.plan import Assignment, CannotEmit, Step, Value
from converters.emitting.registry import emits
from converters.emitting.writing import arguments, per_axis
from prototxt.caffe_pb2 import PoolingParameter


@emits("Pooling")
def _pooling(step: Step) -> None:
    layer = step.layer
    if layer.stochastic:
        raise CannotEmit("`pool: STOCHASTIC`; expected MAX or AVE")
    has_places = len(step.tops) > 1 and step.tops[1].needed
    if not layer.kernel:
        call = f"F.{'max' if layer.maximum else 'avg'}_pool2d({arguments('{0}', '{0}.shape[2:]')}"
        positions = ", return_indices=True"
    elif _is_torchs(step):
        floor = layer.param.round_mode == PoolingParameter.FLOOR
        given = arguments(
            *("{0}", per_axis(layer.kernel)),
            stride=None if layer.stride == layer.kernel else per_axis(layer.stride),
            padding=per_axis(layer.pad) if any(layer.pad) else None,
            ceil_mode=None if floor else True,
        )
        call, positions = f"F.{'max' if layer.maximum else 'avg'}_pool2d({given}", ", return_indices=True"
    else:
        given = arguments("{0}", layer.kernel, layer.stride, layer.pad)
        call, positions = f"{'max' if layer.maximum else 'mean'}_pool({given}", ""
        if layer.maximum and not has_places:
            step.assign(f"{call})[0]")
            return
    if has_places:
        step.lines.append(Assignment(tuple(step.tops), f"{call}{positions})", tuple(step.bottoms)))
    else:
        step.assign(f"{call})")


def _is_torchs(step: Step) -> bool:
    """Whether torch's own pooling has Caffe's windows at every size of the bottom."""
    layer = step.layer
    axes = list(zip(layer.kernel, layer.stride, layer.pad, strict=True))
    half_padded = all(2 * pad <= kernel for kernel, _, pad in axes)
    if layer.param.round_mode == PoolingParameter.FLOOR:
        if not half_padded:
            raise CannotEmit(f"`round_mode: FLOOR` with pad {layer.pad} for the kernel {layer.kernel}; expected half")
        return True
    all_inside = any(layer.pad) or all(stride <= kernel for kernel, stride, _ in axes)
    return half_padded and all_inside


def _into_plane(step: Step, size: tuple[int, int]) -> None:
    """Put values where a mask says, into a plane of a written size.

    A size that is the pooled plane's follows that plane, so that the source is good for images of every size.
    """
    mask = step.bottoms[1]
    if mask.kind != "places" or tuple(size) != tuple(step.layer.plane):
        step.assign(f"put_at({{0}}, {{1}}, {size[0]}, {size[1]})")
        return
    template = "put_at({0}, {1}, *{2})"
    if _windows_apart(mask):
        template = f"F.max_unpool2d({{0}}, {{1}}, {per_axis(mask.maker.layer.kernel)}, output_size={{2}})"
    step.lines.append(Assignment((step.tops[0],), template, (*step.bottoms, mask.maker.size_before())))


def _windows_apart(mask: Value) -> bool:
    """Whether no place can be taken twice, where torch's unpooling and Caffe's may differ."""
    if mask.kind != "places":
        return False
    pooling = mask.maker.layer
    return bool(pooling.kernel) and pooling.stride == pooling.kernel and not any(pooling.pad)


@emits("Upsample")
def _upsample(step: Step) -> None:
    layer, mask = step.layer, step.bottoms[1]
    if layer.fixed:
        _into_plane(step, (layer.height, layer.width))
        return
    less = layer.param.pad_out_h, layer.param.pad_out_w
    if _windows_apart(mask) and layer.scale == mask.maker.layer.kernel and not any(less):
        step.assign(f"F.max_unpool2d({{0}}, {{1}}, {per_axis(layer.scale)})")
        return
    sides = [
        f"{times} * {{0}}.shape[{axis}]{' - 1' if cut else ''}"
        for axis, times, cut in zip((2, 3), layer.scale, less, strict=True)
    ]
    step.assign(f"put_at({{0}}, {{1}}, {', '.join(sides)})")


@emits("Unpooling")
def _unpooling(step: Step) -> None:
    layer = step.layer
    height, width = layer.size
    if layer.has_mask:
        _into_plane(step, layer.size)
    elif layer.method == "MAX":
        step.assign(f"put_at_corners({{0}}, {layer.stride}, {height}, {width})")
    else:
        given = arguments("{0}", layer.kernel, layer.stride, height, width, share=layer.method == "AVE")
        step.assign(f"fill_windows({given})")
