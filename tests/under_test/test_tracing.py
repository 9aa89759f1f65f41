"""Fingerprints: what differs shows, and in the row of whose it is."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pytest_nlam_compat.references.reference import (
    MOMENTS,
    SAMPLES,
    Call,
    Trace,
    kind_of,
)
from pytest_nlam_compat.under_test.tracing import (
    column_moments,
    fingerprint,
    record_trace,
)

NODES, HIDDEN = 40, 6


class Embedder(nn.Module):
    """Two inputs that are concatenated, an aside, and a nested sequence."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.mlp = nn.Sequential(nn.Linear(5, HIDDEN), nn.SiLU())
        self.head = nn.Linear(HIDDEN, 2)
        self.unused = nn.Linear(1, 1)

    def forward(self, states, forcing):
        hidden = self.mlp(torch.cat((states, forcing), dim=-1))
        return self.head(hidden + self.head.bias.mean())


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def model():
    return Embedder().double()


@pytest.fixture
def inputs():
    return random(NODES, 3), random(NODES, 2, seed=1)


def same(one, other):
    return (
        one.calls == other.calls
        and one.shapes == other.shapes
        and torch.equal(one.rows, other.rows)
        and one.columns.keys() == other.columns.keys()
        and all(
            torch.equal(one.columns[r], other.columns[r]) for r in one.columns
        )
    )


def close(one, other):
    return torch.allclose(one, other, rtol=0, atol=1e-12)


def test_calls_are_in_the_order_in_which_they_ended(model, inputs):
    trace = record_trace(model, lambda: model(*inputs))
    assert trace.calls == [
        Call("mlp.0", "Linear", (0,), (1,)),
        Call("mlp.1", "SiLU", (1,), (2,)),
        Call("mlp", "Sequential", (0,), (2,)),
        Call("head", "Linear", (3,), (4,)),
    ]
    assert trace.shapes == [(40, 5), (40, 6), (40, 6), (40, 6), (40, 2)]
    assert trace.rows.shape == (5, SAMPLES + MOMENTS)
    assert trace.rows.dtype is torch.float64


def test_a_row_holds_entries_and_moments(model, inputs):
    trace = record_trace(model, lambda: model(*inputs))
    tensor = torch.cat(inputs, dim=-1)
    flat = tensor.reshape(-1)
    weight = torch.arange(1, 201) / 200
    assert trace.rows[0].tolist() == pytest.approx(
        [
            *flat[[0, 50, 100, 149, 199]].tolist(),
            flat.mean().item(),
            flat.square().mean().item(),
            (flat * weight.double()).mean().item(),
        ]
    )


def test_columns_are_of_what_no_module_put_out(model, inputs):
    trace = record_trace(model, lambda: model(*inputs))
    # What was concatenated, and what was added to on the way.
    assert set(trace.columns) == {0, 3}
    tensor = torch.cat(inputs, dim=-1)
    assert torch.equal(trace.columns[0], column_moments(tensor))
    mean, square = trace.columns[0]
    assert torch.allclose(mean, tensor.mean(dim=0))
    assert torch.allclose(square, tensor.square().mean(dim=0))


def test_inputs_that_were_swapped_show_as_columns(model, inputs):
    states, forcing = inputs
    before = record_trace(model, lambda: model(states, forcing))
    after = record_trace(model, lambda: model(forcing, states))
    assert not close(after.columns[0], before.columns[0])
    assert close(after.columns[0][:, [2, 3, 4, 0, 1]], before.columns[0])


def test_two_runs_give_equal_traces(model, inputs):
    first = record_trace(model, lambda: model(*inputs))
    assert same(first, record_trace(model, lambda: model(*inputs)))
    assert not model.head._forward_hooks
    assert not model.head._forward_pre_hooks


@pytest.mark.parametrize("entry", [0, 1, 117, 239])
def test_a_difference_of_1e_9_shows_where_it_was_made(model, inputs, entry):
    before = record_trace(model, lambda: model(*inputs))

    def change(module, args, output):
        output.view(-1)[entry] += 1e-9

    handle = model.mlp[0].register_forward_hook(change)
    after = record_trace(model, lambda: model(*inputs))
    handle.remove()
    differs = (before.rows != after.rows).any(dim=1).tolist()
    # Its input does not; its output does, and what comes after.
    assert differs == [False, True, True, True, True]
    assert after.calls == before.calls


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=3),
    st.integers(0, 2**32),
    st.data(),
)
def test_a_fingerprint_sees_1e_9_in_any_entry(shape, seed, data):
    tensor = random(*shape, seed=seed)
    changed = tensor.clone()
    entry = data.draw(st.integers(0, tensor.numel() - 1))
    changed.view(-1)[entry] += data.draw(st.sampled_from([1e-9, -1e-9]))
    assert not torch.equal(fingerprint(changed), fingerprint(tensor))


@settings(deadline=None)
@given(st.integers(2, 50), st.integers(0, 2**32), st.randoms())
def test_a_permutation_of_nodes_shows(nodes, seed, chance):
    tensor = random(nodes, 3, seed=seed)
    order = list(range(nodes))
    chance.shuffle(order)
    moved = fingerprint(tensor[order])
    if order == sorted(order):
        assert torch.equal(moved, fingerprint(tensor))
        return
    before = fingerprint(tensor)
    assert moved[-1] != before[-1]  # weighted with the position
    assert moved[SAMPLES : SAMPLES + 2].tolist() == pytest.approx(
        before[SAMPLES : SAMPLES + 2].tolist(), abs=1e-12
    )


def test_nodes_that_were_swapped_show_in_the_first_row(model, inputs):
    order = torch.arange(NODES)
    order[[17, 18]] = order[[18, 17]]
    before = record_trace(model, lambda: model(*inputs))
    after = record_trace(model, lambda: model(*(x[order] for x in inputs)))
    assert (before.rows != after.rows).any(dim=1).all()
    # The columns tell that no more than the order is another.
    for row, moments in before.columns.items():
        assert close(after.columns[row], moments)


class Odd(nn.Module):
    """Takes and gives what is not simply a tensor."""

    def forward(self, tensors, *, index, extra=None):
        return {"sum": sum(tensors), "index": index, "empty": torch.ones(0)}


def test_tensors_are_found_in_containers():
    outer = nn.Sequential(Odd())
    tensors = [random(2, 3), random(2, 3, seed=1)]

    def run():
        outer[0](tensors, index=torch.arange(3), extra={"a": [random(4)]})

    trace = record_trace(outer, run)
    # Neither integers nor empty tensors; a vector has no columns.
    assert trace.calls == [Call("0", "Odd", (0, 1, 2), (3,))]
    assert trace.shapes == [(2, 3), (2, 3), (4,), (2, 3)]
    assert set(trace.columns) == {0, 1}


class InPlace(nn.Module):
    def forward(self, x):
        return x.mul_(2)


def test_inputs_are_taken_before_a_module_changes_them():
    outer = nn.Sequential(InPlace())
    trace = record_trace(
        outer, lambda: outer(torch.ones(3, dtype=torch.float64))
    )
    assert trace.rows[:, 0].tolist() == [1.0, 2.0]


class Recursive(nn.Module):
    def forward(self, x, depth=2):
        return self(x + 1, depth - 1) if depth else x


def test_calls_inside_of_a_call_keep_their_inputs():
    outer = nn.Sequential(Recursive())
    trace = record_trace(outer, lambda: outer(torch.zeros(3)))
    assert [(c.inputs, c.outputs) for c in trace.calls] == [
        ((2,), (2,)),
        ((1,), (2,)),
        ((0,), (2,)),
    ]


def test_a_tensor_of_another_shape_is_another(inputs):
    outer = nn.Sequential(nn.Flatten(0))
    trace = record_trace(outer, lambda: outer(inputs[0]))
    assert trace.calls == [Call("0", "Flatten", (0,), (1,))]
    assert trace.shapes == [(40, 3), (120,)]
    assert torch.equal(trace.rows[0], trace.rows[1])


def test_a_module_called_twice_has_two_calls(model):
    outer = nn.Sequential(model.head)
    x, y = random(3, HIDDEN), random(3, HIDDEN, seed=1)
    trace = record_trace(outer, lambda: (outer[0](x), outer[0](y), outer[0](x)))
    assert [call.inputs for call in trace.calls] == [(0,), (2,), (0,)]


def test_hooks_are_removed_when_the_run_fails(model):
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record_trace(model, fail)
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_nothing_called_is_an_empty_trace(model):
    trace = record_trace(model, lambda: None)
    assert same(trace, Trace())
    assert trace.rows.shape == (0, SAMPLES + MOMENTS)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Sequential_497765", "Sequential"),
        ("Sequential_c10da9", "Sequential"),
        ("Sequential", "Sequential"),
        ("Sequential_497", "Sequential_497"),
        ("MySequential_497765", "MySequential_497765"),
        ("Linear", "Linear"),
    ],
)
def test_a_kind_has_nothing_random(name, kind):
    assert kind_of(name) == kind


def test_a_generated_class_gives_equal_traces(inputs):
    def build():
        kind = type("Sequential_" + "4b086d", (nn.Sequential,), {})
        return nn.Sequential(kind(nn.SiLU()))

    model = build()
    trace = record_trace(model, lambda: model(inputs[0]))
    assert [call.kind for call in trace.calls] == ["SiLU", "Sequential"]
