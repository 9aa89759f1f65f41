"""Which checks count: they pass at the good commit, and fail at the bad one."""

from __future__ import annotations

from dataclasses import asdict

from pytest_nlam_compat.bisect.judging import Examined
from pytest_nlam_compat.bisect.verdicts import Verdicts
from pytest_nlam_compat.bisect.wording import count, summary
from pytest_nlam_compat.errors import CompatError


class RefusedError(CompatError):
    """There is nothing to search for between these commits."""


def compare_endpoints(verdicts: Verdicts) -> list[str]:
    """Find out which checks tell the bad commit from the good one.

    Parameters
    ----------
    verdicts : Verdicts

    Returns
    -------
    list of str
        Their names, at least one.

    Raises
    ------
    RefusedError
        There is none.
    """
    if verdicts.place.read("wanted") is not None:
        return verdicts.wanted()
    clone, asked = verdicts.clone, verdicts.asked
    bad = _examined(verdicts, "bad", asked.bad, None)
    _insist_on_checks("--bad", clone.title(asked.bad), bad)
    if not bad.failed:
        raise RefusedError(
            "Nothing fails at --bad.",
            facts={
                "commit": clone.title(asked.bad),
                "passed": count(len(bad.offered), "check"),
            },
            remedy="Name a commit at which `pytest --nlam-compat` fails; "
            "files that are not committed are not looked at.",
        )
    checks = count(len(bad.offered), "check")
    verdicts.tell(f"  {len(bad.failed)} of {checks} failed")
    good = _examined(verdicts, "good", asked.good, list(bad.failed))
    _insist_on_checks("--good", clone.title(asked.good), good)
    passed = [n for n in good.offered if n not in good.failed]
    missing = [n for n in bad.failed if n not in good.offered]
    if not passed:
        facts = {"commit": clone.title(asked.good)}
        if good.failed:
            facts["fails there, too"] = summary(good.failed)
        if missing:
            facts["can't be checked there"] = (
                f"{summary(missing)}; the code was taken for {good.taken_for}"
            )
        raise RefusedError(
            "Nothing that fails at --bad passes at --good.",
            facts=facts,
            remedy="Name a commit at which it still passed: an older one if "
            "it fails there, a newer one if it can't be checked.",
        )
    verdicts.tell(f"  {len(passed)} of these passed")
    for names, why in (
        (good.failed, "fails at both"),
        (missing, "can't be checked at --good"),
    ):
        if names:
            verdicts.tell(f"  left out, {why}: {summary(names)}")
    verdicts.place.write("wanted", {"checks": passed})
    return passed


def _examined(
    verdicts: Verdicts, name: str, commit: str, wanted: list[str] | None
) -> Examined:
    """Return what was found at an endpoint, before an interrupt or now."""
    known = verdicts.place.read(name)
    if known is not None:
        return Examined(**known)
    verdicts.tell(f"Checking --{name}, {verdicts.clone.title(commit)}")
    found = verdicts.examined(commit, wanted)
    verdicts.place.write(name, asdict(found))
    return found


def _insist_on_checks(option: str, commit: str, examined: Examined) -> None:
    if examined.broken:
        raise RefusedError(
            f"The code at {option} can't be checked.",
            facts={"commit": commit, "cause": examined.broken},
            remedy="Name another commit, or make this one run in this "
            "environment.",
        )
