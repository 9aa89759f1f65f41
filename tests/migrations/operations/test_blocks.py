"""Operations on blocks of columns, in models of several widths."""

import pytest
import torch
from saved_runs import KINDS, moment, namespace, saved_run

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    AddInputBlock,
    FoldInputBlock,
    Migration,
    PermuteInputBlocks,
    Statistics,
)

GRID = "forecaster.grid_embedder.0.weight"
STATES = ("prev_state", "prev_prev_state")
ALL = (*STATES, "forcing", "static")


def grid(states, forcing, static, *, statistics=True, **args):
    """Return a run whose grid embedder has columns 0, 1, 2, ... in a row."""
    width = 2 * states + forcing + static
    shapes = {
        GRID: (1, width),
        GRID.replace("weight", "bias"): (1,),
        "p.output_map.0.bias": (9,),
        "p.output_map.2.bias": (states * (1 + args.get("output_std", False)),),
    }
    known = Statistics({}, [f"s{i}" for i in range(static)])
    run = saved_run(
        shapes,
        hyper_parameters={"args": namespace(**args)},
        statistics=known if statistics else None,
    )
    run.state_dict[GRID] = torch.arange(width)[None].double()
    return run


def columns(operation, run, name=GRID):
    new = operation.apply(run)
    order = [int(c) for c in new.state_dict[name][0]]
    for kind in KINDS:
        old, now = moment(run, name, kind), moment(new, name, kind)
        assert torch.equal(now, old[:, order])
    return order


@pytest.mark.parametrize("std", [True, False])
@pytest.mark.parametrize("states", [1, 2, 5])
def test_states_exchange_without_the_dataset(states, std):
    run = grid(states, 3, 2, statistics=False, output_std=std)
    operation = PermuteInputBlocks(GRID, STATES, STATES[::-1])
    assert operation.needs == ()
    one, two = range(states), range(states, 2 * states)
    rest = range(2 * states, 2 * states + 5)
    assert columns(operation, run) == [*two, *one, *rest]


@pytest.mark.parametrize(
    ("new", "order"),
    [
        (("static", "forcing", *STATES), [6, 7, 2, 3, 4, 5, 0, 1]),
        ((*STATES, "forcing", "static[-feature]"), [0, 1, 2, 3, 4, 5, 7, 6]),
        (
            (*STATES, "forcing[time, feature]", "static"),
            [0, 1, 2, 4, 3, 5, 6, 7],
        ),
        (
            (*STATES, "forcing[feature, -time]", "static"),
            [0, 1, 3, 2, 5, 4, 6, 7],
        ),
    ],
)
def test_forcing_and_statics_need_the_dataset(new, order):
    # Two features of forcing at two times.
    window = {"num_past_forcing_steps": 1, "num_future_forcing_steps": 0}
    operation = PermuteInputBlocks(GRID, ALL, new)
    assert columns(operation, grid(1, 4, 2, **window)) == order
    assert Migration("a", "1", "A.", (operation,)).needs == ("statistics",)
    # From there, and back.
    back = PermuteInputBlocks(GRID, new, ALL)
    run = grid(1, 4, 2, **window)
    there = operation.apply(run)
    assert torch.equal(back.apply(there).state_dict[GRID], run.state_dict[GRID])
    with pytest.raises(CompatError, match="statistics of its dataset"):
        operation.apply(grid(1, 4, 2, statistics=False, **window))


MESSAGE = ("edge", "sender", "receiver")


def layers(hidden=None, **args):
    names = (
        *("p.g2m_gnn.edge_mlp.0", "p.g2m_gnn.edge_mlp.2"),
        *("p.processor.module_0.edge_mlp.mlps.1.0", "p.g2m_gnn.aggr_mlp.0"),
        "p.decoder.mesh_down_gnns.0.edge_mlp.0",
    )
    run = saved_run(
        {f"{name}.weight": (1, 6) for name in names},
        hyper_parameters={"args": namespace(hidden_dim=hidden or 2, **args)},
    )
    for tensor in run.state_dict.values():
        tensor[:] = torch.arange(6)
    return run


def moved(operation, run):
    new = operation.apply(run).state_dict
    return [n for n, t in run.state_dict.items() if not torch.equal(t, new[n])]


def test_hidden_vectors_in_all_layers_of_a_class():
    first = "**.edge_mlp.**.0.weight"
    new = ("receiver", "edge", "sender")
    plain = PermuteInputBlocks(first, MESSAGE, new)
    every = [
        n for n in layers().state_dict if ".edge_mlp." in n and ".2." not in n
    ]
    assert moved(plain, layers()) == every
    assert plain.apply(layers()).state_dict[every[0]].tolist() == [
        [4, 5, 0, 1, 2, 3]
    ]
    some = PermuteInputBlocks(first, MESSAGE, new, of="InteractionNet")
    assert moved(some, layers()) == every[:2]
    # Its own arguments say what a layer is.
    run = layers(g2m_gnn_type="PropagationNet")
    assert moved(some, run) == [every[1]]
    other = PermuteInputBlocks(first, MESSAGE, new, of="PropagationNet")
    assert moved(other, run) == [every[0], every[2]]


def test_without_arguments_a_class_is_not_known():
    name = "g2m_gnn.edge_mlp.0.weight"
    operation = PermuteInputBlocks(name, MESSAGE, MESSAGE, of="InteractionNet")
    with pytest.raises(CompatError, match="of which class its graph layers"):
        operation({name: torch.zeros(1, 6)})


@pytest.mark.parametrize(
    ("run", "blocks"),
    [
        (layers(hidden=3), MESSAGE),
        (layers(), ("a", "b", "c", "d")),
    ],
)
def test_another_width_is_refused(run, blocks):
    operation = PermuteInputBlocks(
        "p.g2m_gnn.edge_mlp.0.weight", blocks, blocks
    )
    with pytest.raises(CompatError, match=r"6 columns .* not these blocks"):
        operation.apply(run)


def test_a_window_that_does_not_fit_is_refused():
    run = grid(1, 3, 2, num_past_forcing_steps=1, num_future_forcing_steps=0)
    with pytest.raises(CompatError, match="not these blocks"):
        PermuteInputBlocks(GRID, ALL, ALL[::-1]).apply(run)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (STATES, ALL),
        (STATES, ("prev_state", "prev_state")),
        (("static",), ("static[time]",)),
        (("forcing",), ("forcing[-feature]",)),
        (("a b",), ("a b",)),
    ],
)
def test_blocks_that_are_none(old, new):
    with pytest.raises(ValueError, match=r"blocks|block|axes"):
        PermuteInputBlocks("a", old, new)


@pytest.mark.parametrize(("states", "static"), [(1, 2), (3, 1)])
def test_units_of_a_block_are_folded(states, static):
    run = grid(states, 2, static)
    layer = GRID.removesuffix(".weight")
    new = FoldInputBlock(layer, "static", 2.0, 1.0).apply(run)
    inputs = torch.randn(2 * states + 2 + static).double()
    old = inputs.clone()
    old[-static:] = 2 * inputs[-static:] + 1

    def output(run, inputs):
        bias = run.state_dict[GRID.replace("weight", "bias")]
        return run.state_dict[GRID] @ inputs + bias

    assert torch.allclose(output(new, inputs), output(run, old), rtol=1e-14)


@pytest.mark.parametrize("states", [1, 2])
@pytest.mark.parametrize("before", [*ALL, None])
def test_room_is_made_before_a_block(states, before):
    run = grid(states, 2, 1)
    new = AddInputBlock(GRID, before, 2).apply(run)
    starts = dict(
        zip(ALL, (0, states, 2 * states, 2 * states + 2), strict=True)
    )
    width = 2 * states + 3
    place = starts.get(before, width)
    kept = [c for c in range(width + 2) if not place <= c < place + 2]
    for old, now in (
        (run.state_dict[GRID], new.state_dict[GRID]),
        (moment(run, GRID, "exp_avg"), moment(new, GRID, "exp_avg")),
    ):
        assert torch.equal(now[:, kept], old)
        assert not now[:, place : place + 2].any()
