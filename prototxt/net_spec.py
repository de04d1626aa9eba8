"""Nets written as Python, with pycaffe's words: ``layers as L, params as P, NetSpec, to_proto``.

    n = NetSpec()
    n.data = net_input(1, 3, 360, 480)
    n.conv1 = L.Convolution(n.data, num_output=64, kernel_size=3, pad=1, weight_filler=dict(type="msra"))
    n.pool1, n.mask1 = L.Pooling(n.conv1, ntop=2, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    net = n.to_proto()

Which message a layer's parameters belong to follows from the schema: ``Convolution`` has ``ConvolutionParameter`` and
so ``convolution_param``. A type without a message of its own takes its messages by name, as in
``L.SoftmaxWithLoss(n.score, n.label, loss_param=dict(ignore_label=11))``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from google.protobuf.message import Message

from prototxt import caffe_pb2
from prototxt.caffe_pb2 import LayerParameter, NetParameter
from prototxt.errors import CaffeError, nearest

_LAYER = LayerParameter.DESCRIPTOR
#: ``Convolution`` → ``convolution_param``, for every message of the schema that a layer can have.
OWN_FIELDS = {
    field.message_type.name.removesuffix("Parameter"): field.name
    for field in _LAYER.fields
    if field.name.endswith("_param")
}


class Top:
    """One output of a layer, to be used as a bottom of others."""

    def __init__(self, fn: Function, n: int) -> None:
        self.fn = fn
        self.n = n

    def to_proto(self) -> NetParameter:
        """The net of everything that this top needs."""
        return to_proto(self)


class Function:
    """A layer: its type, its bottoms, and its parameters as they will stand in the message."""

    def __init__(self, type_name: str, bottoms: Sequence[Top], params: Mapping[str, object]) -> None:
        self.type_name = type_name
        self.bottoms = tuple(bottoms)
        self.params = dict(params)
        self.ntop = int(self.params.pop("ntop", 1))
        self.in_place = bool(self.params.pop("in_place", False))
        strangers = [bottom for bottom in bottoms if not isinstance(bottom, Top)]
        if strangers:
            raise CaffeError(
                f"L.{type_name}: a {type(strangers[0]).__name__} as a bottom; expected what another layer gave (the "
                "tops of a layer with several come as a tuple: name them one by one)"
            )
        if self.in_place and (len(self.bottoms), self.ntop) != (1, 1):
            raise CaffeError(f"L.{type_name}: `in_place` with {len(bottoms)} bottoms; expected one, and one top")
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def write(self, writer: _Writer) -> list[str]:
        """Add this to the net. Returns the names that its tops have there."""
        bottoms = [writer.name_of(bottom) for bottom in self.bottoms]
        tops = bottoms if self.in_place else [writer.named(top) for top in self.tops]
        name = writer.named(self.tops[0]) if self.tops else writer.new_name(self.type_name)
        layer = writer.net.layer.add(name=name, type=self.type_name, bottom=bottoms, top=tops)
        problems = []
        for key, value in self.params.items():
            try:
                _assign(_owner(layer, key), key, value)
            except CaffeError as error:
                problems += [f"L.{self.type_name} {name!r}: {problem}" for problem in error.problems]
        if problems:
            raise CaffeError(problems)
        return tops


class _Input(Function):
    """An input of the net itself, which is no layer."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__("input", (), {})
        self.shape = tuple(shape)

    def write(self, writer: _Writer) -> list[str]:
        """Add the input."""
        name = writer.named(self.tops[0])
        writer.net.input.append(name)
        writer.net.input_shape.add(dim=self.shape)
        return [name]


class _Writer:
    """Writes functions into a net, each once, after those that it needs."""

    def __init__(self, names: Mapping[str, Top]) -> None:
        self.net = NetParameter()
        self._names = {top: name for name, top in names.items()}
        self._count: Counter[str] = Counter()
        self._written: dict[Function, list[str]] = {}

    def name_of(self, top: Top) -> str:
        """The blob that a top is. Writes its layer if need be."""
        if top.fn not in self._written:
            self._written[top.fn] = top.fn.write(self)
        return self._written[top.fn][top.n]

    def add(self, fn: Function) -> None:
        """Write a layer, if it is not written yet."""
        if fn not in self._written:
            self._written[fn] = fn.write(self)

    def named(self, top: Top) -> str:
        """The name that a top was given, or its layer's type and a number."""
        if top not in self._names:
            self._names[top] = self.new_name(top.fn.type_name)
        return self._names[top]

    def new_name(self, type_name: str) -> str:
        """A type and the next number."""
        self._count[type_name] += 1
        return f"{type_name}{self._count[type_name]}"


class NetSpec:
    """Tops by name, as attributes or items; ``to_proto`` makes the net. A layer is called as its first top."""

    tops: dict[str, Top]

    def __init__(self) -> None:
        object.__setattr__(self, "tops", {})

    def __setattr__(self, name: str, value: Top | Function) -> None:
        self[name] = value

    def __getattr__(self, name: str) -> Top:
        try:
            return self[name]
        except KeyError:
            hint = nearest(name, self.tops)
            raise AttributeError(f"no top {name!r} has been named" + (f"; {hint}" if hint else "")) from None

    def __setitem__(self, name: str, value: Top | Function) -> None:
        if not isinstance(value, Top | Function):
            raise CaffeError(
                f"{name!r} is assigned a {type(value).__name__}; expected what one layer gave, as in L.ReLU(…)"
            )
        self.tops[name] = value

    def __getitem__(self, name: str) -> Top:
        return self.tops[name]

    def update(self, tops: Mapping[str, Top]) -> None:
        """Name several tops."""
        for name, top in tops.items():
            self[name] = top

    def to_proto(self) -> NetParameter:
        """The net, its layers in the order in which they were named.

        Raises:
            CaffeError: with every parameter that a layer does not have or that does not fit.
        """
        named = {name: top for name, top in self.tops.items() if isinstance(top, Top)}
        writer = _Writer(named)
        for value in self.tops.values():
            writer.add(value.fn if isinstance(value, Top) else value)
        return writer.net


class Layers:
    """``layers.Convolution(bottom, …)``: a layer of any type, known or not."""

    def __getattr__(self, type_name: str) -> Callable[..., Top | tuple[Top, ...] | Function]:
        def make(*bottoms: Top, **params: object) -> Top | tuple[Top, ...] | Function:
            fn = Function(type_name, bottoms, params)
            return fn if fn.ntop == 0 else fn.tops[0] if fn.ntop == 1 else fn.tops

        return make


class _Values:
    def __init__(self, message: type[Message]) -> None:
        self._message = message

    def __getattr__(self, name: str) -> int:
        known = {value.name: value.number for kind in self._message.DESCRIPTOR.enum_types for value in kind.values}
        if name not in known:
            raise AttributeError(
                f"{self._message.DESCRIPTOR.name} has no value {name!r}; expected one of {', '.join(known)}"
            )
        return known[name]


class Parameters:
    """``params.Pooling.MAX``: the values of the enums in a layer's message."""

    def __getattr__(self, name: str) -> _Values:
        message = getattr(caffe_pb2, f"{name}Parameter", None)
        if message is None:
            raise AttributeError(f"there is no message {name}Parameter")
        return _Values(message)


def to_proto(*tops: Top) -> NetParameter:
    """The net that some tops need; every name is a type and a number."""
    writer = _Writer({})
    for top in tops:
        writer.add(top.fn)
    return writer.net


def net_input(*shape: int) -> Top:
    """An input of the net: its ``input`` and ``input_shape``. (``layers.Input`` is BVLC's layer for the same.)"""
    return _Input(shape).tops[0]


def _owner(layer: LayerParameter, key: str) -> Message:
    """The message that a parameter belongs to: the layer's own before the layer. Raises CaffeError for neither."""
    own = OWN_FIELDS.get(layer.type)
    if own is not None and key in _LAYER.fields_by_name[own].message_type.fields_by_name:
        return getattr(layer, own)
    if key in _LAYER.fields_by_name:
        return layer
    known = [*(_LAYER.fields_by_name[own].message_type.fields_by_name if own else ()), *_LAYER.fields_by_name]
    raise CaffeError(f"there is no parameter {key!r}; {nearest(key, known) or 'remove it'}")


def _assign(message: Message, key: str, value: object) -> None:
    """Set a field: a dictionary is a message, a list a repeated field, and one value stands for a list of one."""
    field = message.DESCRIPTOR.fields_by_name.get(key)
    if field is None:
        known = message.DESCRIPTOR.fields_by_name
        raise CaffeError(f"{message.DESCRIPTOR.name} has no field {key!r}; {nearest(key, known) or 'remove it'}")
    values = list(value) if field.is_repeated and isinstance(value, list | tuple) else [value]
    for one in values:
        if field.message_type is not None:
            target = getattr(message, key).add() if field.is_repeated else getattr(message, key)
            _assign_message(target, key, one)
            continue
        try:
            if field.is_repeated:
                getattr(message, key).append(one)
            else:
                setattr(message, key, one)
        except (TypeError, ValueError) as error:
            raise CaffeError(f"{key!r} is given {one!r}: {error}") from error


def _assign_message(target: Message, key: str, value: object) -> None:
    target.SetInParent()
    if isinstance(value, Message):
        target.CopyFrom(value)
    elif isinstance(value, Mapping):
        for inner, one in value.items():
            _assign(target, inner, one)
    else:
        raise CaffeError(f"{key!r} is given {value!r}; expected a dict of {target.DESCRIPTOR.name}'s fields")


layers = Layers()
params = Parameters()
