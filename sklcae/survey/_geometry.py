"""The sky at the stamps: scales and angles of pixels, and results on the sky."""

from typing import NamedTuple

import numpy as np

from sklcae._profiles import CORNER, kind_of

# Pixels that are longer on one side by more than this have no one scale.
LARGEST_ANISOTROPY = 0.02
# Galaxies on larger pixels, in arcsec, are not resolved.
LARGEST_SCALE = 10.0
ARCSEC = np.deg2rad(1) / 3600


class LocalFrames(NamedTuple):
    """The sky around some places of an image, arrays (n,).

    Parameters
    ----------
    pixel_scale : ndarray
        Side of a pixel in arcsec, the square root of its area.
    position_angle : ndarray
        Angle of the y axis in degrees, from north through east.
    parity : ndarray of int
        1 where east is left if north is up, as on the sky; -1 in a mirror image.
    anisotropy : ndarray
        By how much the longest scale exceeds the shortest one, as a share.
    """

    pixel_scale: np.ndarray
    position_angle: np.ndarray
    parity: np.ndarray
    anisotropy: np.ndarray

    @classmethod
    def of_wcs(cls, wcs, x, y):
        """Return the frames at places in pixels from the centre of the first one."""
        return cls.of_jacobians(sky_jacobians(wcs, x, y))

    @classmethod
    def of_jacobians(cls, jacobians):
        """Return the frames of derivatives (n, 2, 2), see `sky_jacobians`."""
        (east_x, east_y), (north_x, north_y) = np.moveaxis(jacobians, 0, -1)
        determinant = east_x * north_y - east_y * north_x
        # East is at smaller x on the sky.
        parity = np.where(determinant < 0, 1, -1)
        # The turn that is nearest to the derivatives.
        angle = np.arctan2(east_y + parity * north_x, north_y - parity * east_x)
        longest, shortest = np.linalg.svd(jacobians, compute_uv=False).T
        return cls(
            np.sqrt(abs(determinant)),
            np.rad2deg(angle) % 360,
            parity,
            longest / shortest - 1,
        )

    def take(self, rows):
        """Return the frames of some rows."""
        return LocalFrames(*(values[rows] for values in self))


def sky_jacobians(wcs, x, y):
    """Return the derivatives (n, 2, 2) of the sky, in arcsec for a pixel.

    The rows are the directions to the east and to the north, the columns x and y.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    ra, dec = map(np.deg2rad, sky_of_pixels(wcs, x, y))
    zero = np.zeros_like(ra)
    east = np.stack([-np.sin(ra), np.cos(ra), zero], axis=-1)
    north = np.stack(
        [-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], axis=-1
    )
    steps = [
        _directions(wcs, x + dx, y + dy) - _directions(wcs, x - dx, y - dy)
        for dx, dy in ((0.5, 0), (0, 0.5))
    ]
    columns = [
        [np.einsum("ni,ni->n", axis, step) / ARCSEC for step in steps]
        for axis in (east, north)
    ]
    return np.moveaxis(np.array(columns), 2, 0)


def _directions(wcs, x, y):
    """Return unit vectors (n, 3) of places, in ICRS."""
    ra, dec = map(np.deg2rad, sky_of_pixels(wcs, x, y))
    return np.stack(
        [np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1
    )


def sky_of_pixels(wcs, x, y):
    """Return right ascension and declination in degrees, in ICRS."""
    places = wcs.pixel_to_world(x, y).icrs
    return places.ra.deg, places.dec.deg


def to_sky(results, frames, origin, wcs, pixel_scale):
    """Return results of stamps as they are on the sky, a dict of columns.

    ``results`` has columns by name, ``origin`` (n, 2) is the first pixel of each stamp
    and ``pixel_scale`` the side of a pixel in the unit of the radii.
    """
    results = {name: np.asarray(results[name]) for name in _names_of(results)}
    for first, second in (("e1", "e2"), ("x0", "y0")):
        if (first in results) != (second in results):
            raise ValueError(
                f"results must have both of {first!r} and {second!r} or none. Got "
                f"{list(results)}."
            )
    turned = _ellipticities(results, frames) if "e1" in results else {}
    sky = {}
    for name, values in results.items():
        kind = kind_of(name.removesuffix("_err"))
        if name in ("x0", "y0"):
            sky[name[0]] = values - CORNER + origin[:, "xy".index(name[0])]
        elif kind in ("x0", "y0"):
            sky[f"{kind[0]}_err"] = values
        elif kind == "half_light_radius":
            sky[name] = values * frames.pixel_scale / pixel_scale
        elif name == "position_angle":
            # 90 degrees from +x is the y axis.
            angle = frames.position_angle + frames.parity * (values - 90)
            sky[name] = angle % 180
        else:
            sky[name] = turned.get(name, values)
    if "x" in sky:
        known = np.isfinite(sky["x"]) & np.isfinite(sky["y"])
        sky["ra"], sky["dec"] = np.full((2, len(known)), np.nan)
        places = sky_of_pixels(wcs, sky["x"][known], sky["y"][known])
        sky["ra"][known], sky["dec"][known] = places
    return sky


def _names_of(results):
    """Return the names of the columns of a table."""
    names = getattr(results, "colnames", getattr(results, "columns", None))
    return list(results) if names is None else list(names)


def _ellipticities(results, frames):
    """Return e1 and e2 on the sky, and their errors and covariance if given.

    Twice the position angle is that of the y axis, plus or minus that in pixels, plus
    half a turn.
    """
    turn, parity = np.deg2rad(2 * frames.position_angle), frames.parity
    cos, sin = np.cos(turn), parity * np.sin(turn)
    e1, e2 = results["e1"], results["e2"]
    turned = {
        "e1": -(cos * e1 - sin * e2),
        "e2": -(parity * sin * e1 + parity * cos * e2),
    }
    if "e1_err" in results and "e2_err" in results:
        of_e1, of_e2 = results["e1_err"] ** 2, results["e2_err"] ** 2
        both = np.asarray(results.get("e1_e2_cov", 0.0))
        shared = 2 * cos * sin * both
        for name, variance in (
            ("e1_err", cos**2 * of_e1 + sin**2 * of_e2 - shared),
            ("e2_err", sin**2 * of_e1 + cos**2 * of_e2 + shared),
        ):
            turned[name] = np.sqrt(np.maximum(variance, 0))
        if "e1_e2_cov" in results:
            turned["e1_e2_cov"] = parity * (
                cos * sin * (of_e1 - of_e2) + (cos**2 - sin**2) * both
            )
    return turned
