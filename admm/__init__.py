"""The coordination engine: agents, couplings, penalties. It knows nothing of energy."""

from admm.couplings import Coupling, Quantity
from admm.engine import solve
from admm.errors import AgentError, InfeasibleError, InputError, OutputError, SolverError, TielineError, TransportError
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
