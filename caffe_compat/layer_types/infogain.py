"""InfogainLoss: a multinomial logistic loss in which every pair of classes has a weight."""

from __future__ import annotations

import math

import torch

from caffe_compat.errors import LayerError
from caffe_compat.layer_base import TorchLayer
from caffe_compat.layer_types.losses import SMALLEST, LabelLoss, at_least
from caffe_compat.layer_types.softmax import check_labels, normalizer
from caffe_compat.registry import layer
from caffe_compat.shapes import Shape, canonical_axis
from prototxt.blobs import BlobArray
from prototxt.errors import FormatError, MissingFileError


class _Weighted(TorchLayer):
    """What both generations share: the weights H (K, K), from a file or from the third bottom."""

    bottoms = (2, 3)
    is_loss = True

    def setup(self) -> None:
        """Read the file, where the weights are not a bottom."""
        self.register_buffer("stored", None, persistent=False)
        if len(self.message.bottom) == 2:
            self.stored = self._read(self.message.infogain_loss_param.source)

    def _read(self, source: str) -> torch.Tensor:
        if not source:
            raise LayerError("neither a third bottom nor `infogain_loss_param { source }`; expected one, the weights")
        try:
            path = self.context.paths.resolve(source)
            return torch.tensor(BlobArray.from_wire(memoryview(path.read_bytes()), where=str(path)).data)
        except (FormatError, MissingFileError) as error:
            raise LayerError(error.problems) from error

    def check_weights(self, classes: int, bottoms: tuple[Shape, ...]) -> None:
        """Raise LayerError unless there is a weight for each pair of classes."""
        shape = tuple(bottoms[2]) if len(bottoms) == 3 else tuple(self.stored.shape)
        if math.prod(shape) != classes**2:
            raise LayerError(f"weights {shape} for {classes} classes; expected {(1, 1, classes, classes)}")

    def may_force_backward(self, bottom: int) -> bool:
        """Only the first."""
        return bottom == 0

    def weights(self, bottoms: tuple[torch.Tensor, ...], classes: int) -> torch.Tensor:
        """(K, K), a row for each label. They get no gradient."""
        return (bottoms[2] if len(bottoms) == 3 else self.stored).detach().view(classes, classes)


@layer("InfogainLoss")
class InfogainLoss(_Weighted, LabelLoss):
    """-sum of H[label, j] log p[j] over all classes j, the mean over the items.

    bottoms: probabilities (N, ...), flattened to K; labels (N,); H (1, 1, K, K), or ``source`` names a file with it
    top:     loss ()
    """

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """A single value."""
        tops = super().top_shapes(*bottoms)
        self.check_weights(math.prod(bottoms[0][1:]), bottoms)
        return tops

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor:
        """Compare."""
        probability, labels = self.by_item(*bottoms[:2])
        rows = self.weights(bottoms, probability.shape[1])[labels[:, 0]]
        return (-(rows * at_least(probability, SMALLEST).log()).sum() / rows.shape[0]).view(self.scalar)


@layer("InfogainLoss", "bvlc", "crf")
class InfogainLossBVLC(_Weighted):
    """Caffe of 2017: the softmax is part of the loss, and every place may have a label.

    bottoms: scores (N, K, H, W); labels (N, 1, H, W); weights (1, 1, K, K), or ``source`` names a file with them
    tops:    loss (), and the softmax when a second top is named

    It is divided by what ``normalization`` says, by default the counted places, and at least by 1.
    """

    tops = (1, 2)

    def setup(self) -> None:
        """Read the loss parameters."""
        super().setup()
        param = self.message.loss_param
        if param.HasField("normalize"):
            raise LayerError("`normalize` is given; expected `normalization: VALID` for true, BATCH_SIZE for false")
        self.ignored = param.ignore_label if param.HasField("ignore_label") else None
        self.normalization = param.normalization

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        """A single value, and the softmax."""
        scores, labels = bottoms[:2]
        self.axis = canonical_axis(self.message.infogain_loss_param.axis, len(scores))
        self.classes = classes = scores[self.axis]
        places = math.prod(scores) // classes
        if math.prod(labels) != places or not labels or labels[0] != scores[0]:
            raise LayerError(f"scores {tuple(scores)} and labels {tuple(labels)}; expected {places} labels")
        self.check_weights(classes, bottoms)
        self.scalar = self.context.scalar
        return [self.scalar, scores][: max(1, self.top_count)]

    def label_rule(self) -> tuple[int, int | None] | None:
        """The channels, and ``ignore_label``."""
        return self.classes, self.ignored

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Compare."""
        scores = bottoms[0].movedim(self.axis, -1)
        classes = scores.shape[-1]
        labels = bottoms[1].detach().to(torch.int64).reshape(scores.shape[:-1])
        places = counted = labels.numel()
        kept = None
        if self.ignored is not None:
            kept = labels != self.ignored
            counted, labels = kept.sum(), labels.masked_fill(~kept, 0)
        check_labels(labels, classes)
        rows = self.weights(bottoms, classes)[labels]
        if kept is not None:
            rows = rows * kept[..., None]
        log_prob = scores.log_softmax(-1)
        total = -(rows * at_least(log_prob, math.log(SMALLEST))).sum()
        items = math.prod(bottoms[0].shape[: self.axis])
        loss = (total / normalizer(self.normalization, items, places, counted)).view(self.scalar)
        return (loss, log_prob.detach().exp().movedim(-1, self.axis)) if self.top_count == 2 else loss
