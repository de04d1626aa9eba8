"""Benchmark: layers against the plain torch operator, forward and backward, taking turns.

python -m caffe_compat.bench_layers [--rounds N] [--match TYPE]
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from tabulate import tabulate

from caffe_compat import TRAIN, Net
from caffe_compat.layer_base import TorchLayer
from prototxt.net_file import parse_net
from prototxt.turns import ratio, take_turns

Plain = Callable[..., torch.Tensor]


class Case(NamedTuple):
    """A layer, the shapes of its bottoms, and the same in plain torch, given the layer for its parameters."""

    layer: str
    shapes: tuple[tuple[int, ...], ...]
    plain: Callable[[TorchLayer], Plain]
    tops: int = 1


_PLANE = (1, 64, 180, 240)
_DEEP = (1, 512, 45, 60)
_MSRA = 'weight_filler { type: "msra" }'

CASES = (
    Case(
        f'type: "Convolution" convolution_param {{ num_output: 64 kernel_size: 3 pad: 1 {_MSRA} }}',
        (_PLANE,),
        lambda m: lambda x: F.conv2d(x, m.weight, m.bias, padding=1),
    ),
    Case(
        f'type: "Deconvolution" convolution_param {{ num_output: 64 kernel_size: 4 stride: 2 pad: 1 {_MSRA} }}',
        ((1, 64, 90, 120),),
        lambda m: lambda x: F.conv_transpose2d(x, m.weight, m.bias, stride=2, padding=1),
    ),
    Case(
        f'type: "InnerProduct" inner_product_param {{ num_output: 4096 {_MSRA} }}',
        ((8, 9216),),
        lambda m: lambda x: F.linear(x, m.weight, m.bias),
    ),
    Case(
        'type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }',
        (_PLANE,),
        lambda m: lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)[0],
        tops=2,
    ),
    Case(
        'type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 }',
        (_PLANE,),
        lambda m: lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True),
    ),
    Case(
        'type: "Upsample" upsample_param { scale: 2 }',
        ((1, 64, 90, 120), (1, 64, 90, 120)),
        lambda m: lambda x, mask: F.max_unpool2d(x, mask.long(), 2, 2),
    ),
    Case(
        'type: "BN" bn_param { scale_filler { value: 1 } }',
        (_PLANE,),
        lambda m: lambda x: F.batch_norm(x, None, None, m.scale.flatten(), m.shift.flatten(), training=True),
    ),
    Case(
        'type: "BN" bn_param { bn_mode: INFERENCE scale_filler { value: 1 } }',
        (_PLANE,),
        lambda m: lambda x: x * m.scale + m.shift,
    ),
    Case(
        'type: "BatchNorm" batch_norm_param { use_global_stats: false }',
        (_PLANE,),
        lambda m: lambda x: F.batch_norm(x, torch.zeros(64), torch.ones(64), training=True),
    ),
    Case(
        'type: "Scale" scale_param { bias_term: true }',
        (_PLANE,),
        lambda m: lambda x: torch.addcmul(m.bias.view(-1, 1, 1), x, m.scale.view(-1, 1, 1)),
    ),
    Case('type: "ReLU"', (_PLANE,), lambda m: F.relu),
    Case('type: "PReLU"', (_PLANE,), lambda m: lambda x: F.prelu(x, m.slope.flatten())),
    Case('type: "ELU"', (_PLANE,), lambda m: F.elu),
    Case('type: "Sigmoid"', (_PLANE,), lambda m: torch.sigmoid),
    Case('type: "TanH"', (_PLANE,), lambda m: torch.tanh),
    Case('type: "Dropout"', (_PLANE,), lambda m: lambda x: F.dropout(x, 0.5)),
    Case(
        'type: "LRN" lrn_param { alpha: 0.0001 }',
        ((1, 96, 55, 55),),
        lambda m: lambda x: F.local_response_norm(x, 5, 1e-4, 0.75, 1),
    ),
    Case('type: "Eltwise"', (_PLANE, _PLANE), lambda m: torch.add),
    Case('type: "Concat"', (_PLANE, _PLANE), lambda m: lambda x, y: torch.cat([x, y], 1)),
    Case('type: "Softmax"', ((1, 21, 360, 480),), lambda m: lambda x: x.softmax(1)),
    Case(
        'type: "SoftmaxWithLoss" loss_param { ignore_label: 255 }',
        ((1, 21, 360, 480), (1, 1, 360, 480)),
        lambda m: lambda x, label: F.cross_entropy(x, label[:, 0].long(), ignore_index=255),
    ),
    Case(
        'type: "Interp" interp_param { zoom_factor: 8 }',
        ((1, 21, 41, 41),),
        lambda m: lambda x: F.interpolate(x, (321, 321), mode="bilinear", align_corners=True),
    ),
    Case('type: "MVN"', (_DEEP,), lambda m: lambda x: F.instance_norm(x)),
)


def _layer(case: Case) -> tuple[TorchLayer, list[torch.Tensor]]:
    """The layer and values for its bottoms: positions within the plane for a mask, whole numbers for labels."""
    torch.manual_seed(0)
    names = [f"bottom{i}" for i in range(len(case.shapes))]
    text = "".join(
        f'input: "{name}" input_shape {{ {" ".join(f"dim: {d}" for d in shape)} }}\n'
        for name, shape in zip(names, case.shapes, strict=True)
    )
    bottoms = " ".join(f'bottom: "{name}"' for name in names)
    tops = " ".join(f'top: "top{i}"' for i in range(case.tops))
    net = Net(parse_net(text + f'layer {{ name: "layer" {bottoms} {tops} {case.layer} }}', "benchmark"), TRAIN)
    module = net.layers[-1]  # a dialect may put an Input layer before it
    values = [torch.randn(shape) for shape in case.shapes]
    if module.type == "Upsample":
        values[1] = F.max_pool2d(torch.randn(1, 64, 180, 240), 2, 2, return_indices=True)[1].float()
    if module.is_loss:
        values[1] = torch.randint(0, 21, case.shapes[1]).float()
    return module, values


def _runner(run: Plain, values: list[torch.Tensor], backward: bool, wanted: int) -> Callable[[], None]:
    leaves = [value.clone().requires_grad_(backward and i < wanted) for i, value in enumerate(values)]

    def once() -> None:
        with torch.set_grad_enabled(backward):
            top = run(*leaves)
            top = top[0] if isinstance(top, tuple) else top
            if backward:
                top.backward(torch.ones_like(top))
                for leaf in leaves:
                    leaf.grad = None

    return once


def main() -> None:
    """The command."""
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(prog="python -m caffe_compat.bench_layers", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="timed runs of each side (default: 15)")
    parser.add_argument("--match", default="", help="only layers whose text contains this")
    args = parser.parse_args()
    rows = []
    for case in CASES:
        if args.match not in case.layer:
            continue
        module, values = _layer(case)
        wanted = 1 if len(values) == 2 and (module.is_loss or module.type == "Upsample") else len(values)
        row = [case.layer.replace('type: "', "").replace('"', "", 1)[:60], "×".join(map(str, case.shapes[0]))]
        for backward in (False, True):
            runs = {
                "layer": _runner(module, values, backward, wanted),
                "plain": _runner(case.plain(module), values, backward, wanted),
            }
            seconds = take_turns(runs, args.rounds)
            middle, low, high = ratio(seconds["layer"], seconds["plain"])
            row.append(f"{middle:.2f} ({low:.2f}–{high:.2f})")
        rows.append(row)
    print(f"layer / plain torch, CPU, {torch.get_num_threads()} threads, medians of {args.rounds} turns")
    print(tabulate(rows, ["layer", "bottom", "forward", "forward and backward"]))


if __name__ == "__main__":
    main()
