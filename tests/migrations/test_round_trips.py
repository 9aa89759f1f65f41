"""Operations and their inverses, on the run of every frozen reference."""

import pytest
from inverses import inverse
from listed_releases import NEWEST, RELEASES
from saved_runs import same

from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.migrations import (
    HISTORY,
    Add,
    Concatenate,
    MoveUnder,
    PermuteInputColumns,
    RelabelGrid,
    Rename,
    RenameHyperParameter,
    ReverseEdges,
    Scale,
    ShiftNodes,
    Split,
    Transpose,
    apply,
    plan,
    saved_run_from_checkpoint,
)
from pytest_nlam_compat.migrations.reading import graph_format
from pytest_nlam_compat.migrations.saved_run import Statistics
from pytest_nlam_compat.references.reference import Reference, read_graph


@pytest.fixture(scope="module", params=RELEASES)
def runs(request, recorded, tmp_path_factory):
    """Read the saved runs of all references of a release."""
    archive = recorded(request.param)
    runs = {}
    for case in archive.cases:
        reference = Reference(archive, case)
        place = tmp_path_factory.mktemp(reference.id)
        graph = reference.graph_folder(place)
        with read_checkpoint(reference.write(place)) as checkpoint:
            runs[case] = saved_run_from_checkpoint(
                checkpoint.data,
                graph=read_graph(graph),
                graph_format=graph_format(graph),
                grid_shape=reference.dataset.grid_shape,
                statistics=Statistics.of_dataset(reference.dataset),
            )
    return runs


def first_weight(run):
    """Name a matrix that is the first of an embedder in every model."""
    return next(name for name in run.state_dict if name.endswith("0.weight"))


def there_and_back(operation, run):
    back = inverse(operation)
    assert back is not None, operation
    new = operation.apply(run)
    assert not same(new, run), operation
    assert same(back.apply(new), run), operation


def test_every_operation_that_has_one(runs):
    for run in runs.values():
        name = first_weight(run)
        module = name.rpartition(".0.")[0]
        rows, columns = run.state_dict[name].shape
        backwards = tuple(reversed(range(columns)))
        for operation in (
            Rename(module, "renamed"),
            MoveUnder("top"),
            Add("new", (2,), before=name),
            Add("new", (2,), buffer=True),
            Split(name, {"new": 1, "rest": columns - 1}, dim=1),
            Split(name, {"new": 1, "rest": rows - 1}),
            Transpose(name),
            Scale(name, -0.5, columns=(0, columns - 1)),
            PermuteInputColumns(name, backwards),
            PermuteInputColumns(name, (1, 0), start=-2),
            ShiftNodes("g2m_edge_index", 0, 3),
            ReverseEdges("m2g_edge_index"),
            RelabelGrid("x-major", "y-major"),
        ):
            there_and_back(operation, run)
        if run.hyper_parameters.get("args") is not None:
            there_and_back(RenameHyperParameter("args.model", "m"), run)


def test_pieces_can_be_joined_and_cut(runs):
    for run in runs.values():
        name = first_weight(run)
        half = run.state_dict[name].shape[0] // 2
        rest = run.state_dict[name].shape[0] - half
        cut = Split(name, {"a": half, "b": rest}).apply(run)
        assert same(Concatenate(("a", "b"), name).apply(cut), run)


NEWER = {"MoveUnder"}
OLD = NEWER | {"Add", "RenameHyperParameter"}
OLDEST = OLD | {"PermuteInputColumns", "RelabelGrid"}
INVERTIBLE = {
    "0.1.0": OLDEST,
    "0.2.0": OLDEST,
    "0.3.0": OLD,
    **dict.fromkeys(("0.4.0", "0.5.0", "0.6.0"), NEWER),
}


def test_the_operations_of_the_history_on_its_way(runs, request):
    release = request.node.callspec.params["runs"]
    checked = set()
    for run in runs.values():
        for step in plan(run, NEWEST, origin=release):
            for operation in step.operations:
                back = inverse(operation)
                before, run = run, operation.apply(run)
                if back is not None:
                    assert same(back.apply(run), before), operation
                    checked.add(type(operation).__name__)
    if release < "0.8.0":
        assert checked == INVERTIBLE.get(release, set())


def test_steps_leave_a_run_alone(runs, request):
    release = request.node.callspec.params["runs"]
    for case, run in runs.items():
        before = run.map_tensors(lambda tensor: tensor.clone())
        apply(run, plan(run, NEWEST, origin=release, migrations=HISTORY))
        assert same(run, before), case
