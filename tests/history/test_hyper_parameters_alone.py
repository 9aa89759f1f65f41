"""The steps that no check can see, and why that is right.

They are about hyper-parameters only. Two rename what nothing reads in a file:
train_model.py takes it from the command line, each time. Two are what
evaluations read up to 0.6; `nox -s matrix` sees them there. One is needed
by whoever unpickles the file; we build objects anew, with their defaults.
"""

from argparse import Namespace

import pytest
from taking_out import ELSEWHERE, step_of, without
from verdicts import first_failure

from pytest_nlam_compat.checkpoints.stand_ins import InertObject
from pytest_nlam_compat.numerics.torch_settings import building

pytestmark = [
    pytest.mark.neural_lam,
    pytest.mark.filterwarnings("ignore:Graph metainfo file is missing"),
]

BOOKKEEPING = ("0.3.0-arguments", "0.4.0-logger")
# What evaluations read up to 0.6, with defaults from 0.7 on.
EVALUATION = ("0.2.0-evaluation", "0.6.0-animation")
ALONE = [
    (name, index)
    for name in (*BOOKKEEPING, *EVALUATION)
    for index in range(len(step_of(name).operations))
]


@pytest.mark.parametrize(("step", "index"), ALONE)
def test_no_check_sees_names_that_nothing_reads(step, index, subject_of):
    release = "0.1.0" if step in EVALUATION else "0.2.0"
    subject = subject_of(f"{release}-graph_lam", history=without(step, index))
    assert step_of(step).operations[index] not in [
        operation for each in subject.steps for operation in each.operations
    ]
    assert first_failure(subject) is None


ASKED = set()


class Observed(Namespace):
    """Remembers what is asked of it."""

    def __getattribute__(self, name):
        if not name.startswith("__"):
            ASKED.add(name)
        return super().__getattribute__(name)


@pytest.mark.parametrize("case", ["graph_lam", "hi_lam", "hi_lam_parallel"])
def test_nothing_reads_them_indeed(case, subject_of):
    import torch

    subject = subject_of(f"0.3.0-{case}")
    parameters = dict(subject.hyper_parameters)
    parameters["args"] = Observed(**vars(parameters["args"]))
    ASKED.clear()
    with building(torch.float64):
        subject.adapter.build(parameters, subject.datastore(torch.float64))
    old_and_new = {"n_workers", "num_workers", "ar_steps", "ar_steps_train"}
    old_and_new |= {"wandb_project", "logger_project", "logger"}
    assert "hidden_dim" in ASKED
    assert not ASKED & old_and_new


def unpickled(value):
    """Make an object as unpickling does: without its constructor."""
    from neural_lam import config

    if isinstance(value, InertObject):
        name = value.cls.name
        cls = Namespace if name == "Namespace" else getattr(config, name)
        made = cls.__new__(cls)
        made.__dict__.update(
            {key: unpickled(part) for key, part in value.attributes.items()}
        )
        return made
    if isinstance(value, dict):
        return {key: unpickled(part) for key, part in value.items()}
    return value


def built_from_file(subject):
    import torch

    parameters = unpickled(subject.migrated.hyper_parameters)
    with building(torch.float64):
        subject.adapter.build(parameters, subject.datastore(torch.float64))


@pytest.mark.parametrize("case", ["graph_lam", "hi_lam", "hi_lam_parallel"])
def test_an_unpickled_config_needs_its_clamping(case, subject_of):
    built_from_file(subject_of(f"0.3.0-{case}"))
    history = without("0.4.0-clamping-config", 0)
    with pytest.raises(AttributeError, match="output_clamping"):
        built_from_file(subject_of(f"0.3.0-{case}", history=history))


def test_no_step_is_left_out():
    elsewhere = {*BOOKKEEPING, *EVALUATION, "0.4.0-clamping-config"}
    made = {
        "0.4.0-difference-statistics",
        "0.5.0-original-graph",
        "0.7.0-regenerated-flat-graph",
        "0.7.0-regenerated-hierarchical-graph",
    }
    assert elsewhere | made == ELSEWHERE
