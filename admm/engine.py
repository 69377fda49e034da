"""The loop: two-block Gauss-Seidel ADMM over a coupling graph, and nothing else.

for every coupling: lower value y, upper value z, price = multiplier of (y - z)
first side answers, second side answers, price <- price + penalty * (y - z)
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from admm import updates
from admm.couplings import Coupling, Layout
from admm.errors import InfeasibleError, InputError, SolverError
from admm.graph import Sides, given_name, split
from admm.interfaces import Agent, AgentBoundary, Answer, AnswerStatus, Question, Transport, check_answer_fits
from admm.penalty import Observation, PenaltyPolicy, policy_for, unit_penalty
from admm.relay import RelayAgent, check_is_agent
from admm.state import BoundaryResult, Progress, Result, Settings, State, Status, Timing
from admm.transport import InProcessTransport

ACCURACY_EVERY = 3
"""Iterations between updates of the accuracy that agents are asked for."""


def solve(
    agents: Mapping[str, Agent],
    couplings: Sequence[Coupling],
    settings: Settings | None = None,
    transport: Transport | None = None,
) -> Result | None:
    """Make the agents agree on their boundary values at least total cost.

    Over MPI every rank calls this with the agents that it owns; rank 0 gets the Result, the others
    None. Raises InputError (the problem is not well posed), InfeasibleError (an agent has no
    feasible answer), SolverError, TransportError.
    """
    settings, transport = settings or Settings(), transport or InProcessTransport()
    try:
        sides = split(couplings, relay_all=settings.relay_all)
        layout = Layout(sides.couplings)
        owned = _owned_agents(agents, layout, sides, transport)
    except Exception as error:
        transport.refuse(error)
        raise
    transport.start(owned, {name: _boundary_as_given(name, layout) for name in layout.agents})
    if transport.rank != 0:
        transport.serve()
        return None
    result = None
    try:
        result = _Run(layout, sides, settings, transport, owned).result()
        return result
    finally:
        transport.finish(has_result=result is not None)


def _boundary_as_given(name: str, layout: Layout) -> AgentBoundary:
    """An agent's boundary under the names of the couplings that the user gave, not of relayed halves."""
    boundary = layout.boundary(name)
    return replace(boundary, keys=tuple((given_name(c), quantity, periods) for c, quantity, periods in boundary.keys))


def _owned_agents(agents: Mapping[str, Agent], layout: Layout, sides: Sides, transport: Transport) -> dict[str, Agent]:
    """The agents of this rank, relays among them, each checked."""
    owned = dict(agents)
    for name, agent in owned.items():
        check_is_agent(name, agent)
        if name not in layout.agents:
            raise InputError(f"agent '{name}' is in no coupling: add one, or leave the agent out")
    if transport.rank == 0:
        owned.update({relay: RelayAgent() for relay in sides.relays})
    missing = [name for name in layout.agents if name not in owned]
    if transport.ranks == 1 and missing:
        raise InputError(f"couplings name the agent '{missing[0]}', which is not there; agents: {', '.join(agents)}")
    return owned


class _Run:
    """One run on the driving rank: what the loop carries from step to step."""

    def __init__(
        self, layout: Layout, sides: Sides, settings: Settings, transport: Transport, owned: Mapping[str, Agent]
    ) -> None:
        self.layout, self.sides, self.settings, self.transport, self.owned = layout, sides, settings, transport, owned
        self.policy: PenaltyPolicy = policy_for(settings.penalty)
        self.state = _initial_state(layout, settings, self.policy)
        self.second_entries = _entries_answered_by(sides.second, layout)
        self.answers: dict[str, Answer] = {}
        self.history: list[Progress] = []
        self.seconds = {"agents": 0.0, "operators": 0.0}
        self.solve_seconds = {name: 0.0 for name in layout.agents}
        self.began = time.perf_counter()
        self.settle = False
        self.complete = self.state.copy()

    def result(self) -> Result:
        status = Status.RUNNING
        try:
            while status is Status.RUNNING:
                status = self.iterate()
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
            if len(self.history) < self.state.iteration:
                self.state = self.complete
        return self.package(status)

    def iterate(self) -> Status:
        """One exchange: first side, second side, price, penalty; then the tests."""
        state = self.state
        self.complete = state.copy()
        state.iteration += 1
        before = self.second_values()
        self.exchange(self.sides.first, "agents")
        self.exchange(self.sides.second, "operators")
        state.price = updates.dual_update(state)
        dual_step = updates.scaled_dual_step(state.penalty, self.second_values(), before, self.layout)
        seen = updates.residuals(state, dual_step, self.layout, self.settings)
        self.record(seen)
        status = self.test(seen)
        if status is Status.RUNNING:
            proposed = self.policy.update(state.penalty, self.observe(dual_step))
            state.penalty = _checked_penalty(proposed, self.policy, self.layout)
            if state.iteration % ACCURACY_EVERY == 0:
                state.accuracy = updates.inner_accuracy(seen.primal, self.layout.size, state.accuracy)
        return status

    def second_values(self) -> np.ndarray:
        """The second side's values, shape (n,), whichever end of each coupling it is."""
        return np.where(self.second_entries == 1, self.state.lower, self.state.upper)

    def exchange(self, names: Sequence[str], part: str) -> None:
        """Ask one side and take its answers into the state."""
        began, traffic = time.perf_counter(), replace(self.transport.traffic)
        answers = self.transport.ask({name: self.question(name) for name in names})
        for name in names:
            self.accept(name, answers[name])
        moved = self.transport.traffic
        apart = (
            moved.communication_seconds
            - traffic.communication_seconds
            + moved.waiting_seconds
            - traffic.waiting_seconds
        )
        self.seconds[part] += time.perf_counter() - began - apart

    def question(self, name: str) -> Question:
        boundary, at, state = self.layout.boundary(name), self.layout.entries(name), self.state
        reference = np.where(boundary.sign > 0, state.upper[at], state.lower[at])
        return Question(
            iteration=state.iteration,
            price=boundary.sign * state.price[at],
            reference=reference,
            penalty=state.penalty[at],
            accuracy=state.accuracy,
            settle=self.settle,
        )

    def accept(self, name: str, answer: Answer) -> None:
        check_answer(name, answer, self.layout.entries(name).size)
        at, lower_side = self.layout.entries(name), self.layout.boundary(name).sign > 0
        values = np.asarray(answer.values, dtype=float)
        self.state.lower[at[lower_side]] = values[lower_side]
        self.state.upper[at[~lower_side]] = values[~lower_side]
        self.answers[name] = answer
        self.solve_seconds[name] += answer.solve_seconds

    def observe(self, dual_step: np.ndarray) -> Observation:
        state, layout = self.state, self.layout
        return Observation(
            iteration=state.iteration,
            mismatch=updates.scaled_mismatch(state, layout),
            dual_step=dual_step,
            lower=state.lower / layout.scale,
            upper=state.upper / layout.scale,
            price=state.price / layout.price_scale,
        )

    def record(self, seen: updates.Residuals) -> None:
        state = self.state
        self.history.append(
            Progress(
                iteration=state.iteration,
                residuals=seen,
                penalty=float(np.exp(np.mean(np.log(state.penalty / unit_penalty(self.layout))))),
                objective_eur=self.objective(),
                model_error=max(answer.model_error for answer in self.answers.values()),
                accuracy=state.accuracy,
                inner_iterations=sum(answer.inner_iterations for answer in self.answers.values()),
                seconds=time.perf_counter() - self.began,
            )
        )

    def objective(self) -> float | None:
        costs = [answer.cost_eur for answer in self.answers.values()]
        return None if None in costs else float(sum(costs))

    def test(self, seen: updates.Residuals) -> Status:
        """Whether to go on. A stop counts at the final accuracy only, with exact answers and settled models."""
        settings, now = self.settings, self.history[-1]
        if settings.callback is not None and settings.callback(now):
            return Status.STOPPED
        self.settle = seen.passed(settings)
        exact = all(answer.status is AnswerStatus.SOLVED for answer in self.answers.values())
        if self.settle and exact and now.accuracy <= settings.final_accuracy and now.model_error <= 1.0:
            return Status.CONVERGED
        if self.settle:
            self.state.accuracy = min(self.state.accuracy, settings.final_accuracy)
        if self.state.iteration >= settings.max_iterations:
            return Status.MAX_ITERATIONS
        if settings.time_limit_seconds is not None and now.seconds >= settings.time_limit_seconds:
            return Status.TIME_LIMIT
        return Status.RUNNING

    def package(self, status: Status) -> Result:
        if not self.history:
            raise KeyboardInterrupt
        wall, traffic = time.perf_counter() - self.began, self.transport.traffic
        spent = [*self.seconds.values(), traffic.communication_seconds, traffic.waiting_seconds]
        iterations = self.state.iteration
        return Result(
            status=status,
            iterations=iterations,
            objective=self.history[-1].objective_eur,
            turnover=updates.turnover_eur(self.state),
            residuals=self.history[-1].residuals,
            boundary=_boundary_results(self.layout, self.sides, self.state),
            solutions={n: a.solution() for n, a in self.owned.items() if n not in self.sides.relays},
            history=tuple(self.history),
            timing=Timing(wall, *spent, engine=max(0.0, wall - sum(spent))),
            bytes_exchanged=traffic.bytes,
            solve_seconds={n: s / iterations for n, s in self.solve_seconds.items() if n not in self.sides.relays},
        )


def check_answer(name: str, answer: Answer, size: int) -> None:
    """Raise if an answer cannot be used: a wrong status, shape or number is never passed on."""
    check_answer_fits(name, answer, size)
    if answer.status is AnswerStatus.INFEASIBLE:
        raise InfeasibleError(f"agent '{name}' is infeasible: {answer.reason or 'no reason given'}")
    if not answer.status.usable:
        raise SolverError(f"agent '{name}' gave no usable answer ({answer.status.name.lower()}): {answer.reason}")


def _initial_state(layout: Layout, settings: Settings, policy: PenaltyPolicy) -> State:
    value = _spread_initial(layout, settings.initial_values, "initial_values")
    price = _spread_initial(layout, settings.initial_price, "initial_price")
    penalty = _checked_penalty(policy.start(layout), policy, layout)
    return State(lower=value.copy(), upper=value, price=price, penalty=penalty)


def _checked_penalty(penalty: np.ndarray, policy: PenaltyPolicy, layout: Layout) -> np.ndarray:
    penalty = np.asarray(penalty, dtype=float)
    if penalty.shape != (layout.size,) or not np.isfinite(penalty).all() or (penalty <= 0).any():
        name = getattr(policy, "name", type(policy).__name__)
        raise InputError(f"penalty policy '{name}': start and update must give {layout.size} finite numbers above 0")
    return penalty


def _spread_initial(layout: Layout, given: Mapping[str, Mapping[str, np.ndarray]], key: str) -> np.ndarray:
    """{coupling: {quantity: array}} to one flat array, 0 where nothing is given."""
    flat, used = np.zeros(layout.size), set()
    for block in layout.blocks:
        coupling = given_name(block.coupling.name)
        values = given.get(coupling, {}).get(block.quantity.name)
        if values is None:
            continue
        array = np.asarray(values, dtype=float)
        if array.shape != (block.quantity.periods,) or not np.isfinite(array).all():
            raise InputError(
                f"settings: {key} of '{coupling}', '{block.quantity.name}' has shape {array.shape}, "
                f"expected {(block.quantity.periods,)} finite numbers"
            )
        flat[block.entries] = array
        used.add((coupling, block.quantity.name))
    unknown = [(c, q) for c, quantities in given.items() for q in quantities if (c, q) not in used]
    if unknown:
        raise InputError(f"settings: {key} names '{unknown[0][0]}', '{unknown[0][1]}', which is no coupling's quantity")
    return flat


def _entries_answered_by(names: Sequence[str], layout: Layout) -> np.ndarray:
    """shape (n,): +1 where one of the agents is the lower side, -1 where the upper."""
    end = np.zeros(layout.size)
    for name in names:
        end[layout.entries(name)] = layout.boundary(name).sign
    return end


def _boundary_results(layout: Layout, sides: Sides, state: State) -> dict[str, dict[str, BoundaryResult]]:
    """Results by the couplings that the user gave: the two halves of a relayed one are joined again."""
    found: dict[str, dict[str, BoundaryResult]] = {}
    for block in layout.blocks:
        name, at = given_name(block.coupling.name), block.entries
        here = BoundaryResult(
            state.lower[at].copy(),
            state.upper[at].copy(),
            state.price[at].copy(),
            block.quantity.unit,
            block.quantity.scale,
        )
        quantities = found.setdefault(name, {})
        if block.coupling.lower in sides.relays:
            here = replace(quantities[block.quantity.name], upper=here.upper)
        quantities[block.quantity.name] = here
    return found
