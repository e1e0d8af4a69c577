import numpy as np
import pytest
import torch

from sklcae._torch._augmentation import DihedralAugmentation, dihedral_transform


def test_elements_are_the_eight_symmetries_of_the_square():
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    turned = [dihedral_transform(image, k).numpy()[0, 0] for k in range(8)]
    expected = [np.rot90(m, k) for m in (turned[0], turned[0].T) for k in range(4)]
    assert {t.tobytes() for t in turned} == {
        np.ascontiguousarray(e).tobytes() for e in expected
    }
    np.testing.assert_array_equal(turned[1], turned[0][:, ::-1])
    np.testing.assert_array_equal(turned[2], turned[0][::-1])
    np.testing.assert_array_equal(turned[4], turned[0].T)


@pytest.mark.parametrize(("shape", "n_elements"), [((1, 6, 6), 8), ((2, 3, 5), 4)])
def test_every_stamp_gets_its_own_element_and_target(shape, n_elements):
    generator = torch.Generator().manual_seed(0)
    # The target that an element sets tells which element a stamp got.
    matrices = np.zeros((n_elements, 1, 1))
    offsets = np.arange(n_elements, dtype=float)[:, None]
    augment = DihedralAugmentation(matrices, offsets, generator)
    images = torch.rand(400, *shape, generator=generator)
    before = images.clone()

    turned, targets = augment(images, torch.ones(400, 1))

    assert torch.equal(images, before)
    assert sorted(set(targets.ravel().tolist())) == list(range(n_elements))
    for image, result, element in zip(images, turned, targets, strict=True):
        expected = dihedral_transform(image[None], int(element))[0]
        assert torch.equal(result, expected)


def test_elements_are_equally_likely():
    augment = DihedralAugmentation(
        np.zeros((8, 1, 1)), np.arange(8.0)[:, None], torch.Generator().manual_seed(1)
    )
    _, targets = augment(torch.zeros(8000, 1, 2, 2), torch.zeros(8000, 1))
    counts = np.bincount(targets.ravel().int().numpy(), minlength=8)
    assert abs(counts - 1000).max() < 5 * 1000**0.5
