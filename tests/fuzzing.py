"""Hypothesis strategies that damage files."""

from hypothesis import strategies as st


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
