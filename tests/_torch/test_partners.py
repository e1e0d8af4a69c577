"""Partners: who may be whose, how often, and their weights."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklcae._torch import Batch, Partners
from sklcae._torch.batches import BatchDataset


@st.composite
def groups_and_usable(draw):
    members = draw(
        st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=12)
    )
    groups, usable = map(np.array, zip(*members, strict=True))
    return groups, usable


def others_of(row, groups, usable):
    return {
        other
        for other in range(len(groups))
        if groups[other] == groups[row] and usable[other] and other != row
    }


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@given(groups_and_usable(), st.integers(0, 2**32))
def test_partners_are_all_the_others_of_the_group_that_are_usable(case, seed):
    partners, generator = Partners(*case), seeded(seed)
    for row in range(len(case[0])):
        others = others_of(row, *case)
        # Of eleven others one is left out of 300 draws once in 10^11.
        drawn, has_partner = partners.draw([row] * 300, generator)
        assert set(drawn) == (others or {row})
        assert set(has_partner) == {bool(others)}


@given(groups_and_usable(), st.data())
def test_partners_of_any_rows_are_allowed(case, data):
    rows = data.draw(st.lists(st.integers(0, len(case[0]) - 1), max_size=9))
    generator = data.draw(st.sampled_from([None, seeded(0)]))
    drawn, has_partner = Partners(*case).draw(np.array(rows, dtype=int), generator)
    assert len(drawn) == len(has_partner) == len(rows)
    for row, partner, has in zip(rows, drawn, has_partner, strict=True):
        others = others_of(row, *case)
        assert has == bool(others)
        assert partner in (others or {row})


@given(groups_and_usable())
def test_without_a_generator_the_partner_is_always_the_same(case):
    partners, rows = Partners(*case), np.arange(len(case[0]))
    drawn, has_partner = partners.draw(rows)
    again, _ = partners.draw(rows[::-1])
    np.testing.assert_array_equal(again[::-1], drawn)
    # Each usable stamp is one usable stamp's partner, not one that of all.
    both = has_partner & case[1]
    assert sorted(drawn[both]) == sorted(rows[both])


@pytest.mark.parametrize("row", range(9))
def test_all_others_are_equally_likely(row):
    groups = np.array([2, 0, 2, 2, 0, 2, 2, 1, 1])
    usable = np.array([1, 1, 1, 0, 1, 1, 1, 1, 0], dtype=bool)
    others = others_of(row, groups, usable)
    partners, _ = Partners(groups, usable).draw(np.full(6000, row), seeded(1))
    drawn, counts = np.unique(partners, return_counts=True)
    if not others:
        assert drawn.tolist() == [row]
        return
    assert set(drawn) == others
    share = 6000 / len(others)
    # The sum is about the number of others; beyond 25 once in 10^4 for four of them.
    assert ((counts - share) ** 2 / share).sum() < 25


def test_the_generator_decides_the_partners():
    partners = Partners(np.zeros(50, dtype=int), np.ones(50, dtype=bool))
    first, same, other = (partners.draw(range(50), seeded(s))[0] for s in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert (first != other).mean() > 0.8


def test_what_cannot_be_used_is_nobodys_partner():
    partners = Partners(np.zeros(3, dtype=int), np.array([True, False, True]))
    drawn, has_partner = partners.draw([0, 1, 2] * 50, seeded(0))
    assert has_partner.all()
    assert set(drawn) == {0, 2}
    assert set(drawn[1::3]) == {0, 2}


def test_where_nothing_can_be_used_there_are_no_partners():
    partners = Partners(np.zeros(3, dtype=int), np.zeros(3, dtype=bool))
    for generator in (None, seeded(0)):
        drawn, has_partner = partners.draw([2, 0, 1], generator)
        assert drawn.tolist() == [2, 0, 1]
        assert not has_partner.any()


def make_stamps(**kwargs):
    """Make a batch with the number of the row in its pixels, targets and weights."""
    row = np.arange(6, dtype=np.float32)
    groups, usable = np.array([0, 1, 0, 2, 1, 0]), np.ones(6, dtype=bool)
    stamps = Batch(
        row[:, None, None, None] * np.ones((1, 1, 2, 2), np.float32),
        row[:, None] + 10,
        target_weights=row[:, None] + 20,
        mask=row[:, None, None, None] > [[[[1, 2], [3, 4]]]],
        partners=Partners(groups, usable),
    )
    return stamps._replace(**kwargs)


def test_a_batch_has_the_partners_of_its_rows():
    batch = BatchDataset(make_stamps())[[5, 1, 3]]
    rows = batch.partners.images[:, 0, 0, 0].int().tolist()
    assert rows == [0, 4, 3]
    assert batch.images[:, 0, 0, 0].tolist() == [5, 1, 3]
    whole = make_stamps()
    for name in ("images", "targets", "target_weights", "mask"):
        expected = getattr(whole, name)[rows]
        np.testing.assert_array_equal(getattr(batch.partners, name), expected)
    assert batch.partners.partners is None


def test_partners_weigh_nothing_where_there_is_none():
    batch = BatchDataset(make_stamps())[[5, 1, 3]]
    assert batch.image_weights is None
    assert batch.partners.image_weights.tolist() == [1, 1, 0]
    assert batch.partners.image_weights.dtype == torch.float32


def test_pairs_weigh_what_both_do():
    """The partner relative to the others that might have been drawn."""
    weights = np.array([0.5, 2, 3, 0.25, 5, 0.125], dtype=np.float32)
    groups, usable = np.array([0, 1, 0, 2, 1, 0]), np.ones(6, dtype=bool)
    stamps = make_stamps(
        image_weights=weights, partners=Partners(groups, usable, weights)
    )
    batch = BatchDataset(stamps)[[5, 1, 3]]
    assert batch.image_weights.tolist() == [0.125, 2, 0.25]
    # The partners are 0, where it might have been 2, and 4, the only other one.
    expected = [0.125 * 0.5 / ((0.5 + 3) / 2), 2, 0]
    np.testing.assert_allclose(batch.partners.image_weights, expected, rtol=1e-6)


@given(groups_and_usable(), st.floats(0.1, 10))
def test_all_that_may_be_a_stamps_partner_weigh_one_on_the_mean(case, factor):
    weights = factor * (1 + np.arange(len(case[0])) % 3)
    for partners in (Partners(*case), Partners(*case, weights)):
        for row in range(len(case[0])):
            others = np.array(sorted(others_of(row, *case)), dtype=int)
            if len(others):
                shares = partners.shares(np.full(len(others), row), others)
                assert shares.mean() == pytest.approx(1, rel=1e-5)
                ratios = shares / shares[0]
                expected = partners.weights[others] / partners.weights[others[0]]
                np.testing.assert_allclose(ratios, expected, rtol=1e-5)


def test_stamps_without_partners_draw_nothing():
    generator = seeded(0)
    state = generator.get_state()
    batch = BatchDataset(make_stamps(partners=None), generator)[[0, 1]]
    assert batch.partners is None
    assert torch.equal(generator.get_state(), state)


def test_map_reaches_the_partners_of_a_batch():
    batch = BatchDataset(make_stamps())[[5, 1, 3]]
    first = batch.map(lambda part: part[:1])
    assert first.partners.images.shape == first.images.shape == (1, 1, 2, 2)
    assert first.image_weights is None
