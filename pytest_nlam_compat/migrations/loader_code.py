"""Migrations as code for neural-lam's own loader, where its users need them.

The code is on its own: it imports torch, and nothing of this package.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import operations as op
from pytest_nlam_compat.migrations.formatting import formatted
from pytest_nlam_compat.migrations.migration import Holds, Migration
from pytest_nlam_compat.migrations.operations.blocks import (
    AXES,
    GRID,
    parsed,
)
from pytest_nlam_compat.migrations.operations.segments import regex

_IN_MODULE = """\
# neural_lam/models/module.py: this function, and two changes of
# ForecasterModule. Use it instead of the migration, not beside it.
# It converts weights. To resume training with the optimizer's state, convert
# the file with nlam-compat upgrade.
{function}

class ForecasterModule(pl.LightningModule):
    def on_save_checkpoint(self, checkpoint):
        checkpoint["layout"] = {number}

    def on_load_checkpoint(self, checkpoint):
        ...  # What is there by now, up to the optimizer.
        if checkpoint.get("layout", 0) < {number}:
            upgrade_weights(checkpoint["state_dict"], self)
"""
_IN_REGISTRY = """\
# neural_lam/migrations.py: this function, and an entry of MIGRATIONS. Use it
# instead of the migration, not beside it.
{function}

def upgraded(state_dict):
    state_dict = dict(state_dict)
    upgrade_weights(state_dict)
    return state_dict


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
    extra = ("module",) if newest is None else ()
    if newest is not None and "module." in body:
        raise CompatError(
            "neural-lam's registry has weights only, and this needs more.",
            facts={"steps": ", ".join(step.id for step in steps)},
            remedy="Convert it in on_load_checkpoint, or add a hard break.",
        )
    head = f"def upgrade_weights({', '.join(('state_dict', *extra))}):\n"
    doc = '    """Convert the weights of an older file, in place."""\n'
    function = head + doc + textwrap.indent(body, "    ")
    if "re." in function:
        function = f"import re\n\n\n{function}"
    template = _IN_MODULE if newest is None else _IN_REGISTRY
    reason = formatted(repr("; ".join(step.reason for step in steps)))
    number = 1 if newest is None else newest + 1
    return template.format(function=function, number=number, reason=reason)


def _of_step(step: Migration) -> str:
    lines = [f"# {step.id}"]
    body = "\n".join(_of_operation(operation) for operation in step.operations)
    if step.when is None:
        return "\n".join([*lines, body])
    if not isinstance(step.when, Holds):
        raise _unknown(step.when)
    pattern = rf"(?:[^.]+\.)*{regex(step.when.name)}(?:\..+)?"
    condition = f"if any(re.fullmatch({_raw(pattern)}, n) for n in state_dict):"
    return "\n".join([*lines, condition, textwrap.indent(body, "    ")])


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
    head = f"if re.fullmatch({_raw(regex(pattern))}, name):"
    if of is not None:
        lines = (
            "layers = [",
            "    layer",
            "    for path, layer in module.named_modules()",
            '    if path and name.startswith(f"{path}.")',
            "]",
            f'if "{of}" not in [type(layer).__name__ for layer in layers]:',
            "    continue",
            *lines,
        )
    body = "\n".join([head, *(f"    {line}" for line in lines)])
    return f"for name in list(state_dict):\n{textwrap.indent(body, '    ')}"


def _rename(operation: op.Rename) -> str:
    pattern = _raw(f"^{regex(operation.old)}(?=\\.|$)")
    new = operation.new
    for number in range(1, new.count("*") + 1):
        new = new.replace("*", rf"\{number}", 1)
    return (
        "for name in list(state_dict):\n"
        f"    new = re.sub({pattern}, {_raw(new)}, name)\n"
        "    if new != name:\n"
        "        state_dict[new] = state_dict.pop(name)"
    )


def _drop(operation: op.Drop) -> str:
    return _on_matches(operation.name, "del state_dict[name]").replace(
        '", name', r'(?:\..+)?", name'
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
        "weight = state_dict[name]",
        *cut,
        f"parts = ({', '.join(new)})",
        "state_dict[name] = torch.cat(parts, dim=1)",
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
    first = operation.start or 0
    order = formatted(repr(list(operation.order)))
    return _on_matches(
        operation.names,
        "weight = state_dict[name].clone()",
        f"first = {first} % weight.shape[1]",
        f"block = weight[:, first : first + {len(operation.order)}]",
        f"weight[:, first : first + {len(operation.order)}] = block[",
        f"    :, {order}",
        "]",
        "state_dict[name] = weight",
    )


def _split(operation: op.Split) -> str:
    names, dim = list(operation.into), operation.dim
    how = (
        f"split({list(operation.into.values())}"
        if isinstance(operation.into, Mapping)
        else f"chunk({len(names)}"
    )
    return (
        f"parts = state_dict.pop({operation.name!r}).{how}, dim={dim})\n"
        f"state_dict.update(zip({formatted(repr(names))}, parts))"
    )


def _concatenate(operation: op.Concatenate) -> str:
    names = formatted(repr(list(operation.names)))
    return (
        f"parts = [state_dict.pop(name) for name in {names}]\n"
        f"state_dict[{operation.into!r}] = torch.cat(parts, "
        f"dim={operation.dim})"
    )


def _scale(operation: op.Scale) -> str:
    if operation.columns is None:
        return _on_matches(
            operation.names,
            f"state_dict[name] = state_dict[name] * {operation.factor!r}",
        )
    return _on_matches(
        operation.names,
        "weight = state_dict[name].clone()",
        f"weight[..., {list(operation.columns)}] *= {operation.factor!r}",
        "state_dict[name] = weight",
    )


def _add(operation: op.Add) -> str:
    shape = operation.shape
    like = f"state_dict[{shape!r}].shape" if isinstance(shape, str) else shape
    return (
        f"state_dict[{operation.name!r}] = torch.full(\n"
        f"    {like}, {operation.fill!r}, dtype=torch.{operation.dtype}\n"
        ")"
    )


def _add_identity(operation: op.AddIdentity) -> str:
    side = 0 if operation.after else 1
    return (
        f"beside = state_dict[{operation.beside + '.weight'!r}]\n"
        f"state_dict[{operation.layer + '.weight'!r}] = torch.eye(\n"
        f"    beside.shape[{side}], dtype=beside.dtype\n"
        ")"
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
        operation.names, "state_dict[name] = state_dict[name].mT.contiguous()"
    ),
}
