"""Tidy tables of a day on the market: one CSV file each, and all of them in one HDF5 file.

In the HDF5 file a table is a group and each of its columns a dataset (rows,) with the attributes `unit` and
`description`; texts are UTF-8. With pandas:

    import h5py, pandas as pd
    rows = {name: (c.asstr() if c.dtype == "O" else c)[:] for name, c in h5py.File("market.h5")["positions"].items()}
    positions = pd.DataFrame(rows)
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from admm import InputError, Result
from admm.history import new_file
from admm.whole_file import write_whole
from networks.market.record import DayRecord
from networks.market.settlement import CENTS_PER_EUR, DAY_AHEAD_GATE, PRODUCTS, STAGES, Settlement
from networks.market.tariffs import ENERGY, QUANTITIES

HDF5_FILE = "market.h5"
TEXT = ""
"""The unit of a column of texts."""


class Column(NamedTuple):
    """values: (rows,), numbers or texts; NaN where there is no number."""

    values: np.ndarray
    unit: str
    description: str


Table = Mapping[str, Column]
"""{name of the column: column}; all columns have the same number of rows."""


# -------------------------------------------------------------------- the tables


def settlement_table(settlement: Settlement) -> Table:
    """List the ledger: one row an entry, in the order of time.

    Within a coupling and a product, an amount is the growth of the running sum of quantity x price, rounded to whole
    cents. So the whole settlement follows from this table.
    """
    entries = settlement.entries
    stage, period, account, product = (entries[key] for key in ("stage", "period", "account", "product"))
    ends = np.array(list(settlement.accounts.values()), dtype=object)
    return {
        "stage": Column(_texts(STAGES)[stage], TEXT, "day-ahead, intra-day or imbalance"),
        "gate": Column(
            entries["gate"].astype(int), "1", "period that it lies before, -1 day-ahead; imbalance: the period"
        ),
        "period": Column(period.astype(int), "1", "number of the period of delivery, from 0"),
        "time_utc": Column(_times(settlement.record)[period], TEXT, "start of the period of delivery"),
        "coupling": Column(_texts(settlement.accounts)[account], TEXT, "where it is traded"),
        "product": Column(_texts(PRODUCTS)[product], TEXT, "what is traded"),
        "lower": Column(ends[account, 0], TEXT, "agent that takes and pays what is positive"),
        "upper": Column(ends[account, 1], TEXT, "agent that gives and receives what is positive"),
        "quantity_mwh": Column(entries["quantity_mwh"], "MWh", "what the lower agent takes, per feeder"),
        "price_eur_per_mwh": Column(entries["price_eur_per_mwh"], "EUR/MWh", "positive: the lower agent pays"),
        "lower_pays_eur": Column(
            entries["cents"] / CENTS_PER_EUR, "EUR", "what the lower agent pays the upper one, per feeder"
        ),
    }


def agents_table(settlement: Settlement) -> Table:
    """What each agent received, less what it paid, by product; and as negative amounts its own_cost and relief.

    An agent's amounts add up to minus its net cost. Over all agents and the outside, a product adds up to 0.
    """
    record, rows = settlement.record, []
    for agent, products in settlement.by_agent().items():
        rows += [(agent, product, amount) for product, amount in products.items()]
        if agent in record.costs_eur:
            rows.append((agent, "own_cost", -_number(record.costs_eur[agent])))
            rows.append((agent, "relief", -_number(record.relief_eur.get(agent, 0.0))))
    agent, product, amount = zip(*rows, strict=True)
    return {
        "agent": Column(_texts(agent), TEXT, "who"),
        "product": Column(_texts(product), TEXT, "a product, own_cost, or relief: limits that gave way"),
        "amount_eur": Column(np.array(amount) + 0.0, "EUR", "received minus paid; NaN, not known"),  # no -0.0
    }


def activation_table(settlement: Settlement) -> Table:
    """Flexibility held, used, and what came otherwise, by coupling: see `Settlement.activated_mwh`."""
    found = settlement.activated_mwh()
    words = {
        "contracted_up": "up flexibility held day-ahead",
        "contracted_down": "down flexibility held day-ahead",
        "inside_up": "last plan below the day-ahead one, within what was held",
        "inside_down": "last plan above the day-ahead one, within what was held",
        "beyond_up": "last plan below the day-ahead one, beyond what was held",
        "beyond_down": "last plan above the day-ahead one, beyond what was held",
        "short": "more consumption than in the last plan",
        "long": "less consumption than in the last plan",
    }
    columns = {
        f"{what}_mwh": Column(np.array([one[what] for one in found.values()]), "MWh", of) for what, of in words.items()
    }
    return {"coupling": Column(_texts(found), TEXT, "whose lower agent it is"), **columns}


def positions_table(settlement: Settlement) -> Table:
    """List what was agreed on and what happened: one row a period, coupling and quantity."""
    record = settlement.record
    names, count, periods = list(record.couplings), len(QUANTITIES), record.periods

    def rows(values: Sequence[np.ndarray]) -> np.ndarray:
        """From one array (couplings, T) a quantity, by period, coupling and quantity."""
        return np.stack(values).transpose(2, 1, 0).ravel()

    positions = [record.positions_mw(quantity) for quantity in QUANTITIES]
    prices = [record.prices_eur_per_mwh(quantity) for quantity in QUANTITIES]
    last = [record.last_prices_eur_per_mwh(quantity) for quantity in QUANTITIES]
    nothing = np.full((len(names), periods), np.nan)
    imbalance = [settlement.imbalance_eur_per_mwh if quantity == ENERGY else nothing for quantity in QUANTITIES]
    realised = [record.realised_mw() if quantity == ENERGY else nothing for quantity in QUANTITIES]
    each = "EUR/MWh"
    return {
        "time_utc": Column(np.repeat(_times(record)[:-1], len(names) * count), TEXT, "start of the period"),
        "coupling": Column(np.tile(np.repeat(_texts(names), count), periods), TEXT, "where it is traded"),
        "quantity": Column(np.tile(_texts(QUANTITIES), periods * len(names)), TEXT, "p_mw is what the lower one takes"),
        "day_ahead_mw": Column(rows([mw[0] for mw in positions]), "MW", "agreed on day-ahead"),
        "last_plan_mw": Column(rows([mw[-1] for mw in positions]), "MW", "agreed on at the period's own gate"),
        "realised_mw": Column(rows(realised), "MW", "what was exchanged; NaN for flexibility"),
        "day_ahead_eur_per_mwh": Column(
            rows([eur[0] for eur in prices]), each, "price day-ahead, positive: lower pays"
        ),
        "last_eur_per_mwh": Column(rows(last), each, "price at the period's own gate, positive: lower pays"),
        "imbalance_eur_per_mwh": Column(rows(imbalance), each, "price of realised less last plan; NaN for flexibility"),
    }


def gates_table(record: DayRecord, results: Mapping[int, Result]) -> Table:
    """List how each coordination went, without its time: tables of the same day are the same to the byte.

    Args:
        record: the day.
        results: by gate, -1 for the day-ahead market, T for the closing step.
    """
    wrong = [gate for gate in results if not DAY_AHEAD_GATE <= gate <= record.periods]
    if wrong:
        raise InputError(f"gates: there is no gate {wrong[0]}, expected numbers from -1 to {record.periods}")
    gates, times = sorted(results), _times(record)
    found = [results[gate] for gate in gates]

    def numbers(values: Iterator[float | None]) -> np.ndarray:
        return np.array([_number(value) for value in values], dtype=float)

    return {
        "gate": Column(np.array(gates, dtype=int), "1", "-1: day-ahead; T, the number of periods: closing step"),
        "time_utc": Column(
            _texts("" if gate == DAY_AHEAD_GATE else times[gate] for gate in gates), TEXT, "empty day-ahead"
        ),
        "iterations": Column(np.array([one.iterations for one in found], dtype=int), "1", "of the coordination"),
        "status": Column(_texts(one.status.name.lower() for one in found), TEXT, "how it ended"),
        "objective_eur": Column(numbers(one.objective for one in found), "EUR", "sum of costs; NaN where not shared"),
        "largest_mismatch": Column(numbers(one.residuals.mismatch for one in found), "1", "as a share of the scale"),
    }


def market_tables(settlement: Settlement, results: Mapping[int, Result]) -> dict[str, Table]:
    """All of the above, by name."""
    return {
        "settlement": settlement_table(settlement),
        "agents": agents_table(settlement),
        "activation": activation_table(settlement),
        "positions": positions_table(settlement),
        "gates": gates_table(settlement.record, results),
    }


# -------------------------------------------------------------------- files


def write_tables(folder: str | os.PathLike[str], tables: Mapping[str, Table], run_id: str = "") -> None:
    """Write market.h5 with all tables, then TABLE.csv each: a CSV file carries no run id, and is known by the former.

    A file that is there is whole. Raises InputError, OutputError.
    """
    write_hdf5(Path(folder) / HDF5_FILE, tables, run_id)
    for name, table in tables.items():
        write_csv(Path(folder) / f"{name}.csv", table)


def write_csv(path: str | os.PathLike[str], table: Table) -> None:
    """A header and the rows; a number that is not there is an empty cell."""
    rows = zip(*(_cells(column.values) for column in _checked(str(path), table).values()), strict=True)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(rows)
    write_whole(Path(path), text.getvalue().encode())


def write_hdf5(path: str | os.PathLike[str], tables: Mapping[str, Table], run_id: str = "") -> None:
    """/TABLE/COLUMN, (rows,), in the order of the tables' columns."""
    with new_file(Path(path), run_id=run_id) as file:
        for name, table in tables.items():
            group = file.create_group(name, track_order=True)
            for key, column in _checked(f"{path}: {name}", table).items():
                kind = h5py.string_dtype() if column.values.dtype == object else column.values.dtype
                data = group.create_dataset(key, data=column.values, dtype=kind)
                data.attrs["unit"], data.attrs["description"] = column.unit, column.description


def _checked(where: str, table: Table) -> Table:
    lengths = {name: np.shape(column.values) for name, column in table.items()}
    if len(set(lengths.values())) != 1 or len(next(iter(lengths.values()))) != 1:
        raise InputError(f"{where}: columns have the shapes {lengths}, expected the same number of rows in all")
    return table


def _cells(values: np.ndarray) -> list[Any]:
    """As Python numbers and texts: their shortest words read back as the same number."""
    return ["" if value != value else value for value in values.tolist()]


def _times(record: DayRecord) -> np.ndarray:
    """Starts of the periods and the end of the day, (T + 1,)."""
    return _texts(record.time_utc(period) for period in range(record.periods + 1))


def _texts(values: Any) -> np.ndarray:
    return np.array([str(value) for value in values], dtype=object)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
