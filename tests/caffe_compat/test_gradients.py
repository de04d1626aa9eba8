"""Every layer type's gradient against finite differences in float64, on the bottoms of the recorded cases."""

from functools import cache

import numpy as np
import pytest
import torch

import caffe_compat as caffe
from caffe_compat import device, registry
from prototxt.dialects import DIALECTS
from tests.caffe_compat.nets import inputs, net
from tests.recorded import GOLDEN, layer_case, run_forward

CASES = sorted((GOLDEN / "layers").glob("*/*.prototxt"))
#: Bottoms that stand where the function bends, so that no finite difference tells the gradient there.
AT_A_BEND = ("ties_", "zeros_", "pool_max2_mask_ties", "chain_inplace")
#: Where Caffe's own gradient is another one than the function's, which the recorded cases hold it to.
CAFFES_OWN = {
    ("segnet", "mvn_mean_only"): "the older MVN forgets the mean",
    ("deconvnet", "v1_unpool_tile"): "TILE divides by the window's area",
}


@cache
def of_case(case):
    """The types in a recorded case whose gradient was compared; raises where one differs."""
    net, _ = run_forward(case)
    return compared(net)


def compared(net):
    """The types in a net, which has run forward, whose gradient is the function's; raises where one differs."""
    found = set()
    for index, (values, _) in net._records.items():
        module = net.layers[index].double()
        values = [value.detach().double().requires_grad_(value.requires_grad) for value in values]
        leaves = [leaf for leaf in (*values, *module.parameters()) if leaf.requires_grad]
        kept = {name: buffer.clone() for name, buffer in module.named_buffers()}

        def tops(*_, module=module, values=values, kept=kept):
            for name, buffer in module.named_buffers():  # every pass begins with the same states
                buffer.copy_(kept[name])
            outs = module(*values)
            return tuple(out for out in (outs if isinstance(outs, tuple) else (outs,)) if out.requires_grad)

        if not tops():
            continue
        total = sum(out.sum() for out in tops())
        grads = torch.autograd.grad(total, leaves, allow_unused=True)
        smooth = [leaf for leaf, grad in zip(leaves, grads, strict=True) if grad is not None]
        # gradcheck moves the leaves in place, which the module and the list of values see
        assert torch.autograd.gradcheck(tops, smooth, fast_mode=True, eps=1e-6, atol=1e-6, rtol=1e-4)
        found.add(module.type)
    return found


SMOOTH = [
    case for case in CASES if not case.stem.startswith(AT_A_BEND) and (case.parent.name, case.stem) not in CAFFES_OWN
]


@pytest.mark.parametrize("case", SMOOTH, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_gradient_is_the_functions(case):
    of_case(case)


_MAP, _PIXELS = (2, 3, 4, 5), (2, 1, 4, 5)
#: Types that no recorded case contains: dialect, layer, shapes of the bottoms, and those that hold classes 0 to 2.
UNRECORDED = {
    "BatchReindex": ("bvlc", "", [(3, 2), (4,)], [1]),
    "ContrastiveLoss": ("bvlc", "", [(4, 3, 1, 1), (4, 3, 1, 1), (4, 1, 1, 1)], [2]),
    "DomainTransform": ("deeplab", "", [_MAP, _PIXELS, (2, 1, 1, 2)], []),
    "DropoutChannel": ("deconvnet", "", [_MAP], []),
    "Embed": ("bvlc", "embed_param { num_output: 2 input_dim: 3 }", [(4,)], [0]),
    "Filter": ("bvlc", "", [(3, 2), (3,)], [1]),
    "InfogainLoss": ("bvlc", "", [(4, 3), (4,), (1, 1, 3, 3)], [1]),
    "MultiStageMeanfield": (
        "crf",
        "multi_stage_meanfield_param { theta_alpha: 9 theta_beta: 9 theta_gamma: 3 num_iterations: 2 "
        "spatial_filter_weights_str: '1 1 1' bilateral_filter_weights_str: '1 1 1' }",
        [(1, 3, 4, 5)] * 3,
        [],
    ),
    "RedSoftmaxWithLoss": ("deconvnet", "red_softmax_loss_param { class_num: 3 }", [(2, 7, 4, 5), _PIXELS], [1]),
    "RNN": ("bvlc", "recurrent_param { num_output: 2 weight_filler { type: 'xavier' } }", [(3, 2, 4), (3, 2)], [1]),
    "SpatialProduct": ("deeplab", "", [_MAP, _PIXELS], []),
}
#: Types that give no gradient, or another one than the function's, which tests of their own hold them to.
NO_GRADIENT = {
    "Accuracy", "BinaryAccuracy", "EltwiseAccuracy", "RedAccuracy", "SegAccuracy",  # counts
    "HDF5Output", "MatWrite", "Silence",  # no tops
    "DenseCRF", "DomainTransformForwardOnly",  # Caffe passes none
    "AdaptiveBiasChannel", "BiasChannel",  # Caffe passes the top's on as it is
    "Python",  # the user's
}  # fmt: skip


@cache
def of_text(name):
    dialect, param, shapes, classes = UNRECORDED[name]
    bottoms = {f"b{i}": shape for i, shape in enumerate(shapes)}
    top = "" if name == "Embed" else "force_backward: true "
    text = (
        top
        + inputs(**bottoms)
        + f"""
layer {{ name: "l" type: "{name}" {" ".join(f'bottom: "{b}"' for b in bottoms)} top: "y" loss_weight: 1 {param} }}"""
    )
    built = net(text, dialect=dialect)
    random = np.random.default_rng(0)
    for i, (bottom, shape) in enumerate(bottoms.items()):
        whole = random.permutation(np.arange(int(np.prod(shape))) % 3).reshape(shape)
        built.blobs[bottom].data[...] = whole if i in classes else random.normal(size=shape)
    if name == "DomainTransform":
        built.blobs["b1"].data[...] **= 2  # strengths of edges are not negative
        built.blobs["b2"].data[...] = np.reshape([4, 5] * 2, (2, 1, 1, 2))  # the size that counts
    built.forward()
    return compared(built)


@pytest.mark.parametrize("name", UNRECORDED)
def test_gradient_of_an_unrecorded_type(name):
    assert of_text(name) == {name}


def test_every_type_is_compared():
    found = set().union(*map(of_case, SMOOTH), *map(of_text, UNRECORDED))
    learning = {
        name
        for name in registry.known_types()
        for dialect in DIALECTS
        if (cls := registry.find(name, dialect)) is not None and cls.has_backward and not cls.is_source
    }
    assert learning - found == NO_GRADIENT and not found & NO_GRADIENT


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_computes_what_caffe_computed(monkeypatch):
    monkeypatch.setattr(device, "_mode", None)
    caffe.set_mode_gpu()
    assert {str(case): found for case in CASES if (found := layer_case(case))} == {}
