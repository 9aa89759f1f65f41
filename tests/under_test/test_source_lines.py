"""Lines of a package that run, build and name modules."""

import importlib
import sys

import pytest

from pytest_nlam_compat.under_test.source_lines import (
    recorded_build,
    source_of,
)
from pytest_nlam_compat.under_test.tracing import record_trace

HELPERS = """\
from torch import nn

def make_mlp(width):
    layers = [nn.Linear(width, width)]
    layers.append(nn.LayerNorm(width))
    return nn.Sequential(*layers)
"""
MODEL = """\
import torch
from torch import nn
from lines_of_code.helpers import make_mlp

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.edge_mlp = make_mlp(3)

    def forward(self, x):
        return self.edge_mlp(2 * x)

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.gnns = nn.ModuleList(
            [Layer() for _ in range(2)]
        )
        self.gain = nn.Parameter(torch.ones(1))
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x):
        for gnn in self.gnns:
            x = gnn(x)
        return x
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "lines_of_code"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "helpers.py").write_text(HELPERS)
    (folder / "model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("lines_of_code.model")
    for name in [n for n in sys.modules if n.startswith("lines_of_code")]:
        del sys.modules[name]


def line(text, source=MODEL, file="model"):
    """Return the place of the only line that contains a text."""
    numbers = [
        number
        for number, code in enumerate(source.splitlines(), 1)
        if text in code
    ]
    (number,) = numbers
    return f"lines_of_code/{file}.py:{number}"


@pytest.fixture
def lines(package):
    with recorded_build("lines_of_code") as lines:
        lines.model = package.Model()
    return lines


def test_a_module_of_a_helper_is_constructed_there(lines):
    assert lines.of_module("gnns.1.edge_mlp.1") == line(
        "nn.LayerNorm", HELPERS, "helpers"
    )
    assert lines.of_module("gnns.1") == line("[Layer()")


def test_a_new_name_is_given_in_the_line_that_assigns_it(lines):
    names = {n for n in lines.model.state_dict() if "edge_mlp" not in n}
    known = {*names, "gnns", "gnns.0", "gnns.1"}
    for number in (0, 1):
        found = lines.of_name(f"gnns.{number}.edge_mlp.0.weight", known)
        assert found == line("self.edge_mlp = ")
    assert lines.of_name("gain", {"gnns"}) == line("self.gain = ")
    assert lines.of_name("scale") == line("self.register_buffer")


def test_a_known_tensor_belongs_to_the_innermost_line(lines):
    assert lines.of_name("gnns.0.edge_mlp.0.weight") == line("self.edge_mlp = ")


def test_what_is_gone_belongs_to_what_would_hold_it(lines):
    known = {"gnns", "gnns.0", "gnns.0.edge_mlp", "gnns.0.edge_mlp.2"}
    assert lines.of_name("gnns.0.edge_mlp.2.weight", known) == line(
        "return nn.Sequential", HELPERS, "helpers"
    )


def test_modules_are_as_before_after_the_block(lines, package):
    before = dict(lines.constructed)
    package.Model()
    assert lines.constructed == before


def test_the_line_that_makes_a_call(package):
    import torch

    model, tensors = package.Model(), []
    trace = record_trace(
        model, lambda: model(torch.ones(2, 3)), tensors, "lines_of_code"
    )
    made = {
        call.module: seen.line
        for call, seen in zip(trace.calls, tensors, strict=True)
    }
    inside = line("self.edge_mlp(2 * x)")
    assert made["gnns.0"] == line("x = gnn(x)")
    # torch calls what is in a Sequential.
    assert made["gnns.0.edge_mlp"] == made["gnns.0.edge_mlp.1"] == inside


def test_methods_and_classes(package):
    assert source_of(package.Layer) == line("return self.edge_mlp").replace(
        ":11", ":10"
    )
    assert source_of(package.Layer, "missing") == line("class Layer")
