"""A module beside the net of the files that were written for it."""

from __future__ import annotations

import torch
from torch import nn

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
    for one, other in zip(expected, found, strict=True):
        assert one.shape == other.shape
        assert one.abs().max() > 0
        if exact:
            assert torch.equal(one.float(), other)
        else:
            assert (one - other).abs().max() <= 1e-5 * one.abs().max()
    return net


def types(net):
    """The layer types of a net, without the inputs and splits that Caffe puts in."""
    return [layer.type for layer in net.layers if layer.type not in ("Input", "Split")]
