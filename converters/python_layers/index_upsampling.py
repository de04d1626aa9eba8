"""SegNet's Upsample as a Python layer, for a Caffe that lacks it: take this file along and put it on PYTHONPATH."""

import json

import caffe
import numpy as np


class IndexUpsampling(caffe.Layer):
    """Puts pooled values back where they came from, zero elsewhere.

    bottoms: x (N, C, h, w); mask (N, C, h, w), flat positions in the output plane
    top:     y (N, C, H, W)
    param_str: JSON with "height" and "width", or with "scale_h", "scale_w", "less_h", "less_w" for scale * h - less
    """

    def setup(self, bottom, top):
        """Read the size."""
        self.size = json.loads(self.param_str)

    def reshape(self, bottom, top):
        """Find the output plane."""
        n, c, h, w = bottom[0].data.shape
        size = self.size
        height = size["height"] if "height" in size else size["scale_h"] * h - size["less_h"]
        width = size["width"] if "width" in size else size["scale_w"] * w - size["less_w"]
        top[0].reshape(n, c, height, width)

    def _places(self, bottom):
        planes = bottom[0].data.shape[0] * bottom[0].data.shape[1]
        return np.arange(planes)[:, None], bottom[1].data.reshape(planes, -1).astype(int)

    def forward(self, bottom, top):
        """Assign; of two values for one place the later stays."""
        planes, places = self._places(bottom)
        y = np.zeros((len(planes), top[0].data.shape[2] * top[0].data.shape[3]), np.float32)
        y[planes, places] = bottom[0].data.reshape(len(planes), -1)
        top[0].data[...] = y.reshape(top[0].data.shape)

    def backward(self, top, propagate_down, bottom):
        """Fetch every value's gradient from its place."""
        if propagate_down[0]:
            planes, places = self._places(bottom)
            diff = top[0].diff.reshape(len(planes), -1)[planes, places]
            bottom[0].diff[...] = diff.reshape(bottom[0].data.shape)
