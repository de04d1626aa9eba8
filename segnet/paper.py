"""What the paper reports (PAMI 39(12), 2017), figure by figure, under the names of ``segnet.networks``.

Measures are in percent: G the share of pixels that are right, C the mean over classes of a class's accuracy, mIoU, BF.
"""

from __future__ import annotations

from typing import NamedTuple

#: What all times were measured on.
MACHINE = "Titan, cuDNN v3"


class Scores(NamedTuple):
    """Of one training."""

    global_accuracy: float
    class_accuracy: float
    mean_iou: float
    bf: float


class Variant(NamedTuple):
    """A row of table 1: a decoder variant, tested on CamVid."""

    parameters: float
    """In millions."""
    storage: float | None
    """What the decoder takes over from the encoder, as a multiple of the pooling positions; None where it says n/a."""
    forward: float
    """Milliseconds for an image of 360×480, the mean of 50."""
    median: Scores
    """Trained with median frequency balancing."""
    natural: Scores


class Cost(NamedTuple):
    """A row of table 6: `caffe time` over 10 iterations, memory by nvidia-smi."""

    forward: float
    """Milliseconds for an image of 360×480."""
    backward: float
    training_memory: float
    """MB, at a mini-batch of 4."""
    inference_memory: float
    """MB, for one image."""
    model: float
    """MB of the caffemodel on the disk."""


TABLE_1 = {
    "bilinear_interpolation": Variant(0.625, 0, 24.2, Scores(77.9, 61.1, 43.3, 20.83), Scores(82.7, 52.5, 43.8, 23.08)),
    "segnet_basic": Variant(1.425, 1, 52.6, Scores(82.7, 62.0, 47.7, 35.78), Scores(84.0, 54.6, 46.3, 36.67)),
    "segnet_basic_encoder_addition": Variant(
        1.425, 64, 53.0, Scores(83.4, 63.6, 48.5, 35.92), Scores(84.2, 56.5, 47.7, 36.27)
    ),
    "segnet_basic_single_channel_decoder": Variant(
        0.625, 1, 33.1, Scores(81.2, 60.7, 46.1, 31.62), Scores(83.5, 53.9, 45.2, 32.45)
    ),
    "fcn_basic": Variant(0.65, 11, 24.2, Scores(81.7, 62.4, 47.3, 38.11), Scores(83.9, 55.6, 45.0, 37.33)),
    "fcn_basic_no_addition": Variant(
        0.65, None, 23.8, Scores(80.5, 58.6, 44.1, 31.96), Scores(82.3, 53.9, 44.2, 29.43)
    ),
    "fcn_basic_no_dim_reduction": Variant(
        1.625, 64, 44.8, Scores(84.1, 63.4, 50.1, 37.37), Scores(83.5, 57.3, 47.0, 37.13)
    ),
    "fcn_basic_no_addition_no_dim_reduction": Variant(
        1.625, 0, 43.9, Scores(80.5, 61.6, 45.9, 30.47), Scores(83.7, 54.8, 45.5, 33.17)
    ),
}

#: SegNet's accuracy for each class of CamVid (the last rows of table 2: 3.5 K training images, 140 K iterations).
TABLE_2 = {
    "Building": 89.6,
    "Tree": 83.4,
    "Sky": 96.1,
    "Car": 87.7,
    "SignSymbol": 52.7,
    "Road": 96.4,
    "Pedestrian": 62.2,
    "Fence": 53.45,
    "Pole": 32.1,
    "Pavement": 93.3,
    "Bicyclist": 36.5,
}

#: CamVid, natural frequencies, more than 80 K iterations.
TABLE_3 = {
    "segnet": Scores(90.40, 71.20, 60.10, 46.84),
    "deeplab_largefov": Scores(88.20, 62.53, 53.88, 32.77),
    "deeplab_largefov_dense_crf": Scores(89.71, 60.67, 54.74, 40.79),
    "fcn": Scores(83.27, 59.56, 49.83, 27.99),
    "fcn_learnt_deconvolution": Scores(83.14, 64.21, 51.96, 33.18),
    "deconvnet": Scores(89.58, 70.24, 59.77, 52.23),
}

#: SUN RGB-D, 37 classes, the best column.
TABLE_4 = {
    "segnet": Scores(72.63, 44.76, 31.84, 12.66),
    "deeplab_largefov": Scores(71.90, 42.21, 32.08, 8.26),
    "deeplab_largefov_dense_crf": Scores(66.96, 33.06, 24.13, 9.41),
    "fcn_learnt_deconvolution": Scores(68.18, 38.41, 27.39, 9.68),
    "deconvnet": Scores(66.13, 32.28, 22.57, 10.47),
}

TABLE_6 = {
    "segnet": Cost(422.50, 488.71, 6803, 1052, 117),
    "deeplab_largefov": Cost(110.06, 160.73, 5618, 1993, 83),
    "fcn_learnt_deconvolution": Cost(317.09, 484.11, 9735, 1806, 539),
    "deconvnet": Cost(474.65, 602.15, 9731, 1872, 877),
}
