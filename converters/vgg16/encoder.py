"""VGG16's thirteen convolutions as the start of a net's encoder.

The original SegNet, DeconvNet, FCN and DeepLab all begin their trainings so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tabulate import tabulate

from caffe_compat.errors import LayerError, NetError
from caffe_compat.graph import Graph, Node
from converters.inspection import remarks
from converters.vgg16.images import fold, images_of
from converters.vgg16.layout import NAMES, SHAPES
from converters.vgg16.placing import Put, place
from converters.vgg16.source import Filters, Vgg16
from prototxt.caffe_pb2 import NetParameter
from prototxt.caffemodel import new_caffemodel
from prototxt.weights import Caffemodel


@dataclass
class Encoder:
    """What VGG16 gives a net, and what it does not."""

    graph: Graph
    puts: list[Put]
    told: list[str]

    def model(self) -> Caffemodel:
        """A weights file with the layers that get something, and no others, so that fillers make the rest."""
        message = NetParameter(name=self.graph.message.name, layer=[put.node.message for put in self.puts])
        return new_caffemodel(message, {i: put.blobs for i, put in enumerate(self.puts)}, self.graph.dialect)

    def describe(self) -> str:
        """Layer by layer what was taken, then the rest, for people."""
        rows = [
            [put.source, put.node.layer.name, "×".join(map(str, put.blobs[0].shape)), _remark(put)] for put in self.puts
        ]
        return "\n".join([tabulate(rows, ["VGG16", "layer", "shape", ""], disable_numparse=True), *self.told])


def _remark(put: Put) -> str:
    strange = [said for blob in put.blobs if "NaN" in (said := remarks(blob)) or "inf" in said]
    return "; ".join(filter(None, (put.remark, *strange)))


def encoder_of(graph: Graph, vgg: Vgg16, fold_mean: bool = False) -> Encoder:
    """Put VGG16's convolutions into those of a net.

    The net's are found by the names conv1_1 … conv5_3; a net with none of these gives its first thirteen convolutions.
    An encoder may end early, but not have gaps. What VGG16 subtracts from images goes into the first convolution:
    always with torchvision's weights, with Caffe's own where ``fold_mean`` says so. (SegNet's authors copied them as
    they are, and fed images without a mean subtracted.)

    Args:
        graph: of the net.
        vgg: its weights.
        fold_mean: see above.

    Raises:
        NetError: with everything that does not fit.
        CaffeError: of the mean file that the net's data layer names.
    """
    nodes, how = _targets(graph)
    told = [f"{len(nodes)} convolutions of {how}"]
    filters, done, images = _for_images(graph, nodes[0], vgg, fold_mean)
    told += images
    puts: list[Put] = []
    problems: list[str] = []
    for i, (node, one) in enumerate(zip(nodes, filters, strict=False)):
        try:
            puts += place(graph, node, one, "" if i else ", ".join(done))
        except LayerError as error:
            problems += error.at(node.where)
    if problems:
        raise NetError(problems)
    got = {id(put.node) for put in puts}
    left = [node.layer.name for node in graph.nodes if node.params and id(node) not in got]
    unused = [*(one.name for one in filters[len(nodes) :]), *vgg.unused]
    told.append(f"left as the fillers make them: {', '.join(left) or 'none'}")
    told.append(f"of VGG16 not used: {', '.join(unused) or 'nothing'}")
    return Encoder(graph, puts, told)


def _targets(graph: Graph) -> tuple[list[Node], str]:
    """The net's convolutions, and how they were found. Raises NetError with all that do not fit."""
    by_name = {node.layer.name: node for node in reversed(graph.nodes)}
    count = max((i for i, name in enumerate(NAMES, 1) if name in by_name), default=0)
    convolutions = [node for node in graph.nodes if node.layer.type == "Convolution"]
    path = graph.context.paths.prototxt
    problems = []
    if count:
        nodes = [by_name.get(name) for name in NAMES[:count]]
        problems += [
            f"{path}: there is no layer {name!r}; expected all from {NAMES[0]} to {NAMES[count - 1]}"
            for name, node in zip(NAMES, nodes, strict=False)
            if node is None
        ]
        how = f"the net, by name, {NAMES[0]} to {NAMES[count - 1]}"
    else:
        nodes = convolutions[: len(NAMES)]
        how = f"the net, in order ({nodes[0].layer.name} to {nodes[-1].layer.name})" if nodes else ""
        if len(nodes) < len(NAMES):
            problems.append(
                f"{path}: {len(nodes)} convolutions, none of them named as VGG16's; expected {NAMES[0]} to "
                f"{NAMES[-1]}, or {len(NAMES)} in that order"
            )
    for name, shape, node in zip(NAMES, SHAPES, nodes, strict=False):
        if node is not None and (node.layer.type != "Convolution" or tuple(node.params[0].spec.shape) != shape):
            found = [tuple(param.spec.shape) for param in node.params]
            problems.append(f"{node.where}: parameters {found}; expected a Convolution of {shape}, VGG16's {name}")
    if problems:
        raise NetError(problems)
    return nodes, how


def _for_images(
    graph: Graph, first: Node, vgg: Vgg16, fold_mean: bool
) -> tuple[Sequence[Filters], list[str], list[str]]:
    """The filters for the images that the net is fed, what was done to the first, and what there is to know."""
    if vgg.is_caffe and not fold_mean:
        told = "; --fold-mean puts that into the first bias" if vgg.images.mean.any() else ""
        return vgg.filters, [], [f"images: copied as it is, made for {vgg.images.told}{told}"]
    fed = images_of(graph, first)
    weight, bias, done, moved = fold(vgg.filters[0].weight, vgg.filters[0].bias, vgg.images, fed)
    told = [f"images: made for {vgg.images.told}; fed with {fed.told}"]
    if moved and any(first.layer.window.pad):
        told.append(
            f"images: {first.layer.name} pads with zeros, which are no longer VGG16's mean, so it differs along the "
            "edge; elsewhere it is the same"
        )
    return [replace(vgg.filters[0], weight=weight, bias=bias), *vgg.filters[1:]], done, told
