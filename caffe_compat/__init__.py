"""Caffe networks in PyTorch, under the names of pycaffe: ``import caffe_compat as caffe``."""

from caffe_compat.device import set_device, set_mode_cpu, set_mode_gpu, set_random_seed
from caffe_compat.errors import LayerError, NetError, SolverError
from caffe_compat.layer_base import BlobSpec, TorchLayer
from caffe_compat.net import Net
from caffe_compat.python_layer import Layer
from caffe_compat.registry import known_types as layer_type_list
from caffe_compat.registry import layer
from caffe_compat.training.by_type import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    get_solver,
)
from caffe_compat.training.solver import Solver
from prototxt.caffe_pb2 import TEST, TRAIN
from prototxt.net_spec import NetSpec, layers, params, to_proto

__all__ = [
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "BlobSpec",
    "Layer",
    "LayerError",
    "NesterovSolver",
    "Net",
    "NetError",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Solver",
    "SolverError",
    "TorchLayer",
    "get_solver",
    "layer",
    "layer_type_list",
    "layers",
    "params",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_random_seed",
    "to_proto",
]
