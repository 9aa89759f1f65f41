"""Migrations as code that needs nothing of this package."""

from types import SimpleNamespace

import pytest
import torch
from saved_runs import namespace

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    Add,
    AddIdentity,
    AddInputBlock,
    AddInputColumns,
    All,
    CallFunction,
    Concatenate,
    Drop,
    DropHyperParameter,
    FoldInputBlock,
    FoldInputs,
    FoldStaticFeatures,
    HasHyperParameter,
    Holds,
    MapHyperParameter,
    Migration,
    New,
    Not,
    Optimizer,
    PermuteInputBlocks,
    PermuteInputColumns,
    Rename,
    RenameHyperParameter,
    ReverseEdges,
    SavedRun,
    Scale,
    SetHyperParameter,
    Split,
    Stack,
    Statistics,
    Transpose,
)
from pytest_nlam_compat.migrations.loader_code import loader_code

GRID = ("prev_state", "prev_prev_state", "forcing", "static")
ARGS = {
    "num_past_forcing_steps": 1,
    "num_future_forcing_steps": 0,
    "output_std": False,
}
SHAPES = {
    "p.grid_embedder.0.weight": (2, 10),
    "p.grid_embedder.0.bias": (2,),
    "p.g2m_gnn.edge_mlp.0.weight": (2, 6),
    "p.m2g_gnn.edge_mlp.0.weight": (2, 6),
    "p.output_map.2.weight": (2, 2),
    "p.output_map.2.bias": (2,),
}
OPERATIONS = [
    (Rename("p.output_map", "p.out"),),
    (Rename("p.*_gnn.edge_mlp", "p.layers.*.mlp"),),
    (
        Rename("p.g2m_gnn", "p.aside"),
        Rename("p.m2g_gnn", "p.g2m_gnn"),
        Rename("p.aside", "p.m2g_gnn"),
    ),
    (Drop("p.output_map"),),
    (Split("p.output_map.2.weight", ("p.mean.weight", "p.std.weight")),),
    (Split("p.output_map.2.bias", {"p.a": 1, "p.b": 1}),),
    (
        Concatenate(
            ("p.g2m_gnn.edge_mlp.0.weight", "p.m2g_gnn.edge_mlp.0.weight"),
            "p.x",
        ),
    ),
    (Transpose("p.output_map.2.weight"),),
    (Scale("p.*_gnn.edge_mlp.0.weight", -0.5, columns=(1, 3)),),
    (Scale("p.output_map.2.bias", 3.0),),
    (Add("p.gain", (1,), fill=1.0), Add("p.b", "p.output_map.2.bias")),
    (AddIdentity("p.new", "p.grid_embedder.0"),),
    (AddIdentity("p.new", "p.grid_embedder.0", after=True),),
    (PermuteInputColumns("p.output_map.2.weight", (1, 0)),),
    (PermuteInputColumns("p.g2m_gnn.edge_mlp.0.weight", (1, 2, 0), start=-3),),
    (
        PermuteInputBlocks(
            "**.edge_mlp.**.0.weight",
            ("edge", "sender", "receiver"),
            ("receiver", "edge", "sender"),
        ),
    ),
    (PermuteInputBlocks("p.grid_embedder.0.weight", GRID[:2], GRID[1::-1]),),
    (FoldInputBlock("p.grid_embedder.0", "static", 2.0, -0.5),),
    (FoldInputBlock("p.grid_embedder.0", "prev_prev_state", -3.0),),
    (FoldInputBlock("p.output_map.2", "b", 2.0, 1.0, ("a", "b")),),
    (FoldInputs("p.grid_embedder.0", (2.0, -0.5), (0.0, 3.0), start=-4),),
    (AddInputColumns("p.*_gnn.edge_mlp.0.weight", (0, 3, 7)),),
    (AddInputBlock("p.grid_embedder.0.weight", "static", 2),),
    (AddInputBlock("p.grid_embedder.0.weight", count=3),),
    (AddInputBlock("p.output_map.2.weight", "b", 1, ("a", "b")),),
    (
        Stack(
            ("p.g2m_gnn.edge_mlp.0.weight", "p.m2g_gnn.edge_mlp.0.weight"),
            "p.x",
        ),
    ),
    (
        PermuteInputBlocks(
            "p.grid_embedder.0.weight",
            GRID,
            ("static[-feature]", "forcing[-time, feature]", *GRID[:2]),
        ),
    ),
]


def upgraded(code, weights):
    """Run the function that the code defines."""
    known = {"torch": torch}
    exec(code.partition("class ForecasterModule")[0], known)
    counts = {"state": 2, "static": 2}
    module = SimpleNamespace(
        datastore=SimpleNamespace(get_num_data_vars=counts.__getitem__),
        hparams=SimpleNamespace(args=SimpleNamespace(**ARGS)),
    )
    found = dict(weights)
    moments = [dict(weights), dict(weights)]
    known["upgrade_tensors"](found, module)
    for power, moment in enumerate(moments, 1):
        known["upgrade_tensors"](moment, module, power)
    return [found, *moments]


@pytest.mark.parametrize("operations", OPERATIONS, ids=repr)
@pytest.mark.parametrize(
    ("when", "applies"),
    [
        (None, True),
        (Holds("output_map.2"), True),
        (Holds("other"), False),
        (Not(HasHyperParameter("args.output_std", value=True)), True),
        (HasHyperParameter("args.output_std", value=True), False),
        (HasHyperParameter("args.output_std"), True),
        (Not(HasHyperParameter("args.output_std")), False),
        (All((Holds("output_map"), Not(Holds("other")))), True),
        (All((Holds("output_map"), Holds("other"))), False),
    ],
)
def test_the_code_does_what_the_migration_does(operations, when, applies):
    # Positive, as moments of a square are.
    weights = {
        name: 0.1 + torch.rand(shape, dtype=torch.float64)
        for name, shape in SHAPES.items()
    }
    step = Migration("0.8.0-a", "0.8.0", "A.", operations, when=when)
    known = Statistics({"state_mean": [0.0, 0.0]}, ["x", "y"])
    kinds = dict.fromkeys(("exp_avg", "exp_avg_sq"))
    moments = {n: dict.fromkeys(kinds, t) for n, t in weights.items()}
    run = SavedRun(
        weights,
        {"args": namespace(**ARGS)},
        optimizers=[Optimizer(list(weights), moments, [{}])],
        statistics=known,
    )
    assert step.when is None or step.when(run) is applies
    new = step.apply(run) if applies else run
    expected = [
        new.state_dict,
        *(
            {n: m[kind] for n, m in new.optimizers[0].moments.items()}
            for kind in kinds
        ),
    ]
    code = loader_code([step])
    assert "pytest_nlam_compat" not in code
    for found, right in zip(upgraded(code, weights), expected, strict=True):
        assert found.keys() == right.keys()
        for name, tensor in right.items():
            # A factor is rounded in another place.
            assert torch.allclose(found[name], tensor, rtol=0, atol=1e-12)


LONG = "forecaster.predictor.decoder.intra_down_gnns.0.module_0"
LONG_NAMES = (
    Split(f"{LONG}.weight", (f"{LONG}.one.weight", f"{LONG}.two.weight")),
    Concatenate((f"{LONG}.one.weight", f"{LONG}.two.weight"), f"{LONG}.x"),
    Add(f"{LONG}.gain.bias", f"{LONG}.other.bias"),
    AddIdentity(f"{LONG}.new", f"{LONG}.old"),
    FoldInputBlock(f"{LONG}.old", "static", 2.0, -0.5),
    AddInputBlock(f"{LONG}.old.weight", "static", 2),
    PermuteInputBlocks("a", GRID, GRID[::-1]),
)


def test_lines_fit_the_style_of_neural_lam():
    when = Holds("encoding_grid_mlp")
    step = Migration("0.8.0-a", "0.8.0", "A.", LONG_NAMES, when=when)
    code = loader_code([step])
    compile(code, "module.py", "exec")
    names = [line for line in code.splitlines() if LONG in line]
    others = [line for line in code.splitlines() if LONG not in line]
    assert max(map(len, others)) <= 80
    # Black leaves a long text as it is.
    assert all(line.count('"') == 2 for line in names)
    assert "'" not in code


def test_code_for_a_registry_has_weights_only():
    rename = Migration("0.8.0-a", "0.8.0", "A.", (Rename("a", "b"),))
    code = loader_code([rename], newest=3)
    listed = []
    exec(code, {"MIGRATIONS": listed, "Migration": lambda *given: given})
    [(number, reason, apply)] = listed
    assert (number, reason) == (4, "A.")
    assert apply({"a.b": 1}) == {"b.b": 1}
    states = PermuteInputBlocks("a", GRID[:2], GRID[1::-1])
    step = Migration("0.8.0-b", "0.8.0", "B.", (states,))
    with pytest.raises(CompatError, match="weights only"):
        loader_code([step], newest=3)


@pytest.mark.parametrize(
    ("operation", "since"),
    [
        (ReverseEdges("m2m_edge_index"), "a checkpoint holds no graph"),
        (SetHyperParameter("args.a", New("b.C")), "only plain values of args"),
        (DropHyperParameter("config.a"), "only plain values of args"),
        (FoldStaticFeatures("a.0", "raw", "standardised"), "statistics of the"),
        (CallFunction(namespace), "a function of yours"),
        (FoldInputs("a.0", (0.0,), (1.0,)), "it is not among what"),
    ],
    ids=repr,
)
def test_what_has_no_code_is_an_error_that_says_why(operation, since):
    step = Migration("0.8.0-a", "0.8.0", "A.", (operation,))
    with pytest.raises(CompatError, match="no code for neural-lam") as found:
        loader_code([step])
    assert since in found.value.facts["since"]


ON_ARGUMENTS = (
    SetHyperParameter("args.g2m_gnn_type", "InteractionNet"),
    RenameHyperParameter("args.hidden_dim", "width"),
    DropHyperParameter("args.seed"),
    MapHyperParameter("args.graph", {"1level": "flat"}),
)


@pytest.mark.parametrize(
    ("when", "applies"),
    [
        (None, True),
        (Holds("grid_embedder"), True),
        (Not(HasHyperParameter("args.output_std", value=True)), True),
        (Holds("prior_model"), False),
    ],
)
def test_arguments_are_changed_before_the_model_is_built(when, applies):
    step = Migration("0.8.0-a", "0.8.0", "A.", ON_ARGUMENTS, when=when)
    code = loader_code([step])
    _, marked, code = code.partition("# neural_lam/train_model.py: ")
    assert marked
    function = code[code.index("\n", code.index("load_forecaster")) :]
    known = {}
    exec(function.partition("\nargs = ")[0], known)
    old = {"hidden_dim": 4, "seed": 1, "graph": "1level", "output_std": False}
    args = SimpleNamespace(**old)
    known["upgrade_arguments"](args, {"p.grid_embedder.0.bias": 0})
    run = SavedRun({}, {"args": namespace(**old)})
    expected = step.apply(run) if applies else run
    assert vars(args) == expected.hyper_parameters["args"].attributes


def test_a_step_asks_for_names_as_they_were_before_all_steps():
    steps = [
        Migration("0.8.0-a", "0.8.0", "A.", (Rename("p.output_map", "p.out"),)),
        Migration(
            *("0.8.0-b", "0.8.0", "B.", (Scale("p.out.2.bias", 3.0),)),
            when=Holds("output_map"),
        ),
    ]
    weights = {"p.output_map.2.bias": torch.ones(2)}
    found, *_ = upgraded(loader_code(steps), weights)
    assert found["p.out.2.bias"].tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    "operation", [Rename("a", "b"), SetHyperParameter("args.new", 1)]
)
def test_no_step_depends_on_an_argument_that_is_changed(operation):
    steps = [
        Migration("0.8.0-a", "0.8.0", "A.", ON_ARGUMENTS),
        Migration(
            *("0.8.0-b", "0.8.0", "B.", (operation,)),
            when=HasHyperParameter("args.graph", "1level"),
        ),
    ]
    with pytest.raises(CompatError, match="an argument that is changed"):
        loader_code(steps)
