"""Record what a Caffe computes from a net, its weights and inputs, for ``python -m converters.parity`` elsewhere.

    python record.py net.prototxt net.caffemodel --input data=image.npy --output record.npz
    python record.py net.prototxt net.caffemodel --random 1 --gradients --output record.npz

This file stands alone: copy it to the machine with Caffe. It needs NumPy and pycaffe of any fork since 2014, under
Python 2.7 or 3. Every layer is run by itself, so that in-place layers are seen before the next one overwrites them.

The record is a .npz. "meta" is a JSON text as bytes. "input/NAME" holds what was fed, "top/LAYER/TOP" what a layer
gave (numbers as in Caffe's order of layers), "gradient/NUMBER" a gradient, "labels" the strongest class of the last
scores. A large array KEY is stored as "KEY/sample", its values at sample_positions(KEY, ...), and "KEY/stats", its
sum, sum of absolute values, minimum and maximum. Positions of pooling are whole, as "KEY/base", "KEY/table" and
"KEY/index" (see packed_mask), and so is what Dropout let pass, as the bits "KEY/kept".
"""

from __future__ import print_function

import argparse
import importlib
import io
import json
import os
import platform
import re
import sys
import tempfile
import zlib

import numpy as np

FORMAT, VERSION = "caffe-record", 1
SAMPLES = 4096
_TOKEN = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|#[^\n]*|[{}<>\[\]:;,]|[^\s{}<>\[\]:;,\"'#]+")


def crc(values):
    """CRC-32 of an array's values as little-endian float32 in C order, or of a text."""
    if not isinstance(values, np.ndarray):  # names are bytes in Python 2
        return zlib.crc32(values if isinstance(values, bytes) else values.encode("utf-8")) & 0xFFFFFFFF
    return zlib.crc32(np.ascontiguousarray(values, "<f4").reshape(-1).data) & 0xFFFFFFFF


def sample_positions(key, count, samples):
    """The flat positions at which a large array is kept: the same wherever NumPy runs (its streams are frozen)."""
    return np.sort((np.random.RandomState(crc(key)).random_sample(samples) * count).astype(np.int64))


def output_diff(name, shape):
    """The gradient that an output without a loss is given: whole numbers from -2 to 2."""
    return np.floor(np.random.RandomState(crc(name)).random_sample(shape) * 5).astype(np.float32) - 2


def compact(values):
    """The same values in the smallest type that holds them, if they are whole numbers."""
    if values.size and np.isfinite(values).all() and (values == np.floor(values)).all():
        low, high = values.min(), values.max()
        for kind in (np.uint8, np.int16, np.int32):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return values.astype(kind)
    return values


def packed_mask(mask):
    """Positions (N, C, h, w) in parts: the smallest of each window, which steps from there occur, which one it is."""
    whole = mask.astype(np.int64)
    base = whole.reshape((-1,) + whole.shape[2:]).min(axis=0)
    table, index = np.unique(whole - base, return_inverse=True)
    return {"base": compact(base), "table": compact(table), "index": compact(index.reshape(mask.shape))}


def described_layers(text):
    """The layers of a prototxt in order, each with its name, type, bottoms and tops: what old pycaffe cannot say."""
    layers, path, key, in_list = [], [], "", False
    for token in _TOKEN.findall(text):
        if token in "[]":
            in_list, key = token == "[", key if token == "[" else ""
        elif token in "{<":
            path.append(key)
            if path in (["layer"], ["layers"]):
                layers.append({"name": "", "type": "", "bottom": [], "top": []})
            key = ""
        elif token in "}>":
            path, key = path[:-1], ""
        elif token in ":;," or token.startswith("#"):
            continue
        elif not key:
            key = token
        else:
            if path in (["layer"], ["layers"]) and key in layers[-1]:
                value = token.strip("\"'")
                layers[-1][key] = layers[-1][key] + [value] if key in ("bottom", "top") else value
            key = key if in_list else ""
    return layers


def layers_of_net(names, described):
    """For each layer of a built net its description; None for those that Caffe added (Split, Input)."""
    found, start = [], 0
    for name in names:
        hits = [i for i in range(start, len(described)) if described[i]["name"] == name]
        found.append(described[hits[0]] if hits else None)
        start = hits[0] + 1 if hits else start
    return found


class Recorder(object):
    """Runs a net and gathers what it computed in ``arrays`` (key to array) and ``meta``."""

    def __init__(self, net, text, samples=SAMPLES):
        self.net, self.samples = net, samples
        self.layers = layers_of_net(list(net._layer_names), described_layers(text))
        if not any(self.layers):
            raise ValueError("no layer of the net is found in the prototxt; bring it up with upgrade_net_proto_text")
        self.arrays = {}
        self.meta = {"format": FORMAT, "version": VERSION, "prototxt": text, "samples": samples, "stages": []}

    def put(self, key, values):
        """Keep an array, whole or sampled."""
        values = np.array(values, np.float32)
        if values.size <= self.samples:
            self.arrays[key] = compact(values)
            return
        total = values.sum(dtype=np.float64), np.abs(values).sum(dtype=np.float64)
        self.arrays[key + "/stats"] = np.array(total + (values.min(), values.max()), np.float64)
        self.arrays[key + "/sample"] = values.reshape(-1)[sample_positions(key, values.size, self.samples)]

    def feed(self, name, values):
        """Put values into a blob, which takes their shape."""
        blob = self.net.blobs[name]
        if tuple(blob.data.shape) != values.shape:
            blob.reshape(*values.shape)
        self.net.blobs[name].data[...] = values

    def forward(self, inputs):
        """Run every layer by itself. ``inputs``: arrays by blob, for inputs and for what data layers make."""
        net = self.net
        self.meta["params"] = [
            [name, [[list(blob.data.shape), crc(blob.data)] for blob in net.params[name]]] for name in net.params
        ]
        for name in net.inputs:
            self.feed(name, inputs[name])
            self.arrays["input/" + name] = compact(np.array(net.blobs[name].data))
        net.reshape()
        for i, layer in enumerate(self.layers):
            is_source = bool(layer and not layer["bottom"])
            given = [top for top in layer["top"] if top in inputs] if is_source else []
            before = np.array(net.blobs[layer["bottom"][0]].data) if layer and _kind(layer) == "dropout" else None
            if not given or len(given) < len(layer["top"]):
                net._forward(i, i)
            for top in given:
                self.feed(top, inputs[top])
            if is_source:
                for top in layer["top"]:
                    self.arrays["input/" + top] = compact(np.array(net.blobs[top].data))
            elif layer:
                self._keep(i, layer, before)
        self._keep_labels()

    def _keep(self, i, layer, before):
        shapes = []
        for j, top in enumerate(layer["top"]):
            values, key = self.net.blobs[top].data, "top/%d/%d" % (i, j)
            shapes.append(list(values.shape))
            if _is_mask(layer, j):
                parts = packed_mask(values)
                self.arrays.update((key + "/" + part, parts[part]) for part in parts)
                continue
            self.put(key, values)
            if before is not None:
                kept = (values != 0) | (before == 0)
                if not kept.all():
                    self.arrays[key + "/kept"] = np.packbits(kept.reshape(-1).astype(np.uint8))
        stage = {"layer": i, "name": layer["name"], "type": layer["type"], "tops": layer["top"], "shapes": shapes}
        self.meta["stages"].append(stage)

    def _keep_labels(self):
        """The strongest channel of the last blob that has several: the scores of a segmentation or classification."""
        for stage in reversed(self.meta["stages"]):
            for j, shape in enumerate(stage["shapes"]):
                if len(shape) > 1 and shape[1] > 1 and not _is_mask(stage, j):
                    self.meta["labels"] = [stage["layer"], j]
                    self.arrays["labels"] = compact(np.argmax(self.net.blobs[stage["tops"][j]].data, axis=1))
                    return

    def backward(self):
        """Run backward from the losses, or from ``output_diff`` for outputs that are none."""
        net = self.net
        for blobs in net.params.values():
            for blob in blobs:
                blob.diff[...] = 0
        self.meta["output_diffs"] = [name for name in net.outputs if not net.blobs[name].diff.any()]
        for name in self.meta["output_diffs"]:
            net.blobs[name].diff[...] = output_diff(name, net.blobs[name].diff.shape)
        net._backward(len(self.layers) - 1, 0)
        found = [["param", name, i, blob] for name in net.params for i, blob in enumerate(net.params[name])]
        found += [["input", name, 0, net.blobs[name]] for name in net.inputs]
        for number, entry in enumerate(found):
            self.put("gradient/%d" % number, entry[3].diff)
        self.meta["gradients"] = [entry[:3] + [list(entry[3].diff.shape)] for entry in found]


def _kind(layer):
    return layer["type"].replace("_", "").lower()  # old files spell types in capitals


def _is_mask(layer, top):
    return top == 1 and _kind(layer) == "pooling"


def input_values(shapes, given, seed):
    """Values for every input: what was given, else random numbers as images have (0 or 1 where labels are expected)."""
    values = dict(given)
    for name in shapes:
        if name not in values:
            if seed is None:
                raise ValueError("no values for the input %r; give --input %s=FILE.npy, or --random 1" % (name, name))
            numbers = np.random.RandomState((crc(name) + seed) & 0xFFFFFFFF).random_sample(shapes[name])
            values[name] = np.floor(numbers * (2 if "label" in name else 256)).astype(np.float32)
    return values


def write_record(path, meta, arrays):
    """Write the file; it appears whole or not at all."""
    text = json.dumps(meta, sort_keys=True).encode("utf-8")
    draft = path + ".part"
    try:
        with open(draft, "wb") as file:
            np.savez_compressed(file, meta=np.frombuffer(text, np.uint8), **arrays)
        os.rename(draft, path)
    finally:
        if os.path.exists(draft):
            os.remove(draft)


def _build(caffe, prototxt, text, args):
    """The prototxt's text and the net; where no layer is a loss, gradients are asked for by an additional line."""
    phase = caffe.TRAIN if args.phase == "train" else caffe.TEST
    has_loss = "loss_weight" in text or any("loss" in _kind(layer) for layer in described_layers(text))
    if not args.gradients or has_loss or "force_backward" in text:
        return text, caffe.Net(prototxt, args.weights, phase)
    text = "force_backward: true\n" + text
    handle, path = tempfile.mkstemp(".prototxt")
    try:
        with io.open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        return text, caffe.Net(path, args.weights, phase)
    finally:
        os.remove(path)


def _arguments(arguments):
    parser = argparse.ArgumentParser(description="Record what Caffe computes, for python -m converters.parity.")
    parser.add_argument("prototxt")
    parser.add_argument("weights", help="a .caffemodel")
    parser.add_argument("--input", action="append", default=[], metavar="BLOB=FILE.npy",
                        help="values of one input (or data layer's top), in the blob's own layout")  # fmt: skip
    parser.add_argument("--random", type=int, metavar="SEED", help="random values for the other inputs")
    parser.add_argument("--output", required=True, metavar="FILE.npz")
    parser.add_argument("--force", action="store_true", help="replace an existing output file")
    parser.add_argument("--gradients", action="store_true", help="run backward too")
    parser.add_argument("--phase", choices=("train", "test"), default="test")
    parser.add_argument("--samples", type=int, default=SAMPLES, metavar="N",
                        help="blobs of more values are kept at N positions (default: %(default)s)")  # fmt: skip
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--caffe", default="caffe", metavar="MODULE", help="pycaffe's name (default: %(default)s)")
    return parser.parse_args(arguments)


def main(arguments=None):
    """The command. Returns the exit status."""
    args = _arguments(arguments)
    if os.path.exists(args.output) and not args.force:
        print("error: %s: exists already; give a new name, or --force" % args.output, file=sys.stderr)
        return 1
    try:
        given = dict(one.partition("=")[::2] for one in args.input)
        inputs = dict((name, np.load(given[name]).astype(np.float32)) for name in given)
        with io.open(args.prototxt, encoding="utf-8", errors="replace") as file:
            text = file.read()
        caffe = importlib.import_module(args.caffe)
        (caffe.set_mode_gpu if args.gpu else caffe.set_mode_cpu)()
        text, net = _build(caffe, args.prototxt, text, args)
        unknown = [name for name in inputs if name not in net.blobs]
        if unknown:
            raise ValueError("--input %s: the net has no such blob" % unknown[0])
        recorder = Recorder(net, text, args.samples)
        shapes = dict((name, net.blobs[name].data.shape) for name in net.inputs)
        recorder.forward(input_values(shapes, inputs, args.random))
        if args.gradients:
            recorder.backward()
    except (EnvironmentError, ImportError, ValueError, RuntimeError) as error:
        print("error: %s" % error, file=sys.stderr)
        return 1
    told = {"weights": os.path.abspath(args.weights), "phase": args.phase, "gpu": args.gpu, "inputs": given}
    told.update(caffe="%s %s" % (caffe.__file__, getattr(caffe, "__version__", "")), numpy=np.__version__)
    recorder.meta.update(told, python=platform.python_version(), machine=platform.platform(), random=args.random)
    write_record(args.output, recorder.meta, recorder.arrays)
    print("wrote %s: %d layers, %d bytes" % (args.output, len(recorder.meta["stages"]), os.path.getsize(args.output)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
