"""What comes before a model: command line, configuration, graph and data."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from torch import Tensor, nn
from torch.utils.data import DataLoader

from pytest_nlam_compat.adapters.probe import CurrentCode
from pytest_nlam_compat.errors import CompatError

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


class _ArgumentsParsed(BaseException):
    """Leaves ``train_model.main`` once its arguments are complete.

    Not an Exception: `main` is wrapped in a ``logger.catch`` that would
    swallow one.
    """


class Preparing:
    """Makes, with the current code, what its models are built and fed with.

    Parameters
    ----------
    current : CurrentCode
    """

    def __init__(self, current: CurrentCode) -> None:
        self.current = current

    def config(self, yaml_file: Path) -> Any:
        """Read a ``NeuralLAMConfig`` from YAML with the current code."""
        from neural_lam.config import NeuralLAMConfig

        return NeuralLAMConfig.from_yaml_file(str(yaml_file))

    def parse_arguments(self, argv: Sequence[str]) -> Namespace:
        """Parse a command line with ``train_model``'s own parser.

        Parameters
        ----------
        argv : sequence of str

        Returns
        -------
        argparse.Namespace
            As it is when ``main`` begins to work with it.
        """
        from neural_lam import train_model

        parsed: list[Namespace] = []
        parse = ArgumentParser.parse_args

        def remember(parser: Any, *args: Any, **kwargs: Any) -> Any:
            parsed.append(parse(parser, *args, **kwargs))
            return parsed[-1]

        def stop(*args: Any, **kwargs: Any) -> None:
            raise _ArgumentsParsed

        with mock.patch.object(ArgumentParser, "parse_args", remember):
            with mock.patch.object(
                train_model, "load_config_and_datastore", stop
            ):
                with _expected(_ArgumentsParsed):
                    train_model.main(list(argv))
        return parsed[0]

    def create_graph(
        self,
        datastore: Any,
        directory: Path,
        *,
        levels: int | None,
        hierarchical: bool,
    ) -> None:
        """Create a graph directory with the current code's own creation."""
        from neural_lam.create_graph import create_graph_from_datastore

        create_graph_from_datastore(
            datastore=datastore,
            output_root_path=str(directory),
            n_max_levels=levels,
            hierarchical=hierarchical,
            create_plot=False,
        )

    def batch(
        self,
        module: nn.Module,
        datastore: Any,
        args: Namespace,
        samples: Sequence[int],
        ar_steps: int,
    ) -> Batch:
        """Make a batch as training would: dataset, collation, transfer hooks.

        Parameters
        ----------
        module : torch.nn.Module
            Whose ``on_after_batch_transfer`` standardises from 0.7 on, and
            whose other hooks would do so to Lightning as well.
        datastore : StoredDatastore
        args : argparse.Namespace
            ``num_past_forcing_steps`` and ``num_future_forcing_steps``.
        samples : sequence of int
            Indices into the dataset.
        ar_steps : int

        Returns
        -------
        tuple of Tensor
            init_states (B, 2, N, d), target_states (B, T, N, d), forcing
            (B, T, N, f * window), standardised, and target times (B, T).
        """
        loader = self._loader(datastore, args, ar_steps)
        batch = loader.collate_fn([loader.dataset[index] for index in samples])
        device = next(module.parameters()).device
        hooks: Any = module  # each LightningModule has all of them
        batch = hooks.on_before_batch_transfer(tuple(batch), 0)
        batch = hooks.transfer_batch_to_device(batch, device, 0)
        return tuple(hooks.on_after_batch_transfer(batch, 0))

    def dataset(self, datastore: Any, args: Namespace, ar_steps: int) -> Any:
        """Return the ``WeatherDataset`` that training has, over a datastore."""
        return self._loader(datastore, args, ar_steps).dataset

    def _loader(
        self, datastore: Any, args: Namespace, ar_steps: int
    ) -> DataLoader[Any]:
        """Load data as ``train_model`` does: by its ``WeatherDataModule``."""
        from neural_lam.weather_dataset import WeatherDataModule

        data = WeatherDataModule(
            datastore=datastore,
            ar_steps_train=ar_steps,
            ar_steps_eval=ar_steps,
            num_past_forcing_steps=args.num_past_forcing_steps,
            num_future_forcing_steps=args.num_future_forcing_steps,
            # None is started before samples are drawn. Up to 0.6 there has
            # to be one.
            num_workers=1,
        )
        data.setup("fit")
        loader: DataLoader[Any] = data.train_dataloader()
        return loader


@contextmanager
def _expected(exception: type[BaseException]) -> Iterator[None]:
    """Insist that ``exception`` is what ends the block."""
    try:
        yield
    except exception:
        return
    raise CompatError(
        "neural_lam.train_model.main went on without loading its datastore.",
        remedy="Implement the hook pytest_nlam_compat_adapter: the way by "
        "which the arguments are read has changed.",
    )
