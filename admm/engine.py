"""`solve`: checks that a problem is well posed, lets the transport start, and runs the scheme that was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from admm.couplings import Coupling, Layout
from admm.errors import InputError
from admm.graph import Sides, boundary_as_given, split
from admm.interfaces import Agent, Transport, no_calls
from admm.relay import RelayAgent, check_is_agent
from admm.run import Run
from admm.state import SCHEMES, STALE, Result, Settings
from admm.threads import few_threads, wanted_threads
from admm.transport import InProcessTransport

if TYPE_CHECKING:
    from admm.resume import Checkpoints


LONGEST_NAME_BYTES = 128
"""With the endings of checkpoints and of files that are being written, a file's name may have 255."""
TRANSPORT_VERBS = ("start", "refuse", "ask", "serve", "finish")


def solve(
    agents: Mapping[str, Agent],
    couplings: Sequence[Coupling],
    settings: Settings | None = None,
    transport: Transport | None = None,
    checkpoints: Checkpoints | None = None,
) -> Result | None:
    """Make the agents agree on their boundary values at least total cost.

    Over MPI every rank calls this with the agents that it owns; rank 0 gets the Result, the others
    None. checkpoints: where the state is kept, and whether the run goes on from there; see `admm.resume`.
    While it runs, numpy's linear algebra has one thread in this process; see `admm.threads`.
    Raises InputError (the problem is not well posed), InfeasibleError (an agent has no
    feasible answer), SolverError, AgentError (a number that is not finite, or raised in an agent on another rank),
    TransportError.
    """
    settings = Settings() if settings is None else settings
    transport = InProcessTransport() if transport is None else transport
    _check_has(transport, "transport", "an admm.InProcessTransport or another Transport", TRANSPORT_VERBS)
    try:
        if not isinstance(settings, Settings):
            raise InputError(f"settings is {type(settings).__name__}, expected an admm.Settings")
        if checkpoints is not None:
            _check_has(checkpoints, "checkpoints", "an admm.resume.Checkpoints", ("take", "begin", "after"))
        sides = split(couplings, relay_all=settings.relay_all)
        layout = Layout(sides.couplings)
        owned = _owned_agents(agents, layout, sides, transport)
        wanted_threads()
    except Exception as error:
        transport.refuse(error)
        raise
    with few_threads():
        return _solve(owned, layout, sides, settings, transport, checkpoints)


def _solve(
    owned: Mapping[str, Agent],
    layout: Layout,
    sides: Sides,
    settings: Settings,
    transport: Transport,
    checkpoints: Checkpoints | None,
) -> Result | None:
    """This rank's part of a problem that is well posed."""
    transport.keep_going = settings.on_lost_agent == "freeze"
    transport.start(owned, {name: boundary_as_given(layout.boundary(name)) for name in layout.agents})
    called = no_calls
    if checkpoints is not None:
        checkpoints.take(owned, getattr(transport, "run_id", ""))
        called = checkpoints.called
    if transport.rank != 0:
        transport.serve(called)
        return None
    result = None
    try:
        result = _scheme(settings)(layout, sides, settings, transport, owned).result(checkpoints)
        return result
    finally:
        transport.finish(has_result=result is not None)


def _check_has(given: object, what: str, expected: str, verbs: Sequence[str]) -> None:
    """Raise InputError unless it is an object that can do this."""
    if isinstance(given, type) or not all(callable(getattr(given, verb, None)) for verb in verbs):
        raise InputError(f"{what} is {given!r}, expected {expected}")


def _owned_agents(agents: Mapping[str, Agent], layout: Layout, sides: Sides, transport: Transport) -> dict[str, Agent]:
    """The agents of this rank, relays among them, each checked."""
    if not isinstance(agents, Mapping):
        raise InputError(f"agents is {type(agents).__name__}, expected a dictionary {{name: agent}}")
    owned = dict(agents)
    for name, agent in owned.items():
        check_is_agent(name, agent)
        if len(name.encode(errors="replace")) > LONGEST_NAME_BYTES:
            raise InputError(
                f"agent '{name[:20]}...': its name has {len(name)} letters, expected at most "
                f"{LONGEST_NAME_BYTES} bytes: files are called after it"
            )
        if name not in layout.agents:
            raise InputError(f"agent '{name}' is in no coupling: add one, or leave the agent out")
    _check_one_name_each(owned)
    if transport.rank == 0:
        owned.update({relay: RelayAgent() for relay in sides.relays})
    missing = [name for name in layout.agents if name not in owned]
    if transport.ranks == 1 and missing:
        raise InputError(f"couplings name the agent '{missing[0]}', which is not there; agents: {', '.join(agents)}")
    return owned


def _check_one_name_each(agents: Mapping[str, Agent]) -> None:
    """An object keeps one boundary and one schedule: under two names it would answer for the one it met last."""
    names: dict[int, str] = {}
    for name, agent in agents.items():
        first = names.setdefault(id(agent), name)
        if first != name:
            raise InputError(f"agents '{first}' and '{name}' are one object, expected an object of its own for each")


def _scheme(settings: Settings) -> type[Run]:
    """The class of the scheme; imported here, so that only the one in use is loaded."""
    module, kind = STALE if settings.staleness else SCHEMES[settings.scheme]
    return getattr(import_module(module), kind)
