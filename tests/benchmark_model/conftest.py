"""The tiny model of the conversions."""

from tests.export.conftest import base

__all__ = ["base"]
