"""Layers with parameters, and dropout: each is a module or a call."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from caffe_compat import python_modules
from converters.emitting.plan import CannotEmit, Step
from converters.emitting.registry import emits
from converters.emitting.writing import arguments, exact, number, per_axis


@emits("Convolution", "Deconvolution")
def _filtering(step: Step) -> None:
    layer, window = step.layer, step.layer.window
    axes = len(window.kernel)
    defaults = {"stride": 1, "padding": 0, "dilation": 1}
    found = {"stride": window.stride, "padding": window.pad, "dilation": window.dilation}
    options = {name: per_axis(value) for name, value in found.items() if set(value) != {defaults[name]}}
    kind = "Conv" if layer.type == "Convolution" else "ConvTranspose"
    given = arguments(
        step.bottoms[0].shape[layer.axis],
        layer.param.num_output,
        per_axis(window.kernel),
        **options,
        groups=layer.group if layer.group > 1 else None,
        bias=None if layer.has_bias else False,
    )
    module = step.module(f"nn.{kind}{axes}d({given})")
    template = f"{module}({{0}})"
    if layer.axis == 0:
        template = f"{module}({{0}}.unsqueeze(0)).squeeze(0)"
    elif layer.axis > 1:
        before = f"{{0}}.shape[:{layer.axis}]"
        template = f"{module}({{0}}.flatten(0, {layer.axis - 1})).unflatten(0, {before})"
    for i in range(len(step.tops)):
        step.assign(template, i, [i])


@emits("InnerProduct")
def _inner_product(step: Step) -> None:
    layer = step.layer
    outputs, inputs = step.parameter(0)[::-1] if layer.transposed else step.parameter(0)
    kind = "TransposedLinear" if layer.transposed else "nn.Linear"
    module = step.module(f"{kind}({arguments(inputs, outputs, bias=None if layer.has_bias else False)})")
    is_flat = len(step.bottoms[0].shape) == layer.axis + 1
    step.assign(f"{module}({{0}})" if is_flat else f"{module}({{0}}.flatten({layer.axis}))")


@emits("BN")
def _bn(step: Step) -> None:
    if any(top.needed for top in step.tops[1:]):
        raise CannotEmit("its statistics are tops that other layers read; expected its first top alone")
    kind = "BN" if step.layer.affine_only else "BatchBN"
    step.assign(f"{step.module(f'{kind}({step.bottoms[0].shape[1]})')}({{0}})")


@emits("BatchNorm")
def _batch_norm(step: Step) -> None:
    layer = step.layer
    if len(step.bottoms[0].shape) < 2:
        raise CannotEmit(f"a bottom of the shape {tuple(step.bottoms[0].shape)}; expected at least 2 axes, (N, C)")
    if layer.written is False:
        step.assign(f"normalise({{0}}, {number(layer.epsilon)})")
        return
    step.assign(f"{step.module(f'BatchNorm({step.bottoms[0].shape[1]}, {number(layer.epsilon)})')}({{0}})")


@emits("Scale", "Bias")
def _along_axes(step: Step) -> None:
    """Factors and offsets; learnt ones have a shape that broadcasts."""
    layer, x = step.layer, step.bottoms[0]
    is_scale = layer.type == "Scale"
    own = [param.spec for param in step.node.params]
    axes = len(own[0].shape if own else step.bottoms[1].shape)
    trailing = (1,) * (len(x.shape) - layer.axis - axes)
    if len(step.bottoms) == 1:
        offset = False if is_scale and not layer.has_bias else None
        given = arguments(*own[0].shape, *trailing, bias=offset)
        step.assign(f"{step.module(f'{layer.type}({given})')}({{0}})")
        return
    other = "{1}" + "".join(".unsqueeze(-1)" for _ in trailing)
    template = f"{{0}} {'*' if is_scale else '+'} {other}"
    if own:
        module = step.module(f"Bias({arguments(*own[0].shape, *trailing)})")
        template = f"{module}({template})"
    step.assign(template)


@emits("PReLU")
def _prelu(step: Step) -> None:
    count = math.prod(step.parameter(0))
    step.assign(f"{step.module(f'nn.PReLU({count})' if count > 1 else 'nn.PReLU()')}({{0}})")


@emits("Dropout")
def _dropout(step: Step) -> None:
    """Bayesian SegNet's dropout samples always, other dropout under ``train()``."""
    layer = step.layer
    if layer.samples_in_test or (layer.message.HasField("phase") and layer.training):
        step.assign(f"F.dropout({{0}}, {exact(layer.ratio)})")
    elif layer.message.HasField("phase"):
        step.pass_on()
    else:
        step.assign(f"F.dropout({{0}}, {number(layer.ratio)}, self.training)")


@emits("Python")
def _spatial_dropout(step: Step) -> None:
    user = step.layer.user
    file = getattr(sys.modules.get(type(user).__module__), "__file__", None)
    if file is None or Path(file) != Path(python_modules.__file__).with_name("spatial_dropout.py"):
        raise CannotEmit(
            f"its code is {type(user).__name__} in {file or type(user).__module__}; expected ENet's spatial_dropout as "
            "it comes with this project, other Python code stays with pycaffe"
        )
    if user.drops:
        step.assign(f"drop_channels({{0}}, {user.keep!r})")
    else:
        step.assign(f"{{0}} * {number(1 / user.keep)}")
