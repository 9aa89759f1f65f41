"""Checks what ``upgrade`` accepts and refuses, on combinations of changes.

Each file is a reference with changed names, parts, devices and optimizer. If
the upgrade is done, neural-lam itself has to load the new file strictly and
give the golden in float64; else there has to be a remedy. A file in which
nothing is wrong must be accepted.

``python combinations.py [COUNT] [SEED]`` tries that many, 2000 by default.
"""

from __future__ import annotations

import contextlib
import io
import random
import sys
import tempfile
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from owned_runs import IDS, Owner

from pytest_nlam_compat.adapters.probe import probe, select_adapter
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.checkpoints.stand_ins import TensorRef
from pytest_nlam_compat.checkpoints.writer import write_checkpoint
from pytest_nlam_compat.cli import main
from pytest_nlam_compat.migrations.releases import CLAMP_BUFFERS, PREFIX
from pytest_nlam_compat.numerics.comparison import compare
from pytest_nlam_compat.numerics.tolerances import FLOAT64, allowed
from pytest_nlam_compat.numerics.torch_settings import building
from pytest_nlam_compat.references.reference import read_graph
from pytest_nlam_compat.under_test.reference_under_test import (
    ReferenceUnderTest,
)

Weights = dict[str, Any]


def below(segment: str, *modules: str) -> Callable[[Weights], Weights]:
    """Wrap modules: a segment behind the first part that has their name."""

    def wrap(name: str) -> str:
        parts = name.split(".")
        found = [i for i, part in enumerate(parts) if part in modules]
        at = found[0] + 1 if found else 0
        return ".".join([*parts[:at], segment, *parts[at:]]) if found else name

    return lambda weights: {wrap(n): t for n, t in weights.items()}


def at_top(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {f"{prefix}{n}": t for n, t in weights.items()}


def everywhere(segment: str) -> Callable[[Weights], Weights]:
    return lambda weights: {
        n.replace(".", f".{segment}.", n.count(".") - 1): t
        for n, t in weights.items()
    }


WRAPPERS: dict[str, Callable[[Weights], Weights]] = {
    "none": dict,
    "compiled": at_top("_orig_mod."),
    "parallel": at_top("module."),
    "both": at_top("module._orig_mod."),
    "compiled part": below("_orig_mod", "processor", "g2m_gnn", "encoder"),
    "checkpointed": below("_checkpoint_wrapped_module", "m2g_gnn", "decoder"),
    "sharded": everywhere("_fsdp_wrapped_module"),
}


def renamed(old: str, new: str) -> Callable[[Weights, random.Random], Weights]:
    return lambda weights, _: {
        n.replace(old, new): t for n, t in weights.items()
    }


def beside(new: str, *ends: str) -> Callable[[Weights, random.Random], Weights]:
    """Replace one weight by others, which end otherwise."""

    def change(weights: Weights, choose: random.Random) -> Weights:
        chosen = choose.choice([n for n in weights if n.endswith(".weight")])
        return {
            other: tensor
            for n, tensor in weights.items()
            for other in (
                [n.removesuffix(".weight") + new + end for end in ends]
                if n == chosen
                else [n]
            )
        }

    return change


def shuffled(weights: Weights, choose: random.Random) -> Weights:
    names = list(weights)
    choose.shuffle(names)
    return {name: weights[name] for name in names}


def swapped(weights: Weights, choose: random.Random) -> Weights:
    """Exchange the tensors of two names, of other shapes."""
    first = choose.choice(list(weights))
    others = [n for n in weights if weights[n].shape != weights[first].shape]
    second = choose.choice(others)
    return {
        **weights,
        first: weights[second],
        second: weights[first],
    }


RENAMES: dict[str, Callable[[Weights, random.Random], Weights]] = {
    "none": lambda weights, _: weights,
    "shuffled": shuffled,
    "swapped": swapped,
    "misspelt": renamed("g2m_embedder", "g2m_embeder"),
    "predictor twice": renamed("predictor.", "predictor.predictor."),
    "renumbered": renamed(".0.bias", ".1.bias"),
    "in a model": lambda weights, _: at_top("model.")(weights),
    "twice the prefix": lambda weights, _: at_top(f"{PREFIX}{PREFIX}")(weights),
    "adapter": beside("", ".weight", ".lora_A.weight", ".lora_B.weight"),
    "weight norm": beside(".weight", "_g", "_v"),
    "parametrized": beside(
        ".parametrizations.weight", ".original0", ".original1"
    ),
    "pruned": beside(".weight", "_orig", "_mask"),
    "average inside": lambda weights, _: {**weights, **at_top("ema.")(weights)},
    "metric inside": lambda weights, _: {
        **weights,
        "test_rmse.total": next(iter(weights.values())),
    },
}


def one_weight(data: dict[str, Any], choose: random.Random) -> None:
    del data["state_dict"][choose.choice(list(data["state_dict"]))]


def one_module(data: dict[str, Any], choose: random.Random) -> None:
    weights = data["state_dict"]
    module = choose.choice(list(weights)).rpartition(".")[0].rpartition(".")[0]
    for name in [n for n in weights if n.startswith(f"{module}.")]:
        del weights[name]


def clamping(data: dict[str, Any], _: random.Random) -> None:
    weights = data["state_dict"]
    for name in [n for n in weights if n.endswith(CLAMP_BUFFERS)]:
        del weights[name]


def argument(data: dict[str, Any], choose: random.Random) -> None:
    args = data["hyper_parameters"].get("args")
    if args is not None:
        del args.state[choose.choice(list(args.state))]


def part(*keys: str) -> Callable[[dict[str, Any], random.Random], None]:
    def drop(data: dict[str, Any], _: random.Random) -> None:
        table = data
        for key in keys[:-1]:
            table = table.get(key, {})
        table.pop(keys[-1], None)

    return drop


DROPS: dict[str, Callable[[dict[str, Any], random.Random], None]] = {
    "none": lambda data, _: None,
    "weight": one_weight,
    "module": one_module,
    "clamping": clamping,
    "argument": argument,
    "config": part("hyper_parameters", "config"),
    "args": part("hyper_parameters", "args"),
    "callbacks": part("callbacks"),
    "hyper-parameters": part("hyper_parameters"),
}
DEVICES = ("cpu", "cuda:3", "mps", "xpu:1")


def two_groups(state: dict[str, Any]) -> dict[str, Any]:
    [group] = state["param_groups"]
    numbers = group["params"]
    halves = [numbers[::2], numbers[1::2]]
    groups = [{**group, "params": half} for half in halves]
    return {**state, "param_groups": groups}


def frozen(state: dict[str, Any]) -> dict[str, Any]:
    [group] = state["param_groups"]
    kept = group["params"][: len(group["params"]) // 2]
    moments = {n: state["state"][n] for n in kept if n in state["state"]}
    return {"state": moments, "param_groups": [{**group, "params": kept}]}


def by_name(state: dict[str, Any]) -> dict[str, Any]:
    moments = {f"weight.{n}": kinds for n, kinds in state["state"].items()}
    groups = [{"params": list(moments), "lr": 0.1}]
    return {"state": moments, "param_groups": groups}


OPTIMIZERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "none": dict,
    "two groups": two_groups,
    "frozen": frozen,
    "by name": by_name,
    "momentum": lambda state: {
        **state,
        "state": {n: {"momentum_buffer": None} for n in state["state"]},
    },
    "LBFGS": lambda state: {
        **state,
        "state": {0: {"func_evals": 3, "old_dirs": [], "d": None}},
    },
}
AXES = {
    "case": IDS,
    "wrapper": list(WRAPPERS),
    "rename": list(RENAMES),
    "drop": list(DROPS),
    "device": list(DEVICES),
    "optimizer": list(OPTIMIZERS),
    "options": [(), ("--drop-optimizer",), ("--from",)],
}
HARMLESS = {"none", "shuffled", "callbacks"}


def draw(choose: random.Random) -> dict[str, Any]:
    """Draw a combination; half of the names and parts are as they should."""
    drawn = {axis: choose.choice(values) for axis, values in AXES.items()}
    for axis in ("rename", "drop"):
        if choose.random() < 0.6:
            drawn[axis] = "none"
    return drawn


class Laboratory:
    """Makes files of references, upgrades them, and runs the new ones."""

    def __init__(self, root: Path) -> None:
        torch.set_num_threads(1)
        self._root = root
        self._owner = Owner(root / "owned")
        self._adapter = select_adapter(probe())
        self._original = cache(self._in_float64)
        self._under_test = cache(self._subject)

    def _in_float64(self, name: str) -> Path:
        """Write a reference's weights as float64, so that folds are exact."""
        path = self._root / f"{name}.ckpt"
        with read_checkpoint(self._owner(name).checkpoint) as checkpoint:
            weights = checkpoint.data["state_dict"]
            for key, ref in weights.items():
                tensor = ref.load()
                if tensor.is_floating_point():
                    weights[key] = tensor.double()
            write_checkpoint(checkpoint.data, path)
        return path

    def _subject(self, name: str) -> ReferenceUnderTest:
        return ReferenceUnderTest(
            self._owner(name).reference,
            self._adapter,
            self._root / "under" / name,
            torch.device("cpu"),
        )

    def check(self, drawn: dict[str, Any], seed: int) -> bool:
        """Try a combination; return whether it was accepted."""
        owned = self._owner(drawn["case"])
        with tempfile.TemporaryDirectory(dir=self._root) as temporary:
            folder = Path(temporary)
            self._write(drawn, folder / "old.ckpt", random.Random(seed))
            graph = folder / "graph" / owned.graph.name
            options = drawn["options"]
            if options == ("--from",):
                options = ("--from", owned.release)
            done, out, error = run(
                *("upgrade", folder / "old.ckpt", "-o", folder / "new.ckpt"),
                *("--graph", owned.graph, "--graph-out", graph),
                *("--statistics", owned.statistics, *options),
            )
            assert done in (0, 1), (drawn, out, error)
            if done == 0:
                self._compare(drawn["case"], folder / "new.ckpt", graph)
                return True
        what, *_, remedy = error.splitlines()
        assert what.endswith("."), error
        assert remedy[:1].isupper(), error
        assert remedy.endswith("."), error
        assert not self._is_harmless(drawn), (drawn, error)
        return False

    def _is_harmless(self, drawn: dict[str, Any]) -> bool:
        is_whole = {drawn["rename"], drawn["drop"]} <= HARMLESS
        # Which moments go with weights that change is known of AdamW only.
        only_renamed = drawn["case"] >= "0.4.0"
        is_known = drawn["optimizer"] == "none" or "--drop" in str(
            drawn["options"]
        )
        return is_whole and (only_renamed or is_known)

    def _write(
        self, drawn: dict[str, Any], path: Path, choose: random.Random
    ) -> None:
        with read_checkpoint(self._original(drawn["case"])) as checkpoint:
            data = checkpoint.data
            [state] = data["optimizer_states"] or [{}]
            if state:
                data["optimizer_states"] = [
                    OPTIMIZERS[drawn["optimizer"]](state)
                ]
            DROPS[drawn["drop"]](data, choose)
            weights = RENAMES[drawn["rename"]](data["state_dict"], choose)
            weights = WRAPPERS[drawn["wrapper"]](weights)
            data["state_dict"] = OrderedDict(
                (name, moved(tensor, drawn["device"]))
                for name, tensor in weights.items()
            )
            write_checkpoint(checkpoint.data, path)

    def _compare(self, name: str, file: Path, graph: Path) -> None:
        """Load a file with neural-lam, and compare its rollout.

        In float64 the graph is not that of the files, except for its edges.
        """
        subject, reference = self._under_test(name), self._owner(name).reference
        for stem, content in read_graph(graph).items():
            if stem.endswith("edge_index"):
                torch.testing.assert_close(
                    content, subject.migrated.graph[stem], rtol=0, atol=0
                )
        loaded = torch.load(file, weights_only=False)
        double = torch.float64
        if loaded.get("hyper_parameters", {}).get("args") is None:
            # As for whoever builds the model by hand.
            module = subject.built(double)
            module.load_state_dict(loaded["state_dict"], strict=True)
        else:
            datastore = subject.datastore(double)
            config = self._adapter.config(
                subject.checkpoint.with_name("config.yaml")
            )
            with building(double):
                module = self._adapter.load_native(
                    *(file, config, reference.description["model"]),
                    datastore,
                )
            module = module.to(double)
        golden = reference.group("golden64")
        obtained = subject.outputs(module, double)
        for output in golden.keys() & obtained.keys():
            limit = allowed(
                FLOAT64, golden[output], reference.description["noise32"]
            )
            found = compare(
                obtained[output], golden[output], limit, output=output
            )
            assert found.share <= 1, found


def moved(tensor: TensorRef, device: str) -> TensorRef:
    return replace(tensor, storage=replace(tensor.storage, device=device))


def run(*arguments: object) -> tuple[int, str, str]:
    """Run a command in this process: status, output and errors."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        status = main([str(argument) for argument in arguments])
    return status, out.getvalue(), error.getvalue()


def try_all(count: int, first: int) -> int:
    """Try many combinations and print what became of them."""
    found: Counter[str] = Counter()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as root:
        laboratory = Laboratory(Path(root))
        for seed in range(first, first + count):
            drawn = draw(random.Random(seed))
            try:
                accepted = laboratory.check(drawn, seed)
                found["accepted" if accepted else "refused"] += 1
            except Exception as error:  # of the code under test
                found["failed"] += 1
                print(f"seed {seed}: {drawn}\n  {error!r}"[:1500])
    took = time.perf_counter() - started
    told = ", ".join(f"{n} {what}" for what, n in sorted(found.items()))
    print(f"{count} combinations in {took:.0f} s: {told}")
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    count, first = [*sys.argv[1:], *("2000", "0")[len(sys.argv) - 1 :]]
    sys.exit(try_all(int(count), int(first)))
