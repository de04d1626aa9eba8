"""Python layers as users wrote them for pycaffe, and nets of them."""

import sys
from contextlib import contextmanager

import caffe_compat as caffe

MINE = """
import caffe
import numpy as np


class Times(caffe.Layer):
    def setup(self, bottom, top):
        import caffe
        self.factor = float(self.param_str)
        self.phases = [self.phase == caffe.TEST]

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        self.sizes = bottom[0].num, bottom[0].channels, bottom[0].height, bottom[0].width
        top[0].data[...] = 0
        for i in range(len(top[0].data)):
            top[0].data[i, ...] += self.factor * bottom[0].data[i]

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = self.factor * top[0].diff


class Square(Times):
    def setup(self, bottom, top):
        pass

    def forward(self, bottom, top):
        self.x = bottom[0].data
        top[0].data[...] = self.x**2

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = 2 * bottom[0].data * top[0].diff + (top[0].data != bottom[0].data**2)
        top[0].diff[...] = 7


class Distance(caffe.Layer):
    def setup(self, bottom, top):
        if len(bottom) != 2:
            raise Exception("two bottoms, please")

    def reshape(self, bottom, top):
        self.diff = np.zeros_like(bottom[0].data)
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.diff[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = np.sum(self.diff**2) / bottom[0].num / 2.0

    def backward(self, top, propagate_down, bottom):
        self.asked = propagate_down
        for i in range(2):
            if propagate_down[i]:
                bottom[i].diff[...] = (1, -1)[i] * top[0].diff[0] * self.diff / bottom[i].num


class Pictures(caffe.Layer):  # each of another height
    def setup(self, bottom, top):
        self.height = 2

    def reshape(self, bottom, top):
        top[0].reshape(1, 1, self.height, 3)
        top[1].reshape(1)

    def forward(self, bottom, top):
        top[0].data[...] = np.arange(3)
        top[1].data[...] = self.height
        self.height += 1


class Files(Pictures):
    def setup(self, bottom, top):
        open("/no/such/list.txt")


class Weights(caffe.Layer):
    def setup(self, bottom, top):
        self.blobs.add_blob(3)
        self.blobs.add_blob(1)
        self.blobs[0].data[...] = [1, 2, 3]

    def reshape(self, bottom, top):
        top[0].reshape(*(bottom[0].shape if bottom else [1, 3]))

    def forward(self, bottom, top):
        self.blobs[1].data[0] += 1  # counts, as a running mean would
        top[0].data[...] = (bottom[0].data if bottom else 1) * self.blobs[0].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] = (top[0].diff * (bottom[0].data if bottom else 1)).sum(0)
        if bottom and propagate_down[0]:
            bottom[0].diff[...] = top[0].diff * self.blobs[0].data


class Positive(caffe.Layer):  # in place
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        self.negative = top[0].data < 0
        top[0].data[self.negative] = 0

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[self.negative] = 0


class Broken(Times):
    def __init__(self, *args):
        super().__init__(*args)
        self.fail("__init__")

    def fail(self, method):
        if method == self.param_str:
            raise KeyError(method)

    def setup(self, bottom, top):
        self.fail("setup")

    def reshape(self, bottom, top):
        self.fail("reshape")
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        self.fail("forward")

    def backward(self, top, propagate_down, bottom):
        self.fail("backward")


class Metric(caffe.Layer):
    setup = reshape = forward = lambda self, bottom, top: None


class NoLayer:
    pass


class Half(caffe.Layer):
    def setup(self, bottom, top):
        pass
"""


def python(cls, bottoms, tops, param_str="", more="", module="mine"):
    names = [f'bottom: "{name}"' for name in bottoms.split()] + [f'top: "{name}"' for name in tops.split()]
    param = f'module: "{module}" layer: "{cls}" param_str: "{param_str}"'
    return f'\nlayer {{ name: "{cls.lower()}" type: "Python" {" ".join(names)} python_param {{ {param} }} {more} }}'


@contextmanager
def beside_mine(tmp_path):
    """A function that builds a net from a prototxt beside which the module lies."""
    loaded = set(sys.modules)
    (tmp_path / "mine.py").write_text(MINE)

    def from_text(text, phase=caffe.TEST, **options):
        (tmp_path / "net.prototxt").write_text(text)
        path = list(sys.path)
        try:
            return caffe.Net(tmp_path / "net.prototxt", phase, **options)
        finally:
            assert sys.path == path and sys.modules.get("caffe") is not caffe

    yield from_text
    for name in set(sys.modules) - loaded:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
