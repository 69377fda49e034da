"""What only the owner of a community or hub reads: its devices and its own profiles. Every file is read once."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from admm import InputError
from admm.errors import told_as
from networks.case_file import CaseFolder
from networks.case_tables import AgentTable, HubTable
from networks.profiles import Profiles
from networks.validation import parse, read_toml
from subproblems.community import Community
from subproblems.devices import Device
from subproblems.devices.ev_fleet import EvFleet
from subproblems.hub import Hub


class PrivateFiles:
    """Of the agents of a case. profiles: the public ones. Whatever reads raises InputError."""

    def __init__(self, folder: CaseFolder, profiles: Profiles) -> None:
        self._folder, self._public = folder, profiles
        self._read_community, self._read_profiles = cache(self._community), cache(self._profiles)

    def path(self, agent: AgentTable) -> Path:
        return self._folder.file(agent.file)

    def public(self, agent: AgentTable) -> str:
        """What others hear if there is anything wrong with an agent's files: its own rank says what."""
        return f"agent '{agent.name}': {agent.file} or its profiles are not valid, see what its own rank says"

    def community(self, agent: AgentTable) -> Community:
        """The agent's file, checked against what the public file says of its connections."""
        with told_as(self.public(agent)):
            return self._read_community(agent)

    def profiles(self, agent: AgentTable) -> Profiles:
        """Public ones and the agent's own, if it has any."""
        with told_as(self.public(agent)):
            return self._read_profiles(agent)

    def _community(self, agent: AgentTable) -> Community:
        path = self.path(agent)
        found = parse(Hub if isinstance(agent, HubTable) else Community, read_toml(path), path)
        self._check_connection(path, agent, found)
        return found

    def _profiles(self, agent: AgentTable) -> Profiles:
        own = self.path(agent).with_suffix(".csv")
        return self._public.with_file(own) if os.path.exists(own) else self._public

    def devices(self, agent: AgentTable) -> list[Device]:
        return self.community(agent).devices

    def series_names(self, agent: AgentTable) -> set[str]:
        """Of the series in the agent's own file, as they are revised: NAME/COLUMN."""
        return {f"{agent.name}/{column}" for column in self.profiles(agent).names - self._public.names}

    def stay_names(self, agent: AgentTable) -> tuple[str, ...]:
        """Of its classes of electric vehicles, agent/fleet/class."""
        fleets = [device for device in self.devices(agent) if isinstance(device, EvFleet)]
        return tuple(f"{agent.name}/{fleet.name}/{each.name}" for fleet in fleets for each in fleet.classes)

    def _check_connection(self, path: Path, agent: AgentTable, private: Community) -> None:
        """What the private file says of the connections, against the public file."""
        limits = [(key, getattr(private, key), "connection_kw") for key in ("import_limit_kw", "export_limit_kw")]
        gas_kw = private.gas_limit_kw()
        if gas_kw is not None:
            limits.append(("gas_connection_kw", gas_kw, "gas_connection_kw"))
        for key, value, public in limits:
            most = getattr(agent, public)
            if most is None:
                raise InputError(
                    f"{path}: {key} = {value:g}, but agent '{agent.name}' has no gas connection in "
                    f"{self._folder.path.name}; give it gas_network, gas_node and gas_connection_kw there"
                )
            if value > most:
                raise InputError(
                    f"{path}: {key} = {value:g} is above {public} = {most:g} of "
                    f"agent '{agent.name}' in {self._folder.path.name}; both are in kW: lower one or raise the other"
                )
        if gas_kw is None and getattr(agent, "gas_network", None) is not None:
            raise InputError(
                f"{path}: gas_connection_kw is missing, but agent '{agent.name}' has a gas connection in "
                f"{self._folder.path.name}; give it here, at most {agent.gas_connection_kw:g} kW"
            )
