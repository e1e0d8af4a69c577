"""Labels of stamps, compared with profile fits of the same stamps."""

import numpy as np

from sklcae._profiles import kind_of
from sklcae._warning import warn_user

# So many stamps are compared, and this many at least. Their median flux and radius must
# be within this factor of those of y.
N_COMPARED, FEWEST_COMPARED = 64, 5
LARGEST_FACTOR = 1.5
# Fits contradict y if they differ from it by more than so many errors, and by more than
# this share of their difference from the y of other stamps.
MOST_ERRORS, LARGEST_SHARE = 3.0, 0.7


def some_of(rows):
    """Return at most `N_COMPARED` of some rows, evenly spaced."""
    return rows[np.linspace(0, len(rows) - 1, min(N_COMPARED, len(rows))).astype(int)]


def compare_with_fits(fitter, images, rows, y):
    """Warn if fits of some of these rows contradict the labels y (n, n_targets)."""
    if len(rows) < FEWEST_COMPARED:
        return
    rows = some_of(rows)
    images = fitter.without_cosmic_rays(images.take(rows))
    labels = fitter.start_from(y[rows])
    measured = fitter.fit(images, labels)
    fitted, errors = measured.parameters, measured.errors[:, : labels.shape[1]]
    known = measured.converged[:, None] & np.isfinite(labels - fitted) & (errors > 0)
    contradicted = []
    for column, name in enumerate(fitter.profile.names):
        some = known[:, column], column
        if some[0].sum() < FEWEST_COMPARED or _has_other_unit(
            name, fitted[some] - labels[some], fitter.pixel_scale
        ):
            continue
        n_errors = _contradiction(fitted[some], labels[some], errors[some])
        if n_errors is not None:
            contradicted.append(f"{name!r} ({n_errors:.3g})")
    if contradicted:
        warn_user(
            f"Profile fits of {len(rows)} stamps contradict y. They differ from it by "
            f"more than {MOST_ERRORS:g} of their errors in the median, and about as "
            f"much as from the y of other stamps, for {', '.join(contradicted)}. Check "
            "that rows of X and y belong together, and the signs and origins of y."
        )


def _has_other_unit(name, differences, pixel_scale):
    """Return whether fluxes or radii differ from y by a factor, with a warning."""
    factor = np.exp(np.median(differences))
    has_unit = kind_of(name) in ("flux", "half_light_radius")
    if not has_unit or 1 / LARGEST_FACTOR < factor < LARGEST_FACTOR:
        return False
    warn_user(
        f"The fitted {name!r} is {factor:.3g} times that of y, the median of "
        f"{len(differences)} stamps. Check pixel_scale ({pixel_scale:g}), the PSF, the "
        "background of the stamps and the unit of y."
    )
    return True


def _contradiction(fitted, labels, errors):
    """Return by how many errors fits (n,) differ from labels, None if they agree."""
    off, spread = abs(fitted - labels), abs(labels - np.median(labels))
    from_others = np.median(abs(fitted[:, None] - labels))
    n_errors = np.median(off / errors)
    # Labels that hardly differ may be in any order.
    differ = min(n_errors, np.median(spread / errors)) > MOST_ERRORS
    wrong = differ and np.median(off) > LARGEST_SHARE * from_others
    return n_errors if wrong else None
