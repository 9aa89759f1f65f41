"""Pull requests as contributors open them, tried as contributors would.

Each is run by its commands: ``pytest --nlam-compat`` over all references,
``nlam-compat suggest --write``, and pytest again with what was written.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from breaking_layers import MESSAGE
from breaking_widths import (
    EMBEDDER,
    FACTORS,
    HEAD,
    MAPPED,
    OUTPUT,
)
from mutants import FORECASTER, GRAPH, LAYERS, NETWORKS, TRAIN, Edit, Mutant
from runner import edited

FIRST_LINES, MORE_LINES = 60, 25
"""What a run may print for one cause, and for each further one."""
LONGEST_SEARCH_S = 60.0
_DEFAULT = 'gnn_type", "InteractionNet")'


@dataclass(frozen=True)
class PullRequest:
    """A change, and what its author must be told.

    Attributes
    ----------
    name : str
    edits : tuple of Edit
        As of a `Mutant`.
    says : str
        What the title of the cause contains; empty for a harmless change.
    step : str
        What the written migration contains; empty where none can fix it.
    advice : str
        What ``suggest`` says instead.
    causes : int
        How many there are.
    """

    name: str
    edits: tuple[Edit, ...]
    says: str = ""
    step: str = ""
    advice: str = ""
    causes: int = 1


@dataclass
class Trial:
    """What a pull request showed: numbers, and what is wrong with them."""

    lines: int = 0
    causes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    output: str = ""


PULL_REQUESTS = (
    PullRequest(
        "a module renamed",
        (("*", "self.encoding_grid_mlp", "self.grid_update_mlp"),),
        says="renamed encoding_grid_mlp -> grid_update_mlp, ",
        step="Rename(",
    ),
    PullRequest(
        "inputs of the message swapped",
        ((LAYERS, MESSAGE, MESSAGE.replace("x_j, x_i", "x_i, x_j")),),
        says="another order, ",
        step="PermuteInputBlocks(",
    ),
    PullRequest(
        "states swapped",
        (
            (
                GRAPH,
                "prev_state,\n                prev_prev_state,\n",
                "prev_prev_state,\n                prev_state,\n",
            ),
        ),
        says="another order, ",
        step='("prev_prev_state", "prev_state")',
    ),
    PullRequest(
        "output_map in two modules",
        (
            (
                GRAPH,
                OUTPUT,
                # Also without a hidden layer.
                "        self.output_mlp = torch.nn.Sequential(\n"
                "            *(part for _ in range(hidden_layers) for part in (\n"
                "                torch.nn.Linear(hidden_dim, hidden_dim),\n"
                "                torch.nn.SiLU(),\n            ))\n        )\n"
                + HEAD,
            ),
            (
                GRAPH,
                MAPPED,
                "        net_output = self.output_head(self.output_mlp(grid_rep))",
            ),
        ),
        says="renamed output_map.0 -> output_mlp.0, output_map.2 -> "
        "output_head, ",
        step="Rename(",
        # Without a hidden layer, the only layer has the other new name.
        causes=2,
    ),
    PullRequest(
        "a Linear factorised",
        (
            (
                GRAPH,
                EMBEDDER,
                EMBEDDER + "        self.grid_embedder[0] = "
                "torch.nn.Sequential(\n            "
                + FACTORS.format("self.grid_input_dim")
                + ",\n            torch.nn.Linear(hidden_dim, hidden_dim),\n"
                "        )\n",
            ),
        ),
        says="factorised grid_embedder.0 into grid_embedder.0.0 and "
        "grid_embedder.0.1, ",
        step="AddIdentity(",
    ),
    PullRequest(
        "default of the aggregation",
        (
            (
                LAYERS,
                '        aggr: str = "sum",\n',
                '        aggr: str = "mean",\n',
            ),
        ),
        says="SumAggregation was replaced by MeanAggregation, ",
        advice="Pin InteractionNet(aggr='sum')",
    ),
    PullRequest(
        "activation left out in deeper MLPs",
        (
            (
                NETWORKS,
                "layers.append(nn.SiLU())",
                "layers.append(nn.Identity() if layer_i else nn.SiLU())",
            ),
        ),
        says="SiLU was replaced by Identity, ",
        advice="No migration can fix this",
    ),
    PullRequest(
        "default of an argument that old runs lack",
        ((TRAIN, _DEFAULT, _DEFAULT.replace("Interaction", "Propagation")),),
        says="InteractionNet was replaced by PropagationNet, ",
        step="SetHyperParameter(",
    ),
    PullRequest(
        "harmless refactoring",
        (
            (
                FORECASTER,
                "self.boundary_mask * boundary_state\n"
                "                + self.interior_mask * pred_state",
                "self.interior_mask * pred_state\n"
                "                + self.boundary_mask * boundary_state",
            ),
        ),
    ),
)


def tried(request: PullRequest, folder: Path, case: str = "*") -> Trial:
    """Do what its author would, with the references of some cases."""
    code = edited(Mutant(request.name, request.edits), folder)
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    trial = Trial()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PYTEST_") and name != "CI"
        }
        environment |= {"PYTHONPATH": str(code), "COLUMNS": "100"}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", *arguments],
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment,
        )
        trial.output += f"$ {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done

    checks = ("--nlam-compat", f"--nlam-compat-case={case}")
    pytest = ("pytest", *checks, "-p", "no:cacheprovider")
    red = run(*pytest)
    trial.lines = len(red.stdout.splitlines())
    title = re.compile(r"^FAILED nlam-compat: (.*)", re.MULTILINE)
    trial.causes = title.findall(red.stdout)
    trial.wrong += _wrong_run(request, trial, red.returncode)
    if not request.says:
        return trial
    begin = _seconds_of_children()
    search = run("pytest_nlam_compat", "suggest", "--write", "--case", case)
    trial.seconds = _seconds_of_children() - begin
    if trial.seconds > LONGEST_SEARCH_S:
        trial.wrong.append(f"suggest took {trial.seconds:.0f} s")
    if not request.step:
        if request.advice not in search.stdout or not search.returncode:
            trial.wrong.append(f"suggest does not say {request.advice!r}")
        return trial
    file = folder / "tests" / "migrations" / "suggested.py"
    if not file.exists():
        trial.wrong.append("no step was written")
        return trial
    text = file.read_text(encoding="utf-8")
    if request.step not in text:
        trial.wrong.append(f"the step has no {request.step}")
    # A new name fits each width.
    unproved = "No reference of another width proves it" in search.stdout
    if unproved and request.step != "Rename(":
        trial.wrong.append("no reference of another width proves the step")
    file.write_text(text.replace("TODO", "Written"), encoding="utf-8")
    ini = "[pytest]\nnlam_compat_migrations = tests/migrations\n"
    (folder / "pytest.ini").write_text(ini, encoding="utf-8")
    if run(*pytest).returncode:
        trial.wrong.append("the run is red with the step")
    return trial


def _seconds_of_children() -> float:
    """Return the processor time of all runs so far: no other load counts."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wrong_run(request: PullRequest, trial: Trial, status: int) -> list[str]:
    """Say what is wrong with the first run."""
    if not request.says:
        return [f"red: {trial.causes}"] if status else []
    wrong = []
    if status != 1:
        wrong.append(f"exit status {status}")
    if not any(request.says in cause for cause in trial.causes):
        wrong.append(f"the causes are {trial.causes}")
    elif len(trial.causes) > request.causes:
        wrong.append(f"{len(trial.causes)} causes: {trial.causes}")
    allowed = FIRST_LINES + MORE_LINES * max(0, len(trial.causes) - 1)
    if trial.lines > allowed:
        wrong.append(f"{trial.lines} lines, and {allowed} are allowed")
    return wrong


def main(words: list[str]) -> int:
    """Try those whose name has one of the words, and print a table."""
    import tempfile

    failed = 0
    print("lines  causes  suggest  pull request")
    for request in PULL_REQUESTS:
        if words and not any(word in request.name for word in words):
            continue
        with tempfile.TemporaryDirectory() as folder:
            trial = tried(request, Path(folder))
        print(
            f"{trial.lines:>5}  {len(trial.causes):>6}  {trial.seconds:>5.0f} s"
            f"  {request.name}",
            *(f"       WRONG: {text}" for text in trial.wrong),
            sep="\n",
            flush=True,
        )
        failed += bool(trial.wrong)
        if words:
            print(trial.output)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
