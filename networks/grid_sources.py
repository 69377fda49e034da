"""Opens the grids that a case names: bundled ones, folders of tables, pandapower, pandapipes and MATPOWER files."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

from admm import InputError
from networks.case_file import CaseFolder
from networks.case_tables import DistributionTable, GasTable, TransmissionTable
from networks.feeder import Feeder, read_feeder_csv
from networks.feeder_settings import with_settings
from networks.gas_grid import GasGrid
from networks.gas_tables import read_gas_csv
from networks.grids import ELECTRIC, GAS, grid_folder, grid_names
from networks.source_files import ELECTRIC as ELECTRIC_FILES
from networks.source_files import ELECTRIC_TABLES, GAS_TABLES, refuse_incomplete
from networks.source_files import GAS as GAS_FILES
from networks.transmission_grid import TransmissionGrid, read_transmission_csv

FLUID_KEYS = ("heating_value_kwh_per_kg", "p_min_bar_g", "p_max_bar_g")
"""Keys of a gas network that stand for what pandapipes files do not say."""


def feeder_of(folder: CaseFolder, network: DistributionTable) -> tuple[Feeder, list[str]]:
    """The operator's feeder with the case file's settings, and lines of what a user should know of it."""
    source = grid_source(folder, network)
    with folder.located(network.name):
        feeder = _feeder_from_json(source) if source.is_file() else _feeder_from_folder(source)
        notes = list(getattr(feeder, "notes", ()))
        feeder, overridden = with_settings(feeder, network, has_slack_voltage=source.is_file())
    return feeder, [f"network '{network.name}': {words}" for words in [*notes, overridden] if words]


def transmission_of(folder: CaseFolder, network: TransmissionTable) -> TransmissionGrid:
    """The operator's grid, with the case's ratings, ramps and price of reserve."""
    source = grid_source(folder, network)
    with folder.located(network.name):
        if source.is_file():
            grid = _transmission_from_json(source)
        else:
            refuse_incomplete(source, (*ELECTRIC_TABLES, "gen.csv"), ELECTRIC_FILES)
            grid = read_transmission_csv(source, cost_set=network.cost_set)
    reserve = {
        "reserve_cost_eur_per_mwh": network.reserve_cost_eur_per_mwh,
        "reserve_quadratic_cost_eur_per_mw2h": network.reserve_quadratic_cost_eur_per_mw2h,
    }
    share = network.ramp_share_per_hour
    return replace(
        grid,
        branches=[replace(b, rating_mw=b.rating_mw * network.rating_scale) for b in grid.branches],
        generators=[replace(g, ramp_mw_per_hour=share * g.size_mw, **reserve) for g in grid.generators],
    )


def gas_grid_of(folder: CaseFolder, network: GasTable) -> GasGrid:
    """The operator's grid without the gates that are lost."""
    source = grid_source(folder, network)
    with folder.located(network.name):
        grid = _gas_grid(source, network)
        for gate in network.lost_gates:
            grid = grid.without_gate(gate)
    return grid


def grid_source(folder: CaseFolder, network: DistributionTable | TransmissionTable | GasTable) -> Path:
    """A bundled grid's folder, or a file or folder of the case."""
    own = folder.file(network.source)
    if own.exists():
        return own
    kind = GAS if isinstance(network, GasTable) else ELECTRIC
    if network.source in grid_names(kind):
        return grid_folder(network.source, kind)
    close = difflib.get_close_matches(network.source, grid_names(kind), n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"bundled grids: {', '.join(grid_names(kind))}"
    raise InputError(
        f"{folder.path}: network '{network.name}': source = '{network.source}' is no file or folder "
        f"of the case and no bundled grid; {hint}"
    )


def _feeder_from_json(path: Path) -> Feeder:
    from networks.pandapower_import import feeder_from_pandapower  # late: pandapower takes 3 s to import

    return feeder_from_pandapower(path)


def _feeder_from_folder(path: Path) -> Feeder:
    refuse_incomplete(path, ELECTRIC_TABLES, ELECTRIC_FILES)
    return read_feeder_csv(path)


def _gas_grid(path: Path, network: GasTable) -> GasGrid:
    given = {key: getattr(network, key) for key in FLUID_KEYS if getattr(network, key) is not None}
    if path.is_file():
        from networks.pandapipes_import import PandapipesOptions, gas_from_pandapipes

        return gas_from_pandapipes(path, PandapipesOptions(**given))
    if given:
        key, value = next(iter(given.items()))
        raise InputError(f"{key} = {value:g} is for pandapipes files only; tables give their own, leave it out")
    refuse_incomplete(path, GAS_TABLES, GAS_FILES)
    return read_gas_csv(path)


def _transmission_from_json(path: Path) -> TransmissionGrid:
    from networks.pandapower_import import transmission_from_pandapower

    return transmission_from_pandapower(path)
