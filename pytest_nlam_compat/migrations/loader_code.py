"""Migrations as code for neural-lam's own loader, where its users need them.

The code is on its own: it imports torch, and nothing of this package.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import operations as op
from pytest_nlam_compat.migrations.formatting import formatted
from pytest_nlam_compat.migrations.migration import (
    All,
    HasHyperParameter,
    Holds,
    Migration,
    Not,
)
from pytest_nlam_compat.migrations.operations.blocks import (
    AXES,
    GRID,
    parsed,
)
from pytest_nlam_compat.migrations.operations.segments import regex

_FUNCTION = '''\
def upgrade_tensors(tensors, module=None, power=0):
    """Convert weights, or moments of a power of the gradient, in place."""
{body}
'''
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
    blocks = [_of_step(step) for step in steps]
    body = "\n".join(blocks) or "pass"
    if newest is not None and "module." in body:
        raise CompatError(
            "neural-lam's registry has weights only, and this needs more.",
            facts={"steps": ", ".join(step.id for step in steps)},
            remedy="Convert it in on_load_checkpoint, or add a hard break.",
        )
    function = _FUNCTION.format(body=textwrap.indent(body, "    "))
    if "re." in function:
        function = f"import re\n\n\n{function}"
    template = _IN_MODULE if newest is None else _IN_REGISTRY
    reason = formatted(repr("; ".join(step.reason for step in steps)))
    number = 1 if newest is None else newest + 1
    return template.format(function=function, number=number, reason=reason)


def _of_step(step: Migration) -> str:
    body = "\n".join(_of_operation(operation) for operation in step.operations)
    if step.when is not None:
        body = f"if {_condition(step.when)}:\n{textwrap.indent(body, '    ')}"
    return f"# {step.id}\n{body}"


def _condition(when: object) -> str:
    if isinstance(when, Not):
        return f"not ({_condition(when.predicate)})"
    if isinstance(when, All):
        return " and ".join(f"({_condition(p)})" for p in when.predicates)
    if isinstance(when, Holds):
        pattern = rf"(?:[^.]+\.)*{regex(when.name)}(?:\..+)?"
        return f"any(re.fullmatch({_raw(pattern)}, n) for n in tensors)"
    if isinstance(when, HasHyperParameter) and when.path.startswith("args."):
        name = json.dumps(when.path.removeprefix("args."))
        return f"getattr(module.hparams.args, {name}, None) == {when.value!r}"
    raise _unknown(when)


def _of_operation(operation: op.Operation) -> str:
    code = _CODE.get(type(operation))
    if code is None:
        raise _unknown(operation)
    return code(operation)


def _unknown(thing: object) -> CompatError:
    return CompatError(
        "There is no code for neural-lam's loader for a part of a step.",
        facts={"part": repr(thing)},
        remedy="Write what it does into on_load_checkpoint by hand.",
    )


def _raw(pattern: str) -> str:
    return f'r"{pattern}"'


def _on_matches(pattern: str, *lines: str, of: str | None = None) -> str:
    """Do something with each tensor that a pattern names in full."""
    head = f"if name == {json.dumps(pattern)}:"
    if "*" in pattern:
        head = f"if re.fullmatch({_raw(regex(pattern))}, name):"
    if of is not None:
        lines = (
            "layers = [",
            "    type(layer).__name__",
            "    for path, layer in module.named_modules()",
            '    if path and name.startswith(f"{path}.")',
            "]",
            f'if "{of}" not in layers:',
            "    continue",
            *lines,
        )
    body = "\n".join([head, *(f"    {line}" for line in lines)])
    return f"for name in list(tensors):\n{textwrap.indent(body, '    ')}"


def _rename(operation: op.Rename) -> str:
    pattern = _raw(f"^{regex(operation.old)}(?=\\.|$)")
    new = operation.new
    for number in range(1, new.count("*") + 1):
        new = new.replace("*", rf"\{number}", 1)
    return (
        "for name in list(tensors):\n"
        f"    new = re.sub({pattern}, {_raw(new)}, name)\n"
        "    if new != name:\n"
        "        tensors[new] = tensors.pop(name)"
    )


def _drop(operation: op.Drop) -> str:
    return (
        "for name in list(tensors):\n"
        f"    if re.match({_raw(f'{regex(operation.name)}([.]|$)')}, name):\n"
        "        del tensors[name]"
    )


def _permute_blocks(operation: op.PermuteInputBlocks) -> str:
    blocks = [parsed(entry)[0] for entry in operation.old]
    if operation.old != tuple(blocks):
        raise _unknown(operation)
    new = [_arranged(entry) for entry in operation.new]
    if set(blocks) <= set(GRID):
        cut = _grid_cut(blocks)
        new.append("rest")
    else:
        cut = [f"{', '.join(blocks)} = weight.chunk({len(blocks)}, dim=1)"]
    return _on_matches(
        operation.names,
        "weight = tensors[name]",
        *cut,
        f"parts = ({', '.join(new)})",
        "tensors[name] = torch.cat(parts, dim=1)",
        of=operation.of,
    )


def _grid_cut(blocks: list[str]) -> list[str]:
    """Cut the input of the grid into blocks, and what stands after them."""
    lines = ['states = module.datastore.get_num_data_vars("state")']
    sizes = {GRID[0]: "states", GRID[1]: "states"}
    if not {"forcing", "static"}.isdisjoint(blocks):
        lines += [
            'statics = module.datastore.get_num_data_vars("static")',
            "forcings = weight.shape[1] - 2 * states - statics",
            "args = module.hparams.args",
            "window = args.num_past_forcing_steps + 1",
            "window += args.num_future_forcing_steps",
        ]
        sizes |= {"forcing": "forcings", "static": "statics"}
    listed = ", ".join(sizes[block] for block in blocks)
    return [
        *lines,
        f"sizes = [{listed}]",
        "sizes.append(weight.shape[1] - sum(sizes))",
        f"{', '.join(blocks)}, rest = weight.split(sizes, dim=1)",
    ]


def _arranged(entry: str) -> str:
    name, axes = parsed(entry)
    plain = list(AXES[: len(axes)])
    if axes == plain:
        return name
    order = [1 + AXES.index(axis.lstrip("-")) for axis in axes]
    flipped = [1 + i for i, axis in enumerate(axes) if axis.startswith("-")]
    if len(axes) == 1:
        return f"{name}.flip(1)"
    return (
        f"{name}.unflatten(1, (-1, window)).permute(0, {order[0]}, "
        f"{order[1]}).flip({flipped}).flatten(1)"
    )


def _permute_columns(operation: op.PermuteInputColumns) -> str:
    moved = list(operation.order)
    return _on_matches(
        operation.names,
        "order = list(range(tensors[name].shape[1]))",
        f"first = {operation.start or 0} % len(order)",
        f"moved = [first + column for column in {moved}]",
        f"order[first : first + {len(moved)}] = moved",
        "tensors[name] = tensors[name][:, order]",
    )


def _split(operation: op.Split) -> str:
    names, dim = list(operation.into), operation.dim
    how = (
        f"split({list(operation.into.values())}"
        if isinstance(operation.into, Mapping)
        else f"chunk({len(names)}"
    )
    return (
        f"parts = tensors.pop({operation.name!r}).{how}, dim={dim})\n"
        f"tensors.update(zip({formatted(repr(names))}, parts))"
    )


def _concatenate(operation: op.Concatenate) -> str:
    names = formatted(repr(list(operation.names)))
    return (
        f"parts = [tensors.pop(name) for name in {names}]\n"
        f"tensors[{operation.into!r}] = torch.cat(parts, "
        f"dim={operation.dim})"
    )


def _scale(operation: op.Scale) -> str:
    columns = operation.columns
    which = "slice(None)" if columns is None else list(columns)
    return _on_matches(
        operation.names,
        "weight = tensors[name].clone()",
        f"weight[..., {which}] *= ({operation.factor!r}) ** (-power or 1)",
        "tensors[name] = weight",
    )


def _add(operation: op.Add) -> str:
    shape = operation.shape
    like = f"tensors[{shape!r}].shape" if isinstance(shape, str) else shape
    return (
        "if power == 0:\n"
        f"    tensors[{operation.name!r}] = torch.full(\n"
        f"        {like}, {operation.fill!r}, dtype=torch.{operation.dtype}\n"
        "    )"
    )


def _add_identity(operation: op.AddIdentity) -> str:
    side = 0 if operation.after else 1
    return (
        "if power == 0:\n"
        f"    beside = tensors[{operation.beside + '.weight'!r}]\n"
        f"    tensors[{operation.layer + '.weight'!r}] = torch.eye(\n"
        f"        beside.shape[{side}], dtype=beside.dtype\n"
        "    )"
    )


_CODE: Mapping[type, Callable[[Any], str]] = {
    op.Add: _add,
    op.AddIdentity: _add_identity,
    op.Concatenate: _concatenate,
    op.Drop: _drop,
    op.PermuteInputBlocks: _permute_blocks,
    op.PermuteInputColumns: _permute_columns,
    op.Rename: _rename,
    # Weights go by their names.
    op.Reorder: lambda operation: "",
    op.Scale: _scale,
    op.Split: _split,
    op.Transpose: lambda operation: _on_matches(
        operation.names, "tensors[name] = tensors[name].mT.contiguous()"
    ),
}
