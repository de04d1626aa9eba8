"""How each layer of SegNet's fork is said in plain BVLC Caffe, and back.

A rule takes all layers with their blobs and gives them anew; what cannot be said goes into the list of problems. What
can be said but for a detail is logged.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from prototxt.caffe_pb2 import TRAIN, BNParameter, LayerParameter

log = logging.getLogger(__name__)

#: A layer with its blobs (empty where no weights are given).
Weighted = tuple[LayerParameter, list[np.ndarray]]
Rule = Callable[[list[Weighted], list[str]], list[Weighted]]

#: The text of the Python layer that stands for Upsample.
PYTHON_LAYER = Path(__file__).parent / "python_layers" / "index_upsampling.py"
_CLASS = "IndexUpsampling"
_EPSILON = 1e-9  # of SegNet's BN
#: What a BatchNorm is called that goes before the Scale of a name.
NORM_SUFFIX = "_norm"


def without(layer: LayerParameter, *fields: str) -> LayerParameter:
    """A copy of a layer that lacks some fields."""
    rest = LayerParameter()
    rest.CopyFrom(layer)
    for field in fields:
        rest.ClearField(field)
    return rest


def _each(rewrite: Callable[[LayerParameter], LayerParameter | None]) -> Rule:
    """A rule that looks at one layer at a time and leaves its blobs alone; None leaves the layer alone too."""

    def rule(layers: list[Weighted], problems: list[str]) -> list[Weighted]:
        return [(rewrite(layer) or layer, blobs) for layer, blobs in layers]

    return rule


# ---- to BVLC


def _bn_to_scale(layers: list[Weighted], problems: list[str]) -> list[Weighted]:
    """INFERENCE is Scale; LEARN is BatchNorm with the batch's statistics in both phases, then Scale."""
    done: list[Weighted] = []
    for layer, blobs in layers:
        if layer.type != "BN":
            done.append((layer, blobs))
            continue
        if len(layer.top) > 1:
            problems.append(f"{layer.name!r} (BN): {len(layer.top)} tops; bvlc's BatchNorm gives no statistics")
        scale = without(layer, "bn_param", "top")
        scale.type = "Scale"
        scale.top.append(layer.top[0])
        scale.scale_param.bias_term = True
        scale.scale_param.filler.CopyFrom(layer.bn_param.scale_filler)
        scale.scale_param.bias_filler.CopyFrom(layer.bn_param.shift_filler)
        if layer.bn_param.bn_mode == BNParameter.LEARN:
            norm = without(layer, "bn_param", "top", "param")
            norm.name, norm.type = layer.name + NORM_SUFFIX, "BatchNorm"
            norm.top.append(layer.top[0])
            norm.batch_norm_param.use_global_stats = False
            norm.batch_norm_param.eps = _EPSILON
            channels = blobs[0].size if blobs else 0
            done.append((norm, [np.zeros(n, np.float32) for n in (channels, channels, 1)] if blobs else []))
            scale = without(scale, "bottom", "propagate_down")
            scale.bottom.append(layer.top[0])
        done.append((scale, [blob.reshape(-1) for blob in blobs]))
    return done


def upsample_to_python(layer: LayerParameter) -> LayerParameter | None:
    """The Python layer that stands for an Upsample; None for any other layer."""
    if layer.type != "Upsample":
        return None
    param = layer.upsample_param
    if param.HasField("upsample_h"):
        size = {"height": param.upsample_h, "width": param.upsample_w}
    else:
        scales = (param.scale_h, param.scale_w) if param.HasField("scale_h") else (param.scale, param.scale)
        less = (int(param.pad_out_h), int(param.pad_out_w))
        size = {"scale_h": scales[0], "scale_w": scales[1], "less_h": less[0], "less_w": less[1]}
    python = without(layer, "upsample_param")
    python.type = "Python"
    python.python_param.module = PYTHON_LAYER.stem
    python.python_param.layer = _CLASS
    python.python_param.param_str = json.dumps(size)
    return python


def _sampling_to_phase(layer: LayerParameter) -> LayerParameter | None:
    """A Dropout that also drops in TEST is one whose own phase is TRAIN."""
    if layer.type != "Dropout" or not layer.dropout_param.HasField("sample_weights_test"):
        return None
    dropout = without(layer)
    dropout.dropout_param.ClearField("sample_weights_test")
    if layer.dropout_param.sample_weights_test:
        dropout.phase = TRAIN
    return dropout


def data_to_input(size: tuple[int, int]) -> Rule:
    """A rule that makes inputs of (height, width) ``size`` of DenseImageData layers, with the same tops."""

    def rewrite(layer: LayerParameter) -> LayerParameter | None:
        if layer.type != "DenseImageData":
            return None
        param = layer.dense_image_data_param
        source = without(layer, "dense_image_data_param", "transform_param")
        source.type = "Input"
        for channels in (3 if param.is_color else 1, 1):
            source.input_param.shape.add(dim=[param.batch_size, channels, *size])
        return source

    return _each(rewrite)


# ---- to SegNet


def _norms_to_bn(layers: list[Weighted], problems: list[str]) -> list[Weighted]:
    """Scale per channel is BN INFERENCE; a BatchNorm before it makes it LEARN, or is folded in."""
    done: list[Weighted] = []
    for layer, blobs in layers:
        norm = done[-1] if done and _reads_alone(layer, done[-1][0], layers) else None
        if layer.type == "Scale" and _is_per_channel(layer):
            done = done[:-1] if norm else done
            done.append(_bn(layer, blobs, norm))
        else:
            done.append((layer, blobs))
    return [_bn(None, [], pair) if pair[0].type == "BatchNorm" else pair for pair in done]


def _reads_alone(layer: LayerParameter, before: LayerParameter, layers: list[Weighted]) -> bool:
    """Whether ``before`` is a BatchNorm whose top this layer takes, and nobody else."""
    if before.type != "BatchNorm" or list(before.top) != list(layer.bottom):
        return False
    return before.bottom[0] == before.top[0] or sum(before.top[0] in other.bottom for other, _ in layers) == 1


def _is_per_channel(layer: LayerParameter) -> bool:
    param = layer.scale_param
    return len(layer.bottom) == 1 and param.axis == 1 and param.num_axes == 1


def _bn(scale: LayerParameter | None, blobs: list[np.ndarray], norm: Weighted | None) -> Weighted:
    """BN for a Scale, for a BatchNorm, or for both; at least one of them."""
    bn = without(scale or norm[0], "scale_param", "batch_norm_param", *(() if scale else ("param",)))
    bn.type = "BN"
    bn.bn_param.bn_mode = BNParameter.INFERENCE
    if scale and scale.scale_param.HasField("filler"):
        bn.bn_param.scale_filler.CopyFrom(scale.scale_param.filler)
    else:
        bn.bn_param.scale_filler.value = 1  # BVLC's Scale begins with 1, BN with 0
    if scale and scale.scale_param.bias_term:
        bn.bn_param.shift_filler.CopyFrom(scale.scale_param.bias_filler)
    for _ in range(len(bn.param), 2 if scale is None or not scale.scale_param.bias_term else 0):
        bn.param.add(lr_mult=0, decay_mult=0)  # what was not there shall not learn
    if blobs and len(blobs) == 1:
        blobs = [blobs[0], np.zeros_like(blobs[0])]
    if norm:
        del bn.bottom[:]
        bn.bottom.extend(norm[0].bottom)
        blobs = _with_statistics(bn, blobs, norm)
    return bn, [blob.reshape(1, -1, 1, 1) for blob in blobs]


def _with_statistics(bn: LayerParameter, blobs: list[np.ndarray], norm: Weighted) -> list[np.ndarray]:
    """Choose the mode for a BatchNorm's statistics; stored ones go into scale and shift."""
    layer, statistics = norm
    param = layer.batch_norm_param
    by_batch = param.HasField("use_global_stats") and not param.use_global_stats
    if by_batch or (not param.HasField("use_global_stats") and not statistics):
        bn.bn_param.bn_mode = BNParameter.LEARN
        if not np.isclose(param.eps, _EPSILON):
            log.warning("layer %r: eps %g becomes %g, which SegNet's BN has built in", layer.name, param.eps, _EPSILON)
        if blobs or not statistics:
            return blobs
        channels = statistics[0].size
        return [np.ones(channels, np.float32), np.zeros(channels, np.float32)]
    if not statistics:
        return blobs
    if not param.HasField("use_global_stats"):
        log.warning("layer %r: BN has one mode for both phases; the stored statistics are taken", layer.name)
    return _folded(blobs, statistics, param.eps)


def _folded(blobs: list[np.ndarray], statistics: list[np.ndarray], epsilon: float) -> list[np.ndarray]:
    """Scale and shift (1 and 0 where there are none) with the statistics of a BatchNorm put in."""
    weight = statistics[2].item()
    mean, variance = (blob.astype(np.float64).ravel() * (1 / weight if weight else 0.0) for blob in statistics[:2])
    scale, shift = (blob.astype(np.float64).ravel() for blob in blobs) if blobs else (1.0, 0.0)
    scale = scale / np.sqrt(variance + epsilon)
    return [scale.astype(np.float32), (shift - mean * scale).astype(np.float32)]


def _python_to_upsample(layer: LayerParameter) -> LayerParameter | None:
    param = layer.python_param
    if layer.type != "Python" or (param.module, param.layer) != (PYTHON_LAYER.stem, _CLASS):
        return None
    size = json.loads(param.param_str)
    upsample = without(layer, "python_param")
    upsample.type = "Upsample"
    if "height" in size:
        upsample.upsample_param.upsample_h = size["height"]
        upsample.upsample_param.upsample_w = size["width"]
    elif size["scale_h"] == size["scale_w"]:
        upsample.upsample_param.scale = size["scale_h"]
    else:
        upsample.upsample_param.scale_h, upsample.upsample_param.scale_w = size["scale_h"], size["scale_w"]
    for axis in "hw":
        if size.get(f"less_{axis}"):
            setattr(upsample.upsample_param, f"pad_out_{axis}", True)
    return upsample


def _phase_to_sampling(layer: LayerParameter) -> LayerParameter | None:
    if layer.type != "Dropout" or not layer.HasField("phase") or layer.phase != TRAIN:
        return None
    dropout = without(layer, "phase")
    dropout.dropout_param.sample_weights_test = True
    return dropout


# ---- both ways


def _tell_accuracy(layer: LayerParameter) -> None:
    if layer.type == "Accuracy":
        log.warning(
            "layer %r (Accuracy): bvlc counts a tie with the label's score as wrong, and gives an absent class 0; "
            "segnet lets the larger class win a tie, and gives an absent class 1",
            layer.name,
        )


def _refuse_infogain(layers: list[Weighted], problems: list[str]) -> list[Weighted]:
    for layer, _ in layers:
        if layer.type == "InfogainLoss":
            problems.append(
                f"{layer.name!r} (InfogainLoss): bvlc's takes scores, segnet's probabilities; put in or take out the "
                "Softmax before it by hand"
            )
    return layers


#: target → the rules that lead there, in order.
RULES: dict[str, Sequence[Rule]] = {
    "bvlc": (_bn_to_scale, _each(upsample_to_python), _each(_sampling_to_phase), _each(_tell_accuracy)),
    "segnet": (_norms_to_bn, _each(_python_to_upsample), _each(_phase_to_sampling), _each(_tell_accuracy)),
}
RULES = {target: (*rules, _refuse_infogain) for target, rules in RULES.items()}
