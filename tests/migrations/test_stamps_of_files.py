"""What a file says itself of who wrote it."""

import pytest
import torch
from packaging.version import Version

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import (
    SavedRun,
    detect_origin,
    plan,
    refuse_newer,
    stamp,
)
from pytest_nlam_compat.migrations.releases import CLAMP_BUFFERS

UPSTREAM = "neural_lam_checkpoint_version"
NAMES = [
    f"forecaster.predictor.{name}"
    for name in (*CLAMP_BUFFERS, "grid_embedder.0.weight")
]


def checkpoint(**stamps):
    """What the weights alone show to be of 0.7.0."""
    return {"state_dict": dict.fromkeys(NAMES), **stamps}


def test_without_a_stamp_it_is_evidence_that_tells():
    assert detect_origin(checkpoint()).release == "0.7.0"


def planned(origin):
    def plans(data):
        weights = {name: torch.zeros(1) for name in NAMES}
        stamps = {k: v for k, v in data.items() if k != "state_dict"}
        plan(SavedRun(weights, {}, stamps=stamps), "0.7.0", origin=origin)

    return plans


@pytest.mark.parametrize(
    "ask",
    [detect_origin, planned(None), planned("0.7.0")],
    ids=["detect", "plan", "plan from 0.7.0"],
)
class TestNeuralLamsOwn:
    @pytest.mark.parametrize("found", [0, 1, 99])
    def test_no_release_that_is_known_writes_one(self, found, ask):
        with pytest.raises(CompatError) as caught:
            ask(checkpoint(**{UPSTREAM: found}))
        assert str(caught.value) == (
            "The checkpoint was written by a neural-lam that this "
            "pytest-nlam-compat does not know.\n"
            f"  neural_lam_checkpoint_version: {found}\n"
            "  expected: none, as of each release up to 0.7.0\n"
            "Upgrade pytest-nlam-compat."
        )

    @pytest.mark.parametrize("found", ["2", 2.5, [1], None, True, "\x1b[2J"])
    def test_one_that_is_no_number(self, found, ask):
        with pytest.raises(CompatError) as caught:
            ask(checkpoint(**{UPSTREAM: found}))
        assert str(caught.value) == (
            "The stamp of the checkpoint is not a number.\n"
            f"  neural_lam_checkpoint_version: {found!r}\n"
            "Pass the file as neural-lam has written it."
        )

    def test_our_record_does_not_make_it_known(self, ask):
        record = stamp(Version("0.7.0"), ())
        with pytest.raises(CompatError, match="neural-lam that this"):
            ask(checkpoint(**{UPSTREAM: 99}, **record))

    def test_a_number_that_can_not_be_printed(self, ask):
        with pytest.raises(CompatError) as caught:
            ask(checkpoint(**{UPSTREAM: 10**5000}))
        assert caught.value.facts[UPSTREAM] == "something of type int"


def test_a_stamp_that_the_code_knows():
    refuse_newer(2, 2)
    refuse_newer(2, 3)


@pytest.mark.parametrize(("newest", "shown"), [(1, "1"), (None, "none")])
def test_a_stamp_that_is_newer_than_the_code_is_refused(newest, shown):
    with pytest.raises(CompatError) as caught:
        refuse_newer(2, newest)
    assert str(caught.value) == (
        "The checkpoint was written by a newer neural-lam.\n"
        "  neural_lam_checkpoint_version: 2\n"
        f"  newest that the installed neural-lam knows: {shown}\n"
        "Upgrade neural-lam."
    )


@pytest.mark.parametrize("found", ["2", 2.5, None, False])
def test_what_is_no_number_is_not_older_than_the_code(found):
    with pytest.raises(CompatError, match="checkpoint is not a number"):
        refuse_newer(found, 3)


def test_a_migrated_file_is_recognised_by_our_record():
    # Its hyper-parameters may still be of the release that it was made by.
    data = checkpoint(**stamp(Version("0.7.0"), ("a", "b")))
    data["hyper_parameters"] = {"args": None}
    assert data["nlam_compat"] == {"layout": "0.7.0", "migrations": ["a", "b"]}
    origin = detect_origin(data)
    assert origin.release == "0.7.0"
    assert [str(e) for e in origin.evidence] == [
        "migrated to 0.7.0 before: 0.7.0"
    ]


def test_a_file_that_a_newer_version_of_ours_has_migrated_is_refused():
    with pytest.raises(CompatError) as caught:
        detect_origin(checkpoint(**stamp(Version("9.0.0"), ())))
    assert str(caught.value) == (
        "The checkpoint was migrated by a newer pytest-nlam-compat.\n"
        "  layout: 9.0.0\n"
        "  newest known: 0.7.0\n"
        "Upgrade pytest-nlam-compat."
    )


@pytest.mark.parametrize(
    "layout", ["foo", "0.6.5", "", None, 9, ["0.7.0"], "\x1b[2J"]
)
def test_a_layout_of_no_version_of_ours_is_refused(layout):
    with pytest.raises(CompatError) as caught:
        detect_origin(checkpoint(nlam_compat={"layout": layout}))
    assert str(caught.value) == (
        "The record of a migration in the checkpoint is not as "
        "pytest-nlam-compat writes it.\n"
        f"  nlam_compat.layout: {layout!r}\n"
        "  expected: a release, such as '0.7.0'\n"
        "Pass the file as nlam-compat upgrade has written it, or the one that "
        "it was made from."
    )


def stamped_by(version):
    return {"nlam_compat": {"stamp": {"neural_lam": {"version": version}}}}


def test_the_release_that_stamped_a_file_is_read():
    origin = detect_origin(checkpoint(**stamped_by("0.7.0")))
    assert [str(found) for found in origin.evidence] == [
        "stamped by 0.7.0: 0.7.0"
    ]


@pytest.mark.parametrize("version", ["0.7.1", "0.8.0rc1", "1.0"])
def test_a_file_that_a_newer_release_has_stamped_is_refused(version):
    with pytest.raises(CompatError) as caught:
        detect_origin(checkpoint(**stamped_by(version)))
    assert str(caught.value) == (
        "The checkpoint was written by a neural-lam that this "
        "pytest-nlam-compat does not know.\n"
        f"  stamped by: {version}\n"
        "  newest known: 0.7.0\n"
        "Upgrade pytest-nlam-compat."
    )


@pytest.mark.parametrize("version", ["0.7.1.dev3+gabc", "0.8.0+local", "?"])
def test_the_version_of_a_development_install_says_nothing(version):
    origin = detect_origin(checkpoint(**stamped_by(version)))
    assert origin.release == "0.7.0"
    assert "stamped" not in str(origin.evidence)
