"""How exact a test may ask a number to be, by where the number comes from."""

EXACT = 1e-9
"""Arithmetic only: the same formula in another order."""
SOLVER = 1e-6
"""Relative difference of two interior-point optima of one problem."""
FLOW_PU = 5e-5
"""Per-unit voltage of a corrected linear flow against an AC power flow."""
LOSS_SHARE = 1e-3
"""Losses of a period against an AC power flow, as a share."""
OF_TURNOVER = 1e-4
"""Objective of a run against the optimum, as a share of the boundary turnover."""
VIOLATION_PU = 1e-5
"""Violation of an agent's own rows, per unit of their scale."""
PRESSURE_BAR = 1e-3
"""Pressure of a gas network against pandapipes."""
NONLINEAR_SHARE = 1e-5
"""Of the cost, against a nonlinear optimum by another solver: both find local optima."""
