"""The errors that Tieline raises on purpose; the command line turns each into its exit code."""


class TielineError(Exception):
    """Base of every error that Tieline raises on purpose.

    said_elsewhere: every rank raises an error that ends a run; it is set on all but the one that says so.
    """

    exit_code = 1
    said_elsewhere = False


class InputError(TielineError, ValueError):
    """The input is wrong: the message names where, what was expected and what to try."""

    exit_code = 2


class InfeasibleError(TielineError):
    """An agent has no feasible answer: the message names it and the constraints in conflict."""

    exit_code = 4


class SolverError(TielineError):
    """An agent's solver failed for a reason other than infeasibility."""

    exit_code = 1


class TransportError(TielineError):
    """An answer did not come, came late, or was malformed."""

    exit_code = 75
