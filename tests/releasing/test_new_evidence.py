"""What tells a release from the one before, by its code and by its files."""

import pytest
from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import layout
from pytest_nlam_compat.references.release_evidence import published
from pytest_nlam_compat.releasing.new_evidence import (
    ambiguous_cases,
    file_changes,
    propose_marker,
    raise_on_unknown_layout,
)

R8 = Version("0.8.0")
BEFORE = [
    ("n.models", "A"),
    ("n.models", "A(x)"),
    ("n.models", "A.run"),
    ("n.train", "--x"),
]


@pytest.mark.parametrize(
    ("added", "name", "module"),
    [
        ([("n.models", "A(y)")], "A(y)", "n.models"),
        ([("n.train", "--y")], "--y", "n.train"),
        # Classes, functions and methods before parameters and arguments.
        ([("n.models", "A(y)"), ("n.models", "A.stop")], "A.stop", "n.models"),
        ([("n.train", "--y"), ("n.models", "A(y)")], "A(y)", "n.models"),
        # What is in a module that both have comes first.
        ([("n.new", "B"), ("n.models", "A(y)")], "A(y)", "n.models"),
        ([("n.new", "B")], "B", "n.new"),
    ],
)
def test_a_new_name_is_proposed(added, name, module):
    marker = propose_marker(R8, BEFORE, [*BEFORE, *added])
    assert marker == ("0.8.0", module, name, True)


def test_a_name_that_is_gone():
    marker = propose_marker(R8, BEFORE, BEFORE[1:])
    assert marker == ("0.8.0", "n.models", "A", False)


def test_a_new_name_comes_before_one_that_is_gone():
    marker = propose_marker(R8, BEFORE, [*BEFORE[1:], ("n.new", "--b")])
    assert marker == ("0.8.0", "n.new", "--b", True)


def test_code_with_the_same_names():
    assert propose_marker(R8, BEFORE, BEFORE[::-1]) is None


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("0.1.0", "0.2.0"),
        ("0.2.0", "0.3.0"),
        ("0.3.0", "0.4.0"),
        ("0.4.0", "0.5.0"),
        ("0.5.0", "0.6.0"),
        ("0.6.0", "0.7.0"),
    ],
)
def test_the_table_has_what_the_files_differ_by(recorded, before, now):
    """It was written by hand up to 0.7.0, with a part of the arguments."""
    changes = file_changes(recorded(before), recorded(now))
    listed = published()[Version(now)].files["args"]
    assert listed.added
    assert listed.added <= changes["args"].added
    assert listed.removed <= changes["args"].removed


def test_classes_and_hyper_parameters_too(recorded):
    kind = "neural_lam.config.DatastoreKindStr"
    came = file_changes(recorded("0.2.0"), recorded("0.3.0"))
    went = file_changes(recorded("0.4.0"), recorded("0.5.0"))
    assert came["hyper_parameters"].added == {"config"}
    assert kind in came["classes"].added
    assert went["classes"].removed == {kind}


def test_files_of_one_release_do_not_differ(recorded):
    assert file_changes(recorded("0.7.0"), recorded("0.7.0")) == {}


def test_weights_by_what_some_files_have(recorded):
    changes = file_changes(recorded("0.6.0"), recorded("0.7.0"))["weights"]
    assert "forecaster.predictor.grid_embedder.#.weight" in changes.added
    assert "grid_embedder.#.weight" in changes.removed
    # Between these two nothing about the weights has changed.
    assert "weights" not in file_changes(recorded("0.5.0"), recorded("0.6.0"))


@pytest.mark.parametrize("release", ["0.2.0", "0.5.0"])
def test_no_file_needs_to_be_named(recorded, release):
    assert ambiguous_cases(recorded(release)) == []


def test_weights_that_the_layout_lacks(recorded, monkeypatch):
    archive = recorded("0.6.0")
    raise_on_unknown_layout(archive)
    monkeypatch.setitem(
        layout.RENAMED, "0.6.0", {"encoding_grid_mlp": "grid_mlp"}
    )
    with pytest.raises(CompatError) as caught:
        raise_on_unknown_layout(archive)
    assert "migrations/layout.py" in caught.value.what
    assert "grid_mlp.0.weight" in caught.value.facts["missing"]
    assert "encoding_grid_mlp.0.weight" in caught.value.facts["unexpected"]
    assert "RENAMED" in caught.value.remedy
