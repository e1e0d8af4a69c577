"""Taking values apart and putting them together again."""

from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklcae._storage.values import pack, unpack
from sklcae.exceptions import ModelFileError
from tests.forging import same_array

PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)
)
KEYS = st.one_of(st.text(max_size=3), st.sampled_from(["dict", "tuple", "array"]))
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=10,
)


def same(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray | np.generic):
        return same_array(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


@given(value=VALUES)
def test_plain_values_come_back(value):
    packed, arrays = pack(value)
    assert arrays == {}
    assert same(unpack(packed, arrays), value)


@pytest.mark.parametrize(
    "value",
    [
        {"a": np.arange(3.0), "b": [np.array(1), (np.zeros((0, 2), np.uint8),)]},
        [np.float64(1.5), np.int64(-1), np.float32(0.1), np.bool_(True), np.uint8(7)],
        {"array": {"array": np.ones(1)}},
        np.ones(2, bool),
    ],
)
def test_arrays_and_scalars_come_back(value):
    assert same(unpack(*pack(value)), value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int32(3), 3),
        (np.float16(0.5), 0.5),
        (np.str_("a"), "a"),
        (np.float16("inf"), float("inf")),
    ],
)
def test_other_scalars_become_plain(value, expected):
    assert same(unpack(*pack(value)), expected)


def test_arrays_are_named_by_the_way_to_them():
    _, arrays = pack({"a": [{"b": np.ones(1)}, 0, (np.ones(1),)]})
    assert list(arrays) == ["a/0/b", "a/2/0"]


def test_names_that_are_the_same_are_refused():
    with pytest.raises(ValueError, match="Two arrays would have the name 'a/b'"):
        pack({"a/b": np.ones(1), "a": {"b": np.ones(1)}})


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {"a": [print]},
        {1: 2},
        {1, 2},
        b"bytes",
        1j,
        Path("a"),
        np.random.RandomState(0),
        np.zeros(2, np.float16),
        np.array(["a"]),
        np.array([None]),
        np.datetime64("2020-01-01"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_refused(value):
    with pytest.raises(TypeError, match="must be"):
        pack(value)


def test_a_named_tuple_comes_back_as_a_tuple():
    point = namedtuple("point", "x y")
    assert same(unpack(*pack(point(1, 2))), (1, 2))


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        ({}, "must have one of"),
        ({"dict": {}, "tuple": []}, "must have one of"),
        ({"object": "os.system"}, "must have one of"),
        ({"dict": []}, "in place of a dict"),
        ({"tuple": {}}, "in place of a list"),
        ({"tuple": "ab"}, "in place of a list"),
        ({"float": 1}, "in place of a str"),
        ({"float": "1"}, "has the float '1'"),
        ({"array": ["a"]}, "in place of a str"),
        ({"array": "b"}, "lacks the array 'b'"),
        ([{"array": "a"}, {"array": "a"}], "lacks the array 'a', or has two places"),
        ({"scalar": "a"}, "'a' is not a scalar"),
        ([1], "arrays without a place.*'a'"),
    ],
)
def test_what_pack_cannot_have_made_is_refused(packed, message):
    with pytest.raises(ModelFileError, match=message):
        unpack(packed, {"a": np.ones(1)})
