"""Schemes that remember the agents' answers: certificates, and lead operators that optimise over what they know."""

from admm.memory.joint import Columns, Cuts, Joint, JointAnswer, JointQuestion, Lead

__all__ = ["Columns", "Cuts", "Joint", "JointAnswer", "JointQuestion", "Lead"]
