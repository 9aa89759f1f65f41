"""action.yml: its steps as they stand, in a repository like neural-lam's."""

import glob
import importlib.util
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import lent_environment
import pytest
import yaml
from lent_environment import CHECKOUT, served

ACTION = yaml.safe_load((CHECKOUT / "action.yml").read_text(encoding="utf-8"))
STEPS = ACTION["runs"]["steps"]
CHECK = "Check the checkpoints"
EDIT = (
    "neural_lam/utils/networks.py",
    "nn.LayerNorm(blueprint[-1])",
    "nn.LayerNorm(blueprint[-1], eps=1e-6)",
)


class Job:
    """A job whose checkout, environment and runner are in a folder.

    Attributes
    ----------
    failed : list of str
        Names of the steps that failed.
    uploaded : list of Path
        What the artifact has.
    cached : dict of str to Path
        What is kept between runs, by its key.
    """

    def __init__(self, folder):
        self.folder = folder
        self.repository, self.temporary = folder / "repo", folder / "temporary"
        self.python = lent_environment.make(folder / "environment")
        self.temporary.mkdir(parents=True)
        installed = importlib.util.find_spec("neural_lam").origin
        shutil.copytree(
            Path(installed).parent,
            self.repository / "neural_lam",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        # As upstream's: the marker, and tests that must not run.
        (self.repository / "pyproject.toml").write_text(
            '[tool.pytest.ini_options]\nmarkers = ["slow: takes long"]\n'
        )
        (self.repository / "tests").mkdir()
        (self.repository / "tests" / "test_own.py").write_text(
            "def test_own():\n    raise AssertionError\n"
        )
        self.cached = {}

    def run(self, **inputs):
        """Run all steps of the action with inputs."""
        self.inputs = {
            name: str(inputs.pop(name.replace("-", "_"), declared["default"]))
            for name, declared in ACTION["inputs"].items()
        }
        assert not inputs
        self.outputs, self.failed, self.uploaded = {}, [], []
        for step in STEPS:
            if self.failed and step.get("if") != "always()":
                continue
            if "run" in step:
                self._run(step)
            elif step["uses"].startswith("actions/cache@"):
                given = self._filled(step["with"])
                self.cached[given["key"]] = Path(given["path"])
            else:
                assert step["uses"].startswith("actions/upload-artifact@")
                for pattern in self._filled(step["with"])["path"].splitlines():
                    found = glob.glob(pattern, recursive=True)
                    self.uploaded += map(Path, found)
        return self

    def _run(self, step):
        assert step["shell"] == "bash"
        script = self.folder / "script.sh"
        script.write_text(self._filled(step["run"]))
        output = self.folder / "output.txt"
        output.write_text("")
        done = subprocess.run(
            # What GitHub runs for this shell.
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            cwd=self.repository,
            env=lent_environment.variables(
                **self._filled(step.get("env", {})),
                GITHUB_ACTION_PATH=str(CHECKOUT),
                GITHUB_OUTPUT=str(output),
                GITHUB_STEP_SUMMARY=str(self.folder / "summary.md"),
                PATH=f"{self.python.parent}:{os.environ['PATH']}",
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = done.stdout
        print(step["name"], done.stdout, sep="\n")
        if done.returncode:
            self.failed.append(step["name"])
        for line in output.read_text().splitlines():
            name, _, value = line.partition("=")
            self.outputs[f"steps.{step['id']}.outputs.{name}"] = value

    def _filled(self, value):
        """Return text, or a mapping of texts, with expressions evaluated."""
        if isinstance(value, dict):
            return {name: self._filled(each) for name, each in value.items()}
        known = {
            **{f"inputs.{name}": each for name, each in self.inputs.items()},
            **self.outputs,
            "runner.temp": str(self.temporary),
            "github.job": "checkpoints",
            "strategy.job-index": "0",
        }
        return re.sub(
            r"\$\{\{ (\S+) \}\}", lambda match: known[match[1]], str(value)
        )


@pytest.fixture(scope="module")
def url():
    with served(CHECKOUT / "fixtures") as url:
        yield url


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    if shutil.which("uv"):
        # It does not see what the environment borrows.
        pytest.fail("uv is on the PATH, and would download torch.")
    return Job(tmp_path_factory.mktemp("job"))


@pytest.mark.slow
@pytest.mark.neural_lam
def test_it_is_green_on_neural_lam_and_red_on_an_edit(job, url):
    some = {"release": "==0.7.0", "case": "graph_lam", "url": url}
    job.run(**some)
    assert job.failed == []
    names = {file.name for file in job.uploaded}
    assert names == {"report.html", "report.json", "checkpoints.xml"}
    [report] = [f for f in job.uploaded if f.suffix == ".xml"]
    suite = ET.parse(report).getroot().find("testsuite")
    assert int(suite.get("tests")) > 5
    assert suite.get("failures") == suite.get("errors") == "0"
    [(key, path)] = job.cached.items()
    assert re.fullmatch("nlam-compat-references-[0-9a-f]{16}", key)
    archives = {file.name for file in path.rglob("*.zip")}
    assert archives == {file.name for file in CHECKOUT.glob("fixtures/*.zip")}

    name, old, new = EDIT
    file = job.repository / name
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    job.run(**some)
    assert job.failed == [CHECK]
    assert f"source: {name}" in job.said
    tensors = {file for file in job.uploaded if file.suffix == ".safetensors"}
    # Of the float64 and of the float32 rollout, each golden and obtained.
    assert len(job.uploaded) == len(tensors) + 3 == 7
    assert {file.parent.name for file in tensors} <= {
        file.name for file in (job.temporary / "nlam-compat/tensors").iterdir()
    }
    assert "0.7.0-graph_lam" in (job.folder / "summary.md").read_text()
    file.write_text(text)


@pytest.mark.slow
@pytest.mark.neural_lam
def test_it_ends_when_its_time_is_over(job, url):
    job.run(url=url, timeout_minutes="0.02")
    assert job.failed == [CHECK]
    assert not re.search(r"\d passed", job.said)


def test_inputs_are_never_put_into_a_script():
    for step in STEPS:
        assert "${{" not in step.get("run", ""), step["name"]


def uses(text):
    return re.findall(r"uses: (\S+)(.*)", text)


@pytest.mark.parametrize(
    "path",
    [
        "action.yml",
        "docs/ci.md",
        *sorted(glob.glob(".github/workflows/*.yml", root_dir=CHECKOUT)),
    ],
)
def test_actions_are_pinned_to_commits(path):
    text = (CHECKOUT / path).read_text(encoding="utf-8")
    assert "uses:" in text
    for action, comment in uses(text):
        if action.startswith("mllam/pytest-nlam-compat@"):
            assert re.search(r"@v\d+\.\d+\.\d+$", action)
        elif not action.startswith("./"):
            assert re.search("@[0-9a-f]{40}$", action), action
            assert re.match(r" # v\d+\.\d+\.\d+$", comment), action


def test_the_page_lists_the_inputs():
    text = (CHECKOUT / "docs" / "ci.md").read_text(encoding="utf-8")
    section = text.split("## Inputs\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\S+)` \|", section, re.MULTILINE)
    assert rows == list(ACTION["inputs"])
    jobs = re.findall(r"^```yaml\n(name:.*?)^```", text, re.M | re.S)
    for job in map(yaml.safe_load, jobs):
        [(_, found)] = job["jobs"].items()
        assert found["timeout-minutes"] == 45
        assert set(found["steps"][-1].get("with", {})) <= set(rows)


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("neural_lam/models/module.py", True),
        ("neural_lam/gnn_layers.py", True),
        ("neural_lam/utils/networks.py", True),
        ("neural_lam/datastore/npyfilesmeps/store.py", True),
        ("neural_lam/utils/plot.py", False),
        ("neural_lam/vis.py", False),
        ("neural_lam/custom_loggers.py", False),
        ("tests/test_training.py", False),
        ("docs/validate_graph.py", False),
        ("README.md", False),
    ],
)
def test_the_hook_runs_when_model_code_changed(name, runs):
    text = (CHECKOUT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
    [hook] = yaml.safe_load(text)
    wanted = re.search(hook["files"], name)
    assert bool(wanted and not re.search(hook["exclude"], name)) == runs
