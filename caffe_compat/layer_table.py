"""Writes docs/layers.md: every layer type of Caffe and its forks, and what is done with it here.

python -m caffe_compat.layer_table            writes it
python -m caffe_compat.layer_table --check    tells whether it is what would be written
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path

from tabulate import tabulate

from caffe_compat import layer_types as layer_types  # registers the layer types
from caffe_compat import registry
from prototxt.caffe_pb2 import V1LayerParameter
from prototxt.dialects import DIALECTS, FIRST_DECONVNET_TYPE, TYPES
from prototxt.net_file import parse_net

_ROOT = Path(__file__).parents[1]
_FILE = _ROOT / "docs" / "layers.md"
_CASES = _ROOT / "tests" / "golden" / "layers"
#: Types that neither V1 nor a single fork tells: they came with V2 to all.
_COMMON = ("Filter", "Log", "PReLU", "Python", "Reduction", "Reshape", "SPP")

_TEXT = """\
# Layer types

Every type of Caffe and of the forks that this project reads. All are read and written, in text and in binary files,
with their parameters; *forward* and *backward* tell which run. *Dialects* are those that have the type. *Recorded*
counts the cases in `tests/golden/layers`, computed by Caffe itself, that contain it. Written by
`python -m caffe_compat.layer_table`.

{table}

{running} of {all} types run.
"""


def every_type() -> list[str]:
    """The names of all types, in the current generation's spelling, sorted."""
    return sorted({*_of_v1(0), *TYPES, *_COMMON, *registry.known_types()}, key=str.casefold)


def _of_v1(first: int) -> set[str]:
    """The types that V1 numbers from ``first`` on, in the current generation's spelling."""
    numbers = [number for number in V1LayerParameter.LayerType.values() if number >= max(first, 1)]
    old = "".join(f"layers {{ type: {number} }}\n" for number in numbers)
    return {layer.type for layer in parse_net(old, "V1's types").message.layer}


def _dialects(name: str) -> list[str]:
    known = TYPES.get(name, frozenset(DIALECTS)) | ({"deconvnet"} if name in _of_v1(FIRST_DECONVNET_TYPE) else set())
    return [dialect for dialect in DIALECTS if dialect in known]


def recorded_cases(folder: Path = _CASES) -> Counter[str]:
    """How many recorded cases contain each type."""
    found: Counter[str] = Counter()
    for path in folder.glob("*/*.prototxt"):
        net = parse_net(path.read_text(), str(path), path.parent.name).message
        found.update({layer.type for layer in net.layer})
    return found


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
        rows.append([name, "yes" if runs else "no", backward, told, cases[name] or ""])
    table = tabulate(rows, ["type", "forward", "backward", "dialects", "recorded"], tablefmt="github")
    table = re.sub(r" +$", "", table, flags=re.MULTILINE)
    return _TEXT.format(table=table, running=sum(row[1] == "yes" for row in rows), all=len(rows))


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
