"""The text of an emitted source, put together."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from caffe_compat import TRAIN, Net
from converters.emitting import parts
from converters.emitting.forward import Forward, forward
from converters.emitting.layout import mapping, signature
from converters.emitting.naming import class_name
from converters.emitting.plan import CannotEmit, Plan, Value, plan
from converters.emitting.writing import quoted, shape_text

#: What emitted sources may use, by name, in the order of their file.
_PARTS = {
    name: inspect.getsource(part)
    for name, part in vars(parts).items()
    if getattr(part, "__module__", None) == parts.__name__
}
_LOAD = '''\
def load(path: str) -> {name}:
    """The net with the weights of a file, for inference.

    The file is what converters.caffe2torch wrote, .pt or .safetensors, or a ``state_dict`` of this class.
    """
    if str(path).endswith(".safetensors"):
        from safetensors.torch import load_file

        state = load_file(path)
    else:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content.get("state_dict", content)
    net = {name}()
    own = net.state_dict()
    if state.keys() != own.keys():
        names = {{key: caffe_name({arguments}) for key in own}}
        missing = [name for name in names.values() if name not in state]
        if missing:
            raise ValueError(f"{{path}}: no {{', '.join(missing[:4])}}; expected weights converted with this source")
        state = {{key: state[names[key]].view_as(value) for key, value in own.items()}}
    net.load_state_dict(state)
    return net.eval()
'''


def emit(net: Net, stem: str, weights: str, module: str) -> str:
    """The source of an ``nn.Module`` that computes what the net does in TEST, in the same operations.

    Args:
        net: built for TEST.
        stem: the prototxt's name without ending, after which the class is named.
        weights: the name of the file with its weights, for the docstring.
        module: the name that the source is to be imported by, for the docstring.

    Returns:
        The text, formatted.

    Raises:
        CannotEmit: with every layer that cannot be emitted.
    """
    if net.graph.context.phase == TRAIN:
        raise CannotEmit(
            f"{stem}: built for TRAIN; expected TEST, as losses, data layers and statistics that follow the data are "
            "not emitted. The source of the TEST net can be trained too"
        )
    found = plan(net)
    body = forward(found)
    name = class_name(stem, _PARTS)
    return _Source(net, found, body, name).text(weights, module)


@dataclass
class _Source:
    """Everything that the text is made of."""

    net: Net
    plan: Plan
    body: Forward
    name: str

    def text(self, weights: str, module: str) -> str:
        """The whole text."""
        blocks = [self._used_parts(), "\n".join(self._class()), *self._loading()]
        code = "\n\n\n".join(block for block in blocks if block)
        imports = "import torch\n"
        imports += "import torch.nn.functional as F\n" if re.search(r"\bF\.", code) else ""
        imports += "from torch import nn\n"
        head = [self._docstring(weights, module), "from __future__ import annotations\n", imports]
        return "\n".join(head) + "\n\n" + code.rstrip("\n") + "\n"

    def _used_parts(self) -> str:
        """The modules and functions that the class uses, and what these use."""
        used: set[str] = set()
        texts = ["\n".join([*self.body.init, *self.body.lines])]
        while texts:
            text = texts.pop()
            fresh = {name for name in _PARTS if name not in used and re.search(rf"(?<![\w.]){name}\(", text)}
            used |= fresh
            texts += [_PARTS[name] for name in fresh]
        return "\n\n\n".join(_PARTS[name].rstrip("\n") for name in _PARTS if name in used)

    def _docstring(self, weights: str, module: str) -> str:
        names, outputs = self.body.names, self.plan.outputs
        given = ", ".join(names[value] for value in self.plan.inputs)
        result = names[outputs[0]] if len(outputs) == 1 else "outputs"
        lines = [
            f'"""{self.name}: a Caffe net in PyTorch, written by converters.caffe2torch. It needs torch alone.',
            "",
            f"    from {module} import load",
            "",
            f'    net = load("{weights}")',
            "    with torch.no_grad():",
            f"        {result} = net({given})",
            "",
            *(self._input(value) for value in self.plan.inputs),
            *(f"output  {value.blob}: {shape_text(value.shape, self.plan.batch, full=True)}" for value in outputs),
        ]
        if len(outputs) > 1:
            lines.append("Several outputs come as a dictionary by these names.")
        lines += ["", "Sizes in comments are those of this input; N is the number of items."]
        if self.plan.left_out:
            lines += ["Left out, as they train or measure:", *(f"  {layer}" for layer in self.plan.left_out)]
        lines[1:] = [line.replace("\\", "/").replace('"""', "'''") for line in lines[1:]]
        return "\n".join([*lines, '"""', ""])

    def _input(self, value: Value) -> str:
        is_image = len(value.shape) == 4 and value.shape[1] == 3
        told = "; images are BGR, 0 to 255 but for what the Caffe net's data layer does to them" if is_image else ""
        return f"input   {value.blob}: float32 {shape_text(value.shape, self.plan.batch, full=True)}{told}"

    def _class(self) -> list[str]:
        lines = [f"class {self.name}(nn.Module):", f'    """{self._summary()}"""', ""]
        if self.body.init:
            lines += ["    def __init__(self) -> None:", "        super().__init__()", *self.body.init, ""]
        inputs = [f"{self.body.names[value]}: torch.Tensor" for value in self.plan.inputs]
        outputs = self.plan.outputs
        single = len(outputs) == 1
        returned = "torch.Tensor" if single else "dict[str, torch.Tensor]"
        lines += signature(4, "def forward", ["self", *inputs], f" -> {returned}:")
        lines += [f'        """{self._result()}"""', *self.body.lines]
        if single:
            return [*lines, f"        return {self.body.names[outputs[0]]}"]
        rows = [f"{quoted(value.blob)}: {self.body.names[value]}" for value in outputs]
        return [*lines, *mapping(8, "return ", rows)]

    def _summary(self) -> str:
        title = self.net.graph.message.name.replace("\\", "/").replace('"', "'").strip()
        return f"{title or self.name}, as its prototxt has it." if len(title) < 80 else f"{self.name}."

    def _result(self) -> str:
        told = " and ".join(value.blob for value in self.plan.outputs).replace("\\", "/").replace('"', "'")
        return f"Compute {told}." if len(told) < 80 else f"Compute {len(self.plan.outputs)} outputs by name."

    def _loading(self) -> list[str]:
        """What finds the weights under their names in a converted file, and ``load``."""
        if not self.body.init:
            return [_LOAD_NOTHING.format(name=self.name)]
        renamed = self.body.renamed
        blocks = []
        if renamed:
            rows = [f"{quoted(own)}: {quoted(caffe)}" for own, caffe in renamed.items()]
            table = ["#: Caffe's names of the layers that have other names here.", *mapping(0, "CAFFE_LAYERS = ", rows)]
            blocks.append("\n".join(table))
        layer = "CAFFE_LAYERS.get(layer, layer)" if renamed else "layer"
        slopes = any(" = nn.PReLU(" in line for line in self.body.init)
        lines = [f"def caffe_name({'net: nn.Module, ' if slopes else ''}key: str) -> str:"]
        lines += ['    """The name of a parameter in a converted file."""', '    layer, _, blob = key.rpartition(".")']
        if slopes:
            lines += ["    if isinstance(net.get_submodule(layer), nn.PReLU):", '        blob = "slope"']
        lines.append(f'    return f"layer.{{{layer}}}.{{blob}}"')
        arguments = "net, key" if slopes else "key"
        return [*blocks, "\n".join(lines), _LOAD.format(name=self.name, arguments=arguments)]


_LOAD_NOTHING = '''\
def load(path: str = "") -> {name}:
    """The net, for inference. It has no weights, so the file is not read."""
    return {name}().eval()
'''
