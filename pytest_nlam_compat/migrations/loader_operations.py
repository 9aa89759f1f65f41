"""What each operation does, as code of ``upgrade_tensors`` in neural-lam.

There ``tensors`` are weights, or moments of a power of the gradient, and
``module`` is the model that is loaded.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.migrations import operations as op
from pytest_nlam_compat.migrations.formatting import formatted
from pytest_nlam_compat.migrations.operations.base import OnHyperParameters
from pytest_nlam_compat.migrations.operations.blocks import (
    AXES,
    GRID,
    parsed,
)
from pytest_nlam_compat.migrations.operations.graph import OnGraph
from pytest_nlam_compat.migrations.operations.segments import regex


def of_operation(operation: op.Operation) -> str:
    """Return the code of an operation, in `upgrade_tensors` or on ``args``."""
    code = {**_CODE, **ARGUMENT_CODE}.get(type(operation))
    if code is None:
        raise without_code(operation)
    return code(operation)


def without_code(thing: object) -> CompatError:
    """Return the error that says why there is no code for a part of a step."""
    reasons = (why for kind, why in _WITHOUT_CODE if isinstance(thing, kind))
    return CompatError(
        "There is no code for neural-lam's loader for a part of a step.",
        facts={"part": repr(thing), "since": next(reasons, _PRIVATE)},
        remedy="Write what it does by hand, or keep the migration.",
    )


def raw(pattern: str) -> str:
    """Return the literal of a pattern."""
    return f'r"{pattern}"'


def _on_matches(pattern: str, *lines: str, of: str | None = None) -> str:
    """Do something with each tensor that a pattern names in full."""
    head = f"if name == {json.dumps(pattern)}:"
    if "*" in pattern:
        head = f"if re.fullmatch({raw(regex(pattern))}, name):"
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
    pattern = raw(f"^{regex(operation.old)}(?=\\.|$)")
    new = operation.new
    for number in range(1, new.count("*") + 1):
        new = new.replace("*", rf"\{number}", 1)
    return (
        "for name in list(tensors):\n"
        f"    new = re.sub({pattern}, {raw(new)}, name)\n"
        "    if new != name:\n"
        "        tensors[new] = tensors.pop(name)"
    )


def _drop(operation: op.Drop) -> str:
    return (
        "for name in list(tensors):\n"
        f"    if re.match({raw(f'{regex(operation.name)}([.]|$)')}, name):\n"
        "        del tensors[name]"
    )


def _permute_blocks(operation: op.PermuteInputBlocks) -> str:
    blocks = [parsed(entry)[0] for entry in operation.old]
    if operation.old != tuple(blocks):
        raise without_code(operation)
    new = [_arranged(entry) for entry in operation.new]
    if set(blocks) <= set(GRID):
        cut = [
            *_grid_sizes(blocks),
            "sizes.append(weight.shape[1] - sum(sizes))",
            "parts = weight.split(sizes, dim=1)",
            f"{', '.join(blocks)}, rest = parts",
        ]
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


def _grid_sizes(blocks: list[str]) -> list[str]:
    """Count the columns of blocks of the grid's input."""
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
    return [*lines, f"sizes = [{listed}]"]


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


def _listed(names: Iterable[str]) -> str:
    """Return names as a list that black leaves as it is."""
    lines = "".join(f"    {json.dumps(name)},\n" for name in names)
    return f"names = [\n{lines}]"


def _split(operation: op.Split) -> str:
    dim = operation.dim
    how = (
        f"split({list(operation.into.values())}"
        if isinstance(operation.into, Mapping)
        else f"chunk({len(operation.into)}"
    )
    return (
        f"{_listed(operation.into)}\n"
        f"whole = tensors.pop({json.dumps(operation.name)})\n"
        f"tensors.update(zip(names, whole.{how}, dim={dim})))"
    )


def _joined(operation: op.Concatenate | op.Stack, how: str) -> str:
    return (
        f"{_listed(operation.names)}\n"
        "parts = [tensors.pop(name) for name in names]\n"
        f"whole = torch.{how}(parts, dim={operation.dim})\n"
        f"tensors[{json.dumps(operation.into)}] = whole"
    )


_IN_DOUBLE = (
    "# In float64: only the model rounds it.",
    "weight = tensors[name].double().clone()",
)


def _scale(operation: op.Scale) -> str:
    columns = operation.columns
    which = "slice(None)" if columns is None else list(columns)
    return _on_matches(
        operation.names,
        *_IN_DOUBLE,
        f"weight[..., {which}] *= ({operation.factor!r}) ** (-power or 1)",
        "tensors[name] = weight",
    )


def _add(operation: op.Add) -> str:
    shape: object = operation.shape
    if isinstance(shape, str):
        shape = f"tensors[{json.dumps(shape)}].shape"
    return (
        "if power == 0:\n"
        f"    new = {json.dumps(operation.name)}\n"
        f"    shape = {shape}\n"
        f"    one = torch.ones(shape, dtype=torch.{operation.dtype})\n"
        f"    tensors[new] = one * {operation.fill!r}"
    )


def _add_identity(operation: op.AddIdentity) -> str:
    side = 0 if operation.after else 1
    return (
        "if power == 0:\n"
        f"    new = {json.dumps(operation.layer + '.weight')}\n"
        f"    beside = tensors[{json.dumps(operation.beside + '.weight')}]\n"
        f"    size = beside.shape[{side}]\n"
        "    tensors[new] = torch.eye(size, dtype=beside.dtype)"
    )


def _add_columns(operation: op.AddInputColumns) -> str:
    return _widened(
        operation.names,
        [f"added = {list(operation.columns)}"],
    )


def _add_block(operation: op.AddInputBlock) -> str:
    count = operation.count
    if operation.before is None:
        first = ["first = weight.shape[1]"]
    else:
        first = _first_column(operation.before, operation.blocks)
    return _widened(
        operation.names,
        [*first, f"added = list(range(first, first + {count}))"],
    )


def _widened(names: str, added: list[str]) -> str:
    """Put columns of zeros at the places that the code calls ``added``."""
    return _on_matches(
        names,
        "weight = tensors[name]",
        *added,
        "width = weight.shape[1] + len(added)",
        "kept = [i for i in range(width) if i not in added]",
        "tensors[name] = weight.new_zeros(len(weight), width)",
        "tensors[name][:, kept] = weight",
    )


def _first_column(block: str, blocks: tuple[str, ...]) -> list[str]:
    """Count the columns of a block, ``count``, from ``first`` on."""
    place = blocks.index(block)
    if set(blocks) <= set(GRID):
        *lines, sizes = _grid_sizes(list(blocks))
        return [
            *lines,
            sizes,
            f"first, count = sum(sizes[:{place}]), sizes[{place}]",
        ]
    return [
        f"count = weight.shape[1] // {len(blocks)}",
        f"first = {place} * count",
    ]


def _fold_block(operation: op.FoldInputBlock) -> str:
    return _folded(
        operation,
        _first_column(operation.block, operation.blocks),
        f"weight.new_tensor([{operation.scale!r}] * count)",
        f"weight.new_tensor([{operation.shift!r}] * count)",
    )


def _fold_inputs(operation: op.FoldInputs) -> str:
    return _folded(
        operation,
        [
            f"count = {len(operation.scale)}",
            f"first = {operation.start} % weight.shape[1]",
        ],
        f"weight.new_tensor({list(operation.scale)})",
        f"weight.new_tensor({list(operation.shift)})",
    )


def _folded(
    operation: op.FoldInputs | op.FoldInputBlock,
    columns: list[str],
    scale: str,
    shift: str,
) -> str:
    """Fold units into weight and bias; see `operations.folds` for moments."""
    scales = operation.scale
    if 0 in (scales if isinstance(scales, tuple) else (scales,)):
        raise without_code(operation)
    return _on_matches(
        f"{operation.layer}.weight",
        *_IN_DOUBLE,
        *columns,
        f"scale = {scale}",
        f"shift = {shift}",
        "part = weight[:, first : first + count]",
        f"beside = {json.dumps(operation.layer + '.bias')}",
        "bias = tensors[beside].double()",
        "if power == 0:",
        "    tensors[beside] = bias + part @ shift",
        "    new = part * scale",
        "elif power == 1:",
        "    new = (part - bias[:, None] * shift) / scale",
        "else:",
        "    offset = bias.sqrt()[:, None] * shift.abs()",
        "    new = (part.sqrt() + offset) ** 2 / scale**2",
        "weight[:, first : first + count] = new",
        "tensors[name] = weight",
    )


def _argument(operation: Any) -> str:
    """Return the name of an argument; refuse other hyper-parameters."""
    holder, _, name = operation.path.partition(".")
    if holder != "args" or not name.isidentifier():
        raise without_code(operation)
    return str(name)


def _set_argument(operation: op.SetHyperParameter) -> str:
    name, value = _argument(operation), operation.value
    if not isinstance(value, (str, int, float, bool, type(None))):
        raise without_code(operation)
    return f"args.{name} = {formatted(repr(value))}"


def _rename_argument(operation: op.RenameHyperParameter) -> str:
    name = _argument(operation)
    return f"args.{operation.name} = vars(args).pop({json.dumps(name)})"


def _map_argument(operation: op.MapHyperParameter) -> str:
    name = _argument(operation)
    table = formatted(repr(dict(operation.values)))
    return f"args.{name} = {table}.get(args.{name}, args.{name})"


_PRIVATE = "it is not among what this package can write as code"
_WITHOUT_CODE: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (
        OnHyperParameters,
        "only plain values of args can be changed there: the file's config is "
        "unpickled before, and the loader is passed another",
    ),
    (
        OnGraph,
        "a checkpoint holds no graph: change what neural_lam.utils.load_graph "
        "reads",
    ),
    (
        (
            op.FoldDifferenceStatistics,
            op.FoldMeshPositions,
            op.FoldStaticFeatures,
        ),
        "it takes statistics of the dataset, which the loader does not have",
    ),
    (op.CallFunction, "it calls a function of yours, which is code already"),
)
"""Kinds without code, and why; the first that fits is said."""

ARGUMENT_CODE: Mapping[type, Callable[[Any], str]] = {
    op.DropHyperParameter: lambda operation: f"del args.{_argument(operation)}",
    op.MapHyperParameter: _map_argument,
    op.RenameHyperParameter: _rename_argument,
    op.SetHyperParameter: _set_argument,
}
_CODE: Mapping[type, Callable[[Any], str]] = {
    op.Add: _add,
    op.AddIdentity: _add_identity,
    op.AddInputBlock: _add_block,
    op.AddInputColumns: _add_columns,
    op.Concatenate: lambda operation: _joined(operation, "cat"),
    op.Drop: _drop,
    op.FoldInputBlock: _fold_block,
    op.FoldInputs: _fold_inputs,
    op.PermuteInputBlocks: _permute_blocks,
    op.PermuteInputColumns: _permute_columns,
    op.Rename: _rename,
    # Weights go by their names.
    op.Reorder: lambda operation: "",
    op.Scale: _scale,
    op.Split: _split,
    op.Stack: lambda operation: _joined(operation, "stack"),
    op.Transpose: lambda operation: _on_matches(
        operation.names, "tensors[name] = tensors[name].mT.contiguous()"
    ),
}
