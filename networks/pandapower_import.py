"""Feeders and transmission grids from any pandapower network."""

from __future__ import annotations

from networks.pandapower_feeder import feeder_from_pandapower
from networks.pandapower_transmission import transmission_from_pandapower

__all__ = ["feeder_from_pandapower", "transmission_from_pandapower"]
