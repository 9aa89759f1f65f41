"""Checks of a bare function on weights, such as neural-lam's registry has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nlam_compat.migrations.upstream import StateDictFunction

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Finding:
    """Something wrong with a step.

    Attributes
    ----------
    step : str
        Its id or description.
    problem : str
        One sentence.
    """

    step: str
    problem: str

    def __str__(self) -> str:
        return f"{self.step}: {self.problem}"


def check_function(
    step: str,
    function: StateDictFunction,
    state_dict: Mapping[str, Tensor],
    *,
    planned: bool = False,
) -> list[Finding]:
    """Check a bare function on a state_dict, such as upstream's registry has.

    It overwrites no tensor, renames nothing twice, and what it renames are
    whole dot-separated segments.

    Parameters
    ----------
    step : str
        What to call it in a finding.
    function : callable
        Maps a state_dict to another; may change its argument.
    state_dict : mapping of str to Tensor
        As it is when the function's turn comes.
    planned : bool
        Whether a plan sees to it that it is called once: then names may be
        exchanged, which a second call would undo.

    Returns
    -------
    list of Finding
    """
    try:
        once = function(dict(state_dict))
    # Not ours: somebody's function can raise anything, here and below.
    except Exception as cause:
        return [Finding(step, f"Raises {type(cause).__name__}: {cause}")]
    findings = [
        Finding(step, f"Overwrites {name!r}.")
        for name in _overwritten(function, state_dict, once)
    ]
    # Ours refuse where nothing is left to do.
    twice = _if_it_can(function, once) or once
    exchanged = planned and set(twice) == set(once)
    if list(twice) != list(once) and not exchanged:
        findings.append(Finding(step, "Twice is not the same as once."))
    findings += [
        Finding(step, f"Takes {name!r} for {module!r}: not a whole segment.")
        for module, name in _mistaken(function, state_dict)
    ]
    return findings


def _overwritten(
    function: StateDictFunction,
    state_dict: Mapping[str, Tensor],
    once: Mapping[str, Tensor],
) -> Iterable[str]:
    """Find tensors that are lost among others, and not when alone."""
    there = {id(tensor) for tensor in once.values()}
    for name, tensor in state_dict.items():
        if id(tensor) in there:
            continue
        # Ours refuse where they match nothing: it was not renamed.
        alone = _if_it_can(function, {name: tensor}) or {}
        if any(value is tensor for value in alone.values()):
            yield name


def _mistaken(
    function: StateDictFunction, state_dict: Mapping[str, Tensor]
) -> Iterable[tuple[str, str]]:
    """Find modules whose name also matches as the beginning of a longer one."""
    some = next(iter(state_dict.values()), None)
    if some is None:
        return
    for module in _renamed_modules(function, state_dict):
        # Same parent, so that a rule for all its children is no mistake.
        parent = module.rpartition(".")[0]
        control = f"{parent}.unrelated.bias".lstrip(".")
        probe = f"{module}_extra.bias"
        probed = {**state_dict, control: some, probe: some}
        after = _if_it_can(function, probed) or {}
        if control in after and probe not in after:
            yield module, probe.removesuffix(".bias")


def _if_it_can(
    function: StateDictFunction, state_dict: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    try:
        return function(dict(state_dict))
    except Exception:
        return None


def _renamed_modules(
    function: StateDictFunction, state_dict: Mapping[str, Tensor]
) -> list[str]:
    after = set(function(dict(state_dict)))
    gone = {name for name in state_dict if name not in after}
    modules: dict[str, None] = {}
    for name in gone:
        segments = name.split(".")
        for end in range(1, len(segments)):
            module = ".".join(segments[:end])
            inside = {n for n in state_dict if n.startswith(f"{module}.")}
            if inside <= gone:
                modules[module] = None
                break
    return list(modules)
