"""Holding a net against what Caffe recorded: one runner for all layer cases, one for whole nets."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np

import caffe_compat as caffe

GOLDEN = Path(__file__).parent / "golden"


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


recipe = _load(GOLDEN / "recipe.py")


def deviation(name: str, got: np.ndarray, want: np.ndarray, rtol: float, of_max: float, scale: float = 0.0) -> str:
    """Empty when every value is within ``rtol`` of itself or ``of_max`` of the largest (or of ``scale``)."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        return f"{name}: shape {got.shape}, Caffe has {want.shape}"
    finite = np.isfinite(want)
    if not np.array_equal(np.isfinite(got), finite):
        return f"{name}: not finite where Caffe is, or the other way round"
    got, want = got[finite], want[finite]
    if not want.size:
        return ""
    excess = np.abs(got - want) - rtol * np.abs(want) - of_max * max(np.abs(want).max(), scale, 1e-12)
    if excess.max() <= 0:
        return ""
    worst = int(excess.argmax())
    return f"{name}: {got[worst]:.7g} at {worst}, Caffe has {want[worst]:.7g}; {(excess > 0).sum()} of {want.size} off"


def run_forward(prototxt: Path) -> tuple[caffe.Net, dict[str, np.ndarray]]:
    """A recorded case of one or a few layers with its recorded parameters and bottoms, and all that was recorded."""
    want = dict(np.load(prototxt.with_suffix(".npz")))
    phase = caffe.TRAIN if "# phase: TRAIN" in prototxt.read_text().split("\n", 1)[0] else caffe.TEST
    net = caffe.Net(prototxt, phase, dialect=prototxt.parent.name)
    for key, blob in _blobs(net, want, "param", "bottom", half="data"):
        blob[...] = want[key].reshape(blob.shape)
    net.forward()
    return net, want


def layer_case(prototxt: Path) -> list[str]:
    """Run one recorded case forward and backward. Returns what deviates."""
    net, want = run_forward(prototxt)
    found = [deviation(k, got, want[k], 2e-5, 2e-5) for k, got in _blobs(net, want, "top", "blob", half="data")]
    if any(key.startswith("bottomdiff:") for key in want):
        for key, blob in _blobs(net, want, "topdiff", half="diff"):
            blob[...] = want[key]
        net._backward(len(net.layers) - 1, 0)
        for key, got in _blobs(net, want, "blobdiff", "bottomdiff", "paramdiff", half="diff"):
            # the gradient of a bias under batch normalisation is nothing but rounding: judged beside the weight's
            weights = want.get(f"{key.rsplit(':', 1)[0]}:0") if key.startswith("paramdiff") else None
            scale = 0.01 * float(np.abs(weights).max()) if weights is not None else 0.0
            if key.startswith("paramdiff") and net.dialect == "deconvnet":
                got = got.reshape(want[key].shape)  # every parameter of that fork has four axes
            if "label" not in key and "mask" not in key:
                found.append(deviation(key, got, want[key], 1e-4, 5e-5, scale))
    return [text for text in found if text]


def _blobs(net: caffe.Net, want: dict[str, np.ndarray], *kinds: str, half: str) -> list[tuple[str, np.ndarray]]:
    """For each recorded array of these kinds its key and the live array of the net."""
    found = []
    for key in want:
        kind, _, rest = key.partition(":")
        if kind in kinds and kind.startswith("param"):
            layer, index = rest.rsplit(":", 1)
            found.append((key, getattr(net.params[layer][int(index)], half)))
        elif kind in kinds:
            found.append((key, getattr(net.blobs[rest], half)))
    return found


def fill_by_recipe(net: caffe.Net, seed: int) -> None:
    """Give a net the weights that the recordings of whole nets were made with."""
    types = dict(zip(net._layer_names, (layer.type for layer in net.layers), strict=True))
    for name, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            blob.data[...] = recipe.param(name, i, blob.data.shape, types[name], seed)


def sample(key: str, blob: np.ndarray) -> np.ndarray:
    """The values of a large blob that were recorded."""
    return np.asarray(blob, np.float32).ravel()[recipe.sample_index(key, blob.size)]


def net_case(net: caffe.Net, record: Path) -> list[str]:
    """Run a whole recorded net by hand-fed inputs. Returns what deviates.

    Rounding flips near-ties in pooling windows and moves whole values then, so that a share of the samples has to
    agree (93 %; two builds of Caffe agree on 95 to 100 %), and gradients in direction and length.
    """
    want = dict(np.load(record))
    seed = int(want["meta:seed"])
    fill_by_recipe(net, seed)
    first = 0
    for key in [key for key in want if key.startswith("meta:input:")]:
        name = key.removeprefix("meta:input:")
        if name not in net.blobs:
            continue
        shape = tuple(int(d) for d in want[f"shape:blob:{name}"])
        net.blobs[name].reshape(*shape)
        net.blobs[name].data[...] = recipe.tensor(f"net/{name}", shape, str(want[key]), seed)
    net.reshape()
    while net.layers[first].is_source:
        first += 1
    last = len(net.layers) - 1
    net._forward(first, last)
    found = [_share(key, net, want) for key in want if key.startswith("sample:blob:")]
    gradients = [key for key in want if key.startswith("sample:paramdiff:")]
    if gradients:
        net._backward(last, first)
        found += [_direction(key, net, want) for key in gradients]
    return [text for text in found if text]


def _share(key: str, net: caffe.Net, want: dict[str, np.ndarray]) -> str:
    name = key.removeprefix("sample:blob:")
    if name not in net.blobs:
        # an inference net of ours is fed by hand, where the recorded one read labels that nothing used
        return "" if name.startswith("label") else f"{name}: no such blob"
    got, recorded = sample(f"blob:{name}", net.blobs[name].data), want[key]
    tolerance = 1e-2 if recorded.size < 64 else 1e-3  # a handful of numbers moves with a few labels
    near = np.abs(got - recorded) <= tolerance * max(np.abs(recorded).max(), 1e-12) + tolerance * np.abs(recorded)
    return "" if near.mean() >= 0.93 else f"{name}: {near.mean():.2%} of the samples agree"


def _direction(key: str, net: caffe.Net, want: dict[str, np.ndarray]) -> str:
    layer, index = key.removeprefix("sample:paramdiff:").rsplit(":", 1)
    recorded = want[key].astype(np.float64)
    weight = want.get(f"stats:paramdiff:{layer}:0")
    if weight is not None and np.abs(recorded).max() < 1e-5 * weight[2]:
        return ""  # the gradient of a bias under batch normalisation is zero but for rounding
    got = sample(f"paramdiff:{layer}:{index}", net.params[layer][int(index)].diff).astype(np.float64)
    lengths = np.linalg.norm(got), np.linalg.norm(recorded)
    if not any(lengths):
        return ""
    correlation = got @ recorded / max(lengths[0] * lengths[1], 1e-300)
    ratio = lengths[0] / max(lengths[1], 1e-300)
    if correlation >= 0.99 and abs(ratio - 1) <= 0.02:
        return ""
    return f"gradient of {layer}:{index}: correlation {correlation:.5f}, length {ratio:.4f} of Caffe's"
