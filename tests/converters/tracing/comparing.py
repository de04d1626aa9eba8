"""A module beside the net of the files that were written for it."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils import _pytree as pytree

import caffe_compat as caffe
from converters.torch2caffe import module_to_caffe


class Calls(nn.Module):
    """A function as a module."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.function(self, *inputs) if self._modules or self._parameters else self.function(*inputs)


def randomised(module):
    """Statistics and parameters as a training leaves them, none of them 0 or 1."""
    random = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_(generator=random)
            part.running_var.uniform_(0.5, 2, generator=random)
            if part.affine:
                part.weight.data.uniform_(0.5, 1.5, generator=random)
                part.bias.data.normal_(generator=random)
    return module.eval()


def both(folder, module, *inputs, dialect=None):
    """What torch and what the written net compute, as lists, and the net."""
    result = module_to_caffe(module, inputs, folder / "net", dialect=dialect)
    net = caffe.Net(folder / "net.prototxt", folder / "net.caffemodel", caffe.TEST, dialect=result.dialect)
    with torch.no_grad():
        outputs = module(*inputs)
    outputs = list(outputs) if isinstance(outputs, tuple | list) else [outputs]
    given = {name: value.numpy() for name, value in zip(result.inputs, inputs, strict=True)}
    assert sorted(net.outputs) == sorted(result.outputs)
    made = net.forward(**given)
    return outputs, [torch.from_numpy(made[name].copy()) for name in result.outputs], net


def check(folder, module, *inputs, dialect=None, exact=False):
    """Compare them: shapes equal, values equal or within 1e-5 of the largest. Returns the net."""
    expected, found, net = both(folder, module, *inputs, dialect=dialect)
    assert len(expected) == len(found) > 0
    assert all(_is_near(*pair, exact) for pair in zip(expected, found, strict=True))
    return net


def check_each(folder, modules, *inputs, dialect, exact=False):
    """``check`` for many small modules on the same inputs, as one net: to trace each by itself takes far longer."""
    parts = nn.ModuleList(modules.values()).eval()
    together = Calls(lambda self, *given: [part(*given) for part in self.parts], parts=parts)
    flat = Calls(lambda self, *given: pytree.tree_leaves(self.together(*given)), together=together)
    _, found, net = both(folder, flat, *inputs, dialect=dialect)
    wrong = []
    with torch.no_grad():
        for name, part in modules.items():
            expected = pytree.tree_leaves(part(*inputs))
            mine, found = found[: len(expected)], found[len(expected) :]
            assert mine, name
            if not all(_is_near(*pair, exact) for pair in zip(expected, mine, strict=True)):
                wrong.append(name)
    assert not found and not wrong
    return net


def _is_near(one, other, exact):
    largest = one.abs().max()
    same = torch.equal(one.float(), other) if exact else (one - other).abs().max() <= 1e-5 * largest
    return one.shape == other.shape and largest > 0 and bool(same)


def types(net):
    """The layer types of a net, without the inputs and splits that Caffe puts in."""
    return [layer.type for layer in net.layers if layer.type not in ("Input", "Split")]
