"""Starting weights in which every learnt deconvolution that enlarges is bilinear interpolation (paper, section 3.1).

    python -m segnet.bilinear_start fcn_basic_train.prototxt start.caffemodel
    python -m caffe_compat train -solver solver.prototxt -weights start.caffemodel

No filler can say it: a learnt deconvolution goes from every map to every map, and interpolation means weights between a
map and itself alone, zero elsewhere. Caffe's ``bilinear`` fills every pair, and takes half the kernel's size for the
factor, which the 8×8 kernels of FCN-Basic do not enlarge by. All other weights are what the fillers give, or those of
``--weights``, matched by name.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from caffe_compat import TRAIN, Net, set_random_seed
from caffe_compat.graph import Node
from caffe_compat.layer_types.deconvolution import Deconvolution
from converters.building import add_net_arguments, build_net, target_problems, told_weights
from prototxt.errors import CaffeError
from prototxt.net_file import find_net


def bilinear_kernel(size: int, factor: int) -> torch.Tensor:
    """The weights (size, size) by which a deconvolution of stride ``factor`` interpolates: 1 - |distance| / factor.

    Distances are from the kernel's middle; those beyond the factor weigh nothing.
    """
    distance = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2).abs()
    line = (1 - distance / factor).clamp(min=0)
    return line[:, None] * line


def start_bilinear(net: Net) -> list[str]:
    """Fill each deconvolution that learns, enlarges, and makes as many maps as it takes, each from its own alone.

    Returns:
        The names of the layers.

    Raises:
        CaffeError: there is none.
    """
    found = [node.layer for node in net.graph.nodes if isinstance(node.layer, Deconvolution) and _enlarges(node)]
    if not found:
        raise CaffeError("no learnt deconvolution that enlarges its maps; expected a network with some, as fcn_basic")
    for layer in found:
        maps = torch.arange(layer.weight.shape[0])
        kernel = bilinear_kernel(layer.window.kernel[0], layer.window.stride[0])
        with torch.no_grad():
            layer.weight.zero_()
            layer.weight[maps, maps % layer.weight.shape[1]] = kernel.to(layer.weight)  # (inputs, outputs of a group)
    return [layer.name for layer in found]


def _enlarges(node: Node) -> bool:
    kernel, stride = node.layer.window.kernel, node.layer.window.stride
    square = len(kernel) == 2 and len(set(kernel)) == len(set(stride)) == 1
    same_maps = node.bottom_shapes[0][1] == node.top_shapes[0][1]
    return square and stride[0] > 1 and same_maps and node.params[0].needs_diff


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m segnet.bilinear_start", description=__doc__.split("\n")[0])
    parser.add_argument("prototxt", help="the training net: a file, or the name of a network shipped with the project")
    parser.add_argument("output", help="the .caffemodel or .caffemodel.h5 to write")
    add_net_arguments(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the fillers (default: 0)")
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        set_random_seed(args.seed)
        output = Path(args.output)
        if problems := target_problems(output, args.force, "OUTPUT"):
            raise CaffeError(problems)
        net, report = build_net(
            find_net(args.prototxt),
            weights=args.weights,
            phase=TRAIN,
            dialect=args.dialect,
            input_size=args.input_size,
            input_shapes=dict(args.input_shape),
            roots=args.root,
        )
        names = start_bilinear(net)
        net.save(output)
    except CaffeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(told_weights(report, args.weights))
    print(f"wrote {output}: bilinear are {', '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
