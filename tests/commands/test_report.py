"""``nlam-compat report``: reports drawn again, and those of shards merged."""

import json
import subprocess
import sys

import pytest
from made_results import red, reference, results

from pytest_nlam_compat.cli import main


@pytest.fixture
def files(tmp_path):
    """Write results into files: ``files(results, ...)`` returns their paths."""

    def written(*found):
        paths = []
        for index, each in enumerate(found):
            paths.append(tmp_path / f"results-{index}.json")
            paths[-1].write_text(json.dumps(each), encoding="utf-8")
        return [*map(str, paths)]

    return written


def test_report_is_drawn_again_in_each_format(files, tmp_path, capsys):
    (file,) = files(red())
    outputs = [tmp_path / f"r.{kind}" for kind in ("html", "md", "json")]
    options = [option for path in outputs for option in ("-o", str(path))]
    # Red results are whole: the run that wrote them has failed for them.
    assert main(["report", file, *options]) == 0
    assert "1 of 1 reference failed" in capsys.readouterr().out
    assert json.loads(outputs[2].read_text()) == red()
    for path in outputs[:2]:
        text = path.read_text(encoding="utf-8")
        assert "LayerNorm gives different outputs" in text


def test_shards_are_merged_and_missing_ones_fail(files, tmp_path, capsys):
    one = results(reference("0.7.0-hi_lam"), shards=["1/2"])
    two = results(reference("0.7.0-graph_lam"), shards=["2/2"])
    first, second = files(one, two)
    output = tmp_path / "r.html"

    assert main(["report", first, second, "-o", str(output)]) == 0
    said, errors = capsys.readouterr()
    assert said.startswith("neural-lam checkpoints: 2 references passed")
    assert not errors
    assert main(["report", second, "-o", str(output), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["incomplete"] == "Shards are missing: 1/2."
    assert "Shards are missing: 1/2." in output.read_text(encoding="utf-8")


def test_what_can_not_be_merged_writes_nothing(files, tmp_path, capsys):
    other = results()
    other["current"]["content"] = "sha256:99"
    output = tmp_path / "r.html"
    output.write_text("older")
    assert main(["report", *files(results(), other), "-o", str(output)]) == 1
    assert "they differ in the current code" in capsys.readouterr().err
    assert output.read_text() == "older"


def test_impossible_output_is_refused_first(files, tmp_path, capsys):
    output = tmp_path / "gone" / "r.html"
    assert main(["report", "missing.json", "-o", str(output)]) == 1
    assert "The report r.html has no folder." in capsys.readouterr().err
    output = tmp_path / "r.html"
    assert main(["report", "missing.json", "-o", str(output)]) == 1
    assert "missing.json can't be read." in capsys.readouterr().err


def test_reports_are_drawn_without_torch(files, tmp_path):
    (file,) = files(results())
    code = (
        "import sys\n"
        "from pytest_nlam_compat.cli import main\n"
        f"main(['report', {file!r}, '-o', {str(tmp_path / 'r.html')!r}])\n"
        "assert not {'torch', 'pytest'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
