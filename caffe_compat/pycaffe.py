"""The pycaffe face of a net: blobs that stay, and forward and backward layer by layer as Caffe runs them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from os import PathLike

import numpy as np
import torch

from caffe_compat.blob import Blob, ParamBlob
from caffe_compat.debug_info import tell_backward, tell_forward
from caffe_compat.device import chosen_device
from caffe_compat.errors import LabelError, LayerError, NetError
from caffe_compat.graph import Graph, Node
from caffe_compat.layer_base import TorchLayer, exactly
from caffe_compat.weights import LoadReport, load_weights, log_report, save_weights, share_weights


class PycaffeFace:
    """What pycaffe's Net offers, as a mixin of ``Net``."""

    graph: Graph
    _blobs: dict[str, Blob]
    _records: dict[int, tuple[list[torch.Tensor], tuple[torch.Tensor, ...]]]
    keeps_graph = True
    """Whether forward remembers what backward needs; a net that is only tested does without."""
    debug_info = False
    """Whether every pass logs the mean absolute value of each blob, as Caffe's does."""

    # ---- what there is

    @property
    def blobs(self) -> dict[str, Blob]:
        """The blobs by name, in the order of creation."""
        return self._blobs

    @property
    def params(self) -> dict[str, list[ParamBlob]]:
        """The parameter blobs by layer name, for layers that have some."""
        return {node.layer.name: node.layer.blobs for node in self.graph.nodes if node.layer.blobs}

    @property
    def inputs(self) -> list[str]:
        """The names of the blobs that are fed from outside."""
        fed = [top for node in self.graph.nodes if node.layer.type == "Input" for top in node.tops]
        return [*self.graph.inputs, *fed]

    @property
    def outputs(self) -> list[str]:
        """The names of the blobs that no layer takes, in alphabetical order."""
        return list(self.graph.outputs)

    @property
    def layers(self) -> list[TorchLayer]:
        """The layers in order, Split layers included."""
        return [node.layer for node in self.graph.nodes]

    @property
    def _layer_names(self) -> list[str]:
        return [node.layer.name for node in self.graph.nodes]

    @property
    def layer_dict(self) -> dict[str, TorchLayer]:
        """The layers by name; of several with one name the last."""
        return {node.layer.name: node.layer for node in self.graph.nodes}

    @property
    def top_names(self) -> dict[str, list[str]]:
        """Each layer's tops."""
        return {node.layer.name: list(node.tops) for node in self.graph.nodes}

    @property
    def bottom_names(self) -> dict[str, list[str]]:
        """Each layer's bottoms."""
        return {node.layer.name: list(node.bottoms) for node in self.graph.nodes}

    @property
    def blob_loss_weights(self) -> dict[str, float]:
        """The loss weight of each blob."""
        made = {top: w for node in self.graph.nodes for top, w in zip(node.tops, node.loss_weights, strict=True)}
        return {name: made.get(name, 0.0) for name in self._blobs}

    # ---- forward

    def _forward_arrays(
        self,
        blobs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **inputs: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """pycaffe's forward: copy the inputs in, run from layer ``start`` to layer ``end``, give the outputs.

        The arrays are views that the next pass overwrites.

        Raises:
            NetError: the inputs are not those of the net, or do not fit.
        """
        if inputs:
            self._take(inputs, self.inputs, "input")
        first = 0 if start is None else self._layer_index(start)
        last = len(self.graph.nodes) - 1 if end is None else self._layer_index(end)
        names = self.outputs if end is None else self.graph.nodes[last].tops
        self._forward(first, last)
        return {name: self._blobs[name].data for name in [*names, *(blobs or [])]}

    def _take(self, arrays: dict[str, np.ndarray], expected: Sequence[str], what: str) -> None:
        if set(arrays) != set(expected):
            raise NetError(
                f"{what}s {', '.join(sorted(arrays))} were given; expected exactly {', '.join(expected) or 'none'}"
                + (": this net reads its own data" if what == "input" and not expected else "")
            )
        for name, array in arrays.items():
            blob = self._blobs[name]
            if array.shape[:1] != tuple(blob.shape[:1]):
                raise NetError(
                    f"{what} {name!r} has the shape {array.shape}; expected {blob.shape[0]} items (reshape first?)"
                )
            try:
                (blob.data if what == "input" else blob.diff)[...] = array
            except ValueError as error:
                raise NetError(f"{what} {name!r} has the shape {array.shape}; expected {tuple(blob.shape)}") from error

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Let the net's MemoryData layer read from these arrays, batch by batch from the first item on.

        They are not copied: what changes in them later is seen by the passes that follow.

        Args:
            data: (M, C, H, W), C-contiguous float32, with M a multiple of the layer's batch size.
            labels: (M,) or (M, 1, 1, 1), float32.

        Raises:
            NetError: the arrays do not fit, or the net has no such layer.
        """
        node = next((node for node in self.graph.nodes if node.layer.type == "MemoryData"), None)
        if node is None:
            raise NetError("set_input_arrays is for a net with a MemoryData layer; this net has none")
        try:
            node.layer.take(data, labels)
        except LayerError as error:
            raise NetError(error.at(node.where)) from error

    def _layer_index(self, name: str) -> int:
        names = self._layer_names
        if name not in names:
            raise NetError(f"there is no layer {name!r}; expected one of {', '.join(names)}")
        return names.index(name)

    def _forward(self, start: int, end: int) -> float:
        """Run layers ``start`` to ``end`` (by index, both included). Returns the weighted loss of these layers."""
        self._move()
        loss = 0.0
        for i in range(start, end + 1):
            node = self.graph.nodes[i]
            self._run(i, node)
            if self.debug_info:
                tell_forward(node, self._blobs)
            for top, weight in zip(node.tops, node.loss_weights, strict=True):
                if weight:
                    loss += weight * float(self._blobs[top].data_tensor().sum())
        return loss

    def _move(self) -> None:
        """Follow set_mode_cpu and set_mode_gpu, and upload what was written on the host."""
        device = chosen_device()
        if device is not None and self._anchor.tensor.device != device:
            self.to(device)
        for node in self.graph.nodes:
            for param in node.layer.blobs:
                param.data_tensor()

    def _run(self, index: int, node: Node) -> None:
        blobs = self._blobs
        shapes = node.fit([blobs[bottom].shape for bottom in node.bottoms])
        kept = node.layer.kept
        if node.tops and len(kept) == len(node.tops):
            return
        if not node.layer.is_source:
            for top, shape in zip(node.tops, shapes, strict=True):
                blobs[top].take_shape(shape)
        values = [blobs[bottom].data_tensor() for bottom in node.bottoms]
        how = exactly() if node.decides_positions else nullcontext()
        if node.needs_backward and self.keeps_graph and not node.layer.is_source:
            with torch.enable_grad(), how:
                wanted = zip(values, node.propagate_down, strict=True)
                values = [value.detach().requires_grad_(down) for value, down in wanted]
                outs = self._call(node, node.layer, *values)
            self._records[index] = (values, outs)
        else:
            with torch.no_grad(), how:
                outs = self._call(node, node.layer, *values)
        for i, (top, out) in enumerate(zip(node.tops, outs, strict=True)):
            if i not in kept:
                blobs[top].put_data(out.detach().to(self._anchor.tensor.device))

    def _told_files(self, node: Node, error: LayerError) -> str:
        """For labels that do not fit: the files they were read from."""
        if not isinstance(error, LabelError):
            return ""
        makers = {top: other for other in self.graph.nodes for top in other.tops}
        maker = makers.get(node.bottoms[1])
        while maker is not None and maker.bottoms:
            maker = makers.get(maker.bottoms[0])
        files = getattr(maker.layer, "last_files", []) if maker is not None else []
        told = [f"{files[item][-1]}: {counts}" for item, counts in error.found.items() if item < len(files)]
        return f" (in {'; '.join(told)})" if told else f" (in item {', '.join(map(str, error.found))} of the batch)"

    # ---- backward

    def backward(
        self,
        diffs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **output_diffs: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """pycaffe's backward: copy the outputs' diffs in, run from layer ``start`` back to layer ``end``.

        Returns the diffs of the inputs (of the bottoms of ``end`` when given) and of the blobs named in ``diffs``.

        Raises:
            NetError: the diffs are not those of the net's outputs, or a layer has no backward.
        """
        if output_diffs:
            self._take(output_diffs, self.outputs, "output diff")
        first = len(self.graph.nodes) - 1 if start is None else self._layer_index(start)
        last = 0 if end is None else self._layer_index(end)
        self._backward(first, last)
        names = self.inputs if end is None else self.graph.nodes[last].bottoms
        return {name: self._blobs[name].diff for name in [*names, *(diffs or [])]}

    def _backward(self, start: int, end: int) -> None:
        """Run layers ``start`` down to ``end`` (by index, both included) backward."""
        for i in range(start, end - 1, -1):
            node = self.graph.nodes[i]
            if node.needs_backward and (node.bottoms or node.layer.blobs):
                self._run_backward(i, node)
                if self.debug_info:
                    tell_backward(node, self._blobs)

    def _run_backward(self, index: int, node: Node) -> None:
        if not node.layer.has_backward:
            raise NetError(f"{node.where}: has no backward pass; expected no gradient through it")
        if index not in self._records:
            self._run(index, node)
        values, outs = self._records[index]
        params = [param for param in node.layer.blobs if param.needs_diff]
        learning = [(out, self._blobs[top]) for out, top in zip(outs, node.tops, strict=True) if out.requires_grad]
        wanted = [value for value in values if value.requires_grad]
        grads = [None] * (len(wanted) + len(params))
        if learning and grads:
            grads = list(
                torch.autograd.grad(
                    [out for out, _ in learning],
                    [*wanted, *(param.parameter for param in params)],
                    [blob.diff_tensor() for _, blob in learning],
                    retain_graph=True,  # backward may run again with other diffs
                    allow_unused=True,
                )
            )
        of_params = grads[len(wanted) :]
        if node.layer.in_place and learning:
            blob = self._blobs[node.tops[0]]
            of_params = node.layer.overwritten_diffs(blob.data_tensor(), blob.diff_tensor(), of_params)
        for param, grad in zip(params, of_params, strict=True):
            if grad is not None:
                param.add_diff(grad, node.layer.overwrites_param_diffs)
        remaining = iter(grads)
        top_storage = {blob.diff_tensor().data_ptr() for _, blob in learning}
        for bottom, value in zip(node.bottoms, values, strict=True):
            if value.requires_grad:
                grad = next(remaining)
                grad = torch.zeros_like(value) if grad is None else grad
                if grad.data_ptr() in top_storage and not node.layer.in_place:
                    grad = grad.clone()
                self._blobs[bottom].put_diff(grad)

    def clear_param_diffs(self) -> None:
        """Set every parameter's gradient to zero; backward adds to what is there."""
        for node in self.graph.nodes:
            for param in node.layer.blobs:
                param.diff_tensor().zero_()

    # ---- shapes and weights

    def reshape(self) -> None:
        """Let every shape follow those of the inputs.

        Raises:
            NetError: with every layer that does not fit.
        """
        shapes = self.graph.infer_shapes({name: blob.shape for name, blob in self._blobs.items()})
        for name, shape in shapes.items():
            self._blobs[name].take_shape(shape)
        self._records.clear()

    def copy_from(self, weights: str | PathLike[str]) -> LoadReport:
        """Take the weights of a ``.caffemodel`` or ``.caffemodel.h5`` for the layers of the same names.

        What matched and what did not is logged and returned.

        Raises:
            FormatError: the file cannot be read; MissingFileError: it is not there.
            NetError: blobs of another number or shape, all of them at once; nothing is copied then.
        """
        report = load_weights(self.graph, weights)
        log_report(report, weights)
        return report

    def share_with(self, other: PycaffeFace) -> None:
        """Use the parameters of another net for the layers of the same names, in the same memory.

        Raises:
            NetError: such a layer has parameters of another number or shape; nothing is shared then.
        """
        share_weights(self.graph, other.graph)

    def save(self, path: str | PathLike[str], dialect: str | None = None) -> None:
        """Write the net and its weights as Caffe does; in HDF5 when the name ends in ``.h5``.

        ``dialect`` chooses whose Caffe shall read the file; by default the net's own.
        """
        save_weights(self.graph, path, dialect)
