"""Python as black writes it."""

import pytest

from pytest_nlam_compat.migrations.formatting import formatted, import_line


@pytest.mark.parametrize(
    "expression",
    [
        'Rename("a.b", "c.d", alone=True)',
        '("a",)',
        "{3: (), -1.5: None}",
        """\
Migration(
    id="0.8.0-a",
    operations=(
        Split(
            "forecaster.predictor.output_map.2.weight",
            ("forecaster.predictor.mean", "forecaster.predictor.std"),
        ),
        Split("a", {"b": 1}),
    ),
    when=Not(HasHyperParameter(path="args.output_std", value=True)),
)""",
    ],
)
def test_what_is_formatted_stays(expression):
    assert formatted(expression) == expression


def test_a_name_that_is_too_long_is_cut():
    name = "forecaster.predictor." + "a_long_name_of_a_module." * 3 + "weight"
    text = formatted(f"f(a=(g({name!r}),))")
    assert max(map(len, text.splitlines())) <= 76
    assert eval(text, {"g": str, "f": dict}) == {"a": (name,)}


def test_imports():
    assert import_line("a", ["c", "b"]) == "from a import b, c\n"
    names = [f"AddInputBlock{number}" for number in range(5)]
    assert import_line("a.b", names).splitlines()[:2] == [
        "from a.b import (",
        "    AddInputBlock0,",
    ]
