"""A small training for tests, as text: a net that learns to tell two classes of four numbers."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

NET = """
name: "small"
layer { name: "data" type: "HDF5Data" top: "data" top: "label" hdf5_data_param { source: "list.txt" batch_size: 4 } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "score"
  param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "score" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.01
max_iter: 10 display: 1 snapshot_prefix: "small" random_seed: 1
"""


def lay_out(folder: Path, net: str = NET, solver: str = SOLVER, items: int = 10) -> None:
    """Write net, solver and data into a folder."""
    random = np.random.default_rng(0)
    data = random.normal(size=(items, 4)).astype(np.float32)
    with h5py.File(folder / "data.h5", "w") as file:
        file["data"], file["label"] = data, (data[:, 0] > 0).astype(np.float32)
    (folder / "list.txt").write_text("data.h5\n")
    (folder / "net.prototxt").write_text(net)
    (folder / "solver.prototxt").write_text(solver)
