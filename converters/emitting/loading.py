"""The end of an emitted source: ``load``, which knows the names that weights have in a converted file."""

from __future__ import annotations

from converters.emitting.forward import Forward
from converters.emitting.layout import mapping
from converters.emitting.writing import quoted

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
_LOAD_NOTHING = '''\
def load(path: str = "") -> {name}:
    """The net, for inference. It has no weights, so the file is not read."""
    return {name}().eval()
'''


def loading(name: str, body: Forward) -> list[str]:
    """The blocks of source that load weights into a class: a table of names where it is needed, and functions."""
    if not body.init:
        return [_LOAD_NOTHING.format(name=name)]
    blocks = []
    if body.renamed:
        rows = [f"{quoted(own)}: {quoted(caffe)}" for own, caffe in body.renamed.items()]
        table = ["#: Caffe's names of the layers that have other names here.", *mapping(0, "CAFFE_LAYERS = ", rows)]
        blocks.append("\n".join(table))
    layer = "CAFFE_LAYERS.get(layer, layer)" if body.renamed else "layer"
    has_slopes = any(" = nn.PReLU(" in line for line in body.init)
    lines = [
        f"def caffe_name({'net: nn.Module, ' if has_slopes else ''}key: str) -> str:",
        '    """The name of a parameter in a converted file."""',
        '    layer, _, blob = key.rpartition(".")',
    ]
    if has_slopes:
        lines += ["    if isinstance(net.get_submodule(layer), nn.PReLU):", '        blob = "slope"']
    lines.append(f'    return f"layer.{{{layer}}}.{{blob}}"')
    arguments = "net, key" if has_slopes else "key"
    return [*blocks, "\n".join(lines), _LOAD.format(name=name, arguments=arguments)]
