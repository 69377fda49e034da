"""The bundled cases are listed, valid and current; a case made from nothing runs and writes what the contract says."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest

from networks.case import load_case
from networks.case_file import BUNDLED
from networks.cases import build_feeder118_gas65, build_ieee33_10ec
from tests.case_tools import BUNDLED_CASE, Ended, copy_case, tieline
from tests.tolerances import EXACT, FLOW_PU

HUB_CASE = "feeder118-gas65"
VARIANTS = {
    BUNDLED_CASE: ("", ":winter-15min", ":summer", ":summer-15min", ":winter-week"),
    HUB_CASE: ("", ":summer", ":pv-150", ":gate-lost", ":one-operator"),
}
NAMES = [case + variant for case, variants in VARIANTS.items() for variant in variants]
IDENTITY_KEYS = {"case", "case_sha256", "scheme", "penalty", "ranks", "agents", "versions", "complete"}
OUTCOME_KEYS = {"converged", "certified_gap", "iterations", "objective_eur", "wall_seconds", "bytes_exchanged"}
ERROR_KEYS = {"primal_residual", "dual_residual", "primal_tolerance", "dual_tolerance", "ac_max_voltage_error_pu"}
HISTORY_COLUMNS = ("primal_residual", "dual_residual", "primal_tolerance", "dual_tolerance", "penalty", "seconds")
PERIODS = 24
CONSENSUS_SHARE = 1e-3
"""Default of --tolerance: largest mismatch as a share of a quantity's scale."""
P_SCALE_MW = {"shop-feeder": 0.4, "homes-feeder": 0.45}
"""connection_kw of the made case."""
POWER_KW = 1e-3
"""How exactly a schedule must hold its own power balance, of several 100 kW."""


def test_every_case_and_variant_is_listed(capsys) -> None:
    ended = tieline(capsys, "cases")
    assert ended.code == 0
    assert sorted(line.split()[0] for line in ended.out.splitlines()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_variant_is_valid(name: str, capsys) -> None:
    ended = tieline(capsys, "check", name)
    assert ended.code == 0, ended.errors
    assert "everything is valid" in ended.out and ended.errors == ""
    agents = load_case(name).agents
    answers = [line.split()[0] for line in ended.out.splitlines() if "boundary values" in line]
    assert answers == list(agents)


def test_the_copy_that_other_tests_spoil_is_valid(tmp_path: Path, capsys) -> None:
    assert tieline(capsys, "check", copy_case(tmp_path)).code == 0


@pytest.mark.parametrize(
    ("name", "build", "agents"),
    [(BUNDLED_CASE, build_ieee33_10ec, build_ieee33_10ec.COMMUNITIES), (HUB_CASE, build_feeder118_gas65, range(16))],
)
def test_the_committed_files_are_what_the_generator_writes(name, build, agents, tmp_path: Path, monkeypatch) -> None:
    committed = BUNDLED / name
    for file in ("source_profiles.csv", "hubs.csv"):
        if (committed / file).exists():
            (tmp_path / file).write_bytes((committed / file).read_bytes())
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    build.main()
    files = sorted(
        path.relative_to(tmp_path) for folder in ("agents", "profiles") for path in (tmp_path / folder).iterdir()
    )
    assert len(files) == 2 * len(agents) + 1
    assert files == sorted(p.relative_to(committed) for f in ("agents", "profiles") for p in (committed / f).iterdir())
    for file in files:
        assert (tmp_path / file).read_bytes() == (committed / file).read_bytes(), file


def test_the_week_goes_from_monday_to_sunday_and_holds_the_winter_day() -> None:
    week, day = load_case(f"{BUNDLED_CASE}:winter-week"), load_case(BUNDLED_CASE)
    local = [stamp + timedelta(hours=week.horizon.utc_offset_hours) for stamp in week.horizon.stamps()]
    assert (local[0].weekday(), local[0].hour) == (0, 0) and (local[-1].weekday(), local[-1].hour) == (6, 23)
    thursday = slice(72, 96)
    assert week.horizon.stamps()[thursday] == day.horizon.stamps()
    assert len(day.profiles.names) == 5
    for name in day.profiles.names:
        assert week.profiles.series(name)[thursday] == pytest.approx(day.profiles.series(name), abs=EXACT)


CASE_TOML = """
name = "made"

[horizon]
start = 2024-05-01T00:00:00Z
periods = 24
step_minutes = 60

[[network]]
name = "grid"
kind = "transmission"
source = "ieee57"
reserve_up_share = 0.01

[[network]]
name = "feeder"
kind = "distribution"
source = "feeder.json"
upstream = "grid"
upstream_bus = 9
feeders = 20
voltage_min_pu = 0.9

[[agent]]
name = "shop"
kind = "community"
network = "feeder"
bus = 2
file = "shop.toml"
connection_kw = 400.0

[[agent]]
name = "homes"
kind = "community"
network = "feeder"
bus = 3
file = "homes.toml"
connection_kw = 450
power_factor = 0.95
"""
LIMITS = "import_limit_kw = 400\nexport_limit_kw = 400\n"
LOAD = '[[devices]]\nkind = "load"\nname = "load"\npower_kw = {}\n'
PV = '[[devices]]\nkind = "pv"\nname = "roof"\ninstalled_kw = 150\navailable_pu = "sun_pu"\n'
BATTERY = '[[devices]]\nkind = "battery"\nname = "store"\ncapacity_kwh = 200\ncharge_kw = 100\ndischarge_kw = 100\n'


def write_feeder(path: Path) -> None:
    """Four buses in a row at 10 kV, two of them with load, as pandapower saves it."""
    import pandapower as pp

    net = pp.create_empty_network(name="four buses")
    buses = [pp.create_bus(net, 10.0) for _ in range(4)]
    pp.create_ext_grid(net, buses[0], vm_pu=1.0)
    for start, end in pairwise(buses):
        pp.create_line_from_parameters(net, start, end, 2.0, 0.3, 0.2, 0.0, 0.2)
    pp.create_load(net, buses[1], 0.4, 0.1)
    pp.create_load(net, buses[3], 0.2, 0.05)
    pp.to_json(net, str(path))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "case"
    folder.mkdir()
    write_feeder(folder / "feeder.json")
    (folder / "case.toml").write_text(CASE_TOML)
    (folder / "shop.toml").write_text(LIMITS + LOAD.format(120.0) + BATTERY)
    (folder / "homes.toml").write_text(LIMITS + LOAD.format('"load_kw"') + PV)
    sun = np.maximum(0, np.sin((np.arange(PERIODS) - 6) * np.pi / 12))
    rows = [f"2024-05-01T{hour:02d}:00Z,{100 + 5 * hour},{sun[hour]:.3f}" for hour in range(PERIODS)]
    (folder / "homes.csv").write_text("\n".join(["time_utc,load_kw,sun_pu", *rows]))
    return folder


@pytest.fixture(scope="module")
def result(made: Path) -> tuple[Ended, Path]:
    """The made case run once: how it ended and its output folder."""
    from admm.cli import main

    out = made.parent / "out"
    return Ended(main(["run", str(made), "--out", str(out)]), "", ""), out


def test_a_made_case_converges_and_passes_the_ac_check(result) -> None:
    ended, out = result
    assert ended.code == 0
    summary = json.loads((out / "summary.json").read_text())
    assert not (IDENTITY_KEYS | OUTCOME_KEYS | ERROR_KEYS) - summary.keys() and list(summary)[-1] == "complete"
    assert not [key for key, value in summary.items() if isinstance(value, (dict, list))]
    assert (summary["case"], summary["agents"], summary["ranks"]) == ("made", 4, 1)
    assert summary["converged"] is True and summary["complete"] is True and summary["certified_gap"] is None
    assert summary["primal_residual"] <= summary["primal_tolerance"]
    assert summary["dual_residual"] <= summary["dual_tolerance"]
    assert 0 < summary["ac_max_voltage_error_pu"] <= FLOW_PU


def test_the_history_has_a_row_an_iteration(result) -> None:
    _, out = result
    summary = json.loads((out / "summary.json").read_text())
    with h5py.File(out / "history.h5") as file:
        rows = {name: file["iteration"][name][()] for name in HISTORY_COLUMNS}
    assert {row.shape for row in rows.values()} == {(summary["iterations"],)}
    for name in HISTORY_COLUMNS[:4]:
        assert rows[name][-1] == pytest.approx(summary[name], rel=EXACT)
    assert (np.diff(rows["seconds"]) >= 0).all()


def test_the_boundary_has_both_sides_and_the_price(result) -> None:
    _, out = result
    with h5py.File(out / "boundary.h5") as file:
        assert sorted(file) == ["feeder-grid", "homes-feeder", "shop-feeder"]
        for name, coupling in file.items():
            assert sorted(coupling) == ["flex_down_mw", "flex_up_mw", "p_mw"]
            for quantity in coupling.values():
                assert {key: data.shape for key, data in quantity.items()} == dict.fromkeys(
                    ("lower", "upper", "price"), (PERIODS,)
                )
                assert [quantity[key].attrs["unit"] for key in ("lower", "upper")] == ["MW", "MW"]
                assert quantity["price"].attrs["unit"].startswith("EUR/MW")
                assert all("positive" in data.attrs["sign"] for data in quantity.values())
            if name in P_SCALE_MW:
                apart = np.abs(coupling["p_mw/lower"][()] - coupling["p_mw/upper"][()])
                assert apart.max() <= CONSENSUS_SHARE * P_SCALE_MW[name]


def test_private_results_add_up_and_agree_with_the_boundary(result) -> None:
    """What crosses the meter is the load, plus what is stored, less what the sun gives."""
    _, out = result
    assert sorted(p.name for p in (out / "private").iterdir()) == ["feeder.h5", "grid.h5", "homes.h5", "shop.h5"]
    hours = np.arange(PERIODS)
    with h5py.File(out / "private" / "homes.h5") as homes, h5py.File(out / "private" / "shop.h5") as shop:
        sun, store = homes["roof"], shop["store"]
        powers = {"homes": 100 + 5 * hours - sun["production_kw"][()]}
        powers["shop"] = 120 + store["charge_kw"][()] - store["discharge_kw"][()]
        assert [sun["production_kw"].attrs["unit"], store["energy_kwh"].attrs["unit"]] == ["kW", "kWh"]
        assert all(np.isfinite(file["objective_eur"][()]) for file in (homes, shop))
    with h5py.File(out / "boundary.h5") as file:
        for name, power_kw in powers.items():
            assert 1e3 * file[f"{name}-feeder/p_mw/lower"][()] == pytest.approx(power_kw, abs=POWER_KW)


def test_a_second_run_replaces_the_first_and_an_unfinished_one_says_so(result, made: Path, capsys) -> None:
    _, out = result
    first = json.loads((out / "summary.json").read_text())
    ended = tieline(capsys, "run", made, "--out", made.parent / "short", "--max-iterations", "2")
    assert ended.code == 3
    short = json.loads((made.parent / "short" / "summary.json").read_text())
    assert (short["converged"], short["iterations"], short["complete"]) == (False, 2, True)
    assert short["case_sha256"] == first["case_sha256"]
    assert tieline(capsys, "run", made, "--out", made.parent / "short").code == 0
    again = json.loads((made.parent / "short" / "summary.json").read_text())
    assert (again["converged"], again["iterations"]) == (True, first["iterations"])
    assert again["objective_eur"] == pytest.approx(first["objective_eur"], rel=EXACT)
