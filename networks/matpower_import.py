"""Turns a MATPOWER case (.m or .mat, version 2) into a pandapower network by pandapower's converter.

Buses keep MATPOWER's numbers as their index. What the converter gets wrong is put right here: the tap of a branch that
begins at the lower voltage is on the wrong side, a transformer's charging loses its sign, and a branch between two
voltages without a tap is always in service.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from admm import InputError
from networks.matpower_script import LARGEST_MVA, LEAST_COLUMNS, MatpowerTables, read_matpower_script

BUS_I, BASE_KV = 0, 9
F_BUS, T_BUS, BR_B, RATE_A, TAP, SHIFT, BR_STATUS = 0, 1, 4, 5, 8, 9, 10
GEN_BUS = 0
MODEL, NCOST, COST = 0, 3, 4
PIECEWISE, POLYNOMIAL = 1, 2
MOST_COEFFICIENTS = 3
DC_STATUS = 2


def network_from_matpower(path: Path, costs: bool = False) -> Any:
    """The pandapower network of a MATPOWER case. InputError says what stands in the way.

    Args:
        path: a file that ends with .m or .mat.
        costs: whether generators' costs are converted, too.
    """
    case = _read_workspace(path) if path.suffix.lower() == ".mat" else read_matpower_script(path)
    _check(path, case)
    from pandapower.converter.pypower.from_ppc import from_ppc  # late: pandapower takes 3 s to import

    tables = {name: table.copy() for name, table in case.tables.items()}
    tables["branch"][tables["branch"][:, TAP] == 0, TAP] = 1.0  # 0 stands for a line in MATPOWER, 1 in the converter
    prices = tables.pop("gencost", None)
    if costs and prices is not None:
        tables["gencost"] = _costs(path, prices, len(tables["gen"]))
    net = from_ppc({"baseMVA": case.base_mva, **tables})
    net.name = path.stem
    _put_right(net, case)
    return net


def _read_workspace(path: Path) -> MatpowerTables:
    """The case in a MATLAB workspace: the struct `mpc`, or the only struct there is."""
    from scipy.io import loadmat

    try:
        found = loadmat(path, squeeze_me=True, struct_as_record=False)
    except Exception as error:
        raise InputError(
            f"{path}: is no MATLAB workspace ({type(error).__name__}), expected one of version 7"
        ) from None
    structs = {name: one for name, one in found.items() if hasattr(one, "_fieldnames")}
    case = structs.get("mpc") or (next(iter(structs.values())) if len(structs) == 1 else None)
    if case is None:
        names = ", ".join(name for name in found if not name.startswith("__")) or "nothing"
        raise InputError(f"{path}: holds {names}, expected a struct mpc with bus, branch, gen and baseMVA")
    try:
        base = float(case.baseMVA)
        tables = {
            name: np.array(getattr(case, name), dtype=float, ndmin=2)
            for name in LEAST_COLUMNS
            if hasattr(case, name) and np.size(getattr(case, name))
        }
        return MatpowerTables(base, tables)
    except (AttributeError, TypeError, ValueError):
        raise InputError(f"{path}: its struct holds other things than numbers in bus, branch, gen, baseMVA") from None


def _check(path: Path, case: MatpowerTables) -> None:
    if not 0 < case.base_mva <= LARGEST_MVA:
        raise InputError(f"{path}: mpc.baseMVA is {case.base_mva:g}, expected a number above 0")
    for name in ("bus", "branch", "gen"):
        table = case.tables.get(name)
        if table is None or table.shape[1] < LEAST_COLUMNS[name]:
            raise InputError(f"{path}: mpc.{name} is missing or too narrow, expected {LEAST_COLUMNS[name]} columns")
        if np.isnan(table).any():
            raise InputError(f"{path}: mpc.{name} holds NaN in row {1 + int(np.argwhere(np.isnan(table))[0, 0])}")
    numbers = case.tables["bus"][:, BUS_I]
    if len(set(numbers)) < len(numbers) or (numbers != np.round(numbers)).any() or (numbers < 0).any():
        raise InputError(f"{path}: the numbers of mpc.bus are not whole and different, expected one number a bus")
    if not case.tables["bus"][:, BASE_KV].any():  # several of MATPOWER's cases: a flow in per unit needs none
        case.tables["bus"][:, BASE_KV] = 1.0
    if not (case.tables["bus"][:, BASE_KV] > 0).all():
        row = 1 + int(np.argmin(case.tables["bus"][:, BASE_KV] > 0))
        raise InputError(f"{path}: baseKV is not above 0 in row {row} of mpc.bus, expected the bus's nominal voltage")
    ends = {"branch": (F_BUS, T_BUS), "gen": (GEN_BUS,)}
    for name, columns in ends.items():
        for column in columns:
            known = np.isin(case.tables[name][:, column], numbers)
            if not known.all():
                row = int(np.argmin(known))
                bus = case.tables[name][row, column]
                raise InputError(f"{path}: row {row + 1} of mpc.{name} names bus {bus:g}, which mpc.bus does not have")
    lines = case.tables.get("dcline", np.zeros((0, 3)))
    if (lines[:, DC_STATUS] != 0).any():
        raise InputError(f"{path}: mpc.dcline has DC lines in service; take them out, or replace them by loads")


def _costs(path: Path, costs: np.ndarray, generators: int) -> np.ndarray:
    """The rows of active power as the converter takes them: polynomials with three coefficients.

    A piecewise linear cost of two points is a straight line.
    """
    rows = []
    for number, row in enumerate(costs[:generators], 1):
        count, model = int(row[NCOST]), row[MODEL]
        size = 2 * count if model == PIECEWISE else count
        values = row[COST : COST + size]
        if model not in (PIECEWISE, POLYNOMIAL) or count < 1 or len(values) < size:
            raise InputError(f"{path}: row {number} of mpc.gencost is no cost: check its model and n")
        if model == PIECEWISE and count == 2:
            slope = (values[3] - values[1]) / (values[2] - values[0]) if values[2] != values[0] else 0.0
            values, model = np.array([slope, values[1] - slope * values[0]]), POLYNOMIAL
        if model == PIECEWISE or np.any(values[:-MOST_COEFFICIENTS]):
            shape = "piecewise linear with more than one piece" if model == PIECEWISE else "of third order or higher"
            raise InputError(f"{path}: row {number} of mpc.gencost is {shape}, expected a cost up to second order")
        short = values[-MOST_COEFFICIENTS:]
        padded = np.concatenate((np.zeros(MOST_COEFFICIENTS - len(short)), short))
        rows.append(np.concatenate(([POLYNOMIAL, 0.0, 0.0, MOST_COEFFICIENTS], padded)))
    if len(rows) != generators:
        raise InputError(f"{path}: mpc.gencost has {len(costs)} rows, expected one for each of {generators} generators")
    return np.array(rows)


def _put_right(net: Any, case: MatpowerTables) -> None:
    from pandapower import create_shunts

    branch, bus = case.tables["branch"], case.tables["bus"]
    kv = dict(zip(bus[:, BUS_I], bus[:, BASE_KV], strict=True))
    made = net._from_ppc_lookups["branch"]
    shunts: list[tuple[int, float]] = []
    for row, element, table in zip(branch, made["element"], made["element_type"], strict=True):
        at = int(element)
        if table == "impedance":
            net.impedance.loc[at, "in_service"] = bool(row[BR_STATUS])
            net.impedance.loc[at, "rating_mw"] = row[RATE_A] or np.inf
        elif table == "trafo":
            if kv[row[T_BUS]] > kv[row[F_BUS]]:
                net.trafo.loc[at, "tap_side"] = "lv"
                net.trafo.loc[at, "shift_degree"] = -row[SHIFT]
            if row[BR_B] and row[BR_STATUS]:
                half = row[BR_B] / 2 * case.base_mva
                shunts += [(int(row[F_BUS]), half / (row[TAP] or 1.0) ** 2), (int(row[T_BUS]), half)]
            net.trafo.loc[at, "i0_percent"] = 0.0
    if shunts:
        buses, mvar = zip(*shunts, strict=True)
        create_shunts(net, list(buses), q_mvar=[-one for one in mvar], p_mw=0.0)
