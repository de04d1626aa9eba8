"""A net for another number of classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from caffe_compat.errors import NetError
from caffe_compat.layer_kinds import KEEP_CHANNELS, LINEAR, PER_CHANNEL, linear_param
from prototxt.caffe_pb2 import LayerParameter, NetParameter
from prototxt.net_file import NetFile

#: Layers whose first bottom has a channel for each class.
_READ_SCORES = (
    "Accuracy",
    "ArgMax",
    "HingeLoss",
    "InfogainLoss",
    "MultinomialLogisticLoss",
    "Softmax",
    "SoftmaxWithLoss",
)


def set_classes(file: NetFile, classes: int, old: int | None = None) -> tuple[NetParameter, set[str], list[str]]:
    """Give the layers that make the scores another number of outputs.

    From every loss, softmax, accuracy and ArgMax, or from the outputs of a net without any, the scores are followed
    back to the layers that make them: through layers that keep channels, through sums, and through deconvolutions
    that enlarge scores. Class weights of the old number are taken out.

    Args:
        file: the net; layers of all phases are followed.
        classes: the new number, at least 1.
        old: the number to change, in a net whose heads tell different numbers of classes apart.

    Returns:
        The new net, the names of the layers whose old weights no longer fit, and what was changed, for people.

    Raises:
        NetError: with every layer from which the way back is not known; scores that no layer makes, or of several
            numbers of classes, without ``old``.
    """
    changed = NetParameter()
    changed.CopyFrom(file.message)
    walk = _Walk(file.message.layer, changed.layer, classes, old)
    for index, blob in _scores(changed.layer):
        walk.back(blob, index)
    counts = ", ".join(map(str, sorted(walk.found)))
    if not walk.found and not walk.problems:
        walk.problems.append("no layer makes scores; expected a convolution or inner product before the end")
    elif old and old not in walk.found:
        walk.problems.append(f"its scores are of {counts} classes, none of {old}; expected one of these to change")
    elif not old and len(walk.found) > 1:
        walk.problems.append(f"its scores are of {counts} classes; expected to be told which number to change (--old)")
    if walk.problems:
        raise NetError([f"{file.path}: {problem}" for problem in dict.fromkeys(walk.problems)])
    for layer in changed.layer:
        walk.told += _fit_loss(layer, classes)
    return changed, walk.refit, walk.told


def _scores(layers: Sequence[LayerParameter]) -> list[tuple[int, str]]:
    """Where scores are read: before which layer, and the blob."""
    found = [(i, layer.bottom[0]) for i, layer in enumerate(layers) if layer.type in _READ_SCORES]
    if found:
        return found
    read = {bottom for layer in layers for bottom in layer.bottom}
    return [(len(layers), top) for layer in layers for top in layer.top if top not in read]


class _Walk:
    """From scores back to the layers that make them."""

    def __init__(
        self, given: Sequence[LayerParameter], layers: Sequence[LayerParameter], classes: int, old: int | None
    ) -> None:
        self.given, self.layers, self.classes, self.old = given, layers, classes, old
        self.found: set[int] = set()
        self.refit: set[str] = set()
        self.told: list[str] = []
        self.problems: list[str] = []

    def back(self, blob: str, before: int) -> None:
        """Change whatever makes a blob that is read before a layer."""
        for index in _makers(self.layers, blob, before):
            layer = self.layers[index]
            if layer.type in LINEAR:
                self._linear(layer, index)
                continue
            if layer.type in PER_CHANNEL:
                self.refit.add(layer.name)
            elif layer.type not in (*KEEP_CHANNELS, "Eltwise"):
                self.problems.append(
                    f"layer {layer.name!r} ({layer.type}) makes the scores {blob!r}; the way back through it is not "
                    "known: expected layers that keep channels, then a convolution or inner product"
                )
                continue
            for bottom in layer.bottom if layer.type == "Eltwise" else layer.bottom[:1]:
                self.back(bottom, index)

    def _linear(self, layer: LayerParameter, index: int) -> None:
        param = linear_param(layer)
        old = param.num_output
        if layer.name in self.refit:
            return
        self.found.add(old)
        if self.old and old != self.old:
            return
        self.refit.add(layer.name)
        param.num_output = self.classes
        self.told.append(f"{layer.name}: num_output {self.classes}, was {old}")
        if layer.type == "Deconvolution":
            if param.group == old > 1:
                param.group = self.classes
            if _channels(self.given, layer.bottom[0], index) == {old}:
                self.back(layer.bottom[0], index)


def _makers(layers: Sequence[LayerParameter], blob: str, before: int) -> Iterator[int]:
    """The layers that write a blob last, before a layer; several where they belong to different phases."""
    for index in range(before - 1, -1, -1):
        if blob in layers[index].top:
            yield index
            if not layers[index].include and not layers[index].exclude:
                return


def _channels(layers: Sequence[LayerParameter], blob: str, before: int) -> set[int]:
    """The channels of a blob, of the linear layers that it comes from; empty where that is not known."""
    found: set[int] = set()
    for index in _makers(layers, blob, before):
        layer = layers[index]
        if layer.type in LINEAR:
            found.add(linear_param(layer).num_output)
        elif layer.type in (*KEEP_CHANNELS, *PER_CHANNEL, "Eltwise"):
            found |= _channels(layers, layer.bottom[0], index)
    return found


def _fit_loss(layer: LayerParameter, classes: int) -> list[str]:
    """Take out class weights that do not fit, and say what else speaks of classes."""
    told = []
    param = layer.loss_param
    if layer.HasField("loss_param") and len(param.class_weighting) not in (0, classes):
        told.append(
            f"{layer.name}: its {len(param.class_weighting)} class weights are taken out; "
            "`python -m segnet.class_weights` computes new ones"
        )
        param.ClearField("class_weighting")
        param.ClearField("weight_by_label_freqs")
    for given in (param, layer.accuracy_param):
        if given.HasField("ignore_label") and 0 <= given.ignore_label < classes:
            told.append(f"{layer.name}: ignore_label {given.ignore_label} is one of the classes 0 to {classes - 1}")
    if layer.type == "InfogainLoss":
        told.append(f"{layer.name}: its matrix must be {classes}x{classes}")
    return told
