"""The first call whose outputs differ though its inputs agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor, nn

from pytest_nlam_compat.diagnosis.alignment import (
    Alignment,
    Pair,
    agrees,
    align,
)
from pytest_nlam_compat.diagnosis.observing import Observation, observe
from pytest_nlam_compat.diagnosis.renames import below_predictor, module_names
from pytest_nlam_compat.references.reference import Call, Trace

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )


@dataclass
class TraceDiff:
    """A reference and the current code, along one step.

    Attributes
    ----------
    subject : ReferenceUnderTest
    module, predictor : torch.nn.Module
        The whole model, and its step predictor.
    observation : Observation
        Of the current code.
    alignment : Alignment
    then : Trace
        Of the reference.
    whole : dict of int to Tensor
        Tensors of rows of `then`, where they are known as a whole.
    """

    subject: ReferenceUnderTest
    module: nn.Module
    predictor: nn.Module
    observation: Observation
    alignment: Alignment
    then: Trace
    whole: dict[int, Tensor] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """Of the parameters of the step predictor."""
        return below_predictor(self.subject, self.module)

    def recorded(self, pair: Pair) -> Call:
        """Return the call as the release made it."""
        return self.then.calls[pair.then]

    def submodule(self, pair: Pair) -> nn.Module:
        """Return the module of a call."""
        return self.predictor.get_submodule(pair.module)

    def inputs(self, pair: Pair) -> list[Tensor]:
        """Return what the current code fed to a call."""
        assert pair.now is not None
        return self.observation.tensors[pair.now].inputs

    def outputs(self, pair: Pair) -> list[Tensor]:
        """Return what the call gave."""
        assert pair.now is not None
        return self.observation.tensors[pair.now].outputs

    def around(self, pair: Pair) -> Pair | None:
        """Return the call of the next module around one, if there is one."""
        name = pair.module
        while "." in name:
            name = name.rpartition(".")[0]
            for candidate in self.alignment.pairs:
                if (
                    candidate.module == name
                    and candidate.then > pair.then
                    and candidate.now is not None
                ):
                    return candidate
        return None

    def first(self) -> Pair | None:
        """Return the first call that differs, None where none does.

        Its inputs agree ("inside"), or what is put together for it changed
        ("fed"): then it is the outermost module that is fed so.
        """
        for pair in self.alignment.pairs:
            if pair.now is None or agrees(pair.outputs):
                continue
            if agrees(pair.inputs):
                return pair
            while True:
                outer = self.around(pair)
                if outer is None or agrees(outer.inputs):
                    return pair
                pair = outer
        return None

    def gone(self, before: Pair | None) -> list[Pair]:
        """List calls of the release that the current code no longer makes."""
        return [
            pair
            for pair in self.alignment.pairs
            if pair.now is None and (before is None or pair.then < before.then)
        ]


def walk(subject: ReferenceUnderTest, module: nn.Module) -> TraceDiff:
    """Trace the current code and lay it beside the reference.

    Parameters
    ----------
    subject : ReferenceUnderTest
    module : torch.nn.Module
        In float64, with the weights of the migrated run.

    Returns
    -------
    TraceDiff
    """
    observation = observe(subject, module)
    names = module_names(subject, module)
    return TraceDiff(
        subject,
        module,
        subject.adapter.step_predictor(module),
        observation,
        align(subject.reference.trace, observation.trace, names),
        subject.reference.trace,
    )
