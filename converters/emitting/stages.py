"""The stages of a net: what lies between two changes of the image's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_compat.shapes import Shape
from converters.emitting.plan import Step

_SHRINKING = ("Convolution", "Interp", "Pooling")
_ENLARGING = ("Deconvolution", "Interp", "Unpooling", "Upsample")
_RATIO = 1.5  # what a convolution without padding takes off is no new stage


@dataclass
class _Stage:
    plane: Shape | None
    """Rows and columns; None for what has none."""
    is_decoder: bool
    steps: int = 0


def stages(steps: Sequence[Step]) -> tuple[list[int], list[str]]:
    """For each step the number of its stage, and the titles of the stages.

    A pooling ends a stage; a convolution with a stride, a deconvolution or an upsampling begins one. From the first
    enlargement on it is the decoder. A net without any has stages alone.
    """
    found: list[_Stage] = []
    numbers = []
    pending: _Stage | None = None
    for step in steps:
        before, after = _plane(step.bottoms[0].shape), _plane(step.tops[0].shape)
        if not found:
            found.append(_Stage(before, False))
        now = pending or found[-1]
        begins = None
        if step.layer.type == "InnerProduct" and now.plane is not None:
            begins = _Stage(None, False)
        elif before and after and after != now.plane:
            smaller, larger = _much_smaller(after, before), _much_smaller(before, after)
            if (smaller and step.layer.type in _SHRINKING) or (larger and step.layer.type in _ENLARGING):
                begins = _Stage(after, larger or (now.is_decoder and not smaller))
        if begins and step.layer.type == "Pooling" and now.steps:
            numbers.append(_joined(found, pending))
            pending = begins
            continue
        if begins:
            found, pending = [*(found if found[-1].steps else found[:-1]), begins], None
        numbers.append(_joined(found, pending))
        pending = None
    return numbers, _titles(found)


def _joined(found: list[_Stage], pending: _Stage | None) -> int:
    """One more step for the stage that is pending, or for the last one. Returns its number."""
    if pending:
        found.append(pending)
    found[-1].steps += 1
    return len(found) - 1


def _plane(shape: Shape) -> Shape | None:
    return tuple(shape[2:]) if len(shape) == 4 else None


def _much_smaller(one: Shape, other: Shape) -> bool:
    return any(a * _RATIO <= b for a, b in zip(one, other, strict=True))


def _titles(found: Sequence[_Stage]) -> list[str]:
    if all(stage.plane is None for stage in found):
        return [""] * len(found)
    has_decoder = any(stage.is_decoder for stage in found)
    titles = []
    counts = {False: 0, True: 0}
    for stage in found:
        if stage.plane is None:
            titles.append("fully connected")
            continue
        counts[stage.is_decoder] += 1
        part = ("decoder, " if stage.is_decoder else "encoder, ") if has_decoder else ""
        titles.append(f"{part}stage {counts[stage.is_decoder]}: {'×'.join(map(str, stage.plane))}")
    return titles
