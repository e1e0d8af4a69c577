"""Stamps of surveys, as their files have them."""

from sklcae.survey._stamps import Stamps, open_stamps

__all__ = ["Stamps", "open_stamps"]
