"""Judge whether the current code loads again what it has saved."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from pytest_nlam_compat.adapters.training_step import (
    configured_optimizer,
    train_and_save,
)
from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.errors import CompatError, join_some
from pytest_nlam_compat.judging.grade import difference_facts
from pytest_nlam_compat.migrations import (
    SavedRun,
    saved_run_from_checkpoint,
    to_checkpoint_dict,
)
from pytest_nlam_compat.numerics.comparison import compare
from pytest_nlam_compat.numerics.tolerances import FLOAT64, allowed
from pytest_nlam_compat.numerics.torch_settings import reproducible
from pytest_nlam_compat.under_test.code_under_test import code_under_test

if TYPE_CHECKING:
    from pytest_nlam_compat.under_test.reference_under_test import (
        ReferenceUnderTest,
    )

_REMEDY = (
    "Compare what the file holds with what the loader reads: "
    "save_hyperparameters, on_save_checkpoint, on_load_checkpoint and strict."
)


def judge_saving(subject: ReferenceUnderTest) -> None:
    """Train for one step, save, load again, and compare with what was saved.

    Raises
    ------
    CompatError
        The current code can't save, or its own loader gives something else;
        or our own reader can't read the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new.ckpt"
        module, optimizer = save_new(subject, path)
        try:
            loaded = subject.load_natively(path, torch.float32, "migrated")
        except CompatError as error:
            # Names of tensors, which torch quotes, differ between models.
            cause = str(error.facts.get("cause", error.what)).partition('"')[0]
            how = f"can't be loaded again: {cause.rstrip(' :')}"
            raise _lost(how, error.facts) from error
        _check_weights(loaded.state_dict(), module.state_dict())
        _check_optimizer(_read(path), optimizer)
        _check_settings(loaded, module)
        _check_outputs(subject, loaded, module)


def save_new(
    subject: ReferenceUnderTest, path: Path
) -> tuple[nn.Module, dict[str, Any]]:
    """Train the migrated model for one step, and save it as Lightning does.

    With the current code's own data module, so that its hooks are called.
    Returns the model, on the CPU, in float32, and the state of its optimizer.
    """
    module = subject.new_migrated_model(torch.float32)
    with (
        code_under_test("Training and saving with the current code"),
        reproducible(),
        # What a model draws here is of no account: both sides have its result.
        torch.random.fork_rng(devices=[]),
    ):
        torch.manual_seed(0)
        trainer = train_and_save(module, _data(subject), 1, path)
        return module, trainer.optimizers[0].state_dict()


def _data(subject: ReferenceUnderTest) -> Any:
    """Return the data module, with one batch and no worker processes."""
    # Shallow, so that its own loader stays for others.
    data = copy.copy(subject.data)
    own_loader = data.train_dataloader
    samples = subject.reference.description["samples"]

    def train_dataloader() -> DataLoader[Any]:
        loader = own_loader()
        return DataLoader(
            Subset(loader.dataset, range(samples)),
            batch_size=samples,
            collate_fn=loader.collate_fn,
        )

    data.train_dataloader = train_dataloader
    return data


def _lost(how: str, facts: Mapping[str, object]) -> CompatError:
    """Say how a new checkpoint is not what was saved."""
    cause = f"a new checkpoint {how}"
    facts = {**facts, "cause": cause}
    return CompatError(
        f"With the current code, {cause}.", facts=facts, remedy=_REMEDY
    )


def _read(path: Path) -> SavedRun:
    """Read the file as `nlam-compat` would, without running its pickle."""
    try:
        with read_checkpoint(path) as checkpoint:
            return saved_run_from_checkpoint(checkpoint.data)
    except CompatError as error:
        raise _lost(
            f"can't be read by nlam-compat: {error.what}",
            error.facts,
        ) from error


def _check_optimizer(run: SavedRun, optimizer: dict[str, Any]) -> None:
    states = to_checkpoint_dict(run)["optimizer_states"]
    expected = _flat(optimizer["state"])
    found = _flat(states[0]["state"]) if states else {}
    wrong = _differing(found, expected)
    if wrong:
        facts = {"moments": len(expected), "that differ": len(wrong)}
        raise _lost("has lost the state of its optimizer", facts)


def _flat(state: Mapping[int, Mapping[str, Any]]) -> dict[str, Tensor]:
    return {
        f"{position}.{kind}": torch.as_tensor(value)
        for position, moments in state.items()
        for kind, value in moments.items()
    }


def _check_weights(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> None:
    wrong = _differing(found, expected)
    if wrong:
        raise _lost(
            "is loaded with other weights and without an error",
            {"differ": join_some(wrong)},
        )


def _differing(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> list[str]:
    return sorted(
        name
        for name in found.keys() | expected.keys()
        if name not in found
        or name not in expected
        or not torch.equal(found[name].cpu(), expected[name].cpu())
    )


def _check_settings(loaded: nn.Module, module: nn.Module) -> None:
    found, expected = _settings(loaded), _settings(module)
    wrong = {
        name: f"{found.get(name)} instead of {expected.get(name)}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    }
    if wrong:
        raise _lost("is loaded with other settings of its optimizer", wrong)


def _settings(module: nn.Module) -> dict[str, Any]:
    return {
        f"{name} of group {number}": value
        for number, group in enumerate(
            configured_optimizer(module).param_groups
        )
        for name, value in group.items()
        if name != "params"
    }


def _check_outputs(
    subject: ReferenceUnderTest, loaded: nn.Module, module: nn.Module
) -> None:
    """Compare outputs and loss in float64, of the same float32 weights."""
    found, expected = (
        {
            **subject.outputs(one, torch.float64),
            "loss": subject.loss(torch.float64, one),
        }
        for one in (
            loaded.to(subject.device, torch.float64),
            module.to(subject.device, torch.float64),
        )
    )
    for name, output in expected.items():
        limit = allowed(FLOAT64, output)
        difference = compare(found[name], output, limit, output=name)
        if difference.share > 1:
            raise _lost(
                f"is loaded without an error, and gives another {name}",
                difference_facts(difference, FLOAT64),
            )
