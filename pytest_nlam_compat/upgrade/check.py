"""Load a file with the installed neural-lam's own loader, and run it."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from packaging.version import Version

from pytest_nlam_compat.adapters.silence import silenced
from pytest_nlam_compat.checkpoints.reader import Checkpoint
from pytest_nlam_compat.checkpoints.stand_ins import TensorRef
from pytest_nlam_compat.errors import CompatError, join_some
from pytest_nlam_compat.migrations.history import HISTORY
from pytest_nlam_compat.migrations.migration import Migration
from pytest_nlam_compat.upgrade.dataset_facts import load_datastore
from pytest_nlam_compat.upgrade.graphs import fingerprint, open_graph
from pytest_nlam_compat.upgrade.inspection import report
from pytest_nlam_compat.upgrade.next_steps import inner_path, run_files
from pytest_nlam_compat.upgrade.stamping import record_in
from pytest_nlam_compat.upgrade.trust import refuse_malformed, refuse_unknown
from pytest_nlam_compat.upgrade.weights import Weights, read_run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pytest_nlam_compat.adapters.adapter import Adapter

_STEPS = 3
_LAST_WEIGHT = re.compile(r"(?:^|\.)output_map\.(\d+)\.weight$")
_FIRST_WEIGHT = re.compile(r"(?:^|\.)grid_embedder\.0\.weight$")


def check(
    file: Path,
    graph: Path | None,
    config: Path | None,
    allowed: tuple[str, ...],
    say: Callable[[str], None],
    own: tuple[Migration, ...] = (),
    source: str | None = None,
) -> dict[str, Any]:
    """Check that neural-lam loads a file, and return what was found.

    Parameters
    ----------
    file : Path
    graph : Path or None
        The graph directory; by default the one of the datastore.
    config : Path or None
        neural-lam's configuration. Without one, a datastore of the same sizes
        stands in, and nothing is rolled out.
    allowed : tuple of str
        Classes that the file may name, besides the known ones.
    say : callable
        Receives what will be done, before the pickle of the file is run.
    own, source
        As for `report`: the file must have those that apply to it.

    Raises
    ------
    CompatError
        If the file is not safe to load, or does not pass.
    """
    with read_run(file) as checkpoint:
        found = approved(checkpoint, allowed, own, source)
        if graph is None and config is None:
            raise CompatError(
                "neural-lam needs the graph to build the model.",
                facts={"graph of the run": found["graph"]},
                remedy="Pass --graph, and --datastore if you have the dataset:"
                f"\n  {run_files(file, found).check()}",
            )
        adapter = _adapter(found, file)
        others = f" and {', '.join(allowed)}" if allowed else ""
        say(
            f"{file.name} names only known classes{others}. Loading it with "
            f"neural-lam {adapter.current.version}, which runs its pickle."
        )
        with tempfile.TemporaryDirectory() as folder:
            return _loaded(
                checkpoint, found, adapter, graph, config, Path(folder)
            )


def approved(
    checkpoint: Checkpoint,
    allowed: tuple[str, ...],
    own: tuple[Migration, ...],
    source: str | None,
) -> dict[str, Any]:
    """Return the report on a file that may be unpickled."""
    refuse_unknown(checkpoint, allowed)
    refuse_malformed(checkpoint)
    if isinstance(checkpoint, Weights):
        raise CompatError(
            "neural-lam's loader reads no safetensors.",
            facts={"file": checkpoint.path},
            remedy="Pass the checkpoint that the weights are from.",
        )
    found = report(checkpoint, own, source)
    if found["origin"]["release"] is None:
        raise CompatError(
            "It is not known which release of neural-lam the file is for.",
            facts={
                "file": checkpoint.path,
                "found": found["origin"]["problem"],
            },
            remedy="Upgrade it first, with --from if need be.",
        )
    if found["model"] is None:
        raise CompatError(
            "The file doesn't say which model it is of, so neural-lam's loader "
            "can't build it.",
            facts={"file": checkpoint.path, "missing": "hyper_parameters.args"},
            remedy="Load it with the code that trained it.",
        )
    return found


def _adapter(found: Mapping[str, Any], file: Path) -> Adapter:
    """Return what drives the installed neural-lam; refuse another layout."""
    from pytest_nlam_compat.adapters.probe import probe, select_adapter

    current, release = probe(), Version(found["origin"]["release"])
    facts = {
        "layout of the file": release,
        "installed": f"neural-lam {current.release}, {current.path}",
    }
    # A file of an older layout may load, and give other numbers.
    if found["source"] is not None or any(
        s.between(release, current.release) for s in HISTORY
    ):
        command = run_files(file, found).upgrade(found["needs"] or ())
        raise CompatError(
            f"{file.name} has the layout of an older release.",
            facts=facts,
            remedy=f"Upgrade it first:\n  {command}",
        )
    if release > current.release:
        raise CompatError(
            f"{file.name} has the layout of a newer release.",
            facts=facts,
            remedy=f"Install neural-lam {release}, or upgrade the old file "
            f"with --to {current.release}.",
        )
    return select_adapter(current)


def _loaded(
    checkpoint: Checkpoint,
    found: Mapping[str, Any],
    adapter: Adapter,
    graph: Path | None,
    config: Path | None,
    folder: Path,
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "file": str(checkpoint.path),
        "release": str(adapter.current.release),
        "neural_lam": str(adapter.current.path),
    }
    with neural_lam_errors("load the file"):
        if config is not None:
            settings, datastore = load_datastore(config)
            home = Path(datastore.root_path) / "graph" / str(found["graph"])
        else:
            assert graph is not None
            settings = _hyper_parameter(checkpoint, "config")
            datastore, home = (
                _substitute_datastore(checkpoint, found, graph, folder),
                None,
            )
        used = graph or home
        assert used is not None
        digest = approved_graph(used)
        refuse_other_graph(used, digest, checkpoint)
        with _graph_at(datastore, str(found["graph"]), used, folder):
            module = adapter.load_native(
                checkpoint.path, settings, found["model"], datastore
            )
    checkpoint.archive.refuse_changed()
    result |= _compare(module, checkpoint)
    predictor = type(adapter.step_predictor(module)).__name__
    result["architecture"] = f"{found['model']} ({predictor})"
    result["graph"] = str(used)
    if home is not None and not _holds(home, digest):
        result["graph_for_training"] = str(home)
    if config is not None:
        with neural_lam_errors("roll out the file"):
            args = _hyper_parameter(checkpoint, "args")
            result["rollout"] = _rollout(adapter, module, datastore, args)
    return result


@contextmanager
def neural_lam_errors(doing: str) -> Iterator[None]:
    """Turn whatever neural-lam raises into one clear error; else be quiet."""
    try:
        with silenced():
            yield
    except CompatError:
        raise
    except Exception as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise CompatError(
            f"neural-lam can't {doing}.",
            facts={"cause": cause[:500]},
            remedy="Check that graph and datastore are those that it was "
            "trained with. If they are and nlam-compat upgrade wrote the file, "
            "please report it.",
        ) from error


def approved_graph(graph: Path) -> str:
    """Return the fingerprint of a graph that is safe to load."""
    with open_graph(graph) as opened:
        return fingerprint(opened.tensors)


def refuse_other_graph(graph: Path, found: str, checkpoint: Checkpoint) -> None:
    """Refuse a graph that the checkpoint was not upgraded with."""
    expected = record_in(checkpoint.data).get("graph_fingerprint", found)
    if found != expected:
        raise CompatError(
            "This is not the graph that the checkpoint was upgraded with.",
            facts={"graph": graph, "expected": expected, "found": found},
            remedy="Pass the directory that nlam-compat upgrade wrote with "
            "--graph-out.",
        )


@contextmanager
def _graph_at(
    datastore: Any, name: str, graph: Path, folder: Path
) -> Iterator[None]:
    """Let a datastore have a graph, whatever is in its own folder."""
    root = Path(datastore.root_path)
    if os.path.realpath(root / "graph" / name) == os.path.realpath(graph):
        yield
        return
    if inner_path(name) is None:
        raise CompatError(
            "The checkpoint names no graph below the datastore's folder of "
            "graphs.",
            facts={"args.graph": name, "folder": root / "graph"},
            remedy="Pass the graph that it names, or change the name to that "
            "of a directory.",
        )
    link = folder / "root" / "graph" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(graph.resolve())
    if root.is_dir():
        for each in root.iterdir():
            if each.name != "graph":
                (folder / "root" / each.name).symlink_to(each.resolve())
    with mock.patch.object(type(datastore), "root_path", folder / "root"):
        yield


def _holds(folder: Path, digest: str) -> bool:
    try:
        return approved_graph(folder) == digest
    except CompatError:
        return False


def _hyper_parameter(checkpoint: Checkpoint, name: str) -> Any:
    """Return one as an object of its class, None if the file has none."""
    from pytest_nlam_compat.adapters.model_arguments import revive

    value = checkpoint.data.get("hyper_parameters", {}).get(name)
    return revive({name: value})[name]


def _substitute_datastore(
    checkpoint: Checkpoint,
    found: Mapping[str, Any],
    graph: Path,
    folder: Path,
) -> Any:
    """Return a datastore of the sizes that weights and graph have.

    All inputs but the state count as static: the weights don't tell which.
    """
    import numpy as np

    from pytest_nlam_compat.adapters.datastore import StoredDatastore
    from pytest_nlam_compat.references.reference import Dataset

    weights = checkpoint.data["state_dict"]
    outputs = [n for n in weights if _LAST_WEIGHT.search(n)]
    inputs = [n for n in weights if _FIRST_WEIGHT.search(n)]
    if not outputs or not inputs:
        raise CompatError(
            "The weights don't tell how many variables the dataset has.",
            facts={"missing": "grid_embedder.0.weight or output_map"},
            remedy="Pass --datastore CONFIG.",
        )
    both = 2 if found["hyper_parameters"].get("args.output_std") else 1
    states = max(weights[name].shape[0] for name in outputs[-1:]) // both
    statics = weights[inputs[0]].shape[1] - 2 * states
    with open_graph(graph) as opened:
        grid = opened.tensors["m2g_edge_index"].load()[1]
    nodes = int(grid.max() - grid.min()) + 1
    names = {
        "state": _state_names(found["hyper_parameters"], states),
        "forcing": (),
        "static": tuple(f"static_{index}" for index in range(statics)),
    }
    xy = np.stack([np.arange(nodes), np.zeros(nodes)], -1)
    arrays = {
        "xy": xy[:, None],
        "state": np.zeros((_STEPS, nodes, states)),
        "forcing": np.zeros((_STEPS, nodes, 0)),
        "static": np.zeros((nodes, statics)),
        "boundary_mask": np.zeros(nodes),
    }
    counts = {"state": states, "state_diff": states, "static": statics}
    for name, count in counts.items():
        arrays[f"{name}_mean"] = np.zeros(count)
        arrays[f"{name}_std"] = np.ones(count)
    return StoredDatastore(Dataset(names, arrays), folder, "float32")


def _state_names(
    hyper_parameters: Mapping[str, Any], count: int
) -> tuple[str, ...]:
    """Return names for the state variables: those of the configuration."""
    prefixes = (
        "config.training.state_feature_weighting.weights.",
        "config.training.output_clamping.lower.",
        "config.training.output_clamping.upper.",
    )
    named = [
        path.removeprefix(prefix)
        for prefix in prefixes
        for path in hyper_parameters
        if path.startswith(prefix)
    ]
    others = (f"state_{index}" for index in range(count))
    return tuple(dict.fromkeys([*named, *others]))[:count]


def _compare(module: nn.Module, checkpoint: Checkpoint) -> dict[str, Any]:
    """Compare what is in the model with the file; raise if it differs."""
    import torch

    state, weights = module.state_dict(), checkpoint.data["state_dict"]
    refs = {n: ref for n, ref in weights.items() if isinstance(ref, TensorRef)}
    facts = {
        "only in the file": sorted(weights.keys() - state.keys()),
        "only in the model": sorted(state.keys() - weights.keys()),
        "not the values of the file": [
            name
            for name, ref in refs.items()
            if name in state
            and not torch.equal(state[name].cpu(), ref.load().detach())
        ],
    }
    if any(facts.values()):
        raise CompatError(
            "neural-lam loads the file, but not all of its weights.",
            facts={k: join_some(v, 4) for k, v in facts.items() if v},
            remedy="The file does not fit the installed neural-lam.",
        )
    return {
        "tensors": len(refs),
        "parameters": sum(each.numel() for each in module.parameters()),
    }


def _rollout(
    adapter: Adapter, module: nn.Module, datastore: Any, args: Any
) -> dict[str, Any]:
    """Roll out on the first sample; errors are in standard deviations.

    Those are over all nodes that the model forecasts: boundary nodes receive
    the truth.
    """
    import numpy as np

    inside = np.flatnonzero(np.asarray(datastore.boundary_mask) == 0)
    init, target, forcing, _ = adapter.batch(
        module, datastore, args, [0], _STEPS
    )
    outputs = adapter.outputs(module, init, forcing, target)
    prediction = outputs["prediction"]
    if not len(inside):
        raise CompatError(
            "A rollout shows nothing: all grid nodes are boundary.",
            facts={"grid nodes": prediction.shape[2]},
            remedy="Pass the dataset of the training, or leave --datastore "
            "out.",
        )
    if not all(each.isfinite().all() for each in outputs.values()):
        raise CompatError(
            "The rollout of the checkpoint has values that are not finite.",
            facts={"steps": prediction.shape[1]},
            remedy="Check that graph and datastore are those that it was "
            "trained with, and that the training did not diverge.",
        )

    def error(state: Tensor) -> float:
        differences = (state - target[:, 0])[:, inside]
        return float(differences.square().mean().sqrt())

    return {
        "steps": int(prediction.shape[1]),
        "nodes": len(inside),
        "error": error(prediction[:, 0]),
        "error_of_persistence": error(init[:, 1]),
    }


def check_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Write the result of a `check` as text for a terminal."""
    yield f"loads: strictly, in neural-lam {result['release']}"
    yield f"neural-lam: {result['neural_lam']}"
    yield f"architecture: {result['architecture']}"
    yield (
        f"parameters: {result['parameters']:,}; all {result['tensors']} tensors"
        " have the values of the file"
    )
    yield f"graph: {result['graph']}"
    rollout = result.get("rollout")
    if rollout is None:
        yield "not checked: a rollout (pass --datastore CONFIG)"
    else:
        yield (
            f"rollout: {rollout['steps']} steps from the first sample, finite"
            f" at all {rollout['nodes']} nodes that it forecasts"
        )
        yield (
            f"error of the first step: {rollout['error']:.3g} standard "
            f"deviations ({rollout['error_of_persistence']:.3g} if nothing "
            "changed)"
        )
    if "graph_for_training" in result:
        yield (
            "to do: neural-lam reads the graph from "
            f"{result['graph_for_training']}; put this one there"
        )
