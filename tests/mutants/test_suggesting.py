"""Nothing that was not verified is shown as verified."""

import json
import re
import sys
from pathlib import Path

import pytest
from mutants import GRAPH, Mutant

sys.path.insert(0, str(Path(__file__).parent))

pytestmark = [pytest.mark.neural_lam, pytest.mark.slow]

BEFORE = (
    "        # Compute indices and define clamping functions\n"
    "        self.prepare_clamping_params(datastore)\n"
)
# Two embedders of one shape, with names that say the opposite.
EXCHANGEABLE = Mutant(
    "exchangeable",
    (
        (GRAPH, "self.g2m_embedder", "self.m2g_edge_embedder"),
        (GRAPH, "self.m2g_embedder", "self.g2m_edge_embedder"),
    ),
)
# A parameter that nothing depends upon: any value gives the golden.
UNUSED = Mutant(
    "unused",
    (
        (
            GRAPH,
            BEFORE,
            "        self.unused = torch.nn.Parameter(torch.ones(1))\n"
            + BEFORE,
        ),
    ),
)
# The weights that would be needed are nowhere.
LOST = Mutant("lost", ((GRAPH, "self.g2m_embedder(", "self.m2g_embedder("),))

CODE = """
import json, sys
from pathlib import Path
sys.path[:0] = [{edited!r}, {here!r}]
import torch
from checking import subject_of
from loguru import logger
from pytest_nlam_compat.adapters.probe import probe
from pytest_nlam_compat.adapters.probe import select_adapter
from pytest_nlam_compat.suggest.suggester import Suggester
from pytest_nlam_compat.suggest.search import SearchBudget
logger.remove()
torch.set_num_threads(1)
folder = Path({folder!r})
adapter = select_adapter(probe())
place, fixtures = folder / "r", Path({fixtures!r})
subject = subject_of("0.7.0-graph_lam", adapter, place, fixtures)
found = Suggester(folder / "s", SearchBudget(trials={trials})).suggest([subject])
print(json.dumps([found.verified, found.report()]))
"""


def suggested(mutant, folder, trials=60):
    import subprocess

    from runner import FIXTURES, edited

    code = CODE.format(
        edited=str(edited(mutant, folder)),
        here=str(Path(__file__).parent),
        folder=str(folder),
        fixtures=str(FIXTURES),
        trials=trials,
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    verified, report = json.loads(done.stdout.splitlines()[-1])
    print(report)
    return verified, report


def test_exchangeable_modules_are_told_apart_by_the_trace(tmp_path):
    verified, report = suggested(EXCHANGEABLE, tmp_path)
    assert verified
    prefix = "forecaster.predictor."
    renames = re.findall(r'Rename\(\s*"(.*?)",\s*"(.*?)"', report)
    assert renames == [
        (f"{prefix}g2m_embedder", f"{prefix}m2g_edge_embedder"),
        (f"{prefix}m2g_embedder", f"{prefix}g2m_edge_embedder"),
    ]
    assert report.startswith("Verified on 0.7.0-graph_lam: largest difference")


def test_a_budget_that_ends_too_early_leaves_a_guess(tmp_path):
    # As it is, and the first guess, which the names mislead.
    verified, report = suggested(EXCHANGEABLE, tmp_path, trials=2)
    assert not verified
    assert "0.7.0-graph_lam: none verified, 2 tried." in report
    assert "The search reached its limit before it had tried all" in report
    assert "A guess only, NOT verified:" in report
    assert "Verified on" not in report


def test_several_steps_that_all_give_the_golden(tmp_path):
    verified, report = suggested(UNUSED, tmp_path)
    assert not verified
    assert (
        "0.7.0-graph_lam: 2 different steps give its golden outputs, so none is "
        "suggested:" in report
    )
    assert "fill=1.0" in report
    assert "Verified on" not in report


def test_what_no_step_fixes(tmp_path):
    verified, report = suggested(LOST, tmp_path)
    assert not verified
    assert "0.7.0-graph_lam: none verified" in report
    assert "Verified on" not in report
