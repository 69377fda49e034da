"""The grids and their operators: feeders, transmission grids, and what their operators want."""
