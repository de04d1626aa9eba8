"""Benchmark: peak memory while weights of SegNet's size are loaded into a net, beyond the net itself (Linux).

python -m caffe_compat.bench_load
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from caffe_compat import TEST, Net
from prototxt.bench_read import peak_bytes
from prototxt.net_file import find_net

_BUILD = """
from caffe_compat import TEST, Net
from prototxt.net_file import find_net
net = Net(find_net("segnet"), TEST)
for parameter in net.parameters():  # memory that was only reserved does not count
    parameter.data.mul_(1)
"""
_LOAD = "net.copy_from({path!r})"


def main() -> None:
    """Measure and print. A peak never goes down, so that each is that of a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "segnet.caffemodel"
        Net(find_net("segnet"), TEST).save(weights)
        size = weights.stat().st_size
        peak = peak_bytes(_BUILD + _LOAD.format(path=str(weights))) - peak_bytes(_BUILD)
    print(f"loading a caffemodel of {size / 1e6:.1f} MB into SegNet: at most {peak / 1e6:.1f} MB beyond the net,")
    print(f"{peak / size:.2f} of the file's size (the file's pages count while they are read)")


if __name__ == "__main__":
    main()
