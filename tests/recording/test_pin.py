"""A user's own model is pinned, verified, and told from a changed one."""

import getpass
import io
import os
import pickletools
import platform
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from interrupting import interrupted
from nlam_runs import cells, forked, shows_no_traceback

from pytest_nlam_compat.checkpoints.reader import read_checkpoint
from pytest_nlam_compat.errors import CompatError
from pytest_nlam_compat.references import registry

pytestmark = [pytest.mark.neural_lam, pytest.mark.slow]

NAME = "0.7.0-production"
PIN = ("pin", "production.ckpt", "--datastore", "config.yaml")
# (file, text, text): LayerNorm is in each network.
EDIT = (
    "utils/networks.py",
    "nn.LayerNorm(blueprint[-1])",
    "nn.LayerNorm(blueprint[-1], eps=1e-6)",
)


def releases():
    """Return older releases to pin with: ``0.5.0=FOLDER:0.6.0=FOLDER``."""
    text = os.environ.get("PINNING_RELEASES", "")
    return dict(each.split("=") for each in text.split(os.pathsep) if each)


def texts(name, content):
    """Yield every text in a file, as deep as archives and pickles go."""
    yield name
    if name.endswith(".safetensors"):
        yield content[8 : 8 + int.from_bytes(content[:8], "little")].decode()
    elif content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield archive.comment.decode()
            for each in archive.namelist():
                # Of a checkpoint, these are the numbers of tensors.
                if "/data/" not in each:
                    yield from texts(each, archive.read(each))
    elif name.endswith(".pkl"):
        for _, argument, _ in pickletools.genops(content):
            if isinstance(argument, str):
                yield argument
    else:
        yield content.decode()


def unpacked(content):
    """Yield a file and what is packed in it, as deep as archives go."""
    yield content
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for each in archive.namelist():
                yield from unpacked(archive.read(each))


def refused(done, *parts):
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr
    return done.stderr


def test_it_says_what_it_writes_and_how_long_it_takes(production):
    announced = (production / "announced.txt").read_text()
    assert re.search(r"Writes at most [\d.]+ MB of weights", announced)
    assert re.search(r"A rollout takes [\d.]+ s; all takes up to ", announced)
    said = (production / "said.txt").read_text()
    assert f"pinned: pinned/{NAME}.zip" in said
    shown = re.search(r"shows in (\d+) of (\d+) parameters", said)
    assert 20 < int(shown[1]) <= int(shown[2])
    assert sorted(path.name for path in (production / "pinned").iterdir()) == [
        f"{NAME}.ckpt",
        f"{NAME}.zip",
        "registry.txt",
    ]


def test_weights_and_moments_are_kept_bit_by_bit(production):
    files = production / "production.ckpt", production / f"pinned/{NAME}.ckpt"
    old, new = (torch.load(f, weights_only=False) for f in files)
    assert old["state_dict"].keys() == new["state_dict"].keys()
    for name, tensor in old["state_dict"].items():
        assert torch.equal(tensor, new["state_dict"][name])
    moments = (each["optimizer_states"][0]["state"] for each in (old, new))
    for one, other in zip(*(each.items() for each in moments), strict=True):
        assert one[1].keys() == other[1].keys()
        assert all(torch.equal(one[1][k], other[1][k]) for k in one[1])


def test_nothing_tells_where_it_was_made(production, centre, tmp_path):
    saved = torch.load(production / "production.ckpt", weights_only=False)
    args = saved["hyper_parameters"]["args"]
    assert args.config_path.startswith("/")
    args.scratch = Path.home() / "runs"
    args.note = f"by {getpass.getuser()} on {platform.node()}"
    saved["callbacks"] = {"ModelCheckpoint": {"dirpath": str(tmp_path)}}
    marked = production / "marked.ckpt"
    torch.save(saved, marked)
    into = tmp_path / "marked"
    done = centre.compat(
        "", production, "pin", marked, *PIN[2:], "--into", into
    )
    assert done.returncode == 0, done.stderr
    assert "left out of the copy: callbacks" in done.stdout
    names = [platform.node(), getpass.getuser(), str(Path.home())]
    names += [str(production), str(tmp_path), "/tmp", "/home"]
    tells = re.compile(
        rf"(?<!\w)({'|'.join(map(re.escape, names))})(?!\w)", re.IGNORECASE
    )
    assert any(map(tells.search, texts("", marked.read_bytes())))
    found = [
        text
        for file in into.iterdir()
        for text in texts(file.name, file.read_bytes())
    ]
    assert len(found) > 300
    assert "removed" in found
    assert [text for text in found if tells.search(text)] == []
    # Among numbers, only what can't be there by chance.
    long = [name.encode() for name in names if len(name) > 8]
    for file in into.iterdir():
        for content in unpacked(file.read_bytes()):
            assert [name for name in long if name in content] == []
    verified = centre.compat(
        "", production, "verify", into / "0.7.0-marked.zip"
    )
    assert verified.returncode == 0


def test_the_same_code_is_right(production, centre):
    done = centre.compat("", production, "verify", f"pinned/{NAME}.zip")
    assert done.returncode == 0, done.stdout + done.stderr
    for check in ("outputs", "outputs_float32", "batch", "loss", "resumes"):
        assert f"\n{check}: ok\n" in done.stdout
    assert "own loader: ok, without an upgrade" in done.stdout


def test_an_edited_line_is_wrong_and_named(production, centre, project):
    edited = project.neural_lam(EDIT).parent
    done = centre.compat(edited, production, "verify", f"pinned/{NAME}.zip")
    refused(
        done,
        f"wrong: {NAME}: the current code gives other outputs",
        "LayerNorm gives different outputs for the same input",
        "source: neural_lam/utils/networks.py:38",
    )


def test_it_is_a_row_beside_ours(copied, project):
    copied.chmod(0o555)
    ours = ("--nlam-compat-release===0.7.0", "--nlam-compat-case=[gp]r*[mn]")
    options = ("--nlam-compat", *ours)
    result = project.run(*options, f"--nlam-compat-references={copied}")
    assert int(result.ret) == 0, result.stdout.str()
    found = cells(result)
    assert re.fullmatch(r"ok/<?\d+%", found[NAME])
    assert found["0.7.0-graph_lam"].startswith("ok/")
    header = result.stdout.str()
    assert f"nlam-compat: pinned references from {copied}" in header
    copied.chmod(0o755)


@pytest.mark.parametrize("by", ["ini", "environment"])
def test_folders_may_be_configured(by, copied, project):
    environment = {}
    if by == "ini":
        relative = os.path.relpath(copied, project.folder)
        text = f"[pytest]\nnlam_compat_references =\n    {relative}\n"
        project.write("pytest.ini", text)
    else:
        environment["NLAM_COMPAT_REFERENCES"] = str(copied)
    options = ("--nlam-compat", "--nlam-compat-case=production")
    result = project.run(*options, **environment)
    assert int(result.ret) == 0
    assert [*cells(result)] == [NAME]


def test_an_edited_line_is_red_in_its_row(copied, project):
    project.neural_lam(EDIT)
    result = project.run(
        "--nlam-compat",
        "--nlam-compat-case=production",
        f"--nlam-compat-references={copied}",
        "-q",
    )
    assert int(result.ret) == 1
    assert cells(result)[NAME] == "WRONG/FAIL"
    text = result.stdout.str()
    assert "LayerNorm gives different outputs for the same input" in text
    assert "source: neural_lam/utils/networks.py:38" in text


def test_a_damaged_folder_ends_the_run(copied, project):
    path = copied / f"{NAME}.ckpt"
    path.write_bytes(path.read_bytes()[:-1])
    result = project.run("--nlam-compat", f"--nlam-compat-references={copied}")
    assert int(result.ret) == pytest.ExitCode.USAGE_ERROR
    assert "is not what was pinned" in result.stderr.str()
    assert shows_no_traceback(result)


def test_nothing_is_overwritten(production, centre):
    folder = production / "pinned"
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    done = centre.compat("", production, *PIN, "--into", "pinned")
    refused(done, "is pinned already, and never overwritten", "another --name")
    assert before == {p.name: p.read_bytes() for p in folder.iterdir()}


def test_another_graph_is_refused(production, centre, tmp_path):
    graph = shutil.copytree(production / "graph/hierarchical", tmp_path / "g")
    for file in graph.glob("m*_features.pt"):
        parts = torch.load(file)
        if isinstance(parts, list) and len(parts) == 3:
            torch.save(parts[:2], file)
    into = ("--into", tmp_path / "new")
    done = centre.compat("", production, *PIN, "--graph", graph, *into)
    refused(done, "The graph does not belong to the checkpoint.")
    assert not [*(tmp_path / "new").glob("0*")]


def test_a_dataset_without_the_variables_is_refused(
    production, centre, tmp_path, monkeypatch
):
    import centre as module

    monkeypatch.setitem(module.FEATURES, "forcing", ("toa_flux",))
    config = module.write_dataset(tmp_path)
    graph = ("--graph", production / "graph/hierarchical")
    done = centre.compat(
        "", production, *PIN[:3], config, *graph, "--into", tmp_path / "new"
    )
    refused(
        done,
        "neural-lam can't run the file.",
        "size mismatch for",
        "graph and datastore are those that it was trained with",
    )
    assert [*(tmp_path / "new").iterdir()] == []


def test_a_dataset_that_is_too_short_is_refused(production, centre, tmp_path):
    more = ("--samples", "9", "--into", tmp_path / "new")
    done = centre.compat("", production, *PIN, *more)
    refused(done, "training split of the dataset is too short", "times: 12")


def test_a_file_of_another_release_is_refused(
    production, centre, reference_of, tmp_path
):
    old = reference_of("0.5.0-hi_lam").write(tmp_path / "old")
    done = centre.compat(
        "", production, "pin", old, *PIN[2:], "--into", tmp_path / "new"
    )
    refused(
        done,
        "not a checkpoint of the installed neural-lam",
        "layout of the file: 0.5.0",
        "the neural-lam that it is of, 0.5.0",
    )


def test_a_file_without_its_optimizer_is_pinned(
    production, centre, project, tmp_path
):
    saved = torch.load(production / "production.ckpt", weights_only=False)
    saved["optimizer_states"] = []
    torch.save(saved, production / "lean.ckpt")
    into = ("--into", tmp_path / "new", "--samples", "2")
    done = centre.compat("", production, "pin", "lean.ckpt", *PIN[2:], *into)
    assert done.returncode == 0, done.stderr
    assert "not recorded, resume: The file holds no optimizer." in done.stdout
    archive = tmp_path / "new/0.7.0-lean.zip"
    done = centre.compat("", production, "verify", archive)
    assert done.returncode == 0
    assert "resumes: not pinned. The file holds no optimizer." in done.stdout
    result = project.run(
        "--nlam-compat",
        "--nlam-compat-case=lean",
        f"--nlam-compat-references={archive.parent}",
    )
    assert int(result.ret) == 0
    assert "test_loss[0.7.0-lean]" in result.stdout.str()
    assert "test_resumes[0.7.0-lean]" not in result.stdout.str()


@pytest.mark.parametrize(
    ("release", "model", "graph"),
    [
        (release, model, graph)
        for release, model, graph in (
            ("0.4.0", "hi_lam", "hierarchical"),
            ("0.5.0", "hi_lam", "hierarchical"),
            # It can't run hierarchical models.
            ("0.6.0", "graph_lam", "multiscale"),
            ("0.7.0", "hi_lam_parallel", "hierarchical"),
        )
        if release in releases() or release == "0.7.0"
    ],
)
def test_an_upgrade_of_neural_lam(release, model, graph, centre, project):
    """`nox -s pinning` brings the older releases."""
    first = releases().get(release, "")
    folder = centre.trained(first, model, graph, 3)
    done = centre.compat(first, folder, *PIN)
    assert done.returncode == 0, done.stdout + done.stderr
    archive = f"pinned/{release}-production.zip"
    done = centre.compat("", folder, "verify", archive)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{release}-production with neural-lam 0.7.0" in done.stdout
    edited = project.neural_lam(EDIT).parent
    done = centre.compat(edited, folder, "verify", archive)
    refused(done, "LayerNorm gives different outputs", "networks.py:38")
    project.path.clear()
    more = ("--crop", "12", "--samples", "2", "--name", "cropped")
    done = centre.compat(first, folder, *PIN, *more)
    assert done.returncode == 0, done.stdout + done.stderr
    cropped = folder / f"pinned/{release}-cropped.zip"
    assert cropped.stat().st_size < (folder / archive).stat().st_size / 2
    done = centre.compat("", folder, "verify", cropped)
    assert done.returncode == 0, done.stdout + done.stderr
    result = project.run(
        "--nlam-compat",
        "--nlam-compat-case=production",
        f"--nlam-compat-references={folder / 'pinned'}",
    )
    assert int(result.ret) == 0
    found = cells(result)[f"{release}-production"]
    assert re.fullmatch(r"(ok|wrong|no)/<?\d+%", found)


def test_inputs_are_those_of_the_dataset(production):
    """The copy of the series holds what the dataset holds, and no more."""
    import centre as module
    import xarray as xr

    from pytest_nlam_compat.references.pins import open_file

    dataset = open_file(production / f"pinned/{NAME}.zip").dataset
    assert {k: [*v] for k, v in dataset.names.items()} == {
        k: [*v] for k, v in module.FEATURES.items()
    }
    stored = xr.open_zarr(production / "state.zarr")["t2m"].values
    times = len(dataset.arrays["state"])
    assert times < module.TIMES
    expected = stored[:times].reshape(times, -1)
    found = dataset.arrays["state"][..., 0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("command", ["pin", "verify"])
def test_a_signal_is_clean(command, production, centre, tmp_path, monkeypatch):
    counted, temporary = tmp_path / "events", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    words = [command, f"pinned/{NAME}.zip"]

    def run(name, at):
        into = tmp_path / name
        if command == "pin":
            words[:] = [*PIN, "--into", into]
        done = forked(interrupted, [counted, at, "", *words], production)
        assert "Traceback" not in done.stderr
        return done, {file.name for file in into.glob("*")}

    done, written = run("whole", 0)
    assert done.returncode == 0
    events = int(counted.read_text())
    for name, status, part in (("SIGINT", 130, 0.6), ("SIGTERM", 143, 0.95)):
        monkeypatch.setenv("SIGNAL", name)
        done, kept = run(name, int(events * part))
        assert (done.returncode, done.stdout) == (status, "")
        assert done.stderr.endswith("Interrupted.\n")
        assert kept in (set(), written)
        left = [file.name for file in temporary.rglob("*") if file.is_file()]
        # torch_geometric leaves some, whatever happens.
        assert [file for file in left if "_pyg" not in file] == []
    if command == "pin":
        monkeypatch.setenv("SIGNAL", "SIGKILL")
        killed, _ = run("killed", int(events * 0.95))
        again, kept = run("killed", 0)
        assert (killed.returncode, again.returncode) == (-9, 0)
        assert kept == written


@pytest.mark.parametrize("listed", [False, True])
def test_what_is_not_listed_is_removed(listed, tmp_path, monkeypatch):
    from pytest_nlam_compat.recording import pin

    files = {}
    for end in ("zip", "ckpt"):
        (tmp_path / f"draft.{end}").write_text(end)
        files[tmp_path / f"draft.{end}"] = tmp_path / f"0.7.0-new.{end}"
    append = registry.append

    def interrupted(listing, hashes):
        if listed:
            append(listing, hashes)
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pin._publish(files)
    assert [new.exists() for new in files.values()] == [listed, listed]
    listing = registry.read_files(tmp_path / "registry.txt")
    assert len(listing) == (2 if listed else 0)


def test_the_copy_names_only_known_classes(production):
    with read_checkpoint(production / f"pinned/{NAME}.ckpt") as checkpoint:
        assert {*checkpoint.data} >= {"state_dict", "hyper_parameters"}
        assert "callbacks" not in checkpoint.data


def test_a_loss_that_nothing_equals_is_refused():
    from pytest_nlam_compat.recording import pinned_run

    with pytest.raises(CompatError, match="loss: nan"):
        pinned_run._refuse_loss(torch.tensor(float("nan")))
    pinned_run._refuse_loss(torch.tensor(1.0))
