"""Net: a Caffe network as a torch module, with the pycaffe face on the same object.

Called with tensors it is a torch module: differentiable, and it frees what is no longer needed. Called with NumPy
arrays or with nothing it is pycaffe's Net: every blob is kept, and ``backward`` leaves the gradients where Caffe does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING

import torch
from torch import nn

from caffe_compat import layer_types as layer_types  # registers the layer types
from caffe_compat.batches import BatchFace
from caffe_compat.blob import Anchor, Blob, ParamBlob
from caffe_compat.build_graph import build_graph
from caffe_compat.device import chosen_device
from caffe_compat.errors import LayerError, NetError
from caffe_compat.fillers import fill
from caffe_compat.graph import Node, Param
from caffe_compat.layer_base import TorchLayer
from caffe_compat.paths import Paths
from caffe_compat.pycaffe import PycaffeFace
from caffe_compat.room import check_room
from caffe_compat.shapes import Shape
from prototxt.caffe_pb2 import NetParameter
from prototxt.errors import FormatError, MissingFileError
from prototxt.net_file import NetFile, read_net

if TYPE_CHECKING:
    from caffe_compat.engine import Engine

NetSource = str | PathLike[str] | NetFile | NetParameter


class Net(PycaffeFace, BatchFace, nn.Module):
    """A network, built from a prototxt file.

    ``Net(proto, phase)``, ``Net(proto, weights, phase)`` or ``Net(proto, phase, weights=…)``.

    Args:
        network: the prototxt file, or one that was read already.
        args: the phase (``TRAIN`` or ``TEST``), or the weights file and the phase.
        level, stages: the rest of the state that ``include`` and ``exclude`` rules look at.
        dialect: whose Caffe to follow where the forks differ; by default what the file gives away, else "segnet".
        input_shapes: shapes for inputs and for the tops of data layers, e.g. ``{"data": (4, 3, 360, 480)}``.
        image_size: (height, width) of every image input, in place of what the file says.
        roots: pairs ``(old, new)`` of path prefixes, for files that the prototxt names and that lie elsewhere.
        fill: whether parameters that get no weights start with what their fillers give; without, they hold anything
            until ``fill_parameters`` or a load.

    Raises:
        FormatError: the file cannot be read; MissingFileError: it is not there.
        NetError: the net cannot be built, with everything that is wrong with it; RoomError: it does not fit into
            memory.
    """

    def __init__(
        self,
        network: NetSource,
        *args: int | str | PathLike[str],
        phase: int | None = None,
        level: int = 0,
        stages: Sequence[str] | None = None,
        weights: str | PathLike[str] | None = None,
        dialect: str | None = None,
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        image_size: tuple[int, int] | None = None,
        roots: Sequence[tuple[str, str]] = (),
        fill: bool = True,
    ) -> None:
        super().__init__()
        given = [phase] if phase is not None else []
        numbers = [arg for arg in args if isinstance(arg, int)] + given
        files = [arg for arg in args if not isinstance(arg, int)] + ([weights] if weights is not None else [])
        if len(numbers) != 1 or len(files) > 1:
            raise TypeError("expected Net(prototxt, phase) or Net(prototxt, weights, phase), with phase TRAIN or TEST")
        file = _as_file(network, dialect)
        self.graph = build_graph(
            file,
            numbers[0],
            level=level,
            stages=stages or (),
            dialect=dialect,
            input_shapes=input_shapes,
            image_size=image_size,
            paths=Paths(file.path, roots),
        )
        check_room(self.graph)
        self._anchor = Anchor()
        self.layer = nn.ModuleDict()
        for node in self.graph.nodes:
            self._add_parameters(node)
            self.layer[_module_key(node.layer.name, self.layer)] = node.layer
        losses = {top: w for node in self.graph.nodes for top, w in zip(node.tops, node.loss_weights, strict=True)}
        kept = {node.tops[i]: value for node in self.graph.nodes for i, value in node.layer.kept.items()}
        self._blobs = {
            name: Blob(shape, self._anchor, kept.get(name, 0.0), losses.get(name, 0.0))
            for name, shape in self.graph.blobs.items()
        }
        self._records: dict[int, tuple[list[torch.Tensor], tuple[torch.Tensor, ...]]] = {}
        self.train(numbers[0] == 0)
        loaded = self.copy_from(files[0]).blobs if files else ()
        if fill:
            self.fill_parameters(loaded)
        if chosen_device() is not None:
            self.to(chosen_device())

    @property
    def name(self) -> str:
        """The name written in the prototxt."""
        return self.graph.message.name

    @property
    def dialect(self) -> str:
        """Whose Caffe the net follows where the forks differ."""
        return self.graph.dialect

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Net:
        """torch's way to every ``to``, ``cuda``, ``double`` …"""
        super()._apply(fn, recurse)
        self._anchor.tensor = fn(self._anchor.tensor)
        return self

    def _add_parameters(self, node: Node) -> None:
        for param in node.params:
            owner, name = node.layer, param.spec.name
            if param.owner is None:
                values = torch.empty(param.spec.shape)
                owner.register_parameter(name, nn.Parameter(values, requires_grad=param.needs_diff))
            else:
                first = self.graph.nodes[param.owner[0]]
                owner, name = first.layer, first.params[param.owner[1]].spec.name
                _share(node.layer, param, owner.get_parameter(name))
            own_diff = param.owner is not None and self.dialect == "segnet"
            shape, settings, needs_diff = param.spec.shape, param.settings, param.needs_diff
            blob = ParamBlob(owner, name, shape, settings, needs_diff=needs_diff, own_diff=own_diff)
            node.layer.param_blobs.append(blob)

    def fill_parameters(self, kept: Iterable[ParamBlob] = ()) -> None:
        """Give parameters what their fillers say, but those that are to be kept. Raises LayerError."""
        skipped = {id(blob) for blob in kept}
        for node in self.graph.nodes:
            for param, blob in zip(node.params, node.layer.blobs, strict=True):
                if param.owner is not None or id(blob) in skipped:
                    continue
                values = blob.data_tensor()
                if param.spec.values is None:
                    fill(values, param.spec.filler)
                else:
                    values.copy_(torch.tensor(param.spec.values).view_as(values))

    def engine(self, precision: str = "fp32", *, winograd: bool = True) -> Engine:
        """The net as it is now, for inference alone, faster and in less memory; see ``Engine``.

        Args:
            precision: "fp32", "bf16" or "fp16".
            winograd: on the CPU in fp32, whether large 3×3 convolutions are done by Winograd's method.

        Raises:
            NetError: the net was built for TRAIN.
        """
        from caffe_compat.engine import Engine  # it needs this module

        return Engine(self, precision, winograd)

    # ---- the torch face

    def forward(self, *args: object, **kwargs: object) -> dict[str, object]:
        """With tensors: a torch module. Without: pycaffe's ``forward(blobs, start, end, **inputs)``.

        Tensors are given by blob name, or by position in the order of ``inputs`` (for a net that reads its own data:
        of the data layer's tops). Any blob that a data layer makes may be given; then nothing is read. The result maps
        the names of the outputs to tensors.

        Raises:
            NetError: an input is missing or unknown, or its shape does not fit.
        """
        if any(isinstance(value, torch.Tensor) for value in (*args, *kwargs.values())):
            return self._forward_tensors(*args, **kwargs)
        return self._forward_arrays(*args, **kwargs)

    def _forward_tensors(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> dict[str, torch.Tensor]:
        feeds = self.graph.feeds
        if len(args) > len(feeds):
            raise NetError(f"{len(args)} tensors for a net with {len(feeds)} inputs ({', '.join(feeds)})")
        values = dict(zip(feeds, args, strict=False)) | kwargs
        unknown = [name for name in values if name not in feeds]
        if unknown:
            raise NetError(f"{unknown[0]!r} is no input of the net; expected some of {', '.join(feeds)}")
        for node in self.graph.nodes:
            if node.layer.is_source and node.layer.type != "Input" and not any(top in values for top in node.tops):
                values.update(zip(node.tops, self.run_source(node), strict=True))
        self._fit({name: tuple(value.shape) for name, value in values.items()})
        dead_after = self._last_use()
        if not torch.is_grad_enabled() and any(node.layer.in_place for node in self.graph.nodes):
            # in-place layers must not write into what the caller gave, nor into a view of it (Reshape, Split)
            values = {name: value.clone() for name, value in values.items()}
        for i, (node, layer) in enumerate(zip(self.graph.nodes, self.layer.values(), strict=True)):
            if layer.is_source:
                continue
            missing = [bottom for bottom in node.bottoms if bottom not in values]
            if missing:
                raise NetError(f"{node.where}: needs {missing[0]!r}, which was not given; expected {', '.join(feeds)}")
            outs = self._call(node, layer, *(values[bottom] for bottom in node.bottoms))
            values.update(zip(node.tops, outs, strict=True))
            for name in dead_after[i]:
                values.pop(name, None)
        return {name: values[name] for name in self.graph.outputs if name in values}

    def run_source(self, node: Node) -> tuple[torch.Tensor, ...]:
        """What a data layer puts out next, on the net's device and of its type. Raises as the layer."""
        return tuple(out.to(self._anchor.tensor) for out in self._call(node, node.layer))

    def _last_use(self) -> list[list[str]]:
        """For each node the blobs that nobody needs after it."""
        last = {name: i for i, node in enumerate(self.graph.nodes) for name in (*node.bottoms, *node.tops)}
        dead: list[list[str]] = [[] for _ in self.graph.nodes]
        for name, i in last.items():
            if name not in self.graph.outputs:
                dead[i].append(name)
        return dead

    def _fit(self, given: dict[str, Shape]) -> None:
        """Follow inputs of another size. Nothing depends on their number N but the shapes of blobs."""
        if any(shape[1:] != tuple(self._blobs[name].shape[1:]) for name, shape in given.items()):
            for name, shape in given.items():
                self._blobs[name].take_shape(shape)
            self.reshape()

    def _call(self, node: Node, layer: TorchLayer, *bottoms: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run one layer: the node's, reached through ``self.layer``, where a tracer knows it by its name.

        Raises NetError with its place (an error of a file keeps its class).
        """
        try:
            outs = layer(*bottoms)
        except LayerError as error:
            raise NetError([text + self._told_files(node, error) for text in error.at(node.where)]) from error
        except (FormatError, MissingFileError) as error:
            raise type(error)([f"{node.where}: {text}" for text in error.problems]) from error
        return outs if isinstance(outs, tuple) else (outs,)


def _as_file(network: NetSource, dialect: str | None) -> NetFile:
    if isinstance(network, NetFile):
        return network
    if isinstance(network, NetParameter):
        return NetFile.from_message(network, dialect)
    return read_net(network, dialect)


def _share(layer: TorchLayer, param: Param, owner: nn.Parameter) -> None:
    """Give a layer the parameter of another one; in its own shape where PERMISSIVE sharing allows another."""
    name, shape = param.spec.name, param.spec.shape
    if tuple(owner.shape) == tuple(shape):
        layer.register_parameter(name, owner)
        return

    def view(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        setattr(module, name, owner.view(shape))

    layer.register_forward_pre_hook(view)


def _module_key(name: str, taken: nn.ModuleDict) -> str:
    """A layer's name as a key of a ModuleDict, where a dot or the name of an attribute is not allowed."""
    key = name.replace("%", "%25").replace(".", "%2E") or "%"
    if hasattr(nn.ModuleDict, key):
        key += "%"
    count = 2
    unique = key
    while unique in taken:
        unique, count = f"{key}#{count}", count + 1
    return unique
