"""The emulations do what they say, and a few references by them.

`nox -s kernels` runs all references with all kernels of the machine.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from emulations import (
    HARM,
    ORDERS,
    OrderOfSums,
    Tf32,
    reversed_edges,
    shuffled_edges,
    to_tf32,
)
from measuring import subjects

from pytest_nlam_compat.numerics.tolerances import FLOAT32, FLOAT32_ENSEMBLE

# What amplifies rounding most, and what shows lost precision least.
FEW = ("0.7.0-graph_lam-multiscale", "0.4.0-hi_lam", "0.7.0-graph_efm")


@pytest.mark.parametrize("order", [reversed_edges, shuffled_edges])
def test_sums_of_integers_do_not_depend_on_the_order(order):
    index = torch.tensor([0, 2, 0, 1, 2])
    source = torch.arange(10.0).reshape(5, 2)

    def sums():
        wide = index[:, None].expand_as(source)
        return [
            torch.zeros(3, 2).index_add(0, index, source),
            torch.zeros(3, 2).index_add_(0, index, source),
            torch.zeros(3, 2).scatter_add(0, wide, source),
            torch.zeros(3, 2).scatter_reduce(0, wide, source, "mean"),
        ]

    with OrderOfSums(order) as mode:
        permuted = sums()
    assert mode.sums == 4
    for one, other in zip(sums(), permuted, strict=True):
        assert torch.equal(one, other)


def test_sums_of_floats_do():
    source = torch.tensor([1e8, 1.0, -1e8, 1.0])
    index = torch.zeros(4, dtype=torch.int64)
    with OrderOfSums(reversed_edges):
        assert torch.zeros(1).index_add(0, index, source).item() == 0.0
    assert torch.zeros(1).index_add(0, index, source).item() == 1.0


def test_tf32_keeps_ten_bits_and_the_exponent():
    kept = torch.tensor([1.0, 1.0 + 2**-10, 2.0**127, -(2.0**-100)])
    assert torch.equal(to_tf32(kept), kept)
    half = torch.tensor([1.0 + 2**-11, 1.0 + 3 * 2**-11, 1.0 + 2**-12])
    assert to_tf32(half).tolist() == [1.0, 1.0 + 2**-9, 1.0]


def test_tf32_is_what_goes_into_products_only():
    fine = torch.full((2, 2), 1.0 + 2**-12)
    with Tf32():
        product, total = fine @ torch.eye(2), fine + 1
    assert torch.equal(product, torch.ones(2, 2))
    assert torch.equal(total, fine + 1)


@pytest.fixture(scope="module")
def few():
    script = Path(__file__).parent
    options = ("--threads", "1", "--harm", *FEW)
    done = subprocess.run(
        [sys.executable, script, *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.neural_lam
@pytest.mark.slow
def test_orders_of_sums_are_harmless(few):
    assert len(few["harmless"]) == 1 + len(ORDERS)
    for shares in few["harmless"].values():
        assert set(shares) == set(FEW)
        assert max(shares.values()) <= 0.5
    # Without the ensemble one was red.
    assert few["row"]["float32, reversed order"][FEW[0]] > 1


@pytest.mark.neural_lam
@pytest.mark.slow
@pytest.mark.parametrize("what", HARM)
def test_lost_precision_is_red_on_each(few, what):
    assert set(few["harm"][what]) == set(FEW)
    assert min(few["harm"][what].values()) > 2


@pytest.mark.neural_lam
@pytest.mark.slow
def test_a_weight_that_is_10_percent_off_shows_beside_the_ensemble():
    """What the strength gate promises, on each reference."""
    count = 0
    for subject in subjects("cpu"):
        described = subject.reference.description
        strength = described["strength"]
        figures = strength["parameters"] | strength["columns"]
        effect = max(float(e.max()) for e in subject.rounding.values())
        allowed = max(
            FLOAT32.noise * described["noise32"],
            FLOAT32_ENSEMBLE.noise * effect,
        )
        assert min(figures.values()) > allowed, subject.reference.id
        count += 1
    assert count > 60
