"""SegNet, SegNet-Basic and their Bayesian forms, from size and class count (paper, section 3).

Layers and blobs are named as in the published files, so that published weights load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from converters.vgg16.layout import STAGES as VGG16_STAGES  # of the encoder; the decoder mirrors them
from prototxt.caffe_pb2 import NetParameter
from prototxt.net_spec import NetSpec, Top, net_input
from prototxt.net_spec import layers as L
from prototxt.net_spec import params as P
from segnet import camvid

_BASIC_STAGES, _BASIC_CHANNELS = 4, 64
_DROPOUT = 0.5
_FIRST_DROPPED_STAGE = 3  # dropout belongs to the deep stages (Bayesian SegNet)


@dataclass(frozen=True)
class Training:
    """What a network needs to be trained; without it, one for inference is made."""

    source: str = camvid.TRAIN_LIST
    """The list of image and label files."""
    batch_size: int = 4
    class_weights: Sequence[float] = ()
    """One for each class, or none."""


def segnet(
    height: int = camvid.HEIGHT,
    width: int = camvid.WIDTH,
    classes: int = len(camvid.CLASSES),
    *,
    batch_size: int = 1,
    training: Training | None = None,
    bayesian: bool = False,
) -> NetParameter:
    """SegNet: VGG16's 13 convolutions as the encoder, and its mirror image as the decoder.

    Args:
        height, width: of the images, in pixels; any size.
        classes: their number. In training the label of that number is void.
        batch_size: images at a time for inference; for a Bayesian network the samples that are drawn.
        training: for a network to train, with its own batch size.
        bayesian: with dropout after the three deepest stages, which stays on for inference.
    """
    n = NetSpec()
    maker = _Maker(n, kernel=3, bn_params=_BN_PARAMS, shift=0.0 if bayesian else 0.001, sample=training is None)
    x = _data(n, height, width, batch_size, training)
    planes = _planes(height, width, len(VGG16_STAGES))
    for stage, channels in enumerate(VGG16_STAGES, 1):
        for i, count in enumerate(channels, 1):
            x = maker.convolution(x, f"conv{stage}_{i}", count, relu=f"relu{stage}_{i}")
        x = maker.pooling(x, stage)
        if bayesian and stage >= _FIRST_DROPPED_STAGE:
            x = maker.dropout(x, f"encdrop{stage}")
    for stage, channels in reversed(list(enumerate(VGG16_STAGES, 1))):
        x = maker.upsampling(x, stage, f"pool{stage}_D", planes)
        before = VGG16_STAGES[stage - 2][-1] if stage > 1 else classes
        for i, count in reversed(list(enumerate((before, *channels[:-1]), 1))):
            if (stage, i) != (1, 1):
                x = maker.convolution(x, f"conv{stage}_{i}_D", count, relu=f"relu{stage}_{i}_D")
        if bayesian and stage >= _FIRST_DROPPED_STAGE:
            x = maker.dropout(x, f"decdrop{stage}")
    score = maker.classifier(x, "conv1_1_D", classes, kernel=3)
    return _finished(n, score, classes, training, "VGG_ILSVRC_16_layer")


def segnet_basic(
    height: int = camvid.HEIGHT,
    width: int = camvid.WIDTH,
    classes: int = len(camvid.CLASSES),
    *,
    batch_size: int = 1,
    training: Training | None = None,
    bayesian: bool = False,
) -> NetParameter:
    """SegNet-Basic: four stages of one 7×7 convolution, no ReLU in the decoder. Arguments as for ``segnet``."""
    n = NetSpec()
    maker = _Maker(n, kernel=7, bn_params=(), shift=0.001, sample=training is None)
    x = _data(n, height, width, batch_size, training)
    n.norm = x = L.LRN(x, local_size=5, alpha=0.0001, beta=0.75)
    planes = _planes(height, width, _BASIC_STAGES)
    for stage in range(1, _BASIC_STAGES + 1):
        x = maker.convolution(x, f"conv{stage}", _BASIC_CHANNELS, relu=f"relu{stage}")
        x = maker.pooling(x, stage)
        if bayesian and stage >= _FIRST_DROPPED_STAGE:
            x = maker.dropout(x, f"encdrop{stage}")
    for stage in range(_BASIC_STAGES, 0, -1):
        x = maker.upsampling(x, stage, f"upsample{stage}", planes)
        x = maker.convolution(x, f"conv_decode{stage}", _BASIC_CHANNELS)
        if bayesian and stage >= _FIRST_DROPPED_STAGE:
            x = maker.dropout(x, f"decdrop{stage}")
    name = "dense_softmax_inner_prod" if bayesian else "conv_classifier"
    return _finished(n, maker.classifier(x, name, classes, kernel=1), classes, training, "segnet")


_CONVOLUTION_PARAMS = (dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0))
_BN_PARAMS = (dict(lr_mult=1, decay_mult=1), dict(lr_mult=1, decay_mult=0))


class _Maker:
    """Adds SegNet's layers to a net; each gives the top to go on with."""

    def __init__(
        self, n: NetSpec, *, kernel: int, bn_params: Sequence[dict[str, int]], shift: float, sample: bool
    ) -> None:
        self.n, self.kernel, self.bn_params, self.shift, self.inference = n, kernel, bn_params, shift, sample

    def convolution(self, x: Top, name: str, channels: int, relu: str = "") -> Top:
        """Convolution, batch normalisation, and a ReLU when it is given a name."""
        self.n[name] = self.classifier(x, name, channels, self.kernel)
        bn = dict(
            scale_filler=dict(type="constant", value=1),
            shift_filler=dict(type="constant", value=self.shift),
            **(dict(bn_mode=P.BN.INFERENCE) if self.inference else {}),
        )
        self.n[f"{name}_bn"] = top = L.BN(self.n[name], in_place=True, param=list(self.bn_params), bn_param=bn)
        if relu:
            self.n[relu] = top = L.ReLU(top, in_place=True)
        return top

    def classifier(self, x: Top, name: str, channels: int, kernel: int) -> Top:
        """A convolution alone, which keeps the plane's size."""
        self.n[name] = L.Convolution(
            x,
            param=list(_CONVOLUTION_PARAMS),
            num_output=channels,
            pad=[kernel // 2] if kernel > 1 else [],
            kernel_size=kernel,
            weight_filler=dict(type="msra"),
            bias_filler=dict(type="constant"),
        )
        return self.n[name]

    def pooling(self, x: Top, stage: int) -> Top:
        """Halve the plane, and remember where the maxima were."""
        tops = L.Pooling(x, ntop=2, pool=P.Pooling.MAX, kernel_size=2, stride=2)
        self.n[f"pool{stage}"], self.n[f"pool{stage}_mask"] = tops
        return tops[0]

    def upsampling(self, x: Top, stage: int, name: str, planes: Sequence[tuple[int, int]]) -> Top:
        """Back to the plane that the stage's pooling had: twice as large, less one where that was odd."""
        odd = {f"pad_out_{axis}": True for axis, size in zip("hw", planes[stage - 1], strict=True) if size % 2}
        mask = self.n[f"pool{stage}_mask"]
        self.n[name] = L.Upsample(x, mask, name=f"upsample{stage}", scale=2, **odd)
        return self.n[name]

    def dropout(self, x: Top, name: str) -> Top:
        """Dropout that goes on sampling in a network for inference."""
        sampling = dict(sample_weights_test=True) if self.inference else {}
        self.n[name] = L.Dropout(x, in_place=True, dropout_ratio=_DROPOUT, **sampling)
        return self.n[name]


def _planes(height: int, width: int, stages: int) -> list[tuple[int, int]]:
    """The plane before each pooling; Caffe rounds up."""
    planes = [(height, width)]
    while len(planes) < stages:
        planes.append(tuple((size + 1) // 2 for size in planes[-1]))
    return planes


def _data(n: NetSpec, height: int, width: int, batch_size: int, training: Training | None) -> Top:
    if training is None:
        n.data = net_input(batch_size, 3, height, width)
    else:
        n.data, n.label = L.DenseImageData(ntop=2, source=training.source, batch_size=training.batch_size, shuffle=True)
    return n.data


def _finished(n: NetSpec, score: Top, classes: int, training: Training | None, name: str) -> NetParameter:
    """The net with a soft-max, or with the loss and the accuracies."""
    if training is None:
        n.prob = L.Softmax(score, engine=P.Softmax.CAFFE)
    else:
        weights = (
            dict(weight_by_label_freqs=True, class_weighting=training.class_weights) if training.class_weights else {}
        )
        n.loss = L.SoftmaxWithLoss(
            score, n.label, loss_param=dict(ignore_label=classes, **weights), softmax_param=dict(engine=P.Softmax.CAFFE)
        )
        n.accuracy, n.per_class_accuracy = L.Accuracy(score, n.label, ntop=2)
    net = n.to_proto()
    net.name = name
    return net
