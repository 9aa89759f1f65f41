"""Results as a run would write them, small enough to read."""

import copy

MAP = {
    "output": "prediction",
    "variable": "t2m",
    "item": 0,
    "step": 1,
    "node": 2,
    "obtained": 1.5,
    "expected": 1.0,
    "grid": [3, 2],
    "golden": [0.0, 0.5, 1.0, 1.5, 2.0, 2.5],
    "difference": [0.0, 0.1, 0.5, 0.0, -0.2, 0.0],
    "growth": [1e-3, 0.2],
    "allowed": 1e-9,
}
CAUSE = {
    "key": "layer at neural_lam/a.py:3",
    "text": "LayerNorm gives different outputs",
    "explanation": "source: neural_lam/a.py:3",
    "source": "neural_lam/a.py:3",
    "migrated": True,
    "suggestion": [],
    "checks": ["test_outputs"],
    "references": ["0.7.0-hi_lam"],
    "modules": [],
    "failures": 1,
}


def check(name="test_outputs", reference="0.7.0-hi_lam", share=0.25, **changes):
    """Make a check that has passed."""
    return {
        "name": name,
        "id": f"nlam-compat::{name}[{reference}]",
        "outcome": "passed",
        "seconds": 0.5,
        "shares": {"float64": share},
        "difference": 1e-12,
        "native": {},
        "left_out": [],
        "message": "",
        "cause": "",
        "map": copy.deepcopy(MAP),
        **changes,
    }


def failed(name="test_outputs", reference="0.7.0-hi_lam", **changes):
    """Make a check that has failed by `CAUSE`."""
    told = {"outcome": "failed", "cause": CAUSE["key"]}
    told["message"] = f"{reference}: the outputs differ.\n  allowed: 1e-9"
    return check(name, reference, 2e7, **(told | changes))


def native(loaded, reference="0.7.0-hi_lam", **changes):
    """Make the check of a native route."""
    told = {"native": {"outcome": loaded}, "shares": {}, "map": None}
    return check("test_native", reference, **(told | changes))


def reference(name="0.7.0-hi_lam", *checks, void=""):
    """Make a reference; by default its only check has passed."""
    release, _, case = name.partition("-")
    default = () if void else (check(reference=name),)
    return {
        "id": name,
        "release": release,
        "case": case,
        "void": void,
        "recorded": {"torch": "2.13.0"},
        "checks": [*(checks or default)],
    }


def results(*references, **changes):
    """Make the results of a whole run; by default, a green one."""
    return {
        "format": "pytest-nlam-compat results",
        "version": 1,
        "incomplete": "",
        "exit_status": 0,
        "started": "2026-11-26T12:00:00+00:00",
        "seconds": 3.5,
        "shards": [],
        "plugin": {"version": "0.1.0", "registry": "sha256:12"},
        "current": {
            "release": "0.7.0",
            "version": "0.7.1.dev3",
            "path": "/clone/neural_lam",
            "content": "sha256:34",
            "commit": "2378ed7eddf8da5bfec6f57c41cadf310d191dee",
        },
        "settings": {"torch": "2.13.0", "device": "cpu"},
        "selected": {},
        "notices": [],
        "references": [*(references or (reference(),))],
        "other_checks": [],
        "causes": [],
        **changes,
    }


def red(**changes):
    """Make the results of a run with one failure and its cause."""
    told = {"exit_status": 1, "causes": [copy.deepcopy(CAUSE)]}
    return results(reference("0.7.0-hi_lam", failed()), **(told | changes))
