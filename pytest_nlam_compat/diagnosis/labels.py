"""Names of the input columns of the grid."""

from __future__ import annotations

from pytest_nlam_compat.references.reference import Reference


def column_labels(reference: Reference, width: int) -> list[str]:
    """Name the columns that are concatenated for the grid embedder.

    Parameters
    ----------
    reference : Reference
    width : int
        Columns of the input.

    Returns
    -------
    list of str
        Empty where the width is not that of the grid's input.
    """
    names = reference.dataset.names
    forcing = reference.group("batch")["forcing"].shape[-1]
    window = forcing // max(1, len(names["forcing"]))
    labels = [
        *(f"{name} now" for name in names["state"]),
        *(f"{name} before" for name in names["state"]),
        *(
            f"{name} (window {index})"
            for name in names["forcing"]
            for index in range(window)
        ),
        *(f"static {name}" for name in names["static"]),
    ]
    return labels if len(labels) == width else []
