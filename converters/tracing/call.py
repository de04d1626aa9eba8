"""One operation of the graph, as its translating function sees it."""

from __future__ import annotations

import re

import torch

from converters.tracing.errors import CannotSay
from converters.tracing.registry import short_name
from converters.tracing.values import Blob, Constant, Padded, Shape, Weight
from converters.tracing.writer import Writer

_TORCH_MODULES = "torch.nn.modules."
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_SHORT = {"max_pool2d_with_indices": "max_pool2d", "_native_batch_norm_legit_no_training": "batch_norm"}


class Call:
    """An operation: where it stands, what it gives, and how it adds layers to the net."""

    def __init__(self, node: torch.fx.Node, writer: Writer) -> None:
        self.node = node
        self.writer = writer
        stack = node.meta.get("nn_module_stack") or {}
        path, kind = list(stack.values())[-1] if stack else ("", "")
        self.path = path.split("@")[0]
        self.kind = (kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}") or "module"
        self._base = ""

    @property
    def operation(self) -> str:
        """The operation's short name."""
        name = short_name(self.node.target) if hasattr(self.node.target, "_schema") else str(self.node.target)
        return _SHORT.get(name, name)

    @property
    def where(self) -> str:
        """``encoder.0.act (GELU, gelu, net.py:12)``, for messages."""
        frames = [f for f in _FRAME.findall(self.node.meta.get("stack_trace") or "") if "/torch/" not in f[0]]
        place = f", {frames[-1][0]}:{frames[-1][1]}" if frames else ""
        return f"{self.path or 'the module itself'} ({self.kind.rpartition('.')[2]}, {self.operation}{place})"

    @property
    def shapes(self) -> list[Shape]:
        """The shapes of what it gives."""
        value = self.node.meta.get("val")
        values = value if isinstance(value, list | tuple) else [value]
        return [tuple(int(n) for n in one.shape) if isinstance(one, torch.Tensor) else () for one in values]

    @property
    def shape(self) -> Shape:
        """The shape of its first output."""
        return self.shapes[0]

    def _name(self) -> str:
        """A layer of torch.nn gives its path as the name; an operation in a module of one's own its name below that."""
        if self.path and self.kind.startswith(_TORCH_MODULES):
            return self.path
        return f"{self.path}.{self.operation}" if self.path else self.operation

    def name(self, suffix: str = "") -> str:
        """A free name for one of its layers; without a suffix that of the layer that is the operation itself."""
        if not self._base:
            self._base = self.writer.free(self._name())
        return self.writer.free(self._base + suffix) if suffix else self._base

    def knows(self, type_name: str) -> bool:
        """Whether the dialect has a layer type."""
        return self.writer.knows(type_name)

    def add(
        self,
        type_name: str,
        *bottoms: Blob,
        shape: Shape | None = None,
        weights: tuple[Weight, ...] = (),
        suffix: str = "",
        **params: object,
    ) -> Blob:
        """A layer with one top, of the operation's own shape if no other is given."""
        name = self.name(suffix)
        tops = [(name, self.shape if shape is None else shape)]
        return self.writer.layer(name, type_name, bottoms, tops, weights, params)[0]

    def blob(self, value: object) -> Blob:
        """A tensor as a blob; zeros around it are put there. Raises CannotSay for a constant."""
        if isinstance(value, Blob):
            return value
        if isinstance(value, Padded):
            return self.writer.with_zeros(value, lambda: self._put_zeros(value))
        if isinstance(value, Constant):
            raise CannotSay("a constant tensor where Caffe takes a blob; expected something computed from the inputs")
        raise CannotSay(f"{value!r} where Caffe takes a blob")

    def plane(self, value: object) -> Blob:
        """A tensor of planes as a blob. Raises CannotSay for other axes than (N, C, H, W)."""
        blob = self.blob(value)
        if len(blob.shape) != 4:
            raise CannotSay(f"a bottom of the shape {blob.shape}; expected (N, C, H, W)")
        return blob

    def _put_zeros(self, padded: Padded) -> Blob:
        """A 1x1 convolution of each channel with 1 pads its plane; what is too much on one side is cut off."""
        x, (above, below, left, right) = padded.blob, padded.pads
        n, channels, height, width = x.shape
        rows, columns = max(above, below), max(left, right)
        wide = self.add(
            "Convolution",
            x,
            shape=(n, channels, height + 2 * rows, width + 2 * columns),
            weights=(Weight(torch.ones(channels, 1, 1, 1).numpy()),),
            suffix="_pad",
            param=FIXED,
            num_output=channels,
            group=channels,
            bias_term=False,
            weight_filler={"type": "constant", "value": 1},
            **by_axis("kernel", "kernel_size", (1, 1)),
            **by_axis("pad", "pad", (rows, columns)),
        )
        wide = self.window(wide, 2, rows - above, padded.shape[2])
        return self.window(wide, 3, columns - left, padded.shape[3])

    def window(self, x: Blob, axis: int, start: int, length: int, suffix: str = "_cut") -> Blob:
        """So many values of an axis from a place on, by a Slice whose other parts nobody takes."""
        size = x.shape[axis]
        points = [point for point in (start, start + length) if 0 < point < size]
        if not points:
            return x
        sizes = [after - before for before, after in zip([0, *points], [*points, size], strict=True)]
        wanted = int(start > 0)
        name = self.name(suffix)
        tops = [
            (name if i == wanted else self.writer.free(f"{name}_rest"), (*x.shape[:axis], part, *x.shape[axis + 1 :]))
            for i, part in enumerate(sizes)
        ]
        return self.writer.layer(name, "Slice", [x], tops, [], {"axis": axis, "slice_point": points})[wanted]


def by_axis(stem: str, single: str, values: tuple[int, int]) -> dict[str, int]:
    """A window's numbers for rows and columns, as one field where they are equal; nothing for Caffe's default."""
    if values == {"kernel": None, "stride": (1, 1), "pad": (0, 0)}[stem]:
        return {}
    if values[0] == values[1]:
        return {single: values[0]}
    return {f"{stem}_h": values[0], f"{stem}_w": values[1]}


#: The settings of weights that never learn.
FIXED = [{"lr_mult": 0, "decay_mult": 0}]


def pair(value: object) -> tuple[int, int]:
    """One number for both axes, or one each."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    return (int(values[0]), int(values[-1]))
