"""What an agent wants, compiled to matrices: programs, solvers, devices, communities."""

from subproblems.builder import Builder, previous
from subproblems.qp_agent import QPAgent
from subproblems.quadratic_program import QuadraticProgram

__all__ = ["Builder", "QPAgent", "QuadraticProgram", "previous"]
