"""A case as agents and couplings: what the engine gets.

Each community or hub couples with its distribution operator, a hub with its gas operator, too, and each
distribution operator with the transmission operator above it. An agent is built only where it lives:
`build_agent` is the only reader of private files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Protocol

import numpy as np

from admm import Agent, Coupling, InputError, Quantity
from admm.couplings import Layout
from admm.interfaces import Names
from networks.base_load import check_base_load
from networks.bus_hints import refuse_unknown_bus
from networks.case_file import CaseFolder, open_case
from networks.case_tables import AgentTable, DistributionTable, GasTable, HubTable, TransmissionTable
from networks.distribution import Connection, DistributionAgent, DistributionModel, ReactiveSupport, Supply
from networks.feeder_settings import check_sgen_profile
from networks.gas import GasAgent, GasConnection, GasModel
from networks.grid_sources import feeder_of, gas_grid_of, grid_source, transmission_of
from networks.joint_operator import JointOperatorAgent
from networks.private_files import PrivateFiles
from networks.profiles import Profiles
from networks.transmission import Substation, TransmissionModel, compile_tso
from networks.transmission_agent import TransmissionAgent
from networks.user_net_check import NetSchedule, UserNet
from subproblems import QPAgent, QuadraticProgram
from subproblems.community import compile_community
from subproblems.devices import Device, below_minimum_load
from subproblems.devices.sizes import expected, largest, unit_by_name
from subproblems.ev_error import Stays

KW_PER_MW = 1000.0
FLEXIBILITY_SHARE = 0.5
"""Nominal size of a flexibility quantity as a share of the power's."""
DIGEST_SIZE = 2**256
SIGNS = {
    "p_mw": "positive: the lower agent consumes from the upper one and pays the price",
    "flex_up_mw": "positive: the lower agent can consume less; a negative price is paid to it",
    "flex_down_mw": "positive: the lower agent can consume more; a negative price is paid to it",
    "gas_mw": "positive: the lower agent takes gas (higher heating value) from the upper one and pays the price",
}


Revise = Callable[[str, np.ndarray], np.ndarray]
"""What stands for a series (T,) of the case, from its name and its values in the files."""


def as_it_stands(name: str, values: np.ndarray) -> np.ndarray:
    return values


class CaseAgent(Agent, Protocol):
    """An agent of a case, which also tells its owner what the result files and the summary need."""

    def units(self) -> dict[str, str]:
        """The unit of each block of `solution`."""

    def names(self) -> dict[str, Names]:
        """What blocks of `solution` belong to and what their columns are, where it is not the device in their name."""

    def cost_eur(self) -> float | None:
        """Its own cost of the latest answer."""

    def violation(self) -> float:
        """Largest violation of its own constraints by the latest answer, per unit."""

    def replaced_solver(self) -> str:
        """In words, where another solver than the one that was chosen has taken over; empty elsewhere."""


class Case:
    """A checked case. Public files are read here, private ones only by `build_agent` and `private_digest`."""

    def __init__(self, folder: CaseFolder) -> None:
        self.folder, self.horizon, self.table = folder, folder.horizon, folder.table
        self.profiles = Profiles([folder.file(name) for name in self.table.profiles], self.horizon)
        self.private = PrivateFiles(folder, self.profiles)
        found = {n.name: feeder_of(folder, n) for n in folder.distribution}
        self.feeders = {name: feeder for name, (feeder, _) in found.items()}
        self.notes = tuple(note for _, notes in found.values() for note in notes)
        self.grids = {n.name: transmission_of(folder, n) for n in folder.transmission}
        self.gas_grids = {n.name: gas_grid_of(folder, n) for n in folder.gas}
        self._check_feeders()
        self.notes += tuple(f"network '{name}': {note}" for name, grid in self.grids.items() for note in grid.notes)
        self.notes += tuple(self._check_static_generators())
        self._check_buses()
        folder.reference()  # a broken one shows before the run, not after it

    @property
    def name(self) -> str:
        return self.folder.name

    def headline(self) -> str:
        """What the case is, in a line."""
        horizon, kinds = self.horizon, [agent.kind for agent in self.table.agent]
        counts = {"communities": kinds.count("community"), "hubs": kinds.count("hub")}
        who = ", ".join(f"{count} {words}" for words, count in counts.items() if count)
        return (
            f"{self.name}: {who}, {len(self.operators)} operators, "
            f"{horizon.periods} periods of {horizon.step_minutes} minutes from {horizon.start:%Y-%m-%d %H:%MZ}"
        )

    @property
    def communities(self) -> dict[str, AgentTable]:
        return {agent.name: agent for agent in self.table.agent}

    @property
    def operators(self) -> dict[str, DistributionTable | TransmissionTable | GasTable]:
        """Networks whose operators are agents of their own; a gas network may be run by a distribution operator."""
        return {n.name: n for n in self.table.network if not (isinstance(n, GasTable) and n.operator is not None)}

    def gas_run_by(self, distribution: str) -> GasTable | None:
        """The gas network that a distribution operator runs, too."""
        return next((n for n in self.folder.gas if n.operator == distribution), None)

    def gas_operator(self, network: str) -> str:
        """The agent that runs a gas network."""
        return next(n.operator or n.name for n in self.folder.gas if n.name == network)

    @property
    def agents(self) -> tuple[str, ...]:
        return (*self.communities, *self.operators)

    # ---------------------------------------------------------------- couplings

    @cached_property
    def couplings(self) -> tuple[Coupling, ...]:
        """One a community and one a distribution operator; sizes and prices are public nominal ones."""
        below = [Coupling(coupling_name(*ends), *ends, found) for ends, found in self._below().items()]
        above = [
            Coupling(coupling_name(n.name, n.upstream), n.name, n.upstream, self._quantities(self._feeder_size_mw(n)))
            for n in self.folder.supplied
        ]
        return (*below, *above)

    def _below(self) -> dict[tuple[str, str], list[Quantity]]:
        """Participants' couplings by their ends: (participant, operator)."""
        found: dict[tuple[str, str], list[Quantity]] = {}
        for a in self.table.agent:
            found[a.name, a.network] = self._quantities(a.connection_kw / KW_PER_MW)
        for hub in self.folder.gas_hubs:
            price = self.table.prices.gas_eur_per_mwh * self.horizon.hours
            gas = Quantity("gas_mw", self.horizon.periods, "MW", hub.gas_connection_kw / KW_PER_MW, price)
            found.setdefault((hub.name, self.gas_operator(hub.gas_network)), []).append(gas)
        return found

    def _quantities(self, size_mw: float) -> list[Quantity]:
        prices, hours, periods = self.table.prices, self.horizon.hours, self.horizon.periods
        energy, flexibility = prices.energy_eur_per_mwh * hours, prices.flexibility_eur_per_mwh * hours
        return [
            Quantity("p_mw", periods, "MW", size_mw, energy),
            Quantity("flex_up_mw", periods, "MW", FLEXIBILITY_SHARE * size_mw, flexibility),
            Quantity("flex_down_mw", periods, "MW", FLEXIBILITY_SHARE * size_mw, flexibility),
        ]

    def _feeder_size_mw(self, network: DistributionTable) -> float:
        """Half of what is connected: fixed load at its peak and communities' connections."""
        feeder = self.feeders[network.name]
        load = (feeder.load_p_mw + feeder.z_load_p_mw).sum() * network.load_scale
        connected = sum(a.connection_kw for a in self.table.agent if a.network == network.name) / KW_PER_MW
        return 0.5 * float(load + connected)

    def _check_feeders(self) -> None:
        for grid in self.folder.transmission:
            below = [n for n in self.folder.distribution if n.upstream == grid.name]
            if not below:
                raise InputError(
                    f"{self.folder.path}: network '{grid.name}' has no distribution network below it; add one"
                )
            if len({n.feeders for n in below}) > 1:
                raise InputError(
                    f"{self.folder.path}: networks below '{grid.name}' have different numbers of feeders; "
                    "costs are counted per feeder, so give all of them the same number"
                )
        for network in self.folder.distribution:
            if not any(agent.network == network.name for agent in self.table.agent):
                raise InputError(
                    f"{self.folder.path}: network '{network.name}' has no agent on it; add one, or remove it"
                )

    def _check_static_generators(self) -> list[str]:
        """Notes of profiles that change nothing. Raises InputError for one that is missing."""
        found = []
        for network in (*self.folder.distribution, *self.folder.transmission):
            electric = network.name in self.feeders
            grid = self.feeders[network.name] if electric else self.grids[network.name]
            power = grid.sgen_p_mw + 1j * grid.sgen_q_mvar if electric else grid.sgen_mw
            with self.folder.located(network.name):
                words = check_sgen_profile(network, power, grid.nodes if electric else grid.buses)
            found += [f"network '{network.name}': {words}"] if words else []
        return found

    def _check_buses(self) -> None:
        for hub in self.folder.gas_hubs:
            gas = self.gas_grids[hub.gas_network]
            nodes, where = tuple(node.name for node in gas.nodes), f"{self.folder.path}: agent '{hub.name}': gas_node"
            refuse_unknown_bus(where, hub.gas_node, hub.gas_network, nodes, titles=gas.titles)
        for network in self.folder.gas:
            if not any(hub.gas_network == network.name for hub in self.folder.gas_hubs):
                raise InputError(
                    f"{self.folder.path}: network '{network.name}' has no hub on it; add one, or remove it"
                )
        for agent in self.table.agent:
            self._check_feeder_bus(f"agent '{agent.name}': bus", agent.bus, agent.network)
        for network in self.folder.supplied:
            where, grid = f"{self.folder.path}: network '{network.name}': upstream_bus", self.grids[network.upstream]
            refuse_unknown_bus(where, network.upstream_bus, network.upstream, grid.bus_names, titles=grid.titles)
        for network in self.folder.distribution:
            for support in network.reactive_support:
                self._check_feeder_bus(f"network '{network.name}': reactive_support: bus", support.bus, network.name)

    def _check_feeder_bus(self, what: str, bus: int | str, network: str) -> None:
        feeder, where = self.feeders[network], f"{self.folder.path}: {what}"
        refuse_unknown_bus(where, bus, network, feeder.bus_names, feeder.left_out, feeder.titles)

    # ---------------------------------------------------------------- agents

    def build_agent(self, name: str, solver: str = "osqp") -> CaseAgent:
        """The agent itself; reads the private file where it is a community or hub. Raises InputError."""
        if name in self.communities:
            return QPAgent(self.community_program(name), solver=solver)
        network = self.operators[name]
        with self.folder.located(name):
            if isinstance(network, TransmissionTable):
                return TransmissionAgent(self.transmission_model(network), self._scales(), solver=solver)
            if isinstance(network, GasTable):
                return GasAgent(self.gas_model(network), solver=solver)
            model, gas = self.distribution_model(network), self.gas_run_by(name)
            check_base_load(model, self.connections_mw(name))
            if gas is None:
                return DistributionAgent(model, solver=solver)
            return JointOperatorAgent(model, self.gas_model(gas), solver=solver)

    def connections_mw(self, network: str) -> dict[str, float]:
        """Public sizes of the agents' connections with a distribution network, by coupling."""
        agents = (a for a in self.table.agent if a.network == network)
        return {coupling_name(a.name, network): a.connection_kw / KW_PER_MW for a in agents}

    def below_minimum_kw(self, name: str, solution: Mapping[str, np.ndarray]) -> float:
        """The most by which a CHP of an agent runs below its minimum load, kW; reads the private file."""
        if name not in self.communities:
            return 0.0
        return max((float(kw.max()) for kw in below_minimum_load(self.devices(name), solution).values()), default=0.0)

    def devices(self, name: str) -> list[Device]:
        """Of a community or hub; reads the private file."""
        return self.private.devices(self.communities[name])

    def community_program(
        self,
        name: str,
        revise: Revise = as_it_stands,
        initial_states: Mapping[str, float] | None = None,
        stays: Stays | None = None,
    ) -> QuadraticProgram:
        """A community's or hub's program with all its series revised; private series are called NAME/COLUMN.

        initial_states: {name of a state's block: its value before the first period}, see `compile_community`.
        stays: the errors of stays of electric vehicles, asked for agent/fleet/class.
        """
        agent = self.communities[name]
        community, profiles = self.private.community(agent), self.private.profiles(agent)

        def series(column: str | float) -> np.ndarray:
            values = profiles.series(column)
            if not isinstance(column, str):
                return values
            return revise(column if column in self.profiles.names else f"{name}/{column}", values)

        coupling = coupling_name(agent.name, agent.network)
        own_stays = None if stays is None else (lambda each, hour, day: stays(f"{name}/{each}", hour, day))
        gas_coupling = None
        if isinstance(agent, HubTable) and agent.gas_network is not None:
            gas_coupling = coupling_name(agent.name, self.gas_operator(agent.gas_network))
        try:
            return compile_community(
                agent.name, community, self.horizon, series, coupling, gas_coupling, initial_states, own_stays
            )
        except InputError as error:
            raise InputError(f"{self.private.path(agent)}: {error}", public=self.private.public(agent)) from None

    def distribution_model(self, network: DistributionTable, revise: Revise = as_it_stands) -> DistributionModel:
        feeder = self.feeders[network.name]
        load, sgen, pv = self._factors(network, revise)
        connections = [
            Connection(coupling_name(a.name, network.name), str(a.bus), a.power_factor)
            for a in self.table.agent
            if a.network == network.name
        ]
        limit = np.inf if network.substation_limit_mva is None else network.substation_limit_mva
        return DistributionModel(
            name=network.name,
            feeder=feeder,
            hours=self.horizon.hours,
            **feeder.fixed_load(load, sgen, pv),
            connections=tuple(connections),
            upstream=self._upstream(network),
            supports=tuple(
                ReactiveSupport(str(s.bus), s.q_max_mvar, s.quadratic_cost_eur_per_mvar2h)
                for s in network.reactive_support
            ),
            substation_limit_mva=limit,
            loss_price_eur_per_mwh=self.table.prices.energy_eur_per_mwh,
        )

    def _factors(
        self, network: DistributionTable, revise: Revise = as_it_stands
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the source's loads, of its static generators, and customers' own generation as a share of loads; (T,)."""
        return (
            self._public_series("load_profile", network.load_profile, revise) * network.load_scale,
            self._public_series("sgen_profile", network.sgen_profile or 0.0, revise),
            self._public_series("pv_profile", network.pv_profile, revise) * network.pv_scale,
        )

    def user_net(self, name: str, revise: Revise = as_it_stands) -> UserNet | None:
        """The source of a distribution network with the case's profiles; None where it is a folder of tables."""
        network = next(n for n in self.folder.distribution if n.name == name)
        source = grid_source(self.folder, network)
        if not source.is_file():
            return None
        return UserNet(
            source,
            NetSchedule(*self._factors(network, revise), slack_voltage_pu=network.slack_voltage_pu),
            network.current_limit_scale or 1.0,
            network.voltage_min_pu is None,
            network.voltage_max_pu is None,
        )

    def gas_model(self, network: GasTable) -> GasModel:
        grid, hubs = self.gas_grids[network.name], [h for h in self.folder.gas_hubs if h.gas_network == network.name]
        shares = {
            kind: self._public_series(f"demand_profiles.{kind}", name) for kind, name in network.demand_profiles.items()
        }
        shares |= {"": np.ones(self.horizon.periods)}
        price = None
        if network.price_eur_per_mwh is not None:
            series = self._public_series("price_eur_per_mwh", network.price_eur_per_mwh)
            price = np.repeat(series[:, None], len(grid.gates), axis=1)
        operator = self.gas_operator(network.name)
        return GasModel(
            name=network.name,
            grid=grid,
            hours=self.horizon.hours,
            demand_mw=grid.demand_mw(shares, network.load_scale),
            connections=tuple(
                GasConnection(coupling_name(h.name, operator), str(h.gas_node), h.gas_connection_kw / KW_PER_MW)
                for h in hubs
            ),
            price_eur_per_mwh=price,
            import_limit_mw=np.inf if network.import_limit_mw is None else network.import_limit_mw,
            set_point_eur_per_bar4h=network.set_point_eur_per_bar4h,
            linepack=network.linepack,
        )

    def transmission_model(self, network: TransmissionTable, revise: Revise = as_it_stands) -> TransmissionModel:
        grid = self.grids[network.name]
        below = [n for n in self.folder.distribution if n.upstream == network.name]
        profile = self._public_series("load_profile", network.load_profile, revise)
        load = np.outer(profile * network.load_scale, grid.load_mw)
        for bus in {str(feeders.upstream_bus) for feeders in below if feeders.replaces_bus_load}:
            load[:, grid.bus(bus)] -= profile * network.load_scale * grid.load_at_mw(bus)
        total = load.sum(axis=1)
        sgen = self._public_series("sgen_profile", network.sgen_profile or 0.0, revise)
        return TransmissionModel(
            name=network.name,
            grid=grid,
            hours=self.horizon.hours,
            load_mw=load + np.outer(sgen, grid.sgen_mw) + grid.constant_mw,
            substations=[
                Substation(coupling_name(n.name, network.name), str(n.upstream_bus), n.feeders) for n in below
            ],
            reserve_up_mw=network.reserve_up_share * total,
            reserve_down_mw=network.reserve_down_share * total,
        )

    def transmission_program(self, model: TransmissionModel) -> QuadraticProgram:
        """Scaled as this case's couplings are."""
        return compile_tso(model, self._scales())

    def _scales(self) -> dict[tuple[str, str], float]:
        return {(b.coupling.name, b.quantity.name): b.quantity.scale for b in Layout(self.couplings).blocks}

    def _upstream(self, network: DistributionTable) -> str | Supply:
        """The coupling to the grid above, or what stands for that grid."""
        if network.upstream is not None:
            return coupling_name(network.name, network.upstream)
        price = self._public_series("supply_price_eur_per_mwh", network.supply_price_eur_per_mwh)
        return Supply(price, network.supply_flexibility_price_eur_per_mwh)

    def _public_series(self, key: str, name: str | float, revise: Revise = as_it_stands) -> np.ndarray:
        try:
            values = self.profiles.series(name)
        except InputError as error:
            raise InputError(f"{key}: {error}") from None
        unit = unit_by_name(key)
        wrong = np.abs(values) > largest(unit)
        if wrong.any():
            at = int(np.argmax(wrong))
            where = f"{key}: {name!r} is {values[at]:g} at {self.horizon.time_utc()[at]} (period {at})"
            raise InputError(f"{where}, expected {expected(unit)}")
        return revise(name, values) if isinstance(name, str) else values

    # ---------------------------------------------------------------- identity

    def public_digest(self) -> bytes:
        """SHA-256 over the public files, the grids and the variant."""
        digest = hashlib.sha256(self.name.encode())
        sources = [grid_source(self.folder, network) for network in self.table.network]
        grids = [
            path for source in sources for path in ([source] if source.is_file() else sorted(source.glob("*.csv")))
        ]
        for path in [*self.folder.public_files(), *grids]:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.digest()

    def private_digest(self, names: Iterable[str]) -> int:
        """A number for the private files of some communities; only their owner can compute it.

        The sum of SHA-256 over name and files, so digests of disjoint sets of agents add up (modulo DIGEST_SIZE).
        """
        return sum(self._file_digest(name) for name in names if name in self.communities) % DIGEST_SIZE

    def _file_digest(self, name: str) -> int:
        path = self.folder.file(self.communities[name].file)
        digest = hashlib.sha256(name.encode())
        for file in (path, path.with_suffix(".csv")):
            digest.update(hashlib.sha256(file.read_bytes() if file.exists() else b"").digest())
        return int.from_bytes(digest.digest())

    def solve_weights(self) -> dict[str, float]:
        """Seconds an answer takes, from the case file where it was measured there, else a rough guess by size."""
        communities = {n: (a.solve_ms or 5.0) / 1e3 for n, a in self.communities.items()}
        return communities | {n: (table.solve_ms or 20.0) / 1e3 for n, table in self.operators.items()}


def coupling_name(lower: str, upper: str) -> str:
    return f"{lower}-{upper}"


def load_case(case: str) -> Case:
    """A case by folder or bundled name, with an optional variant."""
    return Case(open_case(case))
