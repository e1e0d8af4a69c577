"""Fitted attributes that are parts of another one."""

from operator import attrgetter


def part_of(path):
    """Return a property with a part of another attribute, such as "codec_.net".

    The docstring of the class describes it, since its own would replace that one.
    """
    return property(attrgetter(path), doc="")
