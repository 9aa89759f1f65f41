"""Every operation prints as the Python that builds it."""

import pytest

from pytest_nlam_compat import migrations
from pytest_nlam_compat.migrations import HISTORY, Operation
from pytest_nlam_compat.migrations import operations as room

EXAMPLES = [
    migrations.AddInputColumns("a", (1, 3)),
    migrations.AddIdentity("a.b", "a.c", after=True),
    migrations.AddInputBlock("a", "static", 2),
    migrations.Add("a.b", (2, 3), fill=0.5, buffer=True, before="a"),
    migrations.ByWidth("a", {3: (migrations.PermuteInputColumns("a", (0,)),)}),
    migrations.Concatenate(("a", "b"), "c", dim=1),
    migrations.Reorder("g.*.b", before="g.*.a"),
    migrations.Drop("a"),
    migrations.DropHyperParameter("args.a"),
    migrations.FoldDifferenceStatistics("output_map"),
    migrations.FoldInputBlock("a.0", "static", 2.0, 0.5),
    migrations.FoldInputs("a.0", (1.5,), (0.1,), start=-1),
    migrations.FoldMeshPositions("mesh_embedder.0.weight"),
    migrations.FoldStaticFeatures("a.0", {"x": "raw"}, "standardised"),
    migrations.HardBreak('It\'s "gone".', "Train\nagain."),
    migrations.MapHyperParameter("args.loss", {"mse": "wmse", None: 1}),
    migrations.MoveUnder("forecaster"),
    migrations.NumberFromMinimum(),
    migrations.PermuteInputBlocks("a", ("b", "c"), ("c", "b"), of="Net"),
    migrations.PermuteInputColumns("a", (1, 0), start=-2),
    migrations.RelabelGrid("y-major", "x-major"),
    migrations.Rename("a.*", "b.*", alone=True),
    migrations.RenameHyperParameter("args.a", "b"),
    migrations.RepeatInputColumn("a", -20, 3, keep=1),
    migrations.ReverseEdges("mesh_up_edge_index"),
    migrations.Scale("a", -1.0, columns=(1, 2)),
    migrations.SetHyperParameter("a", migrations.New("a.B", {"c": {}})),
    migrations.ShiftNodes("g2m_edge_index", 0, -1),
    migrations.Split("a", {"b": 1, "c": 2}, dim=1),
    migrations.Stack(("a", "b"), "c", dim=1),
    migrations.Transpose("a"),
    migrations.UnwrapClass("a.B"),
]
OF_HISTORY = [o for step in HISTORY for o in step.operations]


@pytest.mark.parametrize("operation", [*EXAMPLES, *OF_HISTORY], ids=repr)
def test_it_evaluates_to_itself(operation):
    assert eval(operation.python(), vars(migrations)) == operation
    assert repr(operation) == operation.python()


def test_every_operation_has_an_example():
    exported = {
        thing
        for name in room.__all__
        if isinstance(thing := getattr(room, name), type)
        and issubclass(thing, Operation)
    }
    # A function prints by its name, which only its own module knows.
    left = exported - {Operation, migrations.CallFunction}
    assert {type(example) for example in EXAMPLES} == left
