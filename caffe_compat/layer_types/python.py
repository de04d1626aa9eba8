"""Python: a layer whose class the user wrote for pycaffe. Its arrays are views of tensors on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch.autograd.function import FunctionCtx, once_differentiable

from caffe_compat.blob import Anchor, Blob
from caffe_compat.errors import LayerError, NetError
from caffe_compat.layer_base import BlobSpec, TorchLayer
from caffe_compat.python_layer import Layer, find_class, importing
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape
from prototxt.caffe_pb2 import TEST, TRAIN, FillerParameter

Tensors = Sequence[torch.Tensor]
Result = TypeVar("Result")


@layer("Python")
class Python(TorchLayer):
    """Calls ``setup`` once, and ``reshape`` whenever shapes are asked for and before each ``forward``.

    bottoms, tops, blobs: whatever the user's class makes of them. A layer without bottoms and blobs reads data.
    """

    bottoms = (0, None)
    tops = (0, None)

    def setup(self) -> None:
        """Make the blobs that the user's code sees, one for both where the layer runs in place."""
        param = self.message.python_param
        if not (param.module and param.layer):
            raise LayerError("no `module` or no `layer` in `python_param`; expected a module and the name of a class")
        self.user: Layer | None = None
        self.is_source = not self.message.bottom
        self.anchor = Anchor()
        blobs = {name: Blob((0,), self.anchor) for name in {*self.message.bottom, *self.message.top}}
        self.bottom_blobs = [blobs[name] for name in self.message.bottom]
        self.top_blobs = [blobs[name] for name in self.message.top]

    def _make_user(self) -> None:
        """Find the class, make the user's object and set it up. The shapes of the bottoms are known."""
        param, prototxt = self.message.python_param, self.context.paths and self.context.paths.prototxt
        cls = find_class(param.module, param.layer, prototxt, self._how_to_feed())
        user = self._ask("__init__", cls, self.message)
        user.phase, user.blobs.anchor = self.phase, self.anchor
        with importing(prototxt):
            self._ask("setup", user.setup, self.bottom_blobs, self.top_blobs)
        self.user = user
        self.has_backward = hasattr(user, "backward")
        self.is_source = not self.message.bottom and not user.blobs

    def _how_to_feed(self) -> str:
        if not self.is_source:
            return ""
        shapes = ", ".join(f"{top!r}: (N, C, H, W)" for top in self.message.top)
        return (
            f". A net that is fed by hand is built without this code, with input_shapes={{{shapes}}} or --input-shape"
        )

    def _ask(self, name: str, method: Callable[..., Result], *args: object) -> Result:
        """Call the user's code. Raises LayerError with whatever it raised as the cause."""
        try:
            return method(*args)
        except Exception as error:
            param = self.message.python_param
            told = f"{param.module}.{param.layer}.{name} raised {type(error).__name__}: {error}"
            raise LayerError(told + (self._how_to_feed() if self.user is None else "")) from error

    def __getattr__(self, name: str) -> object:
        """What only the user's object has: in pycaffe it stands in ``net.layers`` itself."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            user = self.__dict__.get("user")
            if user is None:
                raise
            return getattr(user, name)

    def train(self, mode: bool = True) -> TorchLayer:
        """As in torch. The user's ``phase`` follows, unless the user keeps something else there."""
        super().train(mode)
        if self.user is not None and self.user.phase in (TRAIN, TEST):
            self.user.phase = self.phase
        return self

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """As given for a data layer, which then does nothing before it runs; else as the user's ``reshape`` says."""
        given = [self.context.input_shapes.get(top) for top in self.message.top]
        if self.user is None and self.is_source and None not in given:
            return given
        for blob, shape in zip(self.bottom_blobs, bottoms, strict=True):
            blob.take_shape(shape)
        if self.user is None:
            self._make_user()
        self._ask("reshape", self.user.reshape, self.bottom_blobs, self.top_blobs)
        return [top.shape for top in self.top_blobs]

    def param_specs(self, *bottoms: Shape) -> list[BlobSpec]:
        """The blobs that the user added, with the values they have."""
        blobs = self.user.blobs if self.user is not None else []
        return [
            BlobSpec(f"blob{i}", blob.shape, FillerParameter(), blob.data.ravel().tolist())
            for i, blob in enumerate(blobs)
        ]

    def forward(self, *bottoms: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the user's code between bottoms and tops."""
        if self.user is None:
            self._make_user()
        params = [getattr(self, f"blob{i}") for i in range(len(self.user.blobs))]
        return _Call.apply(self, *bottoms, *params)

    def _take(self, tensors: Tensors) -> None:
        """Let bottoms and blobs be views of these tensors. What a top shares is copied, not to be written over."""
        is_double = any(tensor.dtype == torch.float64 for tensor in tensors)
        self.anchor.tensor = torch.empty(0, dtype=torch.float64 if is_double else torch.float32)
        for blob, tensor in zip([*self.bottom_blobs, *self.user.blobs], tensors, strict=True):
            blob.bind_data(tensor.detach().to("cpu", copy=blob in self.top_blobs))

    def run_forward(self, tensors: Tensors) -> tuple[torch.Tensor, ...]:
        """The tops, for the bottoms and the parameters."""
        self._take(tensors)
        self._ask("reshape", self.user.reshape, self.bottom_blobs, self.top_blobs)
        self._ask("forward", self.user.forward, self.bottom_blobs, self.top_blobs)
        for blob, param in zip(self.user.blobs, tensors[len(self.bottom_blobs) :], strict=True):
            if param.device.type != "cpu":
                param.data.copy_(blob.data_tensor())  # on the CPU the user has written into the parameter itself
        device = tensors[0].device if tensors else None
        return tuple(top.data_tensor().to(device, copy=True) for top in self.top_blobs)

    def run_backward(
        self, tensors: Tensors, tops: Tensors, top_diffs: Tensors, wanted: Sequence[bool]
    ) -> list[torch.Tensor]:
        """The gradients of bottoms and parameters; zero where the user's code writes none. Raises NetError."""
        if not self.has_backward:
            raise NetError(f"{self.context.where}: has no backward pass; expected no gradient through it")
        self._take(tensors)
        inputs = [*self.bottom_blobs, *self.user.blobs]
        for blob in inputs:
            blob.put_diff(torch.zeros(blob.shape))
        for blob, data, diff in zip(self.top_blobs, tops, top_diffs, strict=True):
            blob.put_data(data.to("cpu", copy=True))
            blob.put_diff(diff.to("cpu", copy=True))
        propagate_down = list(wanted[: len(self.bottom_blobs)])
        try:
            self._ask("backward", self.user.backward, self.top_blobs, propagate_down, self.bottom_blobs)
        except LayerError as error:
            raise NetError(error.at(self.context.where)) from error
        return [blob.diff_tensor().to(tensor, copy=True) for blob, tensor in zip(inputs, tensors, strict=True)]


class _Call(torch.autograd.Function):
    """The user's forward and backward for autograd."""

    @staticmethod
    def forward(ctx: FunctionCtx, layer: Python, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tops = layer.run_forward(tensors)
        ctx.layer, ctx.input_count = layer, len(tensors)
        ctx.save_for_backward(*tensors, *tops)
        return tops

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *top_diffs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        tensors, tops = ctx.saved_tensors[: ctx.input_count], ctx.saved_tensors[ctx.input_count :]
        return None, *ctx.layer.run_backward(tensors, tops, top_diffs, ctx.needs_input_grad[1:])
