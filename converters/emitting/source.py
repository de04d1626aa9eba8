"""The text of an emitted source, put together."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from caffe_compat import TRAIN, Net
from converters.emitting import parts
from converters.emitting.forward import Forward, forward
from converters.emitting.layout import mapping, signature
from converters.emitting.loading import loading
from converters.emitting.naming import class_name
from converters.emitting.plan import CannotEmit, Plan, Value, plan
from converters.emitting.writing import plain, quoted, shape_text

#: What emitted sources may use, by name, in the order of their file.
_PARTS = {
    name: inspect.getsource(part)
    for name, part in vars(parts).items()
    if getattr(part, "__module__", None) == parts.__name__
}
#: Names of files that say nothing of a net.
_GENERIC = ("deploy", "inference", "model", "net", "solver", "test", "train", "train_val", "trainval", "val")


def emit(net: Net, weights: str, module: str) -> str:
    """The source of an ``nn.Module`` that computes what the net does in TEST, in the same operations.

    Args:
        net: built for TEST.
        weights: the name of the file with its weights, for the docstring.
        module: the name that the source is to be imported by, for the docstring.

    Returns:
        The text, formatted.

    Raises:
        CannotEmit: with every layer that cannot be emitted.
    """
    if net.graph.context.phase == TRAIN:
        raise CannotEmit(
            "the net is built for TRAIN; expected TEST (--phase test): losses, data layers and statistics that follow "
            "the data are not emitted"
        )
    found = plan(net)
    body = forward(found)
    return _Source(net, found, body, class_name(_title(net), frozenset(_PARTS))).text(weights, module)


def _title(net: Net) -> str:
    """What a net is called: by its file, else in its file, else by its folder."""
    path = net.graph.context.paths.prototxt
    if path is None or path.stem in _GENERIC:
        return net.name or (path.parent.name if path else "")
    return path.stem


@dataclass
class _Source:
    """Everything that the text is made of."""

    net: Net
    plan: Plan
    body: Forward
    name: str

    def text(self, weights: str, module: str) -> str:
        """The whole text."""
        blocks = [*self._used_parts(), "\n".join(self._class()), *loading(self.name, self.body)]
        code = "\n\n\n".join(block.rstrip("\n") for block in blocks)
        functional = ["import torch.nn.functional as F"] if re.search(r"\bF\.", code) else []
        imports = ["from __future__ import annotations", "", "import torch", *functional, "from torch import nn"]
        return "\n".join([*self._docstring(weights, module), "", *imports, "", "", code]) + "\n"

    def _used_parts(self) -> list[str]:
        """The modules and functions that the class uses, and what these use."""
        used: set[str] = set()
        texts = ["\n".join([*self.body.init, *self.body.lines])]
        while texts:
            text = texts.pop()
            fresh = {name for name in _PARTS if name not in used and re.search(rf"(?<![\w.]){name}\(", text)}
            used |= fresh
            texts += [_PARTS[name] for name in fresh]
        return [_PARTS[name] for name in _PARTS if name in used]

    def _docstring(self, weights: str, module: str) -> list[str]:
        names, outputs = self.body.names, self.plan.outputs
        given = ", ".join(names[value] for value in self.plan.inputs)
        result = names[outputs[0]] if len(outputs) == 1 else "outputs"
        lines = [
            "",
            f"    from {module} import load",
            "",
            f'    net = load("{weights}")',
            "    with torch.no_grad():",
            f"        {result} = net({given})",
            "",
            *(line for value in self.plan.inputs for line in self._input(value)),
            *(f"output  {self._told(value)}" for value in outputs),
            *["Several outputs come as a dictionary by these names."] * (len(outputs) > 1),
            "",
            "Sizes in comments are those of this input; N is the number of items.",
        ]
        if self.plan.left_out:
            lines += ["Left out, as they train or measure:", *(f"  {layer}" for layer in self.plan.left_out)]
        first = f'"""{self.name}: a Caffe net in PyTorch, written by converters.caffe2torch. It needs torch alone.'
        return [first, *map(plain, lines), '"""']

    def _told(self, value: Value) -> str:
        return f"{value.blob}: {shape_text(value.shape, self.plan.batch, full=True)}"

    def _input(self, value: Value) -> list[str]:
        is_image = len(value.shape) == 4 and value.shape[1] == 3
        order = ", images in BGR order, 0 to 255" if is_image else ""
        return [f"input   {self._told(value)}, float32{order}", *[f"        {value.remark}"] * bool(value.remark)]

    def _class(self) -> list[str]:
        names, inputs, outputs = self.body.names, self.plan.inputs, self.plan.outputs
        lines = [f"class {self.name}(nn.Module):", f'    """{self._summary()}"""', ""]
        if self.body.init:
            lines += ["    def __init__(self) -> None:", "        super().__init__()", *self.body.init, ""]
        is_single = len(outputs) == 1
        returned = "torch.Tensor" if is_single else "dict[str, torch.Tensor]"
        given = [f"{names[value]}: torch.Tensor" for value in inputs]
        lines += signature(4, "def forward", ["self", *given], f" -> {returned}:")
        told = " and ".join(value.blob for value in outputs)
        told = told if len(told) < 80 else f"{len(outputs)} outputs by name"
        lines += [f'        """Compute {self._quotable(told)}."""', *self.body.lines]
        if is_single:
            return [*lines, f"        return {names[outputs[0]]}"]
        rows = [f"{quoted(value.blob)}: {names[value]}" for value in outputs]
        return [*lines, *mapping(8, "return ", rows)]

    def _summary(self) -> str:
        sides = [", ".join(map(self._told, side)) for side in (self.plan.inputs, self.plan.outputs)]
        told = self._quotable(f"{self.net.name.strip() or self.name}, from {sides[0]} to {sides[1]}.")
        return told if len(told) < 105 else f"{self.name}."

    @staticmethod
    def _quotable(text: str) -> str:
        return plain(text).replace('"', "'")
