"""The coordination engine: agents, couplings, penalties. It knows nothing of energy.

What is public is imported when it is first asked for: the command line hears signals before numpy is loaded.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from admm.couplings import Coupling, Quantity
    from admm.engine import solve
    from admm.errors import (
        AgentError,
        InfeasibleError,
        InputError,
        OutputError,
        SolverError,
        TielineError,
        TransportError,
    )
    from admm.initial import WarmStart, warm_start
    from admm.interfaces import Agent, AgentBoundary, Answer, AnswerStatus, Question, Transport
    from admm.penalty import Adaptive, Classical, Observation, PenaltyPolicy
    from admm.state import Progress, Result, Settings, Status
    from admm.transport import InProcessTransport

__version__ = "0.1.0"

__all__ = [
    "Adaptive",
    "Agent",
    "AgentBoundary",
    "AgentError",
    "Answer",
    "AnswerStatus",
    "Classical",
    "Coupling",
    "InProcessTransport",
    "InfeasibleError",
    "InputError",
    "Observation",
    "OutputError",
    "PenaltyPolicy",
    "Progress",
    "Quantity",
    "Question",
    "Result",
    "Settings",
    "SolverError",
    "Status",
    "TielineError",
    "Transport",
    "TransportError",
    "WarmStart",
    "solve",
    "warm_start",
]

_MODULES = {
    "admm.couplings": "Coupling Quantity",
    "admm.engine": "solve",
    "admm.errors": "AgentError InfeasibleError InputError OutputError SolverError TielineError TransportError",
    "admm.initial": "WarmStart warm_start",
    "admm.interfaces": "Agent AgentBoundary Answer AnswerStatus Question Transport",
    "admm.penalty": "Adaptive Classical Observation PenaltyPolicy",
    "admm.state": "Progress Result Settings Status",
    "admm.transport": "InProcessTransport",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """A public name, or a module of this package."""
    if name in _HOME:
        found = getattr(import_module(_HOME[name]), name)
        globals()[name] = found
        return found
    if not name.startswith("_") and find_spec(f"admm.{name}") is not None:
        return import_module(f"admm.{name}")
    raise AttributeError(f"module 'admm' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
