"""The networks of the paper, from size and class count: SegNet, those of Table 1, and those of Table 6."""

from segnet.networks.basic import segnet_basic, segnet_basic_encoder_addition, segnet_basic_single_channel_decoder
from segnet.networks.deconv import deconvnet
from segnet.networks.deeplab import deeplab_largefov
from segnet.networks.fcn8s import fcn, fcn_learnt_deconvolution
from segnet.networks.fcn_decoders import (
    bilinear_interpolation,
    fcn_basic,
    fcn_basic_no_addition,
    fcn_basic_no_addition_no_dim_reduction,
    fcn_basic_no_dim_reduction,
)
from segnet.networks.full import segnet
from segnet.networks.network import Network, Training
from segnet.networks.vgg16 import VGG16_STAGES

#: Every network by its name; ``NETWORKS[name](height, width, classes, batch_size=…, training=…)`` builds it.
NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        segnet,
        segnet_basic,
        segnet_basic_encoder_addition,
        segnet_basic_single_channel_decoder,
        fcn_basic,
        fcn_basic_no_addition,
        fcn_basic_no_dim_reduction,
        fcn_basic_no_addition_no_dim_reduction,
        bilinear_interpolation,
        fcn,
        fcn_learnt_deconvolution,
        deeplab_largefov,
        deconvnet,
    )
}

__all__ = ["NETWORKS", "VGG16_STAGES", "Network", "Training", "segnet", "segnet_basic"]
