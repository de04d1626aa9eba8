"""A segmentation net over a list of images: the label of every pixel, and how sure a Bayesian net is of it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from caffe_compat import TEST, Net, NetError
from caffe_compat.data.dense_image import DenseImageSource
from caffe_compat.deciding import deciding_blob
from caffe_compat.layer_types.bn import BN
from caffe_compat.paths import Paths
from prototxt.caffe_pb2 import DenseImageDataParameter, TransformationParameter

log = logging.getLogger(__name__)


class Segmented(NamedTuple):
    """One image of a list."""

    image: Path
    label: Path
    truth: np.ndarray
    """(H, W) the label image, at the size of the net's output."""
    prediction: np.ndarray
    """(H, W) labels."""
    uncertainty: np.ndarray | None
    """(H, W) of a net that draws samples: the variance over them, averaged over the classes."""


class Segmenter:
    """Labels images by a net for inference.

    Args:
        net: ends in scores of classes or in an ArgMax. One whose Dropout has ``sample_weights_test`` draws samples.
        samples: to draw for each image; by default as many as the net takes items at a time.
        engine: run the net's engine of this precision ("fp32", "bf16", "fp16") in its place.

    Raises:
        NetError: the net gives no labels, or none that samples can be averaged of.
    """

    def __init__(self, net: Net, samples: int | None = None, engine: str | None = None) -> None:
        self.net = net
        self._run = net.engine(engine) if engine else net
        self.output, self.gives_labels = deciding_blob(net)
        if self.output not in net.outputs:
            raise NetError(
                f"blob {self.output!r}, which decides on the labels, is no output of the net but goes into a loss; "
                "expected a net for inference"
            )
        self.input = next((name for name in net.graph.feeds if len(net.blobs[name].shape) == 4), "")
        if not self.input:
            raise NetError(
                f"no input of shape (N, C, H, W), only {', '.join(net.graph.feeds)}; expected one for images"
            )
        items, self.channels, *self.size = net.blobs[self.input].shape
        sampling = any(getattr(layer, "samples_in_test", False) for layer in net.layers)
        self.samples = (samples or items) if sampling else 1
        self.batch_size = 1 if sampling else items
        if sampling and self.gives_labels:
            raise NetError(
                f"blob {self.output!r} holds labels, of which no mean over samples can be taken; expected a net that "
                "ends in a Softmax"
            )
        if any(isinstance(layer, BN) and not layer.affine_only for layer in net.layers):
            log.warning(
                "BN layers with `bn_mode: LEARN` normalise with the statistics of each batch, so that results hang on "
                "the batch; expected `bn_mode: INFERENCE` and weights from segnet.bn_statistics"
            )
        read = {bottom for node in net.graph.nodes for bottom in node.bottoms}
        self._others = [name for name in net.graph.feeds if name != self.input and name in read]

    @property
    def classes(self) -> int | None:
        """The number of classes, where the net's output tells it."""
        return None if self.gives_labels else self.net.blobs[self.output].shape[1]

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Label images (N, C, H, W) of any size; N is 1 for a net that draws samples.

        Returns:
            Labels (N, H, W), of equal scores the first (as the tutorial's scripts; an ArgMax takes the last), and the
            uncertainty (N, H, W), if samples were drawn.
        """
        device = next(self.net.parameters(), images).device
        images = images.repeat(self.samples, 1, 1, 1).to(device)
        others = {name: images.new_zeros(len(images), *self.net.blobs[name].shape[1:]) for name in self._others}
        out = self._run(**{self.input: images}, **others)[self.output]
        if self.gives_labels:
            return out[:, 0].long().cpu(), None
        if self.samples == 1:
            return out.argmax(1).cpu(), None
        uncertainty = out.var(0, correction=0).mean(0, keepdim=True)
        return out.mean(0, keepdim=True).argmax(1).cpu(), uncertainty.cpu()

    def over_list(
        self,
        list_file: str | os.PathLike[str],
        *,
        size: tuple[int, int] | None = None,
        roots: Sequence[tuple[str, str]] = (),
    ) -> Iterator[Segmented]:
        """Label the images of a list, each resized to the net's input, as a DenseImageData layer reads them.

        Args:
            list_file: names an image and its label image on each line.
            size: (height, width) to resize to, in place of the net's.
            roots: pairs ``(old, new)`` of path prefixes, for files that lie elsewhere than the list says.

        Raises:
            MissingFileError, FormatError, LayerError: of the list and the images.
        """
        height, width = size or self.size
        source = DenseImageSource(
            DenseImageDataParameter(
                source=os.fspath(list_file),
                batch_size=self.batch_size,
                new_height=height,
                new_width=width,
                is_color=self.channels != 1,
            ),
            self._transform(),
            TEST,
            self.net.dialect,
            Paths(roots=roots),
        )
        count = len(source)
        with tqdm(total=count, desc="images", disable=None) as progress:
            for start in range(0, count, self.batch_size):
                data, truth = source.next_batch()
                new = min(self.batch_size, count - start)  # what comes after is the beginning of the list
                labels, uncertainty = self(torch.from_numpy(data[:new]))
                for i, files in enumerate(source.last_files[:new]):
                    unsure = None if uncertainty is None else uncertainty[i].numpy()
                    yield Segmented(*files, truth[i, 0].astype(np.int64), labels[i].numpy(), unsure)
                    progress.update()
        source.close()

    def _transform(self) -> TransformationParameter:
        """What the net's own data layer does to an image; nothing where it has none."""
        makers = [node.message for node in self.net.graph.nodes if self.input in node.tops and node.layer.is_source]
        return makers[0].transform_param if makers else TransformationParameter()
