"""What layers do to channels, for those who follow a blob through a net."""

from __future__ import annotations

from prototxt.caffe_pb2 import ConvolutionParameter, InnerProductParameter, LayerParameter

#: Layers that make new channels, each from all of the first bottom's.
LINEAR = ("Convolution", "Deconvolution", "InnerProduct")
#: Layers with a parameter for each channel, from the first bottom to the top.
PER_CHANNEL = ("BN", "BatchNorm", "Bias", "MultiStageMeanfield", "PReLU", "Scale")
#: Layers whose top has the channels of the first bottom, and no parameters.
KEEP_CHANNELS = (
    *("Crop", "DenseCRF", "Dropout", "ELU", "Interp", "Log", "LRN", "MVN", "Pooling"),
    *("Power", "ReLU", "Sigmoid", "Softmax", "Split", "TanH", "Upsample"),
)


def linear_param(layer: LayerParameter) -> ConvolutionParameter | InnerProductParameter:
    """The parameters of a linear layer, with its ``num_output``."""
    return layer.inner_product_param if layer.type == "InnerProduct" else layer.convolution_param
