"""The layers of which the networks are made, each added to a net under its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prototxt.net_spec import NetSpec, Top
from prototxt.net_spec import layers as L
from prototxt.net_spec import params as P

_DROPOUT = 0.5
_CONVOLUTION_PARAMS = (dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0))
_BN_PARAMS = (dict(lr_mult=1, decay_mult=1), dict(lr_mult=1, decay_mult=0))


@dataclass(frozen=True)
class Maker:
    """Adds layers to a net; each method gives the top to go on with."""

    n: NetSpec
    data: Top
    """The images, (N, 3, height, width)."""
    height: int
    width: int
    classes: int
    inference: bool
    bn_params: Sequence[dict[str, int]] = _BN_PARAMS
    bn_shift: float = 0.001
    """What the shift of a batch normalisation starts with."""

    def convolution(
        self, x: Top, name: str, channels: int, kernel: int, *, relu: str = "", bn: str = "", **geometry: int
    ) -> Top:
        """Convolution, batch normalisation (``name``_bn unless told), and a ReLU when it is given a name."""
        return self.normalised(self.filters(x, name, channels, kernel, **geometry), name, relu=relu, bn=bn)

    def filters(
        self,
        x: Top,
        name: str,
        channels: int,
        kernel: int,
        *,
        pad: int | None = None,
        kind: str = "Convolution",
        **geometry: int,
    ) -> Top:
        """A convolution alone (or the other ``kind``), which keeps the plane's size unless it is told the padding.

        ``geometry``: further fields of ``convolution_param``.
        """
        if pad is None:
            pad = kernel // 2 * geometry.get("dilation", 1)
        param = dict(
            num_output=channels,
            pad=[pad] if pad else [],
            kernel_size=kernel,
            weight_filler=dict(type="msra"),
            bias_filler=dict(type="constant"),
            **geometry,
        )
        self.n[name] = getattr(L, kind)(x, param=list(_CONVOLUTION_PARAMS), convolution_param=param)
        return self.n[name]

    def normalised(self, x: Top, name: str, *, relu: str = "", bn: str = "") -> Top:
        """Batch normalisation over a layer's own top, and a ReLU when it is given a name."""
        param = dict(
            scale_filler=dict(type="constant", value=1),
            shift_filler=dict(type="constant", value=self.bn_shift),
            **(dict(bn_mode=P.BN.INFERENCE) if self.inference else {}),
        )
        self.n[bn or f"{name}_bn"] = top = L.BN(x, in_place=True, param=list(self.bn_params), bn_param=param)
        if relu:
            self.n[relu] = top = L.ReLU(top, in_place=True)
        return top

    def deconvolution(
        self, x: Top, name: str, channels: int, factor: int, kernel: int, *, pad: int = 0, fixed: bool = False
    ) -> Top:
        """Enlarge maps by a factor, without a bias.

        Args:
            x: ``channels`` maps, of which as many are made.
            fixed: by bilinear interpolation that is not learnt, each map for itself (``kernel`` is twice the factor);
                otherwise by kernels from every map to every map that are.
        """
        rate = 0 if fixed else 1
        weights = (
            dict(group=channels, weight_filler=dict(type="bilinear"))
            if fixed
            else dict(weight_filler=dict(type="msra"))
        )
        param = dict(
            num_output=channels,
            bias_term=False,
            kernel_size=kernel,
            stride=factor,
            pad=[pad] if pad else [],
            **weights,
        )
        self.n[name] = L.Deconvolution(x, param=[dict(lr_mult=rate, decay_mult=rate)], convolution_param=param)
        return self.n[name]

    def crop(self, x: Top, name: str, like: Top, offset: int = 0) -> Top:
        """The part of a map that begins at an offset and is as large as another."""
        self.n[name] = L.Crop(x, like, axis=2, offset=offset)
        return self.n[name]

    def pooling(self, x: Top, stage: int, *, kernel: int = 2, stride: int = 2, pad: int = 0) -> Top:
        """The largest value of each window."""
        geometry = dict(kernel_size=kernel, stride=stride, **(dict(pad=pad) if pad else {}))
        self.n[f"pool{stage}"] = L.Pooling(x, pool=P.Pooling.MAX, **geometry)
        return self.n[f"pool{stage}"]

    def indexed_pooling(self, x: Top, stage: int) -> Top:
        """Halve the plane, and remember where the maxima were."""
        tops = L.Pooling(x, ntop=2, pool=P.Pooling.MAX, kernel_size=2, stride=2)
        self.n[f"pool{stage}"], self.n[f"pool{stage}_mask"] = tops
        return tops[0]

    def upsampling(self, x: Top, stage: int, name: str, *, top: str = "") -> Top:
        """Back to the plane that the stage's pooling had: twice as large, less one where that was odd.

        ``top``: the blob's name, where it is not the layer's.
        """
        plane = (pooled(size, stage - 1) for size in (self.height, self.width))
        odd = {f"pad_out_{axis}": True for axis, size in zip("hw", plane, strict=True) if size % 2}
        self.n[top or name] = up = L.Upsample(x, self.n[f"pool{stage}_mask"], name=name, scale=2, **odd)
        return up

    def dropout(self, x: Top, name: str, *, sample: bool = False) -> Top:
        """Dropout of a half; with ``sample`` it goes on sampling in a network for inference."""
        sampling = dict(sample_weights_test=True) if sample and self.inference else {}
        self.n[name] = L.Dropout(x, in_place=True, dropout_ratio=_DROPOUT, **sampling)
        return self.n[name]


def pooled(size: int, times: int) -> int:
    """Rows or columns after so many poolings of 2 by 2; Caffe rounds up."""
    return -(-size // 2**times)
