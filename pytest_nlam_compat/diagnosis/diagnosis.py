"""The result of explaining a failure, and where in the code it points."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from pytest_nlam_compat.diagnosis.edge_changes import EdgeChange
from pytest_nlam_compat.diagnosis.tensor_changes import ColumnChange

KindOfOneCheck = Literal[
    "batch",
    "error in float32",
    "loader",
    "loss",
    "none",
    "order",
    "precision in float32",
    "saving",
]
"""Causes that explain one check, not all checks of a reference."""

Kind = Literal[
    KindOfOneCheck,
    "activation",
    "aggregation",
    "boundary",
    "building",
    "clamping",
    "class",
    "edges",
    "error",
    "features",
    "hyper-parameter",
    "inputs",
    "layer",
    "loading",
    "normalisation",
    "output",
    "precision",
    "randomness",
    "rescaling",
    "residual",
    "rollout",
    "std",
    "unknown",
    "weights",
]
"""Every kind of cause."""

OF_ONE_CHECK = frozenset(get_args(KindOfOneCheck))


@dataclass(frozen=True)
class Diagnosis:
    """Where the current code first differs from a release, and how.

    Attributes
    ----------
    cause : str
        One sentence.
    module, cls : str
        Submodule that differs first, by its current name below the step
        predictor, and its class; empty where all agree.
    line : str
        File and line in the current code that has changed, or that calls,
        builds or names what has; empty where it is not known.
    source : str
        File and line of the method or class that has changed.
    here : float or None
        Largest difference there, over the size of the tensor.
    details : mapping of str to str
        More facts, by label.
    layer : str
        Linear whose input differs, by its full current name.
    columns : ColumnChange or None
        How that input differs.
    other : str
        Submodule whose input the first one receives now.
    end : float or None
        Largest difference in the outputs, over their spread.
    depth : float
        Share of the recorded calls that come before the first difference.
    reference : str
        Id of the reference that shows the cause.
    """

    kind: Kind
    cause: str
    module: str = ""
    cls: str = ""
    line: str = ""
    source: str = ""
    here: float | None = None
    details: dict[str, str] = field(default_factory=dict)
    layer: str = ""
    columns: ColumnChange | None = None
    edges: EdgeChange | None = None
    other: str = ""
    end: float | None = None
    depth: float = 0.0
    reference: str = ""

    @property
    def key(self) -> str:
        """What all failures of one change have in common.

        The kind and the first line, where it is known. The sentence may name
        modules and numbers that only some references have, and further lines
        build what only some have.
        """
        line = self.line.partition(",")[0]
        return f"{self.kind} at {line}" if line else self.cause

    def properties(self) -> dict[str, object]:
        """Return the properties of a report of a failed check."""
        return {
            "nlam_cause": self.cause,
            "nlam_cause_key": self.key,
            "nlam_cause_kind": self.kind,
            "nlam_cause_module": self.module,
            "nlam_cause_source": self.line or self.source,
        }

    def facts(self) -> dict[str, object]:
        """Return the facts of an error message, by label."""
        lines: dict[str, object] = {"cause": self.cause}
        if self.module:
            lines["differs first in"] = f"{self.module} ({self.cls})"
        if self.line or self.source:
            lines["source"] = self.line or self.source
        if self.here is not None:
            there = f"{self.here:.1e} of its size"
            if self.end is not None:
                there += f", in the outputs {self.end:.1e} of their spread"
            lines["difference there"] = there
        return lines | self.details
