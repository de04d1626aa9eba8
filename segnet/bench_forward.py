"""Benchmark: the faithful Net against plain PyTorch, forward, one image of 360×480, in one run.

    python -m segnet.bench_forward

Both sides hold the same weights and take turns; the ratio of the medians counts, not the times.
"""

from __future__ import annotations

import argparse

import torch

from caffe_compat import TEST, Net
from prototxt.net_file import find_net
from prototxt.turns import ratio, take_turns
from segnet.plain import PlainSegNet


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m segnet.bench_forward", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="timed runs of each side (default: 9)")
    rounds = parser.parse_args().rounds
    net, plain = Net(find_net("segnet"), TEST), PlainSegNet().eval()
    plain.take_weights(net)
    image = torch.rand(1, 3, 360, 480) * 255
    with torch.no_grad():
        agree = (net(image)["prob"].argmax(1) == plain(image).argmax(1)).float().mean()
        seconds = take_turns(
            {
                "plain PyTorch": lambda: plain(image).softmax(1),
                "Net, called with a tensor": lambda: net(image),
                "Net, pycaffe's forward": lambda: net.forward(),
            },
            rounds,
        )
    print(f"SegNet forward, 1×3×360×480, CPU, {torch.get_num_threads()} threads, {rounds} rounds in turns")
    print(f"labels equal on {agree:.3%} of the pixels")
    for name, times in list(seconds.items())[1:]:
        middle, low, high = ratio(times, seconds["plain PyTorch"])
        print(f"{name}: {middle:.3f} of plain PyTorch (turn by turn {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
