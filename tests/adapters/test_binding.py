"""Calls of the current code, bound by names, words and annotations."""

import functools

import pytest

from pytest_nlam_compat.adapters.binding import (
    ApiChangedError,
    bind,
    call,
    parameters_of,
)


class BaseDatastore:
    pass


class Stored(BaseDatastore):
    pass


STORE, ARGS, CONFIG, STEP = Stored(), object(), object(), object()
OBJECTS = {"datastore": STORE, "args": ARGS, "config": CONFIG}


def bound(function, values=None):
    return list(bind(function, OBJECTS, values, expected="").values())


@pytest.mark.parametrize(
    "function",
    [
        lambda args, config, datastore: None,
        lambda *, args, config, datastore: None,
        lambda args, cfg, ds: None,
        lambda model_config, the_datastore, cli_args: None,
    ],
)
def test_the_same_objects_by_any_name(function):
    found = {id(each) for each in bound(function)}
    assert found == {id(each) for each in OBJECTS.values()}


def test_an_annotation_tells_what_a_name_does_not():
    def build(source: "BaseDatastore | None", args):
        pass

    assert bound(build) == [ARGS, STORE]


def test_an_optional_argument_is_bound_by_its_exact_name_only():
    def build(datastore, datastore_boundary: BaseDatastore = None, cfg=None):
        pass

    assert bound(build) == [STORE]


def test_an_object_is_not_bound_twice():
    def build(datastore, datastore_boundary: BaseDatastore):
        pass

    with pytest.raises(ApiChangedError, match="datastore_boundary not known"):
        bound(build)


def test_a_value_is_bound_by_its_name():
    assert bound(lambda args, loss="wmse": None, {"loss": "mae"}) == [
        ARGS,
        "mae",
    ]


def test_what_is_unknown_is_named_with_the_shortest_adapter():
    def build_predictor(args, topology, *, seed):
        pass

    with pytest.raises(ApiChangedError) as raised:
        bind(build_predictor, OBJECTS, expected="build_predictor(args)")
    error = raised.value
    assert "build_predictor can't be called, topology, seed not known" in (
        error.what
    )
    assert error.facts["expected"] == "build_predictor(args)"
    assert error.facts["found"].endswith(
        "build_predictor(args, topology, *, seed)"
    )
    assert '{"topology": ..., "seed": ...}' in error.remedy
    assert "pytest_nlam_compat_adapter" in error.remedy


def test_a_signature_that_hides_its_arguments():
    def wrapper(*args, **kwargs):
        pass

    with pytest.raises(ApiChangedError, match="its arguments not known"):
        bound(wrapper)


def test_a_decorator_that_names_what_it_wraps():
    @functools.wraps(bound)
    def wrapper(*args, **kwargs):
        pass

    assert [p.name for p in parameters_of(wrapper)] == ["function", "values"]


def test_a_class_accepts_what_it_passes_on():
    class Base:
        def __init__(self, datastore, secret, lr=0.1):
            pass

    class Derived(Base):
        def __init__(self, args, **kwargs):
            super().__init__(secret=1, **kwargs)

    assert bound(Derived, {"lr": 0.2}) == [ARGS, STORE, 0.2]


def test_a_call_that_does_not_fit_is_told_from_an_error_of_the_code():
    def fits(args):
        return len(args)

    def hidden(args):
        raise AssertionError

    hidden.__signature__ = __import__("inspect").signature(lambda config: None)
    with pytest.raises(TypeError, match="has no len"):
        call(fits, OBJECTS, expected="")
    with pytest.raises(ApiChangedError, match="unexpected keyword"):
        call(hidden, OBJECTS, expected="")
