"""RNN and LSTM against a plain loop over the steps, and gradients against finite differences."""

import copy

import numpy as np
import pytest
import torch

from caffe_compat.errors import NetError
from tests.caffe_compat.nets import inputs, net

T, N, K, D = 3, 2, 5, 4
CONT = np.array([[1, 0], [0, 1], [1, 1]])
STATES = {"RNN": ["h"], "LSTM": ["h", "c"]}
FILLERS = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'


def recurrent(kind, *, static=False, expose=False, shapes=None, head="", more="", **options):
    states = STATES[kind] if expose else []
    of = {"x": (T, N, K), "cont": (T, N)} | ({"s": (N, 3, 1)} if static else {}) | dict.fromkeys(states, (1, N, D))
    of |= shapes or {}
    bottoms = " ".join(f'bottom: "{name}"' for name in of)
    tops = " ".join(f'top: "{name}"' for name in ["y", *(f"{state}_T" for state in states)])
    settings = f"recurrent_param {{ num_output: {D} expose_hidden: {str(expose).lower()} {FILLERS} }}"
    text = f'{head}\n{inputs(**of)}\nlayer {{ name: "l" type: "{kind}" {bottoms} {tops} {settings} {more} }}'
    return net(text, **options)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(kind, blobs, x, cont, static=None, states=None):
    """(y, states after the last step), one sequence and one step at a time."""
    weight, bias, *more = [blob.data.astype(np.float64) for blob in blobs]
    static_weight = more.pop(0) if static is not None else np.zeros((len(weight), 1))
    static = np.zeros((N, 1)) if static is None else static.reshape(N, -1)
    y, last = np.empty((T, N, D)), np.array(states if states is not None else np.zeros((len(STATES[kind]), N, D)))
    for n in range(N):
        for t in range(T):
            h, *c = cont[t, n] * last[:, n]
            gates = weight @ x[t, n].ravel() + bias + static_weight @ static[n] + more[0] @ h
            if kind == "RNN":
                last[0, n] = np.tanh(gates)
                y[t, n] = np.tanh(more[1] @ last[0, n] + more[2])
            else:
                i, f, o, g = gates.reshape(4, D)
                last[1, n] = sigmoid(f) * c[0] + sigmoid(i) * np.tanh(g)
                y[t, n] = last[0, n] = sigmoid(o) * np.tanh(last[1, n])
    return y, last


def random(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


@pytest.mark.parametrize("kind", STATES)
def test_a_pass_begins_where_the_last_one_ended(kind):
    built, x = recurrent(kind), random(T, N, K)
    first = built.forward(x=x, cont=CONT)["y"].copy()
    expected, last = by_hand(kind, built.params["l"], x, CONT)
    assert np.allclose(first, expected, atol=1e-6)
    second = built.forward(x=x, cont=CONT)["y"]
    assert np.allclose(second, by_hand(kind, built.params["l"], x, CONT, states=last)[0], atol=1e-6)
    assert not np.allclose(second[0, 0], first[0, 0]) and np.allclose(second[0, 1], first[0, 1])


@pytest.mark.parametrize("kind", STATES)
def test_static_input_and_exposed_states(kind):
    built, x, s = recurrent(kind, static=True, expose=True), random(T, N, K), random(N, 3, 1)
    before = random(len(STATES[kind]), N, D)
    fed = dict(zip(STATES[kind], before[:, None], strict=True))
    for _ in range(2):  # nothing is carried from pass to pass
        tops = built.forward(x=x, cont=CONT, s=s, **fed)
        y, last = by_hand(kind, built.params["l"], x, CONT, s, before)
        assert np.allclose(tops["y"], y, atol=1e-6)
        for state, values in zip(STATES[kind], last, strict=True):
            assert tops[f"{state}_T"].shape == (1, N, D) and np.allclose(tops[f"{state}_T"][0], values, atol=1e-6)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("kind", STATES)
def test_gradients_agree_with_finite_differences(kind, static):
    torch.manual_seed(0)
    module = recurrent(kind, static=static).double().layer["l"]
    cont = torch.tensor([[0.0, 0], [1, 0], [1, 1]], dtype=torch.float64)
    values = [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in ((T, N, K), (N, 3))[: 1 + static]]
    assert torch.autograd.gradcheck(lambda x, *rest: module(x, cont, *rest[:static]), (*values, *module.parameters()))


@pytest.mark.parametrize("kind", STATES)
def test_markers_and_exposed_states_get_no_gradient(kind):
    built = recurrent(kind, expose=True, head="force_backward: true")
    tops = built.forward(x=random(T, N, K), cont=np.ones((T, N)), **dict.fromkeys(STATES[kind], random(1, N, D)))
    diffs = built.backward(**{name: np.ones_like(top) for name, top in tops.items()})
    assert diffs["x"].all() and not any(diffs[name].any() for name in ["cont", *STATES[kind]])


def test_gradients_are_computed_unasked():
    built = recurrent("LSTM", more="param { lr_mult: 0 } loss_weight: 1")
    built.forward(x=random(T, N, K), cont=CONT)
    built.backward()
    assert built.params["l"][0].diff.any() and built.blobs["x"].diff.any()


@pytest.mark.parametrize("kind", STATES)
def test_states_start_over_when_the_number_of_sequences_changes(kind):
    built = recurrent(kind)
    built.forward(x=random(T, N, K), cont=np.ones((T, N)))
    built.blobs["x"].reshape(2, 1, K)
    built.blobs["cont"].reshape(2, 1)
    x = random(2, 1, K)
    y = built.forward(x=x, cont=np.ones((2, 1)))["y"].copy()
    fresh = recurrent(kind, shapes={"x": (2, 1, K), "cont": (2, 1)})
    fresh.load_state_dict(built.state_dict())
    assert np.array_equal(y, fresh.forward(x=x, cont=np.ones((2, 1)))["y"])


def test_as_a_torch_module():
    built = recurrent("LSTM")
    fed = {"x": torch.tensor(random(T, N, K)).float(), "cont": torch.ones(T, N)}
    twin, exported = copy.deepcopy(built), torch.export.export(copy.deepcopy(built), (), fed).module()
    for _ in range(2):
        y = built(**fed)["y"]
        assert torch.equal(twin(**fed)["y"], y) and torch.allclose(exported(**fed)["y"], y, atol=1e-6)
    (built(**fed)["y"].sum() + y.sum()).backward()  # the pass before can still be differentiated
    assert built.params["l"][0].parameter.grad.any()


def test_cost():
    lstm, rnn = (recurrent(kind, static=True).graph.nodes[-1].multiply_adds for kind in ("LSTM", "RNN"))
    assert lstm == T * N * 4 * D * (K + D) + N * 4 * D * 3
    assert rnn == T * N * D * (K + 2 * D) + N * D * 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shapes": {"x": (T, N)}}, r"bottom \(3, 2\); expected \(T, N, ...\)"),
        ({"shapes": {"cont": (T, N, 1)}}, r"sequence markers \(3, 2, 1\); expected \(3, 2\)"),
        ({"static": True, "shapes": {"s": (N + 1, 3)}}, r"static input \(3, 3\); expected \(2, ...\)"),
        ({"expose": True, "shapes": {"c": (N, D)}}, r"a state of the shape \(2, 4\); expected \(1, 2, 4\)"),
        (
            {"shapes": {"h": (1, N, D), "c": (1, N, D)}},
            "4 bottoms and 1 tops with `expose_hidden: false`; expected 2 bottoms, or 3",
        ),
    ],
)
def test_what_does_not_fit(options, said):
    with pytest.raises(NetError, match=said):
        recurrent("LSTM", **options)


def test_size_of_the_input_is_fixed():
    built = recurrent("LSTM", static=True)
    for name, shape, said in (("x", (T, N, K + 1), "6 values.*take 5"), ("s", (N, 2), "2 values.*take 3")):
        old = built.blobs[name].shape
        built.blobs[name].reshape(*shape)
        with pytest.raises(NetError, match=said):
            built.reshape()
        built.blobs[name].reshape(*old)


def test_outputs_must_be_counted():
    with pytest.raises(NetError, match="`num_output` is 0 or missing"):
        net(inputs(x=(T, N, K), cont=(T, N)) + 'layer { name: "l" type: "RNN" bottom: "x" bottom: "cont" top: "y" }')
