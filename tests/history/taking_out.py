"""The history of neural-lam with one thing missing, or another in its place."""

import dataclasses

from pytest_nlam_compat.migrations import HISTORY

# What no recorded reference can show; each is shown in a file of its own.
ELSEWHERE = {
    "0.2.0-evaluation",
    "0.3.0-arguments",
    "0.4.0-clamping-config",
    "0.4.0-difference-statistics",
    "0.4.0-logger",
    "0.5.0-original-graph",
    "0.6.0-animation",
    "0.7.0-regenerated-flat-graph",
    "0.7.0-regenerated-hierarchical-graph",
}


def step_of(name):
    [step] = [step for step in HISTORY if step.id == name]
    return step


def without(name, index):
    """Return the history without one operation of a step."""
    step = step_of(name)
    operations = step.operations[:index] + step.operations[index + 1 :]
    left = dataclasses.replace(step, operations=operations)
    return [
        left if each is step else each
        for each in HISTORY
        if each is not step or operations
    ]


def with_operation(name, index, operation):
    """Return the history with another operation in the place of one."""
    step = step_of(name)
    operations = list(step.operations)
    operations[index] = operation
    other = dataclasses.replace(step, operations=tuple(operations))
    return [other if each is step else each for each in HISTORY]
