"""Jinja for a connector's own settings, out of harm's way, as the settings of the house have it."""

from __future__ import annotations

from syncd.templates import Sandbox

__all__ = ["Sandbox"]
