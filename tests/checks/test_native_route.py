"""The current code's own loader: where it has to work, and where it may not."""

from nlam_runs import ONE, failed, matrix, shows_no_traceback


def test_loader_that_fails_shows_in_the_native_route_alone(project):
    load = "    ckpt = torch.load(ckpt_path, weights_only=False)"
    project.neural_lam(("train_model.py", load, load.replace("False", "True")))

    result = project.run(*ONE)

    assert result.ret == 1
    assert shows_no_traceback(result)
    assert failed(result) == {"test_native"}
    result.stdout.fnmatch_lines(
        [
            "*_ test_native[[]0.7.0-graph_lam[]] _*",
            "Loading it with the current code's loader failed.",
            "  cause: UnpicklingError: Weights only load failed. *",
        ]
    )
    assert matrix(result)[1].startswith("0.7.0  NO / ok ")


def test_loader_that_forgot_older_releases_is_shown_and_not_red(project):
    project.neural_lam(
        ("models/module.py", "def on_load_checkpoint(", "def forgotten(")
    )

    result = project.run(
        "--nlam-compat",
        "--nlam-compat-release=>=0.6",
        "--nlam-compat-case=graph_lam",
    )

    assert result.ret == 0
    older, newest = matrix(result)[1:]
    assert older.startswith("0.6.0  no / ok ")
    assert newest.startswith("0.7.0  ok / ok ")
