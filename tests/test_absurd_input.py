"""Numbers, names and times that cannot be meant are refused in one line: file, line or element, key, value, range."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest

from admm import InputError
from subproblems.devices import CHP
from subproblems.devices.sizes import LARGEST_OF, is_sensible, is_tiny, largest, unit_by_name
from tests.case_tools import Ended, tieline

CASES = Path(__file__).parent / "data" / "failing"
CASE, AGENT, OWN, PUBLIC = "case.toml", "agents/a1.toml", "agents/a1.csv", "profiles/public.csv"
BRANCH, BUS = "feeder/branch.csv", "feeder/bus.csv"
START = "2024-01-15T00:00:00Z"

ABSURD: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "x of 100 kohm": (BRANCH, "0.5,0.3", "0.5,100000", ("branch.csv: line 2: x_ohm is '100000'", "10000 ohm")),
    "rating": (BRANCH, ",0,300", ",0,1e15", ("branch.csv: line 2: I_max_A is '1e15'", "1e+06 A")),
    "load of a bus": (BUS, "PQ,10,200", "PQ,10,1e15", ("bus.csv: line 3: Pd_kW is '1e15'", "1e+07 kW")),
    "huge store": (AGENT, "capacity_kwh = 200", "capacity_kwh = 1e12", ("battery 'bat': capacity_kwh is 1e+12", "kWh")),
    "tiny store": (AGENT, "capacity_kwh = 200", "capacity_kwh = 1e-300", ("capacity_kwh is 1e-300", "at least 1e-09")),
    "negative zero": (AGENT, "charge_kw = 80", "charge_kw = -0.0", ("charge_kw is -0.0, expected greater than 0",)),
    "wear": (
        AGENT,
        "charge_kw = 80",
        "charge_kw = 80\nwear_cost_eur_per_kwh = 1e19",
        ("a1.toml", "wear_cost_eur_per_kwh is 1e+19", "at most 10000 EUR/kWh"),
    ),
    "own profile": (OWN, ",100.0", ",1e15", ("power_kw: ", "a1.csv: line 2: load_kw is '1e15'", "1e+07 kW")),
    "price": (CASE, '= "price"', "= 1e19", ("network 'dso'", "supply_price_eur_per_mwh is 1e+19", "EUR/MWh")),
    "price profile": (PUBLIC, "Z,50,", "Z,1e11,", ("supply_price_eur_per_mwh: 'price' is 1e+11 at 2024-01-15T00:00Z",)),
    "profile": (PUBLIC, "Z,50,0.8", "Z,50,1e15", ("public.csv: line 2: load_pu is '1e15'", "at most 1e+06 pu")),
    "limit": (CASE, "[[agent]]", "substation_limit_mva = 1e-300\n[[agent]]", ("substation_limit_mva is 1e-300",)),
    "nominal price": (CASE, "[[network]]", "[prices]\nenergy_eur_per_mwh = 1e19\n[[network]]", ("[prices]", "1e+19")),
    "power factor": (
        CASE,
        "connection_kw = 500.0",
        "connection_kw = 5\npower_factor = 1e-8",
        ("power_factor is 1e-08",),
    ),
    "far year": (CASE, START, "9999-12-31T23:00:00Z", ("start is 9999-12-31", "a year from 1900 to 2200")),
    "first year": (CASE, START, "0001-01-01T00:00:00Z", ("start is 0001-01-01", "a year from 1900 to 2200")),
    "date alone": (CASE, START, "2024-01-15", ("start is 2024-01-15, expected a date and time",)),
    "number of thousands of digits": (CASE, "= 500.0", "= " + "1" * 5000, ("case.toml", "thousands of digits")),
    "number of hundreds of digits": (CASE, "= 500.0", "= 1" + "0" * 400, ("connection_kw is a number of hundreds",)),
    "infinite": (CASE, "= 500.0", "= 1e400", ("connection_kw is inf, expected a finite number",)),
    "truth": (AGENT, "charge_kw = 80", "charge_kw = true", ("charge_kw is True, expected a number",)),
    "other digits": (CASE, "= 500.0", "= \u0663", ("case.toml: is not valid TOML",)),
    "other digits in a table": (OWN, ",100.0", ",\u0663", ("a1.csv: line 2: load_kw is", "a finite number")),
    "long name": (CASE, '"a1"', f'"{"a" * 250}"', ("name is 'aaaa", "(250 characters), expected at most 100")),
    "name in other case": (CASE, '"a1"', '"DSO"', ("'dso' and 'DSO' differ in case only", "another name")),
    "name of a checkpoint": (CASE, '"a1"', '"dso.checkpoint-5"', ("'dso.checkpoint-5' contains '.checkpoint-'",)),
    "number for a name": (CASE, '"a1"', "5", ("name is 5, expected text",)),
    "dots": (CASE, '"a1"', '".."', ("name is '..'", "letters, digits")),
}


def checked(tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, old: str, new: str) -> Ended:
    """`tieline check` of a small case with one text changed; every warning is an error."""
    case = Path(shutil.copytree(CASES / "unused_text_column", tmp_path / "case"))
    text = (case / file).read_text(encoding="utf-8")
    assert old in text
    (case / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return tieline(capsys, "check", case)


@pytest.mark.parametrize(("file", "old", "new", "words"), ABSURD.values(), ids=ABSURD.keys())
def test_what_cannot_be_meant_is_refused_in_one_line(file, old, new, words, tmp_path: Path, capsys) -> None:
    ended = checked(tmp_path, capsys, file, old, new)
    assert ended.code == 2 and ended.errors.count("\n") == 1, ended
    assert all(part in ended.errors for part in words), ended.errors


def test_a_huge_store_is_refused_at_its_own_key(capsys) -> None:
    ended = tieline(capsys, "check", CASES / "huge_capacity")
    assert ended.code == 2 and "unbounded" not in ended.errors
    assert "battery 'bat': capacity_kwh is 1e+12, expected a number of at most 1e+09 kWh" in ended.errors


def test_the_largest_store_that_is_taken_is_no_unbounded_program(tmp_path: Path, capsys) -> None:
    """It never binds, so the optimum is that of any large store."""
    assert checked(tmp_path, capsys, AGENT, "capacity_kwh = 200", "capacity_kwh = 1e9").code == 0


def test_a_name_of_100_letters_is_taken(tmp_path: Path, capsys) -> None:
    case = Path(shutil.copytree(CASES / "unused_text_column", tmp_path / "case"))
    text = (case / CASE).read_text().replace('"a1"', f'"{"a" * 100}"').replace("periods = 24", "periods = 2")
    (case / CASE).write_text(text)
    ended = tieline(capsys, "run", case, "--out", tmp_path / "out", "--max-iterations", "3")
    assert ended.code == 3, ended
    assert (tmp_path / "out" / "private" / f"{'a' * 100}.h5").is_file()


@pytest.mark.parametrize("unit", LARGEST_OF)
def test_every_unit_has_one_range(unit: str) -> None:
    assert largest(f"{unit} (heat)") == LARGEST_OF[unit]
    assert is_sensible(-LARGEST_OF[unit], unit) and not is_sensible(1.001 * LARGEST_OF[unit], unit)


def test_units_are_known_by_the_ends_of_names() -> None:
    names = {"x_ohm": "ohm", "load_kw": "kW", "Pd_kW": "kW", "I_max_A": "A", "cost_eur_per_mwh": "EUR/MWh", "sky": ""}
    assert {name: unit_by_name(name) for name in names} == names
    assert is_tiny(1e-300) and not is_tiny(0) and not is_tiny(1e-9)


def test_a_number_of_a_device_from_python_has_the_same_range() -> None:
    with pytest.raises(InputError, match=r"chp .c.: rated_kw is 1e\+19, expected a number of at most 1e\+07 kW"):
        CHP(name="c", rated_kw=1e19, electric_efficiency=0.3, thermal_efficiency=0.5)
