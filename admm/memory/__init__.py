"""The scheme "memory": a lead operator remembers the agents' answers and proves how good the best of them are."""

from admm.memory.joint import Joint, JointAnswer, JointQuestion, Lead
from admm.memory.scheme import Memory

__all__ = ["Joint", "JointAnswer", "JointQuestion", "Lead", "Memory"]
