"""The first output that differs, where a release recorded outputs alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import nn

from pytest_nlam_compat.diagnosis.alignment import agrees
from pytest_nlam_compat.diagnosis.findings import Finding
from pytest_nlam_compat.diagnosis.input_changes import fed, role
from pytest_nlam_compat.diagnosis.module_changes import inside
from pytest_nlam_compat.diagnosis.observing import Observation, observe
from pytest_nlam_compat.diagnosis.rebuilding import Rebuilt, rebuild
from pytest_nlam_compat.diagnosis.renames import ModuleNames, module_names
from pytest_nlam_compat.diagnosis.source_location import (
    defining,
    owner,
    source_of,
)
from pytest_nlam_compat.references.release_trace import (
    Recorded,
    release_trace,
)

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


@dataclass(frozen=True)
class Outputs:
    """An early reference and the current code, output by output.

    Attributes
    ----------
    subject : ReferenceUnderTest
    module : torch.nn.Module
        The whole model.
    observation : Observation
        Of the current code.
    names : ModuleNames
    recorded : list of Recorded
        All that the release recorded, in call order.
    first : int or None
        The first of them that differs.
    gone : list of str
        Modules before it that the current code does not call.
    """

    subject: ReferenceUnderTest
    module: nn.Module
    observation: Observation
    names: ModuleNames
    recorded: list[Recorded]
    first: int | None
    gone: list[str]

    @property
    def depth(self) -> float:
        """Share of the recorded outputs before the first that differs."""
        if self.first is None:
            return 1.0
        return self.first / len(self.recorded)

    def finding(self) -> Finding | None:
        """Describe the first output that differs, None where none does."""
        if self.first is None:
            return None
        recorded = self.recorded[self.first]
        kinds = {self.names.current(r.module): r.kind for r in self.recorded}
        rebuilt = rebuild(
            self.subject,
            self.module,
            self.observation,
            self.names,
            recorded,
            kinds,
        )
        if rebuilt is None:
            return self._by_itself(recorded)
        finding = _of(rebuilt)
        if finding is None:
            return self._by_itself(recorded)
        note = {"its inputs": f"{self._not_recorded()}; {rebuilt.proof}"}
        return replace(finding, details=finding.details | note)

    def _not_recorded(self) -> str:
        release = self.subject.reference.release
        return f"not recorded by {release}"

    def _by_itself(self, recorded: Recorded) -> Finding:
        """Say where it begins, and no more than is known."""
        name = self.names.current(recorded.module)
        predictor = self.subject.adapter.step_predictor(self.module)
        package = self.subject.adapter.current.path.name
        place, cls = owner(predictor, name, package)
        details = {
            "part of": f"{place or 'the step predictor'} ({cls.__name__})",
            "its inputs": f"{self._not_recorded()}, so that either it or what "
            "it is fed has changed",
        }
        if self.gone:
            details["not called any more"] = self.gone[-1]
        at = _calls(self.observation)[name]
        tensor = self.observation.tensors[at].outputs[recorded.output]
        size = recorded.difference(tensor)
        return Finding(
            "module",
            f"{role(name)} puts out something else",
            module=name,
            cls=type(predictor.get_submodule(name)).__name__,
            source=source_of(defining(cls)),
            here=size if size < float("inf") else None,
            details=details,
        )


def _of(rebuilt: Rebuilt) -> Finding | None:
    pair = rebuilt.walk.first()
    if pair is None:
        return None
    describe = inside if agrees(pair.inputs) else fed
    return describe(rebuilt.walk, pair)


def compare_outputs(subject: ReferenceUnderTest, module: nn.Module) -> Outputs:
    """Lay the current code beside the outputs that a release recorded.

    Parameters
    ----------
    subject : ReferenceUnderTest
        Of a reference with a trace of that kind.
    module : torch.nn.Module
        In float64, with the weights of the migrated run.

    Returns
    -------
    Outputs
    """
    observation = observe(subject, module)
    names = module_names(subject, module)
    recorded = release_trace(subject.reference)
    calls = _calls(observation)
    gone: list[str] = []
    first = None
    for index, one in enumerate(recorded):
        name = names.current(one.module)
        if name not in calls:
            gone.append(name)
            continue
        outputs = observation.tensors[calls[name]].outputs
        if one.output >= len(outputs) or not agrees(
            one.difference(outputs[one.output])
        ):
            first = index
            break
    return Outputs(subject, module, observation, names, recorded, first, gone)


def _calls(observation: Observation) -> dict[str, int]:
    """Return the first call of each module."""
    found: dict[str, int] = {}
    for index, call in enumerate(observation.trace.calls):
        found.setdefault(call.module, index)
    return found
