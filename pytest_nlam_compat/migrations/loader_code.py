"""Migrations as code for neural-lam's own loader, where its users need them.

The code is on its own: it imports torch, and nothing of this package.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Sequence

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import operations as op
from pytest_nlam_compat.migrations.formatting import formatted
from pytest_nlam_compat.migrations.loader_operations import (
    ARGUMENT_CODE,
    of_operation,
    raw,
    without_code,
)
from pytest_nlam_compat.migrations.migration import (
    All,
    HasHyperParameter,
    Holds,
    Migration,
    Not,
)
from pytest_nlam_compat.migrations.operations.segments import regex

_FUNCTION = '''\
def upgrade_tensors(tensors, module=None, power=0):
    """Convert weights, or moments of a power of the gradient, in place."""
{body}
'''
# Predicates see what its release wrote, whatever steps before have changed.
_NAMES = "given"
_IN_MODULE = '''\
# neural_lam/models/module.py: two functions, and two changes of
# ForecasterModule. Use it instead of the migration, not beside it.
{function}

def upgrade_checkpoint(checkpoint, module):
    """Convert weights and optimizers of an older file, in place."""
    weights = checkpoint["state_dict"]
    buffers = [name for name, _ in module.named_buffers()]
    old = [name for name in weights if name not in buffers]
    upgrade_tensors(weights, module)
    new = [name for name, _ in module.named_parameters()]
    for optimizer in checkpoint["optimizer_states"]:
        state, moments = optimizer["state"], {{}}
        for kind, power in (("exp_avg", 1), ("exp_avg_sq", 2)):
            found = {{old[i]: values[kind] for i, values in state.items()}}
            upgrade_tensors(found, module, power)
            for name, moment in found.items():
                # One step of training is one step of all parameters.
                values = next(iter(state.values()))
                step = {{"step": values["step"].clone()}}
                moments.setdefault(new.index(name), step)[kind] = moment
        optimizer["state"] = moments
        optimizer["param_groups"][0]["params"] = list(range(len(new)))


class ForecasterModule(pl.LightningModule):
    def on_save_checkpoint(self, checkpoint):
        checkpoint["layout"] = {number}

    def on_load_checkpoint(self, checkpoint):
        ...  # What is there by now, up to the optimizer.
        if checkpoint.get("layout", 0) < {number}:
            upgrade_checkpoint(checkpoint, self)
'''
_STAMP = """\
# neural_lam/models/module.py: a change of ForecasterModule, which tells new
# files from older ones. Use it instead of the migration, not beside it.
class ForecasterModule(pl.LightningModule):
    def on_save_checkpoint(self, checkpoint):
        checkpoint["layout"] = {number}
"""
_ON_ARGUMENTS = """\


# neural_lam/train_model.py: a function, and three lines of
# load_forecaster_module_from_checkpoint.
{function}

args = ckpt["hyper_parameters"]["args"]  # It is there by now.
if ckpt.get("layout", 0) < {number}:
    upgrade_arguments(args, ckpt["state_dict"])
# And pass args=args to ForecasterModule.load_from_checkpoint.
"""
_ARGUMENTS = '''\
def upgrade_arguments(args, tensors):
    """Convert the arguments of an older file, in place."""
{body}
'''
_IN_REGISTRY = """\
# neural_lam/migrations.py: two functions, and an entry of MIGRATIONS. Use it
# instead of the migration, not beside it.
{function}

def upgraded(state_dict):
    tensors = dict(state_dict)
    upgrade_tensors(tensors)
    return tensors


MIGRATIONS.append(Migration({number}, {reason}, upgraded))
"""


def loader_code(steps: Iterable[Migration], newest: int | None = None) -> str:
    """Return the code that does what migrations do to the weights of a file.

    `newest` is the number of the last migration in neural-lam's own registry;
    None if it has no registry, and the code is for ``on_load_checkpoint``.

    Raises
    ------
    CompatError
        There is no such code for one of the operations, or for its predicate.
    """
    steps = list(steps)
    _refuse_undecidable(steps)
    weights = [
        _of_step(step, _on_weights(step), "module.hparams.args")
        for step in steps
    ]
    arguments = [_of_step(step, _on_arguments(step), "args") for step in steps]
    body = "\n".join(filter(None, weights))
    changes = "\n".join(filter(None, arguments))
    if newest is not None and ("module." in body or changes):
        raise CompatError(
            "neural-lam's registry has weights only, and this needs more.",
            facts={"steps": ", ".join(step.id for step in steps)},
            remedy="Convert it in on_load_checkpoint, or add a hard break.",
        )
    function = _function(_FUNCTION, body or "pass")
    template = _IN_MODULE if newest is None else _IN_REGISTRY
    if changes and not body:
        template = _STAMP
    reason = formatted(repr("; ".join(step.reason for step in steps)))
    number = 1 if newest is None else newest + 1
    code = template.format(function=function, number=number, reason=reason)
    if changes:
        function = _function(_ARGUMENTS, changes)
        code += _ON_ARGUMENTS.format(function=function, number=number)
    return code


def _function(template: str, body: str) -> str:
    if _NAMES in body:
        body = f"{_NAMES} = list(tensors)\n{body}"
    function = template.format(body=textwrap.indent(body, "    "))
    return f"import re\n\n\n{function}" if "re." in function else function


def _on_arguments(step: Migration) -> list[op.Operation]:
    """List the operations of a step that change the arguments of a file."""
    return [o for o in step.operations if type(o) in ARGUMENT_CODE]


def _on_weights(step: Migration) -> list[op.Operation]:
    return [o for o in step.operations if type(o) not in ARGUMENT_CODE]


def _refuse_undecidable(steps: Iterable[Migration]) -> None:
    """Refuse steps that depend on an argument that is changed before."""
    changed: set[str] = set()
    for step in steps:
        own = {getattr(o, "path", "") for o in _on_arguments(step)}
        before = changed | own if _on_weights(step) else changed
        changed = changed | own
        asked = {path for path in before if path in repr(step.when)}
        if asked:
            raise CompatError(
                "A step depends on an argument that is changed before.",
                facts={"step": step.id, "arguments": ", ".join(asked)},
                remedy="Write it by hand: on_load_checkpoint receives the "
                "changed arguments.",
            )


def _of_step(
    step: Migration, operations: Sequence[op.Operation], args: str
) -> str:
    """Return the code of some operations; empty if it does nothing.

    `args` is how the code finds the arguments of the file.
    """
    body = "\n".join(filter(None, map(of_operation, operations)))
    if not body:
        return ""
    if step.when is not None:
        condition = _condition(step.when, args)
        body = f"if {condition}:\n{textwrap.indent(body, '    ')}"
    return f"# {step.id}\n{body}"


def _condition(when: object, args: str) -> str:
    if isinstance(when, Not):
        return f"not ({_condition(when.predicate, args)})"
    if isinstance(when, All):
        each = (f"({_condition(p, args)})" for p in when.predicates)
        return " and ".join(each)
    if isinstance(when, Holds):
        pattern = raw(rf"(^|\.){regex(when.name)}(\.|$)")
        return f"any(re.search({pattern}, n) for n in {_NAMES})"
    if isinstance(when, HasHyperParameter) and when.path.startswith("args."):
        name = json.dumps(when.path.removeprefix("args."))
        if when.value is None:
            return f"hasattr({args}, {name})"
        return f"getattr({args}, {name}, None) == {when.value!r}"
    raise without_code(when)
