"""What a diagnosis finds."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_nlam_compat.diagnosis.column_change import ColumnChange
from pytest_nlam_compat.diagnosis.edges import EdgeChange

KINDS = {
    "activation": "another activation",
    "aggregation": "messages are aggregated otherwise",
    "batch": "the batch that is made of the series",
    "boundary": "boundary nodes are handled otherwise",
    "clamping": "outputs are clamped otherwise",
    "building": "the model can't be built",
    "class": "a module of another class",
    "edges": "the edges of the graph",
    "error": "the code under test raises an error",
    "error in float32": "the code under test raises an error in float32 only",
    "features": "the features of the graph",
    "hyper-parameter": "a hyper-parameter that the model did not get",
    "inputs": "what is fed to a module",
    "layer": "what a module computes",
    "loading": "the run does not fit the model",
    "loss": "the training loss",
    "module": "a module, or what it is fed",
    "normalisation": "another normalisation",
    "none": "the outputs are right",
    "order": "parameters are registered in another order",
    "output": "what is made of the last submodule's output",
    "precision": "precision is lost",
    "precision in float32": "precision is lost in float32 only",
    "randomness": "two runs differ",
    "rescaling": "the output is rescaled otherwise",
    "residual": "a residual connection",
    "rollout": "how one step follows another",
    "std": "the predicted standard deviation",
    "unknown": "not found",
    "weights": "weights were changed by loading",
}
"""Every kind of cause, and what to call it."""


@dataclass(frozen=True)
class Finding:
    """The first place where the meaning has changed, and how.

    Attributes
    ----------
    kind : str
        Key of `KINDS`.
    cause : str
        One sentence, the same for all references that fail of one cause.
    module : str
        Submodule that differs first, by its current name below the step
        predictor; empty where all agree.
    cls : str
        Its class.
    source : str
        File and line in the current code.
    here : float or None
        Size of the difference there, over the size of the tensor.
    details : mapping of str to str
        More facts, by label.
    layer : str
        Linear that is fed otherwise, by its full current name.
    columns : ColumnChange or None
    edges : EdgeChange or None
    file : (str, int or None) or None
        Graph file that the edges or features are from, and level in it.
    other : str
        Submodule whose input the first one gets now.
    end : float or None
        Size of the difference in the outputs, over their spread.
    """

    kind: str
    cause: str
    module: str = ""
    cls: str = ""
    source: str = ""
    here: float | None = None
    details: dict[str, str] = field(default_factory=dict)
    layer: str = ""
    columns: ColumnChange | None = None
    edges: EdgeChange | None = None
    file: tuple[str, int | None] | None = None
    other: str = ""
    end: float | None = None

    def facts(self) -> dict[str, object]:
        """Lay it out for an error message."""
        lines: dict[str, object] = {"cause": self.cause}
        if self.module:
            lines["differs first in"] = f"{self.module} ({self.cls})"
        if self.source:
            lines["source"] = self.source
        if self.here is not None:
            there = f"{self.here:.1e} of its size"
            if self.end is not None:
                there += f", in the outputs {self.end:.1e} of their spread"
            lines["grows from"] = there
        return lines | self.details
