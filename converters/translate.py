"""A net of SegNet's fork for plain BVLC Caffe, and back, with the same outputs.

    python -m converters.translate segnet.prototxt --to bvlc --weights segnet.caffemodel --output segnet_bvlc

BN becomes Scale (INFERENCE) or BatchNorm and Scale (LEARN); Upsample becomes a Python layer whose text is written
beside the net. What the target cannot say is listed, all of it, before anything is written.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from caffe_compat.tools.arguments import image_size
from converters.model_files import Write, blobs_by_layer, model_writers, write_all
from converters.translation_rules import PYTHON_LAYER, RULES, Weighted, data_to_input
from prototxt.caffe_pb2 import LayerParameter, NetParameter
from prototxt.dialects import FIELDS, TYPES
from prototxt.errors import CaffeError
from prototxt.net_file import find_net, read_net
from prototxt.upgrade import to_current


class Untranslatable(CaffeError):
    """What the target dialect cannot say."""


def translate(
    net: NetParameter,
    blobs: dict[str, list[np.ndarray]],
    target: str,
    input_size: tuple[int, int] | None = None,
) -> tuple[NetParameter, list[list[np.ndarray]]]:
    """A net, and its weights, in another dialect.

    Args:
        net: of the current generation.
        blobs: layer name → its blobs; may be empty.
        target: ``bvlc`` or ``segnet``.
        input_size: (height, width) of the inputs that take the place of DenseImageData layers, which bvlc lacks.

    Returns:
        The net, and for each of its layers the blobs.

    Raises:
        Untranslatable: with every layer or field that the target does not know.
    """
    if target not in RULES:
        raise CaffeError(f"{target!r}; expected {' or '.join(RULES)}")
    layers: list[Weighted] = [(layer, blobs.get(layer.name, [])) for layer in net.layer]
    problems: list[str] = []
    for rule in [*([data_to_input(input_size)] if input_size else []), *RULES[target]]:
        layers = rule(layers, problems)
    translated = NetParameter()
    translated.CopyFrom(net)
    del translated.layer[:]
    if target == "segnet":
        layers = _inputs_to_fields(layers, translated)
    translated.layer.extend(layer for layer, _ in layers)
    translated = to_current(translated, target)
    added = len(translated.layer) - len(layers)
    problems += [problem for layer in translated.layer for problem in lacks(layer, target)]
    if problems:
        raise Untranslatable([f"layer {problem}" for problem in problems])
    return translated, [[]] * added + [own for _, own in layers]


def _inputs_to_fields(layers: list[Weighted], net: NetParameter) -> list[Weighted]:
    """Input layers of every phase as the net's own inputs, which the older Caffe has in their place."""
    done: list[Weighted] = []
    for layer, blobs in layers:
        if layer.type != "Input" or layer.include or layer.exclude:
            done.append((layer, blobs))
            continue
        net.input.extend(layer.top)
        shapes = list(layer.input_param.shape)
        net.input_shape.extend(shapes * len(layer.top) if len(shapes) == 1 else shapes)
    return done


def lacks(layer: LayerParameter, target: str) -> list[str]:
    """What a layer has that a dialect lacks, one text each."""
    if layer.type in TYPES and target not in TYPES[layer.type]:
        remedy = "; --input-size makes an input of it" if layer.type == "DenseImageData" else ""
        return [f"{layer.name!r}: {target} has no {layer.type}{remedy}"]
    found = []
    for field, value in layer.ListFields():
        messages = [(layer.DESCRIPTOR.name, field)]
        if field.message_type is not None and not field.is_repeated:
            messages += [(field.message_type.name, inner) for inner, _ in value.ListFields()]
        for message, inner in messages:
            row = FIELDS.get(message, {}).get(inner.name)
            if row is not None and target not in row:
                found.append(f"{layer.name!r} ({layer.type}): {target} has no `{inner.name}`")
    return found


def translate_files(
    prototxt: str | Path,
    target: str,
    output: str | Path,
    weights: str | Path | None = None,
    *,
    input_size: tuple[int, int] | None = None,
    force: bool = False,
) -> list[Path]:
    """Translate a prototxt, and a caffemodel. Returns the files that were written; ``output`` is their name's stem.

    Raises:
        CaffeError: of the files; of what cannot be translated; or a file is there already.
    """
    net = read_net(find_net(prototxt))
    stored = blobs_by_layer(weights)
    translated, blobs = translate(net.message, stored, target, input_size)
    own = [  # what the file says nothing of is filled, as before
        each if each or layer.name in stored else None for layer, each in zip(translated.layer, blobs, strict=True)
    ]
    return write_translated(translated, own if weights else None, target, output, force=force)


def write_translated(
    net: NetParameter,
    blobs: Sequence[Sequence[np.ndarray] | None] | None,
    dialect: str,
    output: str | Path,
    *,
    force: bool = False,
) -> list[Path]:
    """Write a net, its weights, and the Python layer if it has one. Returns the files; ``output`` is their stem.

    Without ``blobs`` the net alone is written; a layer whose blobs are None is left out of the weights.

    Raises:
        CaffeError: a file is there already; a field that the dialect does not know.
    """
    stem = Path(output)
    return write_with_layers(stem, net, model_writers(stem, net, blobs, dialect), force)


def write_with_layers(stem: Path, net: NetParameter, writers: dict[Path, Write], force: bool) -> list[Path]:
    """Write a net's files, and the Python layer if it has one. Raises CaffeError: a file is there already."""
    if any(layer.python_param.module == PYTHON_LAYER.stem for layer in net.layer):
        writers[stem.with_name(PYTHON_LAYER.name)] = lambda draft: draft.write_bytes(PYTHON_LAYER.read_bytes())
    return write_all(writers, force, [PYTHON_LAYER.name])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m converters.translate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prototxt", help="a prototxt file, or the name of a network shipped with the project")
    parser.add_argument("--to", choices=tuple(RULES), required=True, help="the dialect to translate to")
    parser.add_argument("--weights", metavar="FILE", help="the weights to translate with it")
    parser.add_argument("--output", metavar="STEM", help="the new files' name without ending (default: NAME_DIALECT)")
    parser.add_argument(
        "--input-size", type=image_size, metavar="HxW", help="make inputs of this size of DenseImageData layers"
    )
    parser.add_argument("--force", action="store_true", help="replace existing files")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    output = args.output or f"{Path(args.prototxt).stem}_{args.to}"
    try:
        written = translate_files(
            args.prototxt, args.to, output, args.weights, input_size=args.input_size, force=args.force
        )
    except CaffeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path in written:
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
