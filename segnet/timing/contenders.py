"""Other programs that run the same network: each is a function of a net, registered under its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from caffe_compat import Net
from prototxt.errors import CaffeError
from segnet.plain import PlainSegNet, PlainSegNetBasic

_PLAIN = {"segnet": PlainSegNet, "segnet_basic": PlainSegNetBasic}
#: The contender that the others are held against.
BASE = "net"
#: Networks that every contender can have.
NETWORKS = tuple(_PLAIN)


@dataclass(frozen=True)
class Scene:
    """What all contenders run."""

    network: str
    net: Net
    """For inference."""
    images: torch.Tensor
    """(N, 3, H, W) float32, where the net is."""
    precision: str
    """Of the engine; all others compute in float32."""

    @property
    def on_cpu(self) -> np.ndarray:
        """The images as an array."""
        return self.images.cpu().numpy()


Scores = Callable[[], torch.Tensor | np.ndarray]
"""Runs once, and gives the classes' scores or probabilities (N, classes, H, W)."""
CONTENDERS: dict[str, Callable[[Scene], Scores]] = {}


def _contender(make: Callable[[Scene], Scores]) -> Callable[[Scene], Scores]:
    CONTENDERS[make.__name__] = make
    return make


@_contender
def net(scene: Scene) -> Scores:
    """The faithful net, called with a tensor."""
    return lambda: scene.net(scene.images)["prob"]


@_contender
def engine(scene: Scene) -> Scores:
    """The net's engine."""
    run = scene.net.engine(precision=scene.precision)
    return lambda: run(scene.images)["prob"]


@_contender
def plain(scene: Scene) -> Scores:
    """A torch module as anyone would write it."""
    module = _PLAIN[scene.network](classes=scene.net.blobs["prob"].shape[1]).to(scene.images.device).eval()
    module.take_weights(scene.net)
    return lambda: module(scene.images).softmax(1)


@_contender
def onnxruntime(scene: Scene) -> Scores:
    """The net's ONNX model in ONNX Runtime. Raises CaffeError where that is not installed."""
    return _in_onnxruntime(scene, _onnx_model(scene))


@_contender
def maxunpool(scene: Scene) -> Scores:
    """A model with ONNX's MaxUnpool in ONNX Runtime. Raises CaffeError as ``onnxruntime``, and where planes are odd."""
    model = _onnx_model(scene)
    from segnet.timing.max_unpool import with_max_unpool

    return _in_onnxruntime(scene, with_max_unpool(model))


@_contender
def opencv(scene: Scene) -> Scores:
    """The net's ONNX model in OpenCV's dnn. Raises CaffeError where that is not installed, or cannot read it."""
    try:
        import cv2
    except ImportError:
        raise CaffeError(
            'OpenCV is not installed. Install it with `pip install "caffe-segnet[opencv]"` '
            "(or `pip install opencv-python-headless`)"
        ) from None
    cv2.setNumThreads(torch.get_num_threads())
    try:
        loaded = cv2.dnn.readNetFromONNX(np.frombuffer(_onnx_model(scene).SerializeToString(), np.uint8))
        loaded.setInput(scene.on_cpu)
        loaded.forward("prob")
    except cv2.error as error:
        told = " ".join(str(error).split())
        raise CaffeError(f"OpenCV {cv2.__version__} cannot run the ONNX model: {told}") from None

    def run() -> np.ndarray:
        loaded.setInput(images)
        return loaded.forward("prob")

    images = scene.on_cpu
    return run


def _in_onnxruntime(scene: Scene, model: object) -> Scores:
    from converters.onnx_graph.comparing import open_session

    session = open_session(model, torch.get_num_threads())
    feeds = {"data": scene.on_cpu}
    return lambda: session.run(["prob"], feeds)[0]


def _onnx_model(scene: Scene) -> object:
    """Raises CaffeError where onnx is not installed, or for a GPU, which ours of these engines do not use."""
    if scene.images.device.type != "cpu":
        raise CaffeError("runs on the CPU here, and is not compared with a GPU")
    try:
        from converters.onnx_graph.model import to_onnx
    except ImportError as error:
        raise CaffeError(f'{error.name} is not installed. Install it with `pip install "caffe-segnet[onnx]"`') from None
    return to_onnx(scene.net, batch=len(scene.images)).model
