"""A forecasting centre: its dataset, and a model that it trains.

It trains with the importable neural-lam; none of its sizes is that of a
reference of ours.
"""

from __future__ import annotations

from pathlib import Path

import mdp_dataset
import numpy as np

NX, NY, TIMES = 81, 64, 12
FEATURES = {
    "state": ("t2m", "u10", "pres"),
    "forcing": ("toa_flux", "snow"),
    "static": ("orography", "land"),
}
SIZES = ["--hidden_dim", "7", "--hidden_layers", "2"]
SIZES += ["--processor_layers", "3", "--num_past_forcing_steps", "2"]


def write_dataset(folder: Path, nx: int = NX, ny: int = NY) -> Path:
    """Write a dataset of mllam-data-prep; return neural-lam's config.yaml."""
    random = np.random.default_rng(1)
    # Far from 0, so that standardizing it rounds.
    far = {"pres": (101325.0, 900.0), "t2m": (280.0, 8.0)}
    values = {
        category: {
            name: far.get(name, (5, 3))[0]
            + far.get(name, (5, 3))[1] * random.standard_normal(shape)
            for name in names
        }
        for category, names in FEATURES.items()
        for shape in [(nx, ny) if category == "static" else (TIMES, nx, ny)]
    }
    axes = 2500.0 * np.arange(nx), 2500.0 * np.arange(ny)
    folder.mkdir(parents=True, exist_ok=True)
    mdp_dataset.write_values(folder, values, axes)
    config = folder / "config.yaml"
    config.write_text(
        "datastore:\n"
        "  kind: mdp\n"
        "  config_path: datastore.yaml\n"
        "training:\n"
        "  output_clamping:\n"
        "    lower:\n"
        "      pres: 0.0\n"
    )
    return config


def train(
    folder: Path,
    model: str,
    graph: str,
    levels: int,
    sizes: list[str] = SIZES,
    steps: int = 2,
) -> Path:
    """Create the graph, train for some steps and save, in `folder`."""
    from loguru import logger

    logger.remove()
    import pytorch_lightning as pl
    import torch
    from neural_lam.config import load_config_and_datastore

    from pytest_nlam_compat.adapters.probe import probe, select_adapter
    from pytest_nlam_compat.adapters.training_step import train_and_save

    torch.set_num_threads(1)
    pl.seed_everything(3)
    adapter = select_adapter(probe())
    config, datastore = load_config_and_datastore(str(folder / "config.yaml"))
    home = Path(datastore.root_path) / "graph" / graph
    if not home.exists():
        hierarchical = model.startswith("hi_lam")
        adapter.create_graph(
            datastore, home, levels=levels, hierarchical=hierarchical
        )
    args = adapter.parse_arguments(
        [
            *("--config_path", str(folder / "config.yaml")),
            *("--model", model, "--graph", graph, *sizes),
        ]
    )
    module = adapter.build({"args": args, "config": config}, datastore)
    data = adapter.data_module(datastore, args, 1)
    path = folder / "production.ckpt"
    train_and_save(module, data.train_dataloader(), steps, path)
    return path


def main(args: list[str]) -> int:
    """Train as the arguments say."""
    folder, model, graph, levels = args
    train(Path(folder), model, graph, int(levels))
    return 0
