"""How exact a test may ask a number to be, by where the number comes from."""

EXACT = 1e-9
"""Arithmetic only: the same formula in another order."""
SOLVER = 1e-6
"""Relative difference of two interior-point optima of one problem."""
FLOW_PU = 5e-5
"""Per-unit voltage of a corrected linear flow against an AC power flow."""
