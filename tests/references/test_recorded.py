"""Every frozen reference is there, strong, small and of known origin.

No neural-lam is needed: this is about what is stored.
"""

import hashlib
import re
from pathlib import Path

import pytest
import torch
from listed_releases import RECORDED
from packaging.version import Version

from pytest_nlam_compat.numerics.comparison import SAMPLE_SIZE
from pytest_nlam_compat.numerics.tolerances import FLOAT64, noise32
from pytest_nlam_compat.recording.cases import cases_of
from pytest_nlam_compat.recording.strength import required
from pytest_nlam_compat.references import registry
from pytest_nlam_compat.references.reference import Reference
from pytest_nlam_compat.references.release_archive import ReleaseArchive

FIXTURES = Path(__file__).parents[2] / "fixtures"
LISTED = registry.read(FIXTURES / "registry.txt")
ARCHIVES = {str(r): ReleaseArchive(FIXTURES / f"{r}.zip") for r in LISTED}
REFERENCES = [
    Reference(archive, case)
    for archive in ARCHIVES.values()
    for case in archive.cases
]
OURS = {*RECORDED}
HIERARCHICAL = {
    "hi_lam",
    "hi_lam-3level",
    "hi_lam-deep",
    "hi_lam-square",
    "hi_lam_parallel",
    "hi_lam_parallel-clamp",
}
STD = {"graph_lam-std", "graph_lam-std-clamp"}
ENSEMBLE = {"graph_lam-ensemble"}
EVERYWHERE = {
    "graph_lam",
    "graph_lam-clamp",
    "graph_lam-deep",
    "graph_lam-forecast",
    "graph_lam-mae",
    "graph_lam-multiscale",
    "graph_lam-shallow",
    "graph_lam-square",
    "graph_lam-weights",
    "graph_lam-window00",
    "graph_lam-window21",
}
NEW_IN_07 = {
    "graph_efm",
    "graph_efm-multiscale",
    "graph_lam-propagation",
    "hi_lam-propagation",
}
ADDED = {
    "graph_lam-deep",
    "graph_lam-ensemble",
    "graph_lam-forecast",
    "graph_lam-mae",
    "graph_lam-shallow",
    "hi_lam-deep",
}
KEYS = {"command", "date", "machine", "python", "tool", "versions"}
EARLY = ({"graph_lam", "hi_lam", "hi_lam_parallel"}, set())
CASES = {
    "0.1.0": EARLY,
    "0.2.0": EARLY,
    "0.3.0": EARLY,
    "0.4.0": (EVERYWHERE | HIERARCHICAL, STD),
    "0.5.0": (EVERYWHERE | STD | HIERARCHICAL, set()),
    "0.6.0": (EVERYWHERE | STD | ENSEMBLE, HIERARCHICAL),
    "0.7.0": (
        EVERYWHERE | STD | ENSEMBLE | HIERARCHICAL | NEW_IN_07,
        set(),
    ),
}

FROZEN = dict(
    reversed(line.split())
    for line in Path(__file__).with_name("frozen.txt").read_text().splitlines()
    if not line.startswith("#")
)

each_release = pytest.mark.parametrize("release", ARCHIVES)
each = pytest.mark.parametrize("reference", REFERENCES, ids=lambda r: r.id)


def parameters(reference):
    return {
        name: tensor
        for name, tensor in reference.state_dict.items()
        if not re.search(r"(sigmoid|softplus|clamp)", name)
    }


def embedders(reference):
    """Weights that read the inputs of the grid, by name."""
    return {
        name: tensor
        for name, tensor in parameters(reference).items()
        if re.search(r"(^|\.)grid_(\w+_)?embedder\.0\.weight$", name)
    }


def test_archives_and_registry_agree():
    files = {path.name for path in FIXTURES.glob("*.zip")}
    assert files == {f"{release}.zip" for release in LISTED}
    assert set(ARCHIVES) >= set(CASES)


@each_release
def test_an_archive_is_what_was_published(release):
    path = FIXTURES / f"{release}.zip"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == LISTED[Version(release)]
    assert ARCHIVES[release].release == Version(release)


def test_no_file_of_a_case_has_changed_since_it_was_added():
    """An archive may gain cases until it is published, and nothing else."""
    found = {}
    for reference in REFERENCES:
        archive = ARCHIVES[str(reference.release)]
        listing = hashlib.sha256()
        for name in sorted(archive.names(reference.case)):
            content = archive.read(reference.case, name)
            digest = hashlib.sha256(content).hexdigest()
            listing.update(f"{digest}  {name}\n".encode())
        found[reference.id] = listing.hexdigest()
    assert {name: found.get(name) for name in FROZEN} == FROZEN


@each_release
def test_all_cases_that_a_release_can_run_are_recorded(release):
    archive = ARCHIVES[release]
    recorded = (set(archive.cases), set(archive.void))
    if release in CASES:
        assert recorded == CASES[release]
    if release in OURS:
        listed = cases_of(Version(release))
        void = {case.name for case in listed if release in case.void}
        assert recorded == ({case.name for case in listed} - void, void)


@each_release
def test_a_void_case_has_a_reason_that_points_upstream(release):
    for reason in ARCHIVES[release].void.values():
        assert reason.startswith(f"neural-lam {release[:3]} can't run ")
        assert re.search(r"#\d+\)$", reason)


def test_why_cases_are_void():
    (std,) = set(ARCHIVES["0.4.0"].void.values())
    assert "output_std" in std
    assert "#147" in std
    (hierarchy,) = set(ARCHIVES["0.6.0"].void.values())
    for part in ("hierarchical", "utils.py:98, :150", "#643", "#680"):
        assert part in hierarchy


def test_archives_are_small():
    sizes = [path.stat().st_size for path in FIXTURES.iterdir()]
    assert max(sizes) <= 4_000_000
    assert sum(sizes) / len(REFERENCES) <= 150_000


@each_release
def test_cases_are_small_in_each_archive(release):
    size = (FIXTURES / f"{release}.zip").stat().st_size
    # Early ones have the 17 variables and the sizes of another recorder.
    limit = 150_000 if release in OURS else 200_000
    assert size / len(ARCHIVES[release].cases) <= limit


@each_release
def test_provenance(release):
    provenance = ARCHIVES[release].index["provenance"]
    assert re.fullmatch(r"20\d\d-[01]\d-[0-3]\d", provenance["date"])
    versions = provenance["versions"]
    assert {"torch", "numpy"} <= set(versions)
    if release in OURS:
        assert provenance["command"] == f"nlam-compat record {release}"
        assert set(provenance) == KEYS
        assert versions["neural-lam"] == release
        assert {"pytorch-lightning", "torch-geometric"} <= set(versions)
    else:
        assert re.fullmatch("[0-9a-f]{40}", provenance["commit"])
        assert {"lightning", "python", "torch_geometric"} <= set(versions)


@pytest.mark.parametrize("release", ["0.4.0", "0.5.0", "0.6.0", "0.7.0"])
def test_provenance_of_cases_that_were_added(release):
    archive = ARCHIVES[release]
    (added,) = archive.index["added"]
    assert set(added) == {"cases", *KEYS}
    assert set(added["cases"]) == set(archive.cases) & ADDED
    assert added["command"] == f"nlam-compat record {release} --add"
    assert added["date"] > archive.index["provenance"]["date"]
    # So far they were recorded in the environment of the others.
    assert added["versions"] == archive.index["provenance"]["versions"]


@each
def test_every_recorded_change_shows(reference):
    """The strength gate: what is perturbed by 10 % moves the golden."""
    strength = reference.description["strength"]
    noise = reference.description["noise32"]
    assert strength["required"] >= required(noise)
    assert required(noise) == max(1000 * FLOAT64.relative, 20 * noise)
    figures = [*strength["parameters"].values(), *strength["columns"].values()]
    assert min(figures) >= strength["required"]


@each
def test_every_parameter_has_a_figure(reference):
    figures = reference.description["strength"]["parameters"]
    assert set(figures) == set(parameters(reference))


@each
def test_every_input_column_has_a_figure(reference):
    figures = reference.description["strength"]["columns"]
    found = embedders(reference)
    assert found
    assert len(figures) == sum(weight.shape[1] for weight in found.values())
    if str(reference.release) in OURS:
        assert set(figures) == {
            f"{name}[:, {column}]"
            for name, weight in found.items()
            for column in range(weight.shape[1])
        }


@each
def test_the_noise_is_that_of_the_golden(reference):
    single, double = reference.group("golden32"), reference.group("golden64")
    measured = max(noise32(single[name], double[name]) for name in single)
    assert reference.description["noise32"] == pytest.approx(measured)


@each
def test_outputs_are_complete_and_finite(reference):
    outputs = set(reference.description["outputs"])
    assert outputs == set(reference.group("golden32"))
    assert outputs | {"loss"} == set(reference.group("golden64"))
    assert ("pred_std" in outputs) == ("-std" in reference.case)
    for name, tensor in reference.tensors.items():
        assert tensor.isfinite().all(), name


@each
def test_it_was_trained_and_rolled_out(reference):
    description = reference.description
    assert description["optimizer_steps"] >= 2
    ours = str(reference.release) in OURS
    assert description["ar_steps"] >= (3 if ours else 2)
    steps = reference.group("golden64")["prediction"].shape[1]
    assert steps == description["ar_steps"]


@each
def test_it_can_be_resumed(reference):
    resume = reference.group("resume")
    assert resume["loss"].shape == (1,)
    assert resume["loss"].dtype is torch.float64
    if str(reference.release) in OURS:
        found = parameters(reference)
        assert sorted(reference.description["resume"]) == sorted(found)
        sampled = [
            min(SAMPLE_SIZE, tensor.numel()) for tensor in found.values()
        ]
        assert resume["parameters"].shape == (sum(sampled),)
        assert resume["parameters"].dtype is torch.float64


@each
def test_only_models_that_sample_have_noise(reference):
    sampling = reference.case.startswith("graph_efm")
    assert bool(reference.group("noise")) == sampling
    assert bool(reference.noise("rollout")) == sampling
    assert bool(reference.noise("loss")) == sampling


@pytest.mark.parametrize("release", sorted(OURS))
def test_clamping_and_weights_are_in_effect(release, reference_of):
    plain = reference_of(f"{release}-graph_lam")
    clamped = reference_of(f"{release}-graph_lam-clamp")
    limits = [name for name in clamped.state_dict if "clamp" in name]
    assert sum(clamped.state_dict[name].numel() for name in limits) > 0
    assert sum(plain.state_dict[name].numel() for name in limits) == 0
    arrays = clamped.dataset.arrays
    std, mean = map(
        torch.from_numpy, (arrays["state_std"], arrays["state_mean"])
    )
    physical = clamped.group("golden64")["prediction"] * std + mean
    assert physical[..., 0].max() <= 320 + 1e-3
    assert physical[..., 1].min() >= -1e-6
    assert physical[..., 1].max() <= 1 + 1e-6


@pytest.mark.parametrize("release", ["0.4.0", "0.5.0"])
@pytest.mark.parametrize("case", ["graph_lam-square", "hi_lam-square"])
def test_the_off_by_one_matters_on_square_domains(
    reference_of, tmp_path, release, case
):
    """Grid node 0 sends nothing, so that all senders were shifted."""
    reference = reference_of(f"{release}-{case}")
    reference.write(tmp_path)
    folder = reference.graph_folder(tmp_path)
    senders = torch.load(folder / "g2m_edge_index.pt", weights_only=True)[0]
    mesh = torch.load(folder / "mesh_features.pt", weights_only=True)
    assert senders.min() > sum(len(level) for level in mesh)
