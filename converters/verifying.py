"""Whether a converted file computes what Caffe's side does: both sides run, every layer compared.

One side is the net built from prototxt and caffemodel, run as pycaffe runs it, layer by layer. The other is what was
written, read back from its file, and run as a torch module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from os import PathLike
from pathlib import Path

import numpy as np
import torch

from caffe_compat import Net
from caffe_compat.data.images import read_image
from converters.check import feed_image
from converters.comparing import Comparison
from converters.parity import describe, deviates
from converters.pt_file import describe_net, load_pt, net_described
from converters.record import Recorder, input_values
from converters.record_file import Record
from prototxt import text
from prototxt.errors import CaffeError

_SAMPLES = 65536


def verify(net: Net, written: Path, image: str | PathLike[str] | None = None) -> tuple[str, bool]:
    """Compare a net with the file that was written of it, on random numbers and on an image if there is one.

    Args:
        net: built from Caffe's files; its blobs are overwritten.
        written: the file, in one of ``weight_formats.FORMATS``.
        image: an image file.

    Returns:
        What to tell, and whether the two compute the same: parameters bit for bit, layers within their tolerance.

    Raises:
        CaffeError: the file, or the image, cannot be read; the net has no image input.
    """
    other = read_back(net, written)
    inputs = {"random numbers": _random(net)}
    if image is not None:
        feed_image(net, read_image(image))
        inputs[str(image)] = {name: np.array(net.blobs[name].data) for name in net.graph.feeds}
    told, equal = [], True
    for name, values in inputs.items():
        comparison = _both_sides(net, other, values)
        told.append(f"{written} held against Caffe's side, on {name}:\n{describe(comparison)}")
        equal &= not deviates(comparison)
    return "\n\n".join(told), equal


def read_back(net: Net, written: Path) -> Net:
    """The net of a written file: of ``.pt`` all of it, of the others the weights in a net of the same description."""
    if written.suffix not in _READERS:
        return load_pt(written)
    other = net_described(describe_net(net, True, ""), str(written))
    with torch.no_grad():
        for param in other.parameters():
            param.fill_(torch.nan)  # what the file lacks shall not be right by chance
    try:
        _READERS[written.suffix](other, written)
    except RuntimeError as error:  # how torch says that names or shapes are others
        raise CaffeError(f"{written}: does not hold this net's weights ({error}); expected what was written") from error
    return other


def _read_npz(net: Net, path: Path) -> None:
    with np.load(path, allow_pickle=False) as arrays:
        net.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays})


def _read_safetensors(net: Net, path: Path) -> None:
    from safetensors.torch import load_file  # it was there to write the file

    net.load_state_dict(load_file(path))


def _read_h5(net: Net, path: Path) -> None:
    net.copy_from(path)


_READERS: dict[str, Callable[[Net, Path], None]] = {
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".h5": _read_h5,
}


def _random(net: Net) -> dict[str, np.ndarray]:
    """Random images, and for labels classes 0 and 1."""
    shapes = {name: net.blobs[name].shape for name in net.graph.feeds}
    return input_values(shapes, {}, seed=1)


def _both_sides(net: Net, other: Net, inputs: dict[str, np.ndarray]) -> Comparison:
    with _unmoved(net), _unmoved(other), torch.no_grad():
        recorder = Recorder(net, text.format(net.graph.source), _SAMPLES)
        recorder.forward(inputs)
        comparison = Comparison(other, Record(recorder.meta, recorder.arrays, "Caffe's side"))
        tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
        with comparison.watching():
            other(**tensors)
        if comparison.scores_at is not None:
            comparison.compare_labels(_top_of(other, *comparison.scores_at, tensors))
    return comparison


@contextmanager
def _unmoved(net: Net) -> Iterator[None]:
    """Afterwards the net is as before: a pass in TRAIN moves the statistics of BatchNorm."""
    state, keeps_graph = deepcopy(net.state_dict()), net.keeps_graph
    net.keeps_graph = False
    try:
        yield
    finally:
        net.load_state_dict(state)
        net.keeps_graph = keeps_graph


def _top_of(net: Net, node: int, top: int, tensors: dict[str, torch.Tensor]) -> np.ndarray:
    """What one layer makes in a pass as a torch module, in which nothing is forced."""
    found: list[torch.Tensor] = []

    def keep(layer: torch.nn.Module, args: object, out: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        found.append((out if isinstance(out, tuple) else (out,))[top].clone())

    handle = net.graph.nodes[node].layer.register_forward_hook(keep)
    try:
        net(**tensors)
    finally:
        handle.remove()
    return found[0].numpy()
