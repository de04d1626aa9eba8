"""Recurrent layers, RNN and LSTM: many sequences side by side, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F

from caffe_compat.errors import LayerError
from caffe_compat.fillers import check_filler
from caffe_compat.layer_base import BlobSpec, TorchLayer, leaves_traces
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape


class Recurrent(TorchLayer):
    """What RNN and LSTM share. Their states are tensors (N, num_output), the first of them the hidden state.

    bottoms: x (T, N, ...), T steps of N sequences; cont (T, N), 0 where a sequence begins and 1 where it goes on;
             perhaps a static input (N, ...) for every step; with ``expose_hidden`` the states before the first step
    tops:    y (T, N, num_output); with ``expose_hidden`` the states after the last step
    blobs:   weight (gates · num_output, K) and bias for x, weight for the static input, weight for the hidden state

    States are bottoms and tops of the shape (1, N, num_output), through which no gradient passes. Without
    ``expose_hidden`` a pass begins with the states that the last one ended with, where ``cont`` lets them through.
    """

    bottoms = (2, 5)
    tops = (1, 3)
    ignores_propagate_down = True
    states: ClassVar[int]
    gates: ClassVar[int]

    def setup(self) -> None:
        """Read the parameters."""
        param = self.message.recurrent_param
        self.outputs, self.exposed = param.num_output, param.expose_hidden
        if self.outputs < 1:
            raise LayerError("`num_output` is 0 or missing; expected at least 1")
        check_filler(param.weight_filler)
        check_filler(param.bias_filler)
        count, more = len(self.message.bottom), self.states if self.exposed else 0
        self.has_static = count == 3 + more
        if count - self.has_static != 2 + more or self.top_count != 1 + more:
            raise LayerError(
                f"{count} bottoms and {self.top_count} tops with `expose_hidden: {str(self.exposed).lower()}`; "
                f"expected {2 + more} bottoms, or {3 + more} with a static input, and {1 + more} top(s)"
            )
        self.register_buffer("last_states", torch.zeros(self.states, 0, self.outputs), persistent=False)

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """Steps, sequences, outputs; and one step of each exposed state."""
        x, cont, *more = bottoms
        if len(x) < 3:
            raise LayerError(f"bottom {tuple(x)}; expected (T, N, ...), T steps of N sequences of values")
        steps, batch = x[:2]
        if tuple(cont) != (steps, batch):
            raise LayerError(
                f"sequence markers {tuple(cont)}; expected {(steps, batch)}, as many as steps and sequences"
            )
        if self.has_static and (len(more[0]) < 2 or more[0][0] != batch):
            raise LayerError(f"static input {tuple(more[0])}; expected ({batch}, ...), values for each sequence")
        state = (1, batch, self.outputs)
        for shape in more[self.has_static :]:
            if tuple(shape) != state:
                raise LayerError(f"a state of the shape {tuple(shape)}; expected {state}")
        self._check_width("weight", x[2:])
        self._check_width("static_weight", more[0][1:] if self.has_static else ())
        if self.last_states.shape[1] != batch:
            self.last_states = self.last_states.new_zeros(self.states, batch, self.outputs)
        return [(steps, batch, self.outputs), *[state] * (self.top_count - 1)]

    def _check_width(self, name: str, values: Sequence[int]) -> None:
        weight = getattr(self, name, None)
        if weight is not None and weight.shape[1] != math.prod(values):
            raise LayerError(
                f"{math.prod(values)} values for each step; this layer's weights take {weight.shape[1]}: "
                "a recurrent layer fixes how many"
            )

    def param_specs(self, *bottoms: Shape) -> list[BlobSpec]:
        """Weights of the input with the bias, of the static input where there is one, of the hidden state."""
        param, rows = self.message.recurrent_param, self.gates * self.outputs
        specs = [
            BlobSpec("weight", (rows, math.prod(bottoms[0][2:])), param.weight_filler),
            BlobSpec("bias", (rows,), param.bias_filler),
        ]
        if self.has_static:
            specs.append(BlobSpec("static_weight", (rows, math.prod(bottoms[2][1:])), param.weight_filler))
        return [*specs, BlobSpec("hidden_weight", (rows, self.outputs), param.weight_filler)]

    def may_force_backward(self, bottom: int) -> bool:
        """The sequence markers have no gradient."""
        return bottom != 1

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Multiply the inputs of all steps at once, then go from step to step."""
        x, cont, *more = bottoms
        inputs = F.linear(x.flatten(2), self.weight, self.bias)
        if self.has_static:
            inputs = inputs + F.linear(more[0].flatten(1), self.static_weight)
        # cloned, since autograd needs what this pass began with after the next one has overwritten it
        first = torch.cat(more[self.has_static :]).detach() if self.exposed else self.last_states.clone()
        states: Sequence[torch.Tensor] = first.unbind()
        hidden = []
        for gates, goes_on in zip(inputs.unbind(), cont.detach().unsqueeze(2).unbind(), strict=True):
            states = [goes_on * state for state in states]
            states = self.step(torch.addmm(gates, states[0], self.hidden_weight.T), *states)
            hidden.append(states[0])
        y = self.outputs_of(torch.stack(hidden))
        last = torch.stack(states).detach()
        if self.exposed:
            return y, *last.split(1)
        if leaves_traces():
            self.last_states.copy_(last)
        return y

    def step(self, gates: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The states (N, num_output) after a step, from the gates' inputs (N, gates · num_output)."""
        raise NotImplementedError

    def outputs_of(self, hidden: torch.Tensor) -> torch.Tensor:
        """The top, from the hidden states of all steps (T, N, num_output)."""
        return hidden

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        """One for each weight, step and sequence; the static input is multiplied once."""
        steps, batch = bottoms[0][:2]
        weights = [spec for spec in self.param_specs(*bottoms) if len(spec.shape) == 2]
        return sum(math.prod(w.shape) * batch * (1 if w.name == "static_weight" else steps) for w in weights)


@layer("RNN")
class RNN(Recurrent):
    """h = tanh(W_h h + W_x x + b), y = tanh(W_y h + b_y). The blobs W_y and b_y come last."""

    states = 1
    gates = 1

    def param_specs(self, *bottoms: Shape) -> list[BlobSpec]:
        """Those of the hidden state, then those of the output."""
        param = self.message.recurrent_param
        return [
            *super().param_specs(*bottoms),
            BlobSpec("output_weight", (self.outputs, self.outputs), param.weight_filler),
            BlobSpec("output_bias", (self.outputs,), param.bias_filler),
        ]

    def step(self, gates: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """h."""
        return (gates.tanh(),)

    def outputs_of(self, hidden: torch.Tensor) -> torch.Tensor:
        """y, for all steps at once."""
        return F.linear(hidden, self.output_weight, self.output_bias).tanh()


@layer("LSTM")
class LSTM(Recurrent):
    """Input, forget and output gate and candidate, in this order in the blobs; y is the hidden state.

    c = f c + i g, h = o tanh(c); the states are h and c.
    """

    states = 2
    gates = 4

    def step(self, gates: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """h and c."""
        take, keep, show = gates[:, : 3 * self.outputs].sigmoid().chunk(3, dim=1)
        cell = keep * states[1] + take * gates[:, 3 * self.outputs :].tanh()
        return show * cell.tanh(), cell
