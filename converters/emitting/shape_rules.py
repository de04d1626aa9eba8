"""Layers that join, cut and reshape."""

from __future__ import annotations

from caffe_compat.shapes import canonical_axis
from converters.emitting.plan import Assignment, Step
from converters.emitting.registry import emits
from converters.emitting.writing import arguments


@emits("Concat")
def _concat(step: Step) -> None:
    joined = ", ".join(f"{{{i}}}" for i in range(len(step.bottoms)))
    step.assign(f"torch.cat([{joined}], {step.layer.axis})")


@emits("Slice")
def _slice(step: Step) -> None:
    """Copies, as reductions over a part of a blob may add in another order."""
    layer, tops = step.layer, step.tops
    cut = (
        f"tensor_split({tuple(layer.points)!r}, {layer.axis})" if layer.points else f"chunk({len(tops)}, {layer.axis})"
    )
    if len(tops) == 1:
        step.pass_on()
        return
    template = f"(part.contiguous() for part in {{0}}.{cut})"
    step.lines.append(Assignment(tuple(tops), template, tuple(step.bottoms)))


@emits("Crop")
def _crop(step: Step) -> None:
    layer = step.layer
    if layer.axis == 2 and len(layer.offsets) == 2:
        step.assign(f"crop({arguments('{0}', '{1}', *layer.offsets)})")
    else:
        step.assign(f"crop_axes({arguments('{0}', '{1}', layer.axis, *layer.offsets)})")


@emits("Flatten")
def _flatten(step: Step) -> None:
    layer, axes = step.layer, len(step.bottoms[0].shape)
    if not hasattr(layer, "end_axis"):  # DeconvNet's, with four axes
        step.assign("{0}.flatten(1).unsqueeze(-1).unsqueeze(-1)")
        return
    first, last = canonical_axis(layer.axis, axes), canonical_axis(layer.end_axis, axes)
    if last < first:
        step.assign(f"{{0}}.unsqueeze({first})")
    elif last == axes - 1:
        step.assign(f"{{0}}.flatten({first})")
    else:
        step.assign(f"{{0}}.flatten({first}, {last})")


@emits("Reshape")
def _reshape(step: Step) -> None:
    """Sizes that are kept are taken from the blob, so that they may be others than in the prototxt."""
    layer, axes = step.layer, len(step.bottoms[0].shape)
    start = layer.axis if layer.axis >= 0 else axes + layer.axis + 1
    end = axes if layer.num_axes == -1 else start + layer.num_axes
    dims = [str(dim) if dim else f"{{0}}.shape[{start + i}]" for i, dim in enumerate(layer.dims)]
    kept = [[f"{{0}}.shape[{i}]" for i in span] for span in (range(start), range(end, axes))]
    step.assign(f"{{0}}.reshape({', '.join([*kept[0], *dims, *kept[1]]) or '()'})")


@emits("Tile")
def _tile(step: Step) -> None:
    step.assign(f"{{0}}.repeat({', '.join(map(str, step.layer.times))})")
