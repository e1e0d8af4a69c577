"""Images decoded while single latents vary."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import FunctionTransformer

from sklcae.inspection import LatentSweepDisplay
from sklcae.metrics import half_light_radius, sweep_slopes, total_flux


@pytest.fixture
def stamp(galaxies):
    return galaxies[0][[3]]


def test_one_latent_varies_and_the_others_are_constant(model, stamp):
    display = LatentSweepDisplay.from_estimator(
        model, stamp, span=(-1.5, 1.5), n_steps=5
    )
    base = model.transform(stamp)[0]
    np.testing.assert_array_equal(display.base_latent, base)
    np.testing.assert_allclose(display.values, [np.linspace(-1.5, 1.5, 5)] * 2)
    for row in range(2):
        for step in range(5):
            z = base.copy()
            z[row] = display.values[row, step]
            np.testing.assert_allclose(
                display.images[row, step], model.inverse_transform(z[np.newaxis])[0]
            )


def test_measurements_follow_the_requested_values(model, stamp):
    display = LatentSweepDisplay.from_estimator(model, stamp, pixel_scale=0.2)
    flux_slopes = sweep_slopes(display.target_values, display.flux)
    size_slopes = sweep_slopes(display.target_values, display.half_light_radius)
    np.testing.assert_allclose(flux_slopes, [1, 0], atol=0.02)
    np.testing.assert_allclose(size_slopes, [0, 1], atol=0.05)
    np.testing.assert_allclose(display.flux[0], total_flux(display.images[0]))
    expected = half_light_radius(display.images[1], pixel_scale=0.2)
    np.testing.assert_allclose(display.half_light_radius[1], expected)


def test_default_values_stay_within_the_range_of_the_training_set(galaxies, model):
    images, y = galaxies
    # With one bright galaxy, 1.5 standard deviations below the mean is below the
    # faintest.
    y[:, 0] = [*np.linspace(1000, 1100, len(y) - 1), 9000]
    model.fit(images, y)
    latents = ["flux", "z_rest0"]
    display = LatentSweepDisplay.from_estimator(model, images[[3]], latents=latents)
    assert display.target_values[0, 0] == pytest.approx(1000)
    flux = model.target_scaler_
    assert display.target_values[0, -1] == pytest.approx(
        flux.mean_[0] + 1.5 * flux.scale_[0]
    )
    np.testing.assert_allclose(display.values[1], np.linspace(-1.5, 1.5, 7))


def test_span_may_leave_the_range_of_the_training_set(model, stamp):
    display = LatentSweepDisplay.from_estimator(
        model, stamp, latents="flux", span=(-1, 5), n_steps=3
    )
    np.testing.assert_allclose(display.values, [[-1, 2, 5]])
    assert display.target_values[0, -1] > model.target_range_[1, 0]


def test_target_values_set_the_latents(model, stamp):
    wanted = [[200.0, 400.0], [1.7, 2.1]]
    display = LatentSweepDisplay.from_estimator(model, stamp, target_values=wanted)
    np.testing.assert_allclose(display.target_values, wanted)
    np.testing.assert_allclose(
        display.values[1], model.target_scaler_.transform([[0, 1.7], [0, 2.1]])[:, 1]
    )
    np.testing.assert_allclose(display.flux[0], wanted[0], rtol=1e-3)


def test_target_values_of_logarithmic_targets(model, stamp):
    model.target_scaler_ = FunctionTransformer(np.log, np.exp)
    display = LatentSweepDisplay.from_estimator(
        model, stamp, latents=0, target_values=[200.0, 400.0]
    )
    np.testing.assert_allclose(display.values, np.log([[200.0, 400.0]]))
    np.testing.assert_allclose(display.flux, [[200.0, 400.0]], rtol=1e-3)
    display = LatentSweepDisplay.from_estimator(model, stamp, values=np.log([5.0, 6.0]))
    np.testing.assert_allclose(display.target_values, [[5.0, 6.0]] * 2)


def test_a_row_has_one_colour_scale(model, stamp):
    display = LatentSweepDisplay.from_estimator(model, stamp, n_steps=3)
    assert display.axes_.shape == (2, 3)
    assert display.figure_ is display.axes_[0, 0].figure
    for row in range(2):
        images, color_bar = display.images[row], display.color_bars_[row]
        for ax, image in zip(display.axes_[row], images, strict=True):
            np.testing.assert_array_equal(ax.images[0].get_array(), image)
            assert ax.images[0].get_clim() == (images.min(), images.max())
        ends = color_bar.vmin, color_bar.vmax
        np.testing.assert_allclose(ends, (images.min(), images.max()))
        assert color_bar.extend == "neither"
        assert color_bar.ax.get_ylabel() == "ADU per pixel"
        assert 2 <= len(color_bar.get_ticks()) <= 6


def test_pixels_far_below_the_sky_do_not_make_the_sky_gray(model, stamp):
    plain = LatentSweepDisplay.from_estimator(model, stamp, n_steps=2)
    images = plain.images.copy()
    images[:, 0, 0, 0] = -images.max()
    display = LatentSweepDisplay.from_arrays(images, plain.values)
    low, high = display.axes_[0, 1].images[0].get_clim()
    assert high == images[0].max()
    assert low == pytest.approx(-0.02 * high)
    assert display.color_bars_[0].extend == "min"


def test_texts(model, stamp):
    display = LatentSweepDisplay.from_estimator(
        model, stamp, latents=["flux", "z_rest0"], values=[-1, 0.25]
    )
    assert [row[0].get_ylabel() for row in display.axes_] == ["flux\n[ADU]", "z_rest0"]
    assert [ax.get_title() for ax in display.axes_[0]] == [
        f"{flux:.0f}" for flux in display.target_values[0]
    ]
    assert [ax.get_title() for ax in display.axes_[1]] == ["-1.00", "0.25"]
    label = display.axes_[1, 0].get_xlabel()
    radius = display.half_light_radius[1, 0]
    assert label == f"F = {display.flux[1, 0]:.3g} ADU\nR = {radius:.3g} pixel"
    display.plot(show_measurements=False)
    assert display.axes_[1, 0].get_xlabel() == ""


def test_radius_in_arcsec(model, stamp):
    display = LatentSweepDisplay.from_estimator(model, stamp, pixel_scale=0.2)
    assert display.axes_[0, 0].get_xlabel().endswith("arcsec")


def test_targets_without_names(model, stamp, monkeypatch):
    names = np.array(["z_phy0", "z_phy1", "z_rest0"], dtype=object)
    monkeypatch.setattr(type(model), "get_feature_names_out", lambda self: names)
    display = LatentSweepDisplay.from_estimator(model, stamp, latents=[1, 2])
    assert display.feature_names == ["target 1", "z_rest0"]


def test_values_of_arrays_are_the_titles():
    display = LatentSweepDisplay.from_arrays(
        np.ones((1, 2, 5, 5)), [5000.0, 10_000.0], feature_names=["flux"]
    )
    assert [ax.get_title() for ax in display.axes_[0]] == ["5,000", "10,000"]


@pytest.mark.parametrize(
    ("latents", "names"),
    [
        (None, ["flux", "sigma"]),
        ("sigma", ["sigma"]),
        (0, ["flux"]),
        ([2, "flux"], ["z_rest0", "flux"]),
        (np.array([1]), ["sigma"]),
    ],
)
def test_latents_by_column_or_name(model, stamp, latents, names):
    display = LatentSweepDisplay.from_estimator(
        model, stamp, latents=latents, n_steps=2
    )
    assert display.feature_names == names
    assert display.images.shape[:2] == (len(names), 2)


def test_values_for_each_latent(model, stamp):
    values = [[-1.0, 0.0, 1.0], [0.0, 0.5, 0.6]]
    display = LatentSweepDisplay.from_estimator(model, stamp, values=values)
    np.testing.assert_array_equal(display.values, values)
    display = LatentSweepDisplay.from_estimator(model, stamp, span=(0, 1), n_steps=3)
    np.testing.assert_array_equal(display.values, [[0, 0.5, 1]] * 2)


@pytest.mark.parametrize("shape", [(1, -1), (1, 20, 24), (1, 1, 20, 24)])
def test_all_layouts_give_the_same(galaxies, model, stamp, shape):
    expected = LatentSweepDisplay.from_estimator(model, stamp, n_steps=2)
    images, y = galaxies
    fitted = clone(model).fit(images.reshape(len(images), *shape[1:]), y)
    display = LatentSweepDisplay.from_estimator(fitted, stamp.reshape(shape), n_steps=2)
    np.testing.assert_array_equal(display.images, expected.images)


def test_background_is_left_out_of_the_measurements_only(model, stamp):
    plain = LatentSweepDisplay.from_estimator(model, stamp, n_steps=2)
    display = LatentSweepDisplay.from_arrays(
        plain.images + 0.5, plain.values, background=0.5
    )
    np.testing.assert_allclose(display.flux, plain.flux)
    np.testing.assert_allclose(display.half_light_radius, plain.half_light_radius)
    np.testing.assert_array_equal(display.images, plain.images + 0.5)
    assert display.feature_names == ["z_phy0", "z_phy1"]


def test_dark_images_have_no_radius():
    display = LatentSweepDisplay.from_arrays(np.zeros((1, 2, 5, 5)), [0.0, 1.0])
    assert np.isnan(display.half_light_radius).all()
    display.figure_.canvas.draw()


def test_given_axes_and_keywords_are_used(model, stamp):
    figure, axes = plt.subplots(2, 2)
    display = LatentSweepDisplay.from_estimator(
        model,
        stamp,
        n_steps=2,
        ax=axes,
        stretch="linear",
        im_kwargs={"cmap": "magma"},
    )
    assert display.figure_ is figure
    assert display.axes_.tolist() == axes.tolist()
    image = axes[1, 1].images[0]
    assert image.get_cmap().name == "magma"
    assert type(image.norm).__name__ == "Normalize"


def test_default_stretch_shows_faint_galaxies(model, stamp):
    display = LatentSweepDisplay.from_estimator(model, stamp, n_steps=2)
    assert type(display.axes_[0, 0].images[0].norm).__name__ == "AsinhNorm"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latents": 3}, "latents must hold integers from 0 to 2 or names.*got 3"),
        ({"latents": [-1]}, "latents must hold integers from 0 to 2.*got -1"),
        ({"latents": "size"}, "latents must hold .*got 'size'"),
        ({"latents": []}, "latents must hold at least one"),
        ({"n_steps": 0}, "n_steps must be a positive integer, got 0"),
        ({"span": (0, 1, 2)}, r"span must hold two numbers, got \(0, 1, 2\)"),
        ({"values": [[0, 1]] * 3}, "values must have one row .* or 2 rows.*got 3"),
        ({"values": [0, np.nan]}, "values contains NaN"),
        ({"target_values": [0, np.nan]}, "target_values contains NaN"),
        ({"target_values": [[1, 2]] * 3}, "target_values must have one row .*got 3"),
        ({"target_values": [1], "values": [1]}, "values must be None if target_values"),
        (
            {"target_values": [1], "latents": ["flux", 2]},
            r"target_values must be None .* columns from 2, got the columns \[0, 2\]",
        ),
        ({"channel": 1}, "channel must be an integer from 0 to 0"),
        ({"pixel_scale": -1}, "pixel_scale"),
        ({"background": "sky"}, "background must be .*got 'sky'"),
        ({"stretch": "log"}, "stretch must be"),
        ({"ax": [None] * 3}, "ax must be an array of 14 axes.*got 3"),
    ],
)
def test_bad_options(model, stamp, options, message):
    with pytest.raises(ValueError, match=message):
        LatentSweepDisplay.from_estimator(model, stamp, **options)


def test_several_stamps(model, galaxies):
    with pytest.raises(ValueError, match="X must hold one stamp, got 12"):
        LatentSweepDisplay.from_estimator(model, galaxies[0])


def test_bad_arrays():
    images = np.ones((2, 3, 5, 5))
    with pytest.raises(ValueError, match=r"values must have 3 steps.*got 2"):
        LatentSweepDisplay.from_arrays(images, [0.0, 1.0])
    with pytest.raises(ValueError, match="images must have the shape"):
        LatentSweepDisplay.from_arrays(images[0], [0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="feature_names must hold 2 names"):
        LatentSweepDisplay.from_arrays(images, [0.0, 1.0, 2.0], feature_names=["flux"])
    with pytest.raises(ValueError, match=r"target_values must have 3 steps.*got 2"):
        LatentSweepDisplay.from_arrays(
            images, [0.0, 1.0, 2.0], target_values=np.ones((2, 2))
        )


def test_unfitted_estimator(model, stamp):
    with pytest.raises(NotFittedError):
        LatentSweepDisplay.from_estimator(clone(model), stamp)
