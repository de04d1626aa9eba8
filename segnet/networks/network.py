"""What a network is: its middle, between the data and the soft-max or the loss, which all have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prototxt.caffe_pb2 import NetParameter
from prototxt.errors import CaffeError
from prototxt.net_spec import NetSpec, Top, net_input
from prototxt.net_spec import layers as L
from prototxt.net_spec import params as P
from segnet import camvid
from segnet.networks.maker import Maker


@dataclass(frozen=True)
class Training:
    """What a network needs to be trained; without it, one for inference is made."""

    source: str = camvid.TRAIN_LIST
    """The list of image and label files."""
    batch_size: int = 4
    class_weights: Sequence[float] = ()
    """One for each class, or none."""


@dataclass(frozen=True)
class Network:
    """A network by its name; called, it is built."""

    name: str
    """Under which it is shipped."""
    title: str
    """The paper's name for it."""
    scores: Callable[..., Top]
    """Adds its layers with a Maker; gives the scores, (N, classes, height, width)."""
    net_name: str
    """The message's own name."""

    def __call__(
        self,
        height: int = camvid.HEIGHT,
        width: int = camvid.WIDTH,
        classes: int = len(camvid.CLASSES),
        *,
        batch_size: int = 1,
        training: Training | None = None,
        **options: bool,
    ) -> NetParameter:
        """The network, from data (N, 3, height, width) to ``prob`` (N, classes, height, width), or to its loss.

        Args:
            height, width: of the images, in pixels.
            classes: their number. In training the label of that number is void.
            batch_size: images at a time for inference; for a Bayesian network the samples that are drawn.
            training: for a network to train, with its own batch size.
            options: those that the network has (``bayesian``).

        Raises:
            CaffeError: a size that the network cannot have.
        """
        batch = training.batch_size if training else batch_size
        sizes = {"height": height, "width": width, "classes": classes, "batch_size": batch}
        if wrong := [f"{self.name}: {what} {size}; expected at least 1" for what, size in sizes.items() if size < 1]:
            raise CaffeError(wrong)
        n = NetSpec()
        if training is None:
            n.data = net_input(batch, 3, height, width)
        else:
            n.data, n.label = L.DenseImageData(ntop=2, source=training.source, batch_size=batch, shuffle=True)
        maker = Maker(n, n.data, height, width, classes, inference=training is None)
        _finish(n, self.scores(maker, **options), classes, training)
        net = n.to_proto()
        net.name = self.net_name
        return net


def network(name: str, title: str, net_name: str = "") -> Callable[[Callable[..., Top]], Network]:
    """Make a Network of the function that adds its layers."""

    def made(scores: Callable[..., Top]) -> Network:
        return Network(name, title, scores, net_name or name)

    return made


def _finish(n: NetSpec, score: Top, classes: int, training: Training | None) -> None:
    """Add a soft-max, or the loss and the accuracies."""
    if training is None:
        n.prob = L.Softmax(score, engine=P.Softmax.CAFFE)
        return
    weights = dict(weight_by_label_freqs=True, class_weighting=training.class_weights) if training.class_weights else {}
    n.loss = L.SoftmaxWithLoss(
        score, n.label, loss_param=dict(ignore_label=classes, **weights), softmax_param=dict(engine=P.Softmax.CAFFE)
    )
    n.accuracy, n.per_class_accuracy = L.Accuracy(score, n.label, ntop=2)
