"""A net for inference alone: its batch normalisation folded, its layers fused, its blobs let go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from caffe_compat.deciding import deciding_blob
from caffe_compat.device import warn_of_slow
from caffe_compat.engine.building import convolutions, folded, halve
from caffe_compat.engine.flow import Operation, flow_of, fuse_relus, needed_for
from caffe_compat.engine.operators import Labels
from caffe_compat.engine.rows import Parts, Rows
from caffe_compat.engine.steps import Step, Work, index_pooling, run_steps, steps_of
from caffe_compat.errors import LayerError, NetError
from caffe_compat.heap import give_back
from caffe_compat.shapes import Shape
from prototxt.caffe_pb2 import TEST

if TYPE_CHECKING:
    from caffe_compat.net import Net

#: What an engine can compute in.
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: Layers without parameters that compute as well in half precision; the others get float32.
_HARMLESS = frozenset({"Concat", "Crop", "Dropout", "Eltwise", "Flatten", "Pooling", "ReLU", "Reshape", "Slice"})
_LABELS = -1  # the value that ``labels`` makes


class Engine:
    """Runs a net for inference. It has weights of its own: the net may change, or go.

    Called with tensors it gives what the net gives: blob name → output, in float32. Sizes and numbers of images may
    change from call to call, as far as the net's layers allow.

    Args:
        net: in the phase TEST.
        precision: one of PRECISIONS. In half precision convolutions and all that has parameters compute in it; softmax,
            response normalisation and the like in float32.
        winograd: whether 3×3 convolutions of many channels on the CPU in fp32 are done by Winograd's method: faster,
            rounded a little differently, their weights four times as large in memory.

    Raises:
        NetError: the net is in TRAIN. ValueError: an unknown precision.
    """

    def __init__(self, net: Net, precision: str = "fp32", winograd: bool = True) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r}; expected one of {', '.join(PRECISIONS)}")
        if net.graph.context.phase != TEST:
            raise NetError("an engine is for inference, this net was built for training; expected Net(..., TEST)")
        self.precision, self._dtype = precision, PRECISIONS[precision]
        own = folded(net)
        self._graph, self._device = own.graph, next((p.device for p in own.parameters()), torch.device("cpu"))
        try:
            self._decides = deciding_blob(own)[0]
        except NetError:
            self._decides = ""
        warn_of_slow(precision, self._device.type)
        self._flow = flow_of(own.graph)
        fuse_relus(self._flow)
        self._operators = convolutions(self._flow, self._dtype, winograd and self._dtype == torch.float32)
        if self._dtype != torch.float32:
            halve(self._flow, self._operators, self._dtype)
        self._steps: dict[bool, list[Step]] = {}
        self._fitted: dict[str, Shape] = {}

    @property
    def weight_bytes(self) -> int:
        """What the weights of the convolutions take in memory, as they are laid out."""
        own = [part for operator in self._operators.values() for part in (operator.weight, operator.bias)]
        return sum(part.numel() * part.element_size() for part in own if part is not None)

    def own_convolutions(self) -> Callable[[], None]:
        """A function that runs every convolution alone, on random planes: what no engine of these can do without."""
        runs = []
        for operation in self._flow.operations:
            operator = self._operators.get(id(operation))
            if operator is not None:
                plane = torch.rand(operation.node.bottom_shapes[0], dtype=self._dtype, device=self._device)
                height = plane.shape[2]
                rows = Rows(0, height), Rows(0, operator.height(height)), height
                runs.append((operator, plane.contiguous(memory_format=torch.channels_last), rows))

        @torch.no_grad()
        def run() -> None:
            for operator, plane, rows in runs:
                operator(plane, *rows)

        return run

    # ---- running

    @torch.no_grad()
    def __call__(self, *tensors: torch.Tensor, **named: torch.Tensor) -> dict[str, torch.Tensor]:
        """Tensors by blob name, or by position in the order of the net's inputs; gives the net's outputs by name.

        Raises:
            NetError: an input is missing or unknown, or its shape does not fit.
        """
        feeds = self._flow.feeds
        if len(tensors) > len(feeds):
            raise NetError(f"{len(tensors)} tensors for a net with {len(feeds)} inputs ({', '.join(feeds)})")
        values = self._run(dict(zip(feeds, tensors, strict=False)) | named, labels=False)
        outputs = self._flow.outputs.items()
        return {name: _single(values[value]) for name, value in outputs}

    @torch.no_grad()
    def labels(self, images: torch.Tensor | np.ndarray, rgb: bool = False) -> torch.Tensor:
        """The class of each pixel, without a softmax: of equal scores the first, where the net has an ArgMax the last.

        Args:
            images: floats (N, C, H, W) as the net takes them, or uint8 pixels (N, H, W, 3) or (H, W, 3).
            rgb: whether the pixels' colours come red first; Caffe's come blue first.

        Returns:
            Labels (N, H, W) on the engine's device, uint8 for up to 256 classes.

        Raises:
            NetError: the net has no map of scores, or the images do not fit.
        """
        image = next((name for name in self._flow.feeds if len(self._graph.blobs[name]) == 4), None)
        if image is None or self._flow.last.get(self._decides) in (None, *self._flow.feeds.values()):
            raise NetError("no layer gives a map of scores; expected a net for segmentation")
        values = self._run({image: _as_planes(images, rgb)}, labels=True)
        return values[_LABELS][:, 0]

    def _run(self, given: dict[str, torch.Tensor], labels: bool) -> dict[int, torch.Tensor]:
        feeds = self._flow.feeds
        unknown = [name for name in given if name not in feeds]
        if unknown:
            raise NetError(f"{unknown[0]!r} is no input of the net; expected some of {', '.join(feeds)}")
        self._fit({name: tuple(tensor.shape) for name, tensor in given.items()})
        if labels not in self._steps:
            self._steps[labels] = self._plan(labels)
        steps = self._steps[labels]
        values = {feeds[name]: self._taken(tensor) for name, tensor in given.items()}
        missing = [name for name, value in feeds.items() if value not in values and _is_read(steps, value)]
        if missing:
            raise NetError(f"input {missing[0]!r} was not given; expected {', '.join(feeds)}")
        run_steps(steps, values)
        return values

    def _taken(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = _single(tensor.to(self._device))
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor

    def _fit(self, shapes: dict[str, Shape]) -> None:
        """Follow inputs of another size. Raises NetError with every layer that does not fit."""
        if any(self._fitted.get(name) != shape for name, shape in shapes.items()):
            self._fitted, self._steps = {}, {}
            self._graph.infer_shapes(shapes, tell=False)
            self._fitted = shapes

    # ---- planning

    def _plan(self, labels: bool) -> list[Step]:
        flow = self._flow
        wanted, decider = list(flow.outputs.values()), None
        if labels:
            decider = self._label_work()
            wanted = decider.reads
        operations = needed_for(flow, wanted)
        operators = self._operators | index_pooling(operations, set(wanted))
        works = [
            Work(one, operators.get(id(one)), one.reads, one.writes, one.node.top_shapes[0] if one.writes else ())
            for one in operations
        ]
        if decider:
            scores = next(one for one in operations if decider.reads[0] in one.writes)
            decider.shape = scores.node.top_shapes[0]
            works.append(decider)
        kept = {_LABELS} if labels else set(wanted)
        if self._device.type == "cpu":
            give_back(collect=True)  # what the net and its engine were built with
        return steps_of(works, kept, self._run_layer, in_strips=self._device.type == "cpu")

    def _label_work(self) -> Work:
        """Labels from the scores that the deciding blob is made of, or holds."""
        value = self._flow.last[self._decides]
        maker = next(one for one in self._flow.operations if value in one.writes)
        layer = maker.node.layer
        if layer.type in ("ArgMax", "Softmax"):  # of both the largest score is the label
            value = maker.reads[0]
        return Work(None, Labels(last=layer.type == "ArgMax"), [value], [_LABELS])

    def _run_layer(self, operation: Operation, parts: Parts) -> Parts:
        """A layer as it is, on values that it may write over."""
        layer = operation.node.layer
        if layer.in_place:
            parts = (parts[0].clone(), *parts[1:])
        if self._dtype != torch.float32:
            if layer.blobs:
                parts = tuple(part.to(self._dtype) for part in parts)
            elif layer.type not in _HARMLESS:
                parts = tuple(map(_single, parts))
        try:
            made = layer(*parts)
        except LayerError as error:
            raise NetError(error.at(operation.node.where)) from error
        return made if isinstance(made, tuple) else (made,)


def _is_read(steps: Sequence[Step], value: int) -> bool:
    return any(value in step.reads for step in steps)


def _single(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _as_planes(images: torch.Tensor | np.ndarray, rgb: bool) -> torch.Tensor:
    """(N, C, H, W), of pixels without moving them in memory; colours blue first."""
    tensor = torch.from_numpy(images) if isinstance(images, np.ndarray) else images
    if tensor.dtype != torch.uint8:
        return tensor
    if tensor.dim() == 3:
        tensor = tensor[None]
    if tensor.dim() != 4 or tensor.shape[3] != 3:
        raise NetError(f"pixels of shape {tuple(images.shape)}; expected (N, H, W, 3) or (H, W, 3)")
    planes = tensor.permute(0, 3, 1, 2)
    return (planes.flip(1) if rgb else planes).float()
