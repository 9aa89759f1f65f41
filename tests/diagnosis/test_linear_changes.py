"""What became of linear layers, told from names and shapes."""

import pytest

from pytest_nlam_compat.diagnosis.load_failure import headline
from pytest_nlam_compat.diagnosis.parameter_matching import match_parameters
from pytest_nlam_compat.migrations import Add, AddIdentity, Drop, Rename


def linear(name, out, width, *, bias=True):
    return {f"{name}.weight": (out, width)} | (
        {f"{name}.bias": (out,)} if bias else {}
    )


def mlp(name, width, out=4):
    return {
        **linear(f"{name}.0", 4, width),
        **linear(f"{name}.2", out, 4),
        f"{name}.3.weight": (out,),
        f"{name}.3.bias": (out,),
    }


RUN = {**mlp("p.emb", 56), **mlp("p.enc", 4), **mlp("p.out", 4, 8)}


def with_layer(name, new):
    """Put others in the place of a layer of the run."""
    return {
        key: shape
        for old, whole in RUN.items()
        for key, shape in (
            new.items()
            if old == f"{name}.weight"
            else ({} if old == f"{name}.bias" else {old: whole}).items()
        )
    }


def first_choices(changes):
    return [o for change in changes for o in change.choices[0]]


INTO_TWO = [
    (
        "p.emb.0",
        {
            **linear("p.emb.0.0", 4, 56, bias=False),
            **linear("p.emb.0.1", 4, 4),
        },
        "p.emb.0 into p.emb.0.0 and p.emb.0.1",
    ),
    (
        "p.emb.0",
        {**linear("p.emb.0.a", 2, 56, bias=False), **linear("p.emb.0.b", 4, 2)},
        "p.emb.0 into p.emb.0.a and p.emb.0.b",
    ),
    (
        "p.enc.0",
        {**linear("p.enc.down", 3, 4), **linear("p.enc.up", 4, 3, bias=False)},
        "p.enc.0 into p.enc.down and p.enc.up",
    ),
    (
        "p.out.2",
        {**linear("p.out.2.0", 4, 4), **linear("p.out.2.1", 8, 4)},
        "p.out.2 into p.out.2.0 and p.out.2.1",
    ),
]


@pytest.mark.parametrize(("name", "new", "text"), INTO_TWO)
def test_one_layer_became_two_and_two_became_one(name, new, text):
    wanted = with_layer(name, new)
    assert headline(match_parameters(RUN, wanted)) == f"factorised {text}"
    one, _, two = text.partition(" into ")
    back = headline(match_parameters(wanted, RUN))
    assert back.startswith(f"merged {two} into {one}")


def test_a_square_layer_beside_one_that_stays():
    new = {**linear("p.enc.pre", 4, 4, bias=False), **linear("p.enc.2", 4, 4)}
    changes = match_parameters(RUN, with_layer("p.enc.2", new))
    assert headline(changes) == "factorised p.enc.2 into p.enc.pre and p.enc.2"
    assert first_choices(changes) == [AddIdentity("p.enc.pre", "p.enc.2")]


def test_a_factor_with_a_bias_of_its_own():
    new = {**linear("p.emb.0.0", 4, 56), **linear("p.emb.0.1", 4, 4)}
    [added] = [
        o
        for o in first_choices(
            match_parameters(RUN, with_layer("p.emb.0", new))
        )
        if isinstance(o, Add)
    ]
    assert (added.name, added.fill) == ("p.emb.0.1.bias", 0.0)


def test_a_bias_that_is_dropped_or_added():
    without = with_layer("p.enc.2", linear("p.enc.2", 4, 4, bias=False))
    dropped = match_parameters(RUN, without)
    assert headline(dropped) == "dropped p.enc.2.bias"
    assert first_choices(dropped) == [Drop("p.enc.2.bias")]
    added = match_parameters(without, RUN)
    assert headline(added) == "added p.enc.2.bias"
    [add] = first_choices(added)
    assert (add.name, add.fill) == ("p.enc.2.bias", 0.0)


def test_a_layer_in_another_module_is_renamed_once():
    wanted = with_layer("p.enc.2", linear("p.enc.2.0", 4, 4))
    changes = match_parameters(RUN, wanted)
    assert headline(changes) == "renamed p.enc.2 -> p.enc.2.0"
    # Called twice, a rename of the whole would go one deeper.
    assert first_choices(changes) == [
        Rename("p.enc.2.weight", "p.enc.2.0.weight", alone=True),
        Rename("p.enc.2.bias", "p.enc.2.0.bias", alone=True),
    ]


@pytest.mark.parametrize(
    "wanted",
    [
        {n.replace("p.enc", "p.upd"): s for n, s in RUN.items()},
        {n.replace("p.out.2", "p.head"): s for n, s in RUN.items()},
        # Two layers of one shape, both renamed.
        {
            n.replace("enc.0", "enc.one").replace("enc.2", "enc.two"): s
            for n, s in RUN.items()
        },
    ],
)
def test_what_was_renamed_is_not_factorised(wanted):
    text = headline(match_parameters(RUN, wanted))
    assert text.startswith("renamed ")
    assert ";" not in text
