"""Errors of the runtime. They keep the shape of every error here: where, found, expected, remedy."""

from __future__ import annotations

from prototxt.errors import CaffeError


class NetError(CaffeError):
    """A net that cannot be built or run as it stands."""


class RoomError(NetError):
    """A net that does not fit into memory."""


class LayerError(CaffeError):
    """What one layer finds wrong; whoever knows the layer's name and line adds them (see ``at``)."""

    def at(self, where: str) -> list[str]:
        """The problems with the place in front, ready for a NetError."""
        return [f"{where}: {problem}" for problem in self.problems]


class SolverError(CaffeError):
    """A training that cannot start, or cannot go on."""


class LabelError(LayerError):
    """Labels outside the classes. ``found`` maps an item of the batch to its ``{value: pixels}``.

    ``ignored_by`` is the parameter of the layer that could name a label to leave out, empty where there is none.
    """

    def __init__(self, found: dict[int, dict[int, int]], classes: int, ignored_by: str = "loss_param") -> None:
        self.found, self.classes = found, classes
        total: dict[int, int] = {}
        for values in found.values():
            for value, count in values.items():
                total[value] = total.get(value, 0) + count
        told = ", ".join(f"{value} ({count} times)" for value, count in sorted(total.items()))
        leave_out = f"Name the value to leave out with `{ignored_by} {{ ignore_label: {min(total)} }}`, or mend"
        super().__init__(
            f"labels outside the classes: {told}; expected 0 to {classes - 1}. {leave_out if ignored_by else 'Mend'} "
            "the labels"
        )
