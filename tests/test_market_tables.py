"""Tables of a market day: files read back with h5py, csv and pandas, against the ledger and by hand."""

from __future__ import annotations

import csv
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

import networks.market.tables as tables_module
from admm import InputError
from benchmarks.market_settlement import recomputed
from networks.market.record import OUTSIDE
from networks.market.settlement import settle
from networks.market.tables import (
    Column,
    agents_table,
    gates_table,
    market_tables,
    positions_table,
    settlement_table,
    write_csv,
    write_tables,
)
from tests.small_problems import pair
from tests.test_settlement import SPREAD, hand_day
from tests.tolerances import EXACT


@pytest.fixture(scope="module")
def settlement():
    return settle(hand_day(), SPREAD)


@pytest.fixture(scope="module")
def results():
    """Of any coordination: what is looked at is only how it went."""
    return {gate: pair().solve(max_iterations=3 + gate) for gate in (-1, 0, 1, 2)}


@pytest.fixture(scope="module")
def tables(settlement, results):
    return market_tables(settlement, results)


def frame(table) -> pd.DataFrame:
    return pd.DataFrame({name: column.values for name, column in table.items()})


def test_the_ledger_entry_by_entry_with_gate_and_price(settlement):
    table, rows = frame(settlement_table(settlement)), pd.DataFrame(settlement.rows)
    keys = ["stage", "gate", "period", "coupling", "product", "quantity_mwh", "price_eur_per_mwh"]
    pd.testing.assert_frame_equal(table[keys], rows[keys], check_dtype=False)
    lower = rows.coupling.map({"ec": "ec", "dso": "dso", OUTSIDE: "tso"})
    assert table.lower.tolist() == lower.tolist()
    pays = np.where(rows.payer == lower, 1, -1) * rows.amount_eur
    assert table.lower_pays_eur.tolist() == pytest.approx(pays.tolist(), abs=EXACT)
    one = table.set_index(["product", "coupling", "period", "gate"])
    assert one.loc["intraday_energy", "ec", 1, 0].lower_pays_eur == 14.0
    assert one.loc["intraday_energy", "ec", 1, 1].lower_pays_eur == -12.0
    assert one.loc["intraday_energy", "ec", 1, 1].price_eur_per_mwh == 80.0
    assert one.loc["intraday_energy", "ec", 1, 1].time_utc == "2026-01-15T00:30Z"


def test_the_settlement_follows_from_the_csv_files_alone(tables, tmp_path: Path):
    write_tables(tmp_path, tables)
    found = recomputed(tmp_path)
    assert found.entries == len(tables["settlement"]["gate"].values) > 15
    assert (found.wrong_cents, found.wrong_agent_cents, found.sum_cents, found.wrong_signs) == (0, 0, 0, 0)
    assert max(found.position_error_mw, found.activation_error_mw, found.price_error_eur_per_mwh) <= EXACT


@pytest.mark.parametrize(
    ("file", "column", "row", "change", "shows"),
    [
        ("settlement.csv", "quantity_mwh", 0, 0.01, "wrong_cents"),
        ("settlement.csv", "lower_pays_eur", 3, 0.01, "wrong_cents"),
        ("settlement.csv", "price_eur_per_mwh", 0, 1.0, "price_error_eur_per_mwh"),
        ("positions.csv", "last_plan_mw", 0, 0.01, "position_error_mw"),
        ("positions.csv", "imbalance_eur_per_mwh", 0, 1.0, "price_error_eur_per_mwh"),
        ("agents.csv", "amount_eur", 0, 0.01, "wrong_agent_cents"),
    ],
)
def test_a_changed_cell_shows_when_the_settlement_is_recomputed(
    tables, tmp_path: Path, file: str, column: str, row: int, change: float, shows: str
):
    write_tables(tmp_path, tables)
    cells = pd.read_csv(tmp_path / file)
    cells.loc[row, column] += change
    cells.to_csv(tmp_path / file, index=False)
    assert getattr(recomputed(tmp_path), shows) > EXACT


def test_an_agents_amounts_add_up_to_minus_its_net_cost(settlement):
    table = frame(agents_table(settlement))
    net = -table.groupby("agent").amount_eur.sum(min_count=1)
    assert net["ec"] == pytest.approx(91.05, abs=EXACT)
    assert net["dso"] == pytest.approx(76.2, abs=EXACT)
    assert table[(table.agent == "tso") & (table["product"] == "own_cost")].amount_eur.isna().all()
    market = table[~table["product"].isin(["own_cost", "relief"])]
    assert market.groupby("product").amount_eur.sum().abs().max() <= EXACT
    assert set(table.agent) == {"ec", "dso", "tso", OUTSIDE}


def test_positions_by_hand(settlement):
    table = frame(positions_table(settlement)).set_index(["time_utc", "coupling", "quantity"])
    assert len(table) == 2 * 2 * 3
    ec = table.loc["2026-01-15T00:30Z", "ec", "p_mw"]
    assert ec.tolist() == pytest.approx([2.0, 2.1, 2.2, 60, 80, 76], abs=EXACT)
    up = table.loc["2026-01-15T00:00Z", "dso", "flex_up_mw"]
    assert up.tolist() == pytest.approx([0.2, 0.0, np.nan, -5, -3, np.nan], abs=EXACT, nan_ok=True)
    assert list(table.columns) == [
        "day_ahead_mw",
        "last_plan_mw",
        "realised_mw",
        "day_ahead_eur_per_mwh",
        "last_eur_per_mwh",
        "imbalance_eur_per_mwh",
    ]


def test_gates_in_order(results):
    table = frame(gates_table(hand_day(), dict(reversed(results.items()))))
    assert table.gate.tolist() == [-1, 0, 1, 2]
    assert table.time_utc.tolist() == ["", "2026-01-15T00:00Z", "2026-01-15T00:30Z", "2026-01-15T01:00Z"]
    assert table.iterations.tolist() == [2, 3, 4, 5]
    assert set(table.status) == {"max_iterations"}
    assert table.objective_eur.tolist() == [results[gate].objective for gate in (-1, 0, 1, 2)]
    assert table.largest_mismatch.tolist() == [results[gate].residuals.mismatch for gate in (-1, 0, 1, 2)]


def test_a_gate_that_does_not_exist_is_refused(results):
    with pytest.raises(InputError, match="there is no gate 3, expected numbers from -1 to 2"):
        gates_table(hand_day(), {3: results[0]})


def test_files_hold_the_tables(tables, tmp_path: Path):
    write_tables(tmp_path, tables)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*(f"{name}.csv" for name in tables), "market.h5"])
    with h5py.File(tmp_path / "market.h5") as file:
        assert set(file) == set(tables) == {"settlement", "agents", "activation", "positions", "gates"}
        for name, table in tables.items():
            group = file[name]
            assert list(group) == list(table)
            with (tmp_path / f"{name}.csv").open(encoding="utf-8", newline="") as text:
                cells = pd.DataFrame(list(csv.DictReader(text)))
            assert list(cells) == list(table)
            for key, column in table.items():
                data = group[key]
                assert (data.attrs["unit"], data.attrs["description"]) == (column.unit, column.description)
                if column.values.dtype == object:
                    assert tuple(h5py.check_string_dtype(data.dtype)) == ("utf-8", None)  # None: of any length
                    assert data.asstr()[:].tolist() == column.values.tolist() == cells[key].tolist()
                else:
                    assert np.array_equal(data[:], column.values, equal_nan=column.values.dtype.kind == "f")
                    from_text = [float(cell) if cell else np.nan for cell in cells[key]]
                    assert np.array_equal(from_text, column.values, equal_nan=True)


def test_the_lines_for_pandas_in_the_docstring_work(tables, tmp_path: Path, monkeypatch):
    write_tables(tmp_path, tables)
    monkeypatch.chdir(tmp_path)
    after = tables_module.__doc__.split("With pandas:\n")[1]
    names: dict = {}
    exec(textwrap.dedent(after), names)
    pd.testing.assert_frame_equal(names["positions"], frame(tables["positions"]))


def test_numbers_have_units_and_texts_have_none(tables):
    for table in tables.values():
        for name, column in table.items():
            assert bool(column.unit) == (column.values.dtype != object), name
            ending = {"eur": "EUR", "mwh": "MWh", "mw": "MW"}.get(name.rpartition("_")[2])
            assert ending is None or column.unit in (ending, "EUR/MWh")


def test_names_with_commas_and_other_letters(tmp_path: Path):
    table = {"agent": Column(np.array(["a,b", 'Bürger "Nord"', "Ωmega"], dtype=object), "", "who")}
    write_tables(tmp_path, {"agents": table})
    with (tmp_path / "agents.csv").open(encoding="utf-8", newline="") as text:
        assert [row["agent"] for row in csv.DictReader(text)] == table["agent"].values.tolist()
    with h5py.File(tmp_path / "market.h5") as file:
        assert file["agents/agent"].asstr()[:].tolist() == table["agent"].values.tolist()


def test_a_number_that_is_not_there_is_an_empty_cell(tmp_path: Path):
    write_csv(
        tmp_path / "x.csv", {"a": Column(np.array([0.1, np.nan]), "MW", "x"), "n": Column(np.arange(2), "1", "y")}
    )
    assert (tmp_path / "x.csv").read_text() == "a,n\n0.1,0\n,1\n"


def test_a_table_without_rows(tmp_path: Path):
    write_tables(
        tmp_path, {"none": {"a": Column(np.array([], dtype=object), "", "x"), "b": Column(np.zeros(0), "1", "y")}}
    )
    assert (tmp_path / "none.csv").read_text() == "a,b\n"
    with h5py.File(tmp_path / "market.h5") as file:
        assert file["none/a"].shape == file["none/b"].shape == (0,)


def test_a_file_that_fails_leaves_the_old_one(tmp_path: Path, tables):
    write_tables(tmp_path, tables)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    ragged = {"a": Column(np.zeros(2), "1", "x"), "b": Column(np.zeros(3), "1", "y")}
    for name in ("agents", "other"):
        with pytest.raises(InputError, match="expected the same number of rows in all"):
            write_tables(tmp_path, {name: ragged})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_folder_that_is_not_there(tmp_path: Path, tables):
    (tmp_path / "file").write_text("")
    for folder in ("nowhere", "file"):
        with pytest.raises(InputError, match="cannot be written"):
            write_csv(tmp_path / folder / "agents.csv", tables["agents"])
        with pytest.raises(InputError, match="cannot be"):
            write_tables(tmp_path / folder, tables)
