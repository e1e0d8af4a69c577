"""Hypothesis strategies that damage files, or make others of the right format."""

from copy import deepcopy

import numpy as np
from hypothesis import strategies as st

from tests.forging import forge


class Contents(bytes):
    """The bytes of a file, of which a failing test does not print everything."""

    def __repr__(self):
        return f"<{len(self)} bytes, {bytes(self[:300])!r}...>"


@st.composite
def damaged(draw, data, other):
    """Draw a file that is damaged in one to three places, most often in the header.

    Parameters
    ----------
    data, other : bytes
        The file, and another from which pieces are taken.
    """
    for _ in range(draw(st.integers(1, 3))):
        data = draw(st.sampled_from(DAMAGES))(draw, data, other)
    return Contents(data)


def _place(draw, data):
    header_end = min(len(data), 8 + int.from_bytes(data[:8], "little"))
    end = draw(st.sampled_from([min(len(data), 16), header_end, len(data)]))
    return draw(st.integers(0, end))


def flip(draw, data, other):
    place = min(_place(draw, data), len(data) - 1)
    if place < 0:
        return data
    bit = 1 << draw(st.integers(0, 7))
    return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]


def overwrite(draw, data, other):
    place, piece = _place(draw, data), draw(_pieces())
    return data[:place] + piece + data[place + len(piece) :]


def cut_end(draw, data, other):
    return data[: _place(draw, data)]


def cut_out(draw, data, other):
    start, stop = sorted([_place(draw, data), _place(draw, data)])
    return data[:start] + data[stop:]


def insert(draw, data, other):
    place = _place(draw, data)
    return data[:place] + draw(_pieces()) + data[place:]


def splice(draw, data, other):
    start, stop = sorted([_place(draw, other), _place(draw, other)])
    place = _place(draw, data)
    return data[:place] + other[start:stop] + data[place + stop - start :]


def repeat(draw, data, other):
    start, stop = sorted([_place(draw, data), _place(draw, data)])
    return data[:stop] + data[start:stop] + data[stop:]


def _pieces():
    json_pieces = [b'"', b"{", b"}", b"[", b"]", b",", b"\\", b"1e999", b"NaN", b" "]
    return st.one_of(
        st.sampled_from(json_pieces),
        st.integers(0, 9).map(lambda digit: str(digit).encode()),
        st.binary(min_size=1, max_size=16),
    )


DAMAGES = [flip, overwrite, cut_end, cut_out, insert, splice, repeat]


JUNK = st.sampled_from(
    [
        None, True, False, -1, 0, 1, 2, 3, 64, 2**31, 2**53, 2**64, 10**40, 0.0, -0.5,
        1e-300, 1e300, "", "x", "cpu", "asinh", "paper", "all", "epoch", [], [1], ["a"],
        [[]], {}, {"dict": {}}, {"tuple": []}, {"tuple": [1, 8, 8]}, {"tuple": [64]},
        {"float": "nan"}, {"float": "-inf"}, {"float": 0}, {"scalar": "x"}, {"x": 1},
        {"dict": []}, {"tuple": {}},
    ]
)  # fmt: skip

ARRAY_CHANGES = [
    np.zeros_like,
    # A second change may meet numbers of any type.
    lambda a: 0 - a,
    np.ravel,
    np.transpose,
    lambda a: a[:0] if a.ndim else a,
    lambda a: a.astype(np.float64),
    lambda a: a.astype(np.float32),
    lambda a: a.astype(np.int64),
    lambda a: a.astype(bool),
    lambda a: np.full_like(a, 3e38),
    lambda a: np.full_like(a, 1e-38),
    lambda a: np.concatenate([a, a]) if a.ndim else a,
    lambda a: np.array(1.0),
]


def places(tree, way=()):
    """Return the ways to everything in a JSON tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for key, value in items:
        found.append((*way, key))
        if isinstance(value, dict | list):
            found += places(value, (*way, key))
    return found


NUMBERS = [
    np.array(value, dtype)
    for value in (-1, 0, 1, 4)
    for dtype in ("int64", "uint8", "float32", "float64", "bool")
    if value >= 0 or dtype != "uint8"
]


def change_tree(draw, manifest, tensors):
    """Replace, remove, rename or move something in a manifest."""
    way = draw(st.sampled_from(places(manifest)))
    parent = manifest
    for key in way[:-1]:
        parent = parent[key]
    kind = draw(st.sampled_from(["replace", "number", "remove", "rename", "move"]))
    if kind == "replace":
        # A later change may be within it.
        parent[way[-1]] = deepcopy(draw(JUNK))
    elif kind == "number":
        name = f"new {len(tensors)}"
        tensors[name] = draw(st.sampled_from(NUMBERS))
        parent[way[-1]] = {draw(st.sampled_from(["scalar", "array"])): name}
    elif kind == "move":
        other = draw(st.sampled_from(places(manifest)))
        parent[way[-1]] = deepcopy(at(manifest, other))
    else:
        value = parent.pop(way[-1])
        if kind == "rename" and isinstance(parent, dict):
            parent[draw(st.sampled_from(["x", "dict", "codec_", "latent_dim"]))] = value


def at(tree, way):
    """Return what is at the end of a way in a JSON tree."""
    for key in way:
        tree = tree[key]
    return tree


@st.composite
def forgeries(draw, manifest, tensors):
    """Draw a file of the right format and hash, with another content."""
    manifest, tensors = deepcopy(manifest), dict(tensors)
    for _ in range(draw(st.integers(1, 3))):
        if tensors and draw(st.integers(0, 3)) == 0:
            name = draw(st.sampled_from(sorted(tensors)))
            change = draw(st.sampled_from(ARRAY_CHANGES))
            with np.errstate(all="ignore"):
                tensors[name] = np.array(change(tensors[name]), order="C")
        else:
            change_tree(draw, manifest, tensors)
    return Contents(forge(manifest, tensors))
