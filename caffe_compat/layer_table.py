"""Writes docs/layers.md: every layer type of Caffe and its forks, and what is done with it here.

python -m caffe_compat.layer_table            writes it
python -m caffe_compat.layer_table --check    tells whether it is what would be written
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from tabulate import tabulate

from caffe_compat import layer_types as layer_types  # registers the layer types
from caffe_compat import registry
from prototxt import text
from prototxt.caffe_pb2 import LayerParameter, NetParameter, V1LayerParameter
from prototxt.caffemodel import new_caffemodel, parse_caffemodel
from prototxt.dialects import DIALECTS, REQUIRED, TYPES
from prototxt.net_file import parse_net
from prototxt.net_spec import OWN_FIELDS

_ROOT = Path(__file__).parents[1]
_FILE = _ROOT / "docs" / "layers.md"
_GOLDEN = _ROOT / "tests" / "golden"
#: Types that neither V1 nor a single fork tells: they came with V2 to all.
_COMMON = ("Filter", "Log", "PReLU", "Python", "Reduction", "Reshape", "SPP")

_TEXT = """\
# Layer types

Every type of Caffe and of the forks that this project reads.

* *read*, *write*: a layer of the type with its own parameters comes through text, and through the binary file of each
  of its dialects, unchanged.
* *forward*, *backward*: it runs; *none* where there is nothing to differentiate.
* *dialects*: those that have the type.
* *recorded*: the cases in `tests/golden/layers` and `tests/golden/data`, computed by Caffe itself, that contain it.

{table}

{running} of {all} types run. Written by `python -m caffe_compat.layer_table`; a test keeps it true.
"""


def every_type() -> list[str]:
    """The names of all types, in the current generation's spelling, sorted."""
    return sorted({*_of_v1(), *TYPES, *_COMMON, *registry.known_types()}, key=str.casefold)


@cache
def _of_v1() -> set[str]:
    """The types that V1 numbers, DeconvNet's with them, in the current generation's spelling."""
    numbers = [number for number in V1LayerParameter.LayerType.values() if number]
    old = "".join(f"layers {{ type: {number} }}\n" for number in numbers)
    return {layer.type for layer in parse_net(old, "V1's types").message.layer}


def _dialects(name: str) -> list[str]:
    known = TYPES.get(name, frozenset(DIALECTS)) - {"deconvnet"} | ({"deconvnet"} if name in _of_v1() else set())
    return [dialect for dialect in DIALECTS if dialect in known]


def recorded_cases() -> Counter[str]:
    """How many recorded cases contain each type."""
    found: Counter[str] = Counter()
    paths = {path: path.parent.name for path in _GOLDEN.glob("layers/*/*.prototxt")}
    paths |= dict.fromkeys(_GOLDEN.glob("data/*.prototxt"))
    for path, dialect in paths.items():
        net = parse_net(path.read_text(), str(path), dialect).message
        found.update({layer.type for layer in net.layer})
    return found


def _layer(name: str, dialect: str) -> LayerParameter:
    """A layer of a type, with its own parameters where the dialect has such (DeconvNet's Crop has none)."""
    layer = LayerParameter(name="layer", type=name, top=["top"])
    generation = V1LayerParameter if dialect == "deconvnet" else LayerParameter
    if OWN_FIELDS.get(name) in generation.DESCRIPTOR.fields_by_name:
        param = getattr(layer, OWN_FIELDS[name])
        param.SetInParent()
        for field in REQUIRED.get(param.DESCRIPTOR.name, ()):
            setattr(param, field, getattr(param, field))  # presence is what counts
    return layer


def comes_through(name: str, dialects: Sequence[str]) -> tuple[bool, bool]:
    """Whether a layer of a type comes through text, and through each dialect's binary file, with its parameters."""
    read = written = True
    for dialect in dialects:
        net = NetParameter(layer=[_layer(name, dialect)])
        read &= parse_net(text.format(net), "net", dialect).message == net
        model = new_caffemodel(net, {0: [np.ones(3, np.float32)]}, dialect)
        (back,) = parse_caffemodel(model.to_bytes()).layers
        written &= back.message == net.layer[0] and back.blobs[0].data.ravel().tolist() == [1, 1, 1]
    return read, written


def render() -> str:
    """The whole file."""
    cases = recorded_cases()
    rows = []
    for name in every_type():
        dialects = _dialects(name)
        classes = [cls for dialect in dialects if (cls := registry.find(name, dialect)) is not None]
        runs = bool(classes)
        learns = runs and any(cls.has_backward and not cls.is_source for cls in classes)
        backward = "yes" if learns else "none" if runs else "no"
        told = "all" if len(dialects) == len(DIALECTS) else ", ".join(dialects)
        through = ("yes" if works else "no" for works in comes_through(name, dialects))
        rows.append([name, *through, "yes" if runs else "no", backward, told, cases[name] or ""])
    head = ["type", "read", "write", "forward", "backward", "dialects", "recorded"]
    table = tabulate(rows, head, tablefmt="github")
    table = re.sub(r" +$", "", table, flags=re.MULTILINE)
    return _TEXT.format(table=table, running=sum(row[3] == "yes" for row in rows), all=len(rows))


def main() -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m caffe_compat.layer_table", description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file differs")
    if not parser.parse_args().check:
        _FILE.write_text(render(), "utf-8")
        return 0
    if _FILE.read_text("utf-8") == render():
        return 0
    print(f"{_FILE}: out of date; run `python -m caffe_compat.layer_table`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
