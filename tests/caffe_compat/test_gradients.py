"""Every layer type's gradient against finite differences in float64, on the bottoms of the recorded cases."""

from functools import cache

import pytest
import torch

from tests.recorded import GOLDEN, run_forward

CASES = sorted((GOLDEN / "layers").glob("*/*.prototxt"))
#: Bottoms that stand where the function bends, so that no finite difference tells the gradient there.
AT_A_BEND = ("ties_", "zeros_", "pool_max2_mask_ties", "chain_inplace")
#: Where Caffe's own gradient is another one than the function's, which the recorded cases hold it to.
CAFFES_OWN = {
    ("segnet", "mvn_mean_only"): "the older MVN forgets the mean",
    ("deconvnet", "v1_unpool_tile"): "TILE divides by the window's area",
}


@cache
def checked(case):
    """The types in a case whose gradient was compared; raises where one differs."""
    net, _ = run_forward(case)
    found = set()
    for index, (values, _) in net._records.items():
        module = net.layers[index].double()
        values = [value.detach().double().requires_grad_(value.requires_grad) for value in values]
        leaves = [leaf for leaf in (*values, *module.parameters()) if leaf.requires_grad]

        def tops(*_, module=module, values=values):
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


def smooth_cases():
    return [
        case
        for case in CASES
        if not case.stem.startswith(AT_A_BEND) and (case.parent.name, case.stem) not in CAFFES_OWN
    ]


@pytest.mark.parametrize("case", smooth_cases(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_gradient_is_the_functions(case):
    checked(case)
