"""What only training would show of an edited neural-lam: red, or not.

Each run is on a copy of the installed package, in a process of its own.
"""

import pytest
from nlam_runs import CHECKS, ONE, failed, shows_no_traceback

# Each run takes seconds.
pytestmark = pytest.mark.slow

MODULE = "models/module.py"
DATA = "weather_dataset.py"
# All that build the model after our migrations.
MIGRATED = CHECKS - {"test_opens", "test_native"}
LR = "        lr: float = 1e-3,\n"
READ_LR = 'lr = getattr(args, "lr", lr)'
LR_RENAMED = (
    (MODULE, LR, "        learning_rate: float = 1e-3,\n"),
    (MODULE, "lr = self.hparams.lr ", "lr = self.hparams.learning_rate "),
)
LR_LOST = (
    *LR_RENAMED,
    (
        MODULE,
        READ_LR,
        'learning_rate = getattr(args, "learning_rate", learning_rate)',
    ),
)
LOSS_LOST = (
    (
        MODULE,
        '        loss: str = "wmse",\n',
        '        metric: str = "wmse",\n',
    ),
    (MODULE, '            loss = getattr(args, "loss", loss)\n', ""),
    (MODULE, "metrics.get_metric(loss)", "metrics.get_metric(metric)"),
)
STEPS = """
from pytest_nlam_compat.migrations import Migration, RenameHyperParameter


def saved_apart(run):
    return "lr" in run.hyper_parameters


def within_args(run):
    return not saved_apart(run)


MIGRATIONS = [
    Migration(
        id="0.8.0-learning-rate",
        since="0.8.0",
        reason="Written in full (#800).",
        operations=(RenameHyperParameter("lr", "learning_rate"),),
        when=saved_apart,
    ),
    Migration(
        id="0.8.0-learning-rate-of-args",
        since="0.8.0",
        reason="Written in full (#800).",
        operations=(RenameHyperParameter("args.lr", "learning_rate"),),
        when=within_args,
    ),
]
"""
OLD_AND_NEW = (
    "--nlam-compat",
    "--nlam-compat-release=>=0.6",
    "--nlam-compat-case=graph_lam",
)


def edited(project, *edits, args=ONE):
    project.neural_lam(*edits)
    result = project.run(*args)
    assert shows_no_traceback(result)
    return result


@pytest.mark.parametrize(
    ("edits", "release", "lost"),
    [
        (LR_LOST, "0.7.0", "lr"),
        # Up to 0.6 they are in args alone.
        (LR_LOST, "0.6.0", "args.lr"),
        (LOSS_LOST, "0.7.0", "loss"),
        (LOSS_LOST, "0.6.0", "args.loss"),
    ],
)
def test_hyper_parameter_that_would_be_lost_shows(
    project, edits, release, lost
):
    """Its default is what the references were trained with, as it happens."""
    args = [*ONE[:1], f"--nlam-compat-release==={release}", *ONE[2:]]

    result = edited(project, *edits, args=args)

    assert failed(result) == MIGRATED
    result.stdout.fnmatch_lines(
        [
            f"*_ test_loads[[]{release}-graph_lam[]] _*",
            "ForecasterModule of the current code does not use all "
            "hyper-parameters of the run: defaults would replace them.",
            f"  neither accepted by the class nor read from args: {lost}",
            "  the class accepts: *restore_opt, n_example_pred, create_gif, *",
            "Accept them as before, or add a migration for each: *",
        ]
    )


def test_steps_that_rename_a_hyper_parameter_fix_it(project):
    project.write("steps.py", STEPS)
    project.write("pytest.ini", "[pytest]\nnlam_compat_migrations = steps.py\n")

    assert edited(project, *LR_LOST, args=OLD_AND_NEW).ret == 0


def test_hyper_parameter_that_is_read_from_args_is_not_lost(project):
    read = 'learning_rate = getattr(args, "lr", learning_rate)'

    result = edited(
        project, *LR_RENAMED, (MODULE, READ_LR, read), args=OLD_AND_NEW
    )

    assert result.ret == 0


def test_new_hyper_parameter_with_a_default_is_harmless(project):
    new = f"{LR}        warmup: int = 0,\n"

    assert edited(project, (MODULE, LR, new), args=OLD_AND_NEW).ret == 0


def test_data_module_that_exchanges_past_and_future_shows(project):
    past = "self.num_past_forcing_steps = num_past_forcing_steps\n"
    future = "self.num_future_forcing_steps = num_future_forcing_steps\n"
    rest = "        self.ar_steps_train = "

    result = edited(
        project,
        (
            DATA,
            f"{past}        {future}{rest}",
            past.replace("= num_past", "= num_future")
            + "        "
            + future.replace("= num_future", "= num_past")
            + rest,
        ),
        args=[*ONE[:2], "--nlam-compat-case=graph_lam-window21"],
    )

    assert failed(result) == {"test_batch"}
    result.stdout.fnmatch_lines(
        ["  compared: forcing, with tolerance 'batch'", "  differs most: *"]
    )


def test_forcing_in_half_precision_shows_in_the_batch_alone(project):
    standardised = ") / self.forcing_std_tiled\n"

    result = edited(
        project,
        (
            MODULE,
            standardised,
            f"{standardised}            forcing = forcing.half()\n",
        ),
    )

    assert failed(result) == {"test_batch"}
    result.stdout.fnmatch_lines(
        [
            "0.7.0-graph_lam: the current code makes another batch from "
            "the same series.",
            "  precision differs: forcing",
            "  expected: float32",
            "  obtained: float16",
        ]
    )


def test_training_step_may_ask_for_its_trainer(project):
    log = 'self._log_step_loss(time_step_loss, batch_loss, "train"'
    asks = (
        "assert self.trainer.training\n"
        "        batch_loss = batch_loss / self.trainer.world_size\n"
    )

    result = edited(project, (MODULE, log, f"{asks}        {log}"))

    assert result.ret == 0


PLOTTED = "            example_i = self.plotted_examples\n"


@pytest.mark.parametrize(
    ("release", "file"), [("0.5.0", "raw"), ("0.7.0", None)]
)
def test_argument_that_older_files_lack_in_evaluations(project, release, file):
    """As `args.create_gif`, which 0.6 was the first to have (#218)."""
    read = f"{PLOTTED}            self.hparams.args.create_gif\n"
    args = [*ONE[:1], f"--nlam-compat-release==={release}", *ONE[2:]]

    result = edited(project, (MODULE, PLOTTED, read), args=args)

    assert failed(result) == ({"test_evaluates"} if file else set())
    if file:
        result.stdout.fnmatch_lines(
            [
                f"*: Lightning's Trainer can't evaluate the {file} file.",
                "  cause: AttributeError: *create_gif*",
                "  raised in: *module.py:*, in plot_examples",
            ]
        )


def test_argument_that_every_older_file_lacks_in_evaluations(project):
    read = f"{PLOTTED}            self.hparams.args.create_film\n"

    result = edited(project, (MODULE, PLOTTED, read))

    assert failed(result) == {"test_evaluates"}
    result.stdout.fnmatch_lines(["*can't evaluate the migrated file."])
