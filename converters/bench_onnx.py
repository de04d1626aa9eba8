"""Benchmark: a shipped network's ONNX model in ONNX Runtime against the Net, one image, in one run.

    python -m converters.bench_onnx --network segnet

Both take turns with as many threads; the ratio of the medians counts, not the times.
"""

from __future__ import annotations

import argparse

import torch

from caffe_compat import TEST, Net
from converters.onnx_graph.comparing import open_session, random_feeds
from converters.onnx_graph.model import to_onnx
from prototxt.net_file import find_net
from prototxt.turns import ratio, take_turns


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m converters.bench_onnx", description=__doc__.split("\n")[0])
    parser.add_argument("--network", default="segnet", help="a prototxt, or a shipped network (default: segnet)")
    parser.add_argument("--rounds", type=int, default=9, help="timed runs of each side (default: 9)")
    args = parser.parse_args()
    net = Net(find_net(args.network), TEST)
    model = to_onnx(net).model
    feeds = random_feeds(model, images=1)
    tensors = {name: torch.from_numpy(values) for name, values in feeds.items()}
    session = open_session(model, torch.get_num_threads())
    with torch.no_grad():
        seconds = take_turns(
            {"Net": lambda: net(**tensors), "ONNX Runtime": lambda: session.run(None, feeds)}, args.rounds
        )
    shapes = ", ".join("×".join(map(str, values.shape)) for values in feeds.values())
    print(f"{args.network} forward, {shapes}, CPU, {torch.get_num_threads()} threads, {args.rounds} rounds in turns")
    middle, low, high = ratio(seconds["ONNX Runtime"], seconds["Net"])
    print(f"ONNX Runtime: {middle:.3f} of the Net (turn by turn {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
