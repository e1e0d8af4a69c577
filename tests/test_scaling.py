import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sklcae._scaling import LIMITS, STRETCHES, ImageScaler, noise_level
from sklcae.datasets import make_galaxies
from tests.blobs import quick

pixels = st.floats(-1e6, 1e6, width=32)
image_arrays = hnp.arrays(
    np.float32,
    st.tuples(*[st.integers(1, 4)] * 4),
    elements=pixels,
)


@given(images=image_arrays, stretch=st.sampled_from(sorted(STRETCHES)))
def test_training_images_fill_zero_to_one_and_come_back(images, stretch):
    scaler = ImageScaler(stretch).fit(images)
    scaled = scaler.transform(images)
    assert scaled.dtype == np.float32
    assert scaled.min() >= 0
    assert scaled.max() <= 1
    # One float32 of [0, 1], seen through the steepest part of the inverse.
    steepest = np.cosh(scaler.minimum_ + scaler.range_) if stretch == "asinh" else 1
    steepest = (
        np.maximum(steepest, np.cosh(scaler.minimum_)) if stretch == "asinh" else 1
    )
    atol = 1e-6 * float((steepest * scaler.range_ * scaler.softening_).max())
    atol += 1e-6 * float(np.abs(images).max())
    np.testing.assert_allclose(
        scaler.inverse_transform(scaled), images, rtol=1e-5, atol=4 * atol
    )


def test_linear_scaling_is_global_and_keeps_flux_ratios():
    images = np.zeros((2, 1, 3, 3))
    images[0, 0, 1, 1], images[1, 0, 1, 1] = 100, 400
    scaled = ImageScaler().fit(images).transform(images)
    np.testing.assert_allclose(scaled.max(axis=(1, 2, 3)), [0.25, 1])


def test_each_channel_has_its_own_range():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(5, 2, 4, 4)) * np.array([1, 1000])[:, None, None]
    scaled = ImageScaler().fit(images).transform(images)
    np.testing.assert_allclose(scaled.min(axis=(0, 2, 3)), 0, atol=1e-7)
    np.testing.assert_allclose(scaled.max(axis=(0, 2, 3)), 1)


def test_asinh_is_linear_in_the_noise_and_logarithmic_beyond():
    rng = np.random.default_rng(0)
    images = 50 + rng.normal(scale=2.0, size=(20, 1, 32, 32))
    images[:, :, 16, 16] += 1e5
    scaler = ImageScaler("asinh").fit(images)
    assert scaler.background_.item() == pytest.approx(50, abs=0.1)
    assert scaler.softening_.item() == pytest.approx(10 * 2.0, rel=0.03)

    def stretched(pixel):
        scaled = scaler.transform(np.full((1, 1, 1, 1), pixel, dtype=float))
        return (scaled * scaler.range_ + scaler.minimum_).item()

    slope = (stretched(50.5) - stretched(49.5)) * scaler.softening_.item()
    assert slope == pytest.approx(1, rel=0.02)
    assert stretched(2e5) - stretched(1e5) == pytest.approx(np.log(2), rel=1e-3)


def test_softening_is_used_as_given():
    images = np.random.default_rng(0).normal(size=(5, 1, 8, 8))
    scaler = ImageScaler("asinh", softening=0.25).fit(images)
    assert scaler.softening_.item() == 0.25
    default = ImageScaler("asinh").fit(images)
    assert not np.allclose(scaler.transform(images), default.transform(images))


def test_noise_level_of_galaxies_is_that_of_the_sky():
    X, _ = make_galaxies(
        30, sky_level=16.0, gain=2.0, read_noise=3.0, flux=500.0, random_state=0
    )
    expected = (16 / 2 + (3 / 2) ** 2) ** 0.5
    assert noise_level(X.reshape(-1, 64, 64)) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (np.zeros((3, 4, 4)), 1.0),
        (np.full((3, 4, 4), 0.1), 1.0),
        (np.array([[[1.0]], [[3.0]]]), 1.0),
        (np.eye(40)[None], np.eye(40).std()),
    ],
)
def test_noise_level_falls_back_without_differences(images, expected):
    assert noise_level(images) == pytest.approx(expected)


@pytest.mark.parametrize("stretch", STRETCHES)
def test_constant_images_become_zero(stretch):
    images = np.full((3, 1, 4, 4), 7.0)
    scaler = ImageScaler(stretch).fit(images)
    np.testing.assert_array_equal(scaler.transform(images), 0)
    np.testing.assert_allclose(scaler.inverse_transform(np.zeros((1, 1, 4, 4))), 7.0)


def test_rounding_is_not_taken_for_noise():
    pixels = np.zeros((1, 1, 6), np.float32)
    pixels[0, 0, :2] = 21, 1.2e-38
    assert noise_level(pixels) == pytest.approx(pixels.std(), rel=1e-6)
    ImageScaler("asinh").fit(pixels[None])


def test_noise_is_taken_from_a_part_of_many_images(monkeypatch):
    images = np.random.default_rng(0).normal(50, 2, size=(400, 1, 16, 16))
    images[1::2] *= 3
    whole = ImageScaler("asinh").fit(images)
    monkeypatch.setattr("sklcae._scaling.SAMPLE_PIXELS", images.size // 8)
    # Every eighth image: the odd ones, three times as noisy, are left out.
    part = ImageScaler("asinh").fit(images)
    assert part.softening_.item() == pytest.approx(10 * 2, rel=0.03)
    assert whole.softening_.item() > 1.2 * part.softening_.item()
    assert part.minimum_ == part._stretch(images.min())


def test_channel_of_which_the_part_has_no_pixel_is_still_scaled(monkeypatch):
    images = np.random.default_rng(0).normal(size=(10, 2, 4, 4))
    images[:9, 1] = np.nan
    monkeypatch.setattr("sklcae._scaling.SAMPLE_PIXELS", 16)
    scaler = ImageScaler("asinh").fit(images)
    assert np.isfinite(scaler.softening_).all()
    assert np.isfinite(scaler.transform(images[9:])).all()


@given(images=image_arrays, stretch=st.sampled_from(sorted(STRETCHES)))
def test_rows_are_the_images_to_learn_from(images, stretch):
    rows = np.arange(len(images))[::-2]
    some = ImageScaler(stretch).fit(images, rows)
    alone = ImageScaler(stretch).fit(images[rows])
    for name in ("sky_", "noise_", "background_", "softening_", "minimum_", "range_"):
        np.testing.assert_array_equal(getattr(some, name), getattr(alone, name))


@pytest.mark.parametrize("stretch", sorted(STRETCHES))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_noise_of_each_channel_is_kept(stretch, dtype):
    rng = np.random.default_rng(0)
    level = np.array([2.0, 30.0])[:, None, None]
    images = (rng.normal(size=(50, 2, 20, 20)) * level).astype(dtype)
    images[:, :, 5, 5] = np.nan
    scaler = ImageScaler(stretch).fit(images)
    assert scaler.noise_.shape == (2, 1, 1)
    assert scaler.noise_.dtype == dtype
    np.testing.assert_allclose(scaler.noise_, level, rtol=0.03)
    if stretch == "asinh":
        np.testing.assert_allclose(scaler.softening_, 10 * scaler.noise_)


def test_noise_is_not_that_of_the_softening():
    images = np.random.default_rng(0).normal(size=(50, 1, 20, 20))
    scaler = ImageScaler("asinh", softening=7.0).fit(images)
    assert scaler.softening_.item() == 7
    assert scaler.noise_.item() == pytest.approx(1, rel=0.03)


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_noise_level_is_in_the_unit_of_the_images(unit):
    images = np.random.default_rng(0).normal(size=(50, 20, 20)).astype(np.float32)
    expected = noise_level(images) * unit
    assert noise_level(images * np.float32(unit)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stretch", sorted(STRETCHES))
def test_sky_is_the_median_of_each_channel(stretch):
    images = np.random.default_rng(0).normal(size=(40, 2, 6, 7)).astype(np.float32)
    images[:, 1] += 30
    images[:4, :, 2] += 500
    images[0, 0, 0, 0] = np.nan
    scaler = ImageScaler(stretch).fit(images)
    for channel in range(2):
        expected = np.nanmedian(images[:, channel])
        assert scaler.sky_[channel, 0, 0] == pytest.approx(expected)
    assert scaler.sky_.dtype == np.float32
    np.testing.assert_array_equal(
        scaler.background_, scaler.sky_ if stretch == "asinh" else 0
    )


@pytest.mark.parametrize("stretch", sorted(STRETCHES))
def test_noise_of_the_faintest_images_is_not_zero(stretch):
    images = np.array([0, 1e-45], dtype=np.float32).reshape(1, 1, 1, 2)
    scaler = ImageScaler(stretch).fit(images)
    assert scaler.noise_ > 0
    assert scaler.transform(images).ravel().tolist() == [0, 1]


def test_sky_of_the_brightest_images_does_not_overflow():
    images = np.array([2e38, 2.5e38, 3e38, 3.3e38], dtype=np.float32)
    sky = ImageScaler().fit(images.reshape(1, 1, 2, 2)).sky_
    assert sky.item() == pytest.approx(2.75e38)


# Images with pixels far beyond those of the others -----------------------------------


def stamps(n_samples, random_state=0, **settings):
    X, y = make_galaxies(n_samples, random_state=random_state, **settings)
    side = int(X.shape[1] ** 0.5)
    return X.reshape(-1, 1, side, side), y


BAD_PIXELS = [1e6, -1e6, 65_535.0, 1e5, -9999.0, -999.0, -99.0]


@pytest.mark.parametrize("stretch", sorted(STRETCHES))
@pytest.mark.parametrize("value", BAD_PIXELS)
def test_robust_limits_are_those_without_the_bad_pixel(stretch, value):
    images, _ = stamps(60, image_shape=(16, 16), pixel_scale=0.4)
    bad = images.copy()
    bad[7, 0, 3, 4] = value
    clean = ImageScaler(stretch).fit(np.delete(images, 7, axis=0))
    robust = ImageScaler(stretch, limits="robust").fit(bad)
    for name in ("minimum_", "range_"):
        np.testing.assert_allclose(
            getattr(robust, name), getattr(clean, name), rtol=0.02, atol=1e-3
        )
    assert np.flatnonzero(~robust.is_usual(bad)).tolist() == [7]
    assert robust.transform(bad)[7].max() < 5
    assert robust.transform(bad)[7].min() > -1


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"image_shape": (16, 16), "pixel_scale": 0.4},
        {"noise": False, "image_shape": (32, 32)},
        {"flux": 20_000.0, "half_light_radius": 1.0, "image_shape": (32, 32)},
        {"sky_level": 4000.0, "image_shape": (32, 32)},
    ],
)
@pytest.mark.parametrize("n_samples", [2, 40, 150])
def test_clean_stamps_are_within_the_fences(settings, n_samples):
    images, _ = stamps(n_samples, **settings)
    robust, plain = (ImageScaler("asinh", limits=e).fit(images) for e in LIMITS[::-1])
    assert robust.is_usual(images).all()
    np.testing.assert_array_equal(robust.transform(images), plain.transform(images))


@given(images=image_arrays, limits=st.sampled_from(LIMITS))
def test_fences_are_finite_and_in_order(images, limits):
    scaler = ImageScaler(limits=limits).fit(np.tile(images, (30, 1, 1, 1)))
    assert np.isfinite([scaler.lower_fence_, scaler.upper_fence_]).all()
    assert (scaler.lower_fence_ <= scaler.upper_fence_).all()
    assert np.isfinite(scaler.transform(images)).all()


def test_fences_survive_a_share_of_bad_images():
    images, _ = stamps(200, image_shape=(16, 16), pixel_scale=0.4)
    images = images.copy()
    bad = np.arange(0, 200, 10)
    images[bad, 0, 3, 4] = 1e6
    scaler = ImageScaler("asinh", limits="robust").fit(images)
    np.testing.assert_array_equal(np.flatnonzero(~scaler.is_usual(images)), bad)


@pytest.mark.parametrize("value", BAD_PIXELS)
def test_fit_says_that_one_pixel_sets_the_range(value):
    images, y = stamps(60, image_shape=(16, 16), pixel_scale=0.4)
    images = images.copy()
    images[7, 0, 3, 4] = value
    with pytest.warns(UserWarning, match=r"1 of 60 images .* row 7 .*limits='robust'"):
        plain = quick().fit(images, y)
    assert plain.image_scaler_.range_ > 99
    rows = np.arange(60) != 7
    with pytest.warns(UserWarning, match=r"row 7 .* They are left out of the training"):
        robust = quick(limits="robust").fit(images, y)
    expected = quick(limits="robust").fit(images[rows], y[rows])
    np.testing.assert_allclose(
        robust.history_["reconstruction_loss"],
        expected.history_["reconstruction_loss"],
        rtol=1e-3,
    )
    assert robust.is_outside(images).nonzero()[0].tolist() == [7]


def test_an_unusual_image_that_is_held_out_is_noticed():
    images, y = stamps(60, image_shape=(16, 16), pixel_scale=0.4)
    images = images.copy()
    settings = {"early_stopping": True, "max_epochs": 2, "validation_fraction": 0.4}
    for row in range(4):
        bad = images.copy()
        bad[row, 0, 3, 4] = 1e6
        with pytest.warns(UserWarning, match="left out of the training"):
            model = quick(limits="robust", **settings).fit(bad, y)
        assert np.isfinite(model.history_["validation_loss"]).all()
        assert max(model.history_["validation_loss"]) < 10
