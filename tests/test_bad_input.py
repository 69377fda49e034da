"""Every bad input ends with its exit code and one clear message, and nothing is written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse as sp

import admm
from networks.case_file import BUNDLED, CASE_FILE
from subproblems import QPAgent, QuadraticProgram
from tests.case_tools import (
    BUNDLED_CASE,
    Ended,
    Mutation,
    copy_case,
    edit,
    edit_lines,
    folder_instead,
    own_feeder,
    remove,
    tieline,
    write,
)
from tests.conftest import ROOT

BAD_INPUT, INFEASIBLE = 2, 4
HOMES, HOMES_CSV = "agents/ec01-homes.toml", "agents/ec01-homes.csv"
CARS = "agents/ec02-homes-cars.toml"
PUBLIC = "profiles/public.csv"
FIRST_DSO_AGENT = 'name = "ec01-homes"\nkind = "community"\nnetwork = "dso"'
BINARY = bytes(range(256))
OLDER_RESULT = ("summary.json", "history.h5", "boundary.h5", "private/ec01-homes.h5")


class Bad(NamedTuple):
    """A change to the case and what the message must say: where, which key, what was found, what to try."""

    change: Mutation
    words: tuple[str, ...]


FILES = {
    "no case file": Bad(remove(CASE_FILE), ("case.toml: file not found",)),
    "no agent file": Bad(remove(HOMES), (f"{HOMES}: file not found",)),
    "misspelt agent file": Bad(
        edit(CASE_FILE, 'file = "agents/ec01-homes.toml"', 'file = "agents/ec01-home.toml"'),
        ("agents/ec01-home.toml: file not found", "did you mean 'ec01-homes.toml'?"),
    ),
    "no agents folder": Bad(
        edit(CASE_FILE, 'file = "agents/ec01-homes.toml"', 'file = "agent/ec01-homes.toml"'),
        ("agent/ec01-homes.toml: file not found", "there is no folder", "/agent"),
    ),
    "no profile file": Bad(remove(PUBLIC), (f"{PUBLIC}: file not found",)),
    "misspelt profile file": Bad(
        edit(CASE_FILE, "profiles/public.csv", "profiles/publik.csv"),
        ("profiles/publik.csv: file not found", "did you mean 'public.csv'?"),
    ),
    "no profiles of an agent": Bad(
        remove(HOMES_CSV), (HOMES, "load 'load'", "power_kw", "no column 'load_kw' in public.csv")
    ),
    "folder as case file": Bad(folder_instead(CASE_FILE), ("case.toml: cannot be read", "directory")),
    "folder as agent file": Bad(folder_instead(HOMES), (f"{HOMES}: cannot be read", "directory")),
    "folder as profile file": Bad(folder_instead(PUBLIC), (f"{PUBLIC}: cannot be read", "directory")),
    "folder as an agent's profiles": Bad(folder_instead(HOMES_CSV), (f"{HOMES_CSV}: cannot be read", "directory")),
    "binary case file": Bad(write(CASE_FILE, BINARY), ("case.toml", "text file")),
    "binary agent file": Bad(write(HOMES, BINARY), (HOMES, "text file")),
    "binary agent profiles": Bad(write(HOMES_CSV, BINARY), (HOMES_CSV, "text file")),
    "nothing but zeros": Bad(write(HOMES_CSV, bytes(100)), (HOMES_CSV,)),
    "empty case file": Bad(write(CASE_FILE, b""), ("case.toml", "key 'name' is missing")),
    "empty agent file": Bad(write(HOMES, b""), (HOMES, "'import_limit_kw' is missing", "kW")),
    "empty profiles": Bad(write(PUBLIC, b""), (PUBLIC, "time_utc")),
    "invalid TOML": Bad(edit(CASE_FILE, "periods = 24", "periods = "), ("case.toml", "not valid TOML", "line 9")),
    "invalid TOML of an agent": Bad(edit(HOMES, "[[devices]]", "[[devices]"), (HOMES, "not valid TOML", "line 8")),
    "agent file outside": Bad(
        edit(CASE_FILE, "agents/ec01-homes.toml", "../ec01-homes.toml"),
        ("case.toml", "'../ec01-homes.toml' lies outside the case folder", "move it"),
    ),
    "profile file outside": Bad(
        edit(CASE_FILE, "profiles/public.csv", "/etc/hostname"), ("case.toml", "'/etc/hostname'", "outside")
    ),
    "grid outside": Bad(edit(CASE_FILE, '"ieee33"', '"../ieee33"'), ("case.toml", "'../ieee33'", "outside")),
}

KEYS = {
    "unknown key at the top": Bad(
        edit(CASE_FILE, "profiles = [", "profile = ["),
        ("case.toml", "unknown key 'profile'", "did you mean 'profiles'?"),
    ),
    "unknown key of the horizon": Bad(
        edit(CASE_FILE, "step_minutes = 60", "step_minute = 60"),
        ("case.toml", "[horizon]", "unknown key 'step_minute'", "did you mean 'step_minutes'?"),
    ),
    "unknown key of a network": Bad(
        edit(CASE_FILE, "slack_voltage_pu", "slack_voltage"),
        ("case.toml", "network 'dso'", "unknown key 'slack_voltage'", "did you mean 'slack_voltage_pu'?"),
    ),
    "unknown key of an agent": Bad(
        edit(CASE_FILE, "connection_kw = 260.0", "conection_kw = 260.0"),
        ("case.toml", "agent 'ec01-homes'", "unknown key 'conection_kw'", "did you mean 'connection_kw'?"),
    ),
    "unknown key of a community": Bad(
        edit(HOMES, "import_limit_kw", "import_limt_kw"),
        (HOMES, "unknown key 'import_limt_kw'", "did you mean 'import_limit_kw'?"),
    ),
    "unknown key of a device": Bad(
        edit(HOMES, "charge_efficiency", "charge_efficency"),
        (HOMES, "battery 'battery'", "unknown key 'charge_efficency'", "did you mean 'charge_efficiency'?"),
    ),
    "unknown key of an EV class": Bad(
        edit(CARS, "charger_kw", "chargr_kw"),
        (CARS, "ev_fleet 'cars'", "class 'v2g'", "unknown key 'chargr_kw'", "did you mean 'charger_kw'?"),
    ),
    "unknown key of reactive support": Bad(
        edit(CASE_FILE, "q_max_mvar = 0.2", "q_max_kvar = 200"),
        ("case.toml", "network 'dso'", "q_max_kvar", "did you mean 'q_max_mvar'?"),
    ),
    "wrong unit": Bad(
        edit(HOMES, "capacity_kwh = 200", "capacity_mwh = 0.2"),
        (HOMES, "battery 'battery'", "unknown key 'capacity_mwh'", "did you mean 'capacity_kwh'?"),
    ),
    "wrong unit in the case": Bad(
        edit(CASE_FILE, "connection_kw = 260.0", "connection_mw = 0.26"),
        ("case.toml", "agent 'ec01-homes'", "unknown key 'connection_mw'", "did you mean 'connection_kw'?"),
    ),
    "unknown device kind": Bad(
        edit(HOMES, 'kind = "battery"', 'kind = "batery"'),
        (HOMES, "unknown kind 'batery'", "did you mean 'battery'?"),
    ),
    "no device kind": Bad(edit(HOMES, 'kind = "battery"\n', ""), (HOMES, "'kind' is missing", "battery")),
    "unknown network kind": Bad(
        edit(CASE_FILE, 'kind = "distribution"', 'kind = "distributon"'),
        ("case.toml", "network ('dso')", "unknown kind 'distributon'", "did you mean 'distribution'?"),
    ),
    "unknown agent kind": Bad(
        edit(CASE_FILE, 'kind = "community"', 'kind = "comunity"'),
        ("case.toml", "agent 'ec01-homes'", "'comunity'", "'community'"),
    ),
    "no bus": Bad(edit(CASE_FILE, "bus = 7\n", ""), ("case.toml", "agent 'ec01-homes'", "'bus' is missing")),
    "no horizon": Bad(
        edit_lines(CASE_FILE, lambda lines: [*lines[:6], *lines[11:]]),
        ("case.toml", "'horizon' is missing", "[horizon]"),
    ),
}

TYPES = {
    "text for a number": Bad(
        edit(HOMES, "capacity_kwh = 200", 'capacity_kwh = "200"'),
        (HOMES, "battery 'battery'", "capacity_kwh is '200'", "number"),
    ),
    "text for a number in the case": Bad(
        edit(CASE_FILE, "connection_kw = 260.0", 'connection_kw = "260"'),
        ("case.toml", "agent 'ec01-homes'", "connection_kw", "'260'", "number"),
    ),
    "fraction for a whole number": Bad(
        edit(CASE_FILE, "periods = 24", "periods = 24.5"), ("case.toml", "[horizon]", "periods is 24.5", "whole number")
    ),
    "float for a whole number": Bad(
        edit(CASE_FILE, "periods = 24", "periods = 24.0"), ("case.toml", "[horizon]", "periods is 24.0", "whole number")
    ),
    "fraction of a vehicle": Bad(
        edit(CARS, "vehicles = 15", "vehicles = 15.5"), (CARS, "class 'v2g'", "vehicles is 15.5", "whole number")
    ),
    "truth for a number": Bad(
        edit(CASE_FILE, "feeders = 25", "feeders = true"), ("case.toml", "network 'dso'", "feeders", "True")
    ),
    "list for a table": Bad(
        edit(CASE_FILE, "[prices]\nenergy_eur_per_mwh = 50.0\nflexibility_eur_per_mwh = 5.0", "[[prices]]"),
        ("case.toml", "prices", "table"),
    ),
    "table for a list": Bad(
        edit_lines(CASE_FILE, lambda lines: [*lines[:15], "[network]", *lines[lines.index("[[agent]]") :]]),
        ("case.toml", "network is a table", "expected a list"),
    ),
    "number for a list": Bad(
        edit(CASE_FILE, 'profiles = ["profiles/public.csv"]', "profiles = 3"), ("case.toml", "profiles", "3")
    ),
    "devices as a table": Bad(
        edit_lines(HOMES, lambda lines: [*lines[:6], "[devices]", 'kind = "load"']), (HOMES, "devices", "list")
    ),
    "no devices": Bad(
        edit_lines(HOMES, lambda lines: [*lines[:6], "devices = []"]), (HOMES, "devices is []", "at least one entry")
    ),
    "name that is a path": Bad(
        edit(CASE_FILE, 'name = "ec01-homes"', 'name = "../ec01"'), ("case.toml", "'../ec01'", "letters")
    ),
    "not a number": Bad(
        edit(HOMES, "capacity_kwh = 200", "capacity_kwh = nan"), (HOMES, "battery 'battery'", "capacity_kwh is nan")
    ),
    "infinite": Bad(
        edit(CASE_FILE, "load_scale = 0.6", "load_scale = inf"), ("case.toml", "network 'dso'", "load_scale", "inf")
    ),
}

HORIZON = {
    "start without time zone": Bad(
        edit(CASE_FILE, "23:00:00Z", "23:00:00"),
        ("case.toml: horizon: start", "2016-01-13 23:00", "with its offset", "Z"),
    ),
    "start in local time": Bad(
        edit(CASE_FILE, "23:00:00Z", "23:00:00+01:00"), ("case.toml: horizon: start", "+01:00", "UTC")
    ),
    "start not on a step": Bad(
        edit(CASE_FILE, "23:00:00Z", "23:10:00Z"), ("case.toml: horizon: start", "23:10", "60 minutes")
    ),
    "start that is no time": Bad(
        edit(CASE_FILE, "2016-01-13T23:00:00Z", '"tomorrow"'),
        ("case.toml", "[horizon]", "start is 'tomorrow'", "2016-01-14T00:00:00Z"),
    ),
    "start that is a number": Bad(
        edit(CASE_FILE, "2016-01-13T23:00:00Z", "1452726000"),
        ("case.toml", "[horizon]", "start is 1452726000", "date and time"),
    ),
    "step of 7 minutes": Bad(
        edit(CASE_FILE, "step_minutes = 60", "step_minutes = 7"),
        ("case.toml: horizon: step_minutes is 7", "divisor of 60"),
    ),
    "no periods": Bad(edit(CASE_FILE, "periods = 24", "periods = 0"), ("case.toml", "[horizon]", "periods is 0", "1")),
    "a year": Bad(
        edit(CASE_FILE, "periods = 24", "periods = 8784"), ("case.toml", "[horizon]", "periods is 8784", "2688")
    ),
    "before the profiles": Bad(
        edit(CASE_FILE, "2016-01-13T23:00:00Z", "2015-01-13T23:00:00Z"), (PUBLIC, "2015-01-13T23:00Z", "2016-01-13")
    ),
    "finer than the profiles": Bad(
        edit(CASE_FILE, "periods = 24\nstep_minutes = 60", "periods = 24\nstep_minutes = 5"),
        (PUBLIC, "15 minutes", "5 minutes"),
    ),
}

PROFILES = {
    "NaN": Bad(
        edit(HOMES_CSV, "37.23,0,18", "nan,0,18"), (HOMES_CSV, "line 2", "load_kw", "'nan'", "expected a finite number")
    ),
    "words": Bad(edit(HOMES_CSV, "37.23,0,18", "n/a,0,18"), (HOMES_CSV, "line 2", "load_kw", "'n/a'", "finite number")),
    "empty cell": Bad(edit(HOMES_CSV, "37.23,0,18", ",0,18"), (HOMES_CSV, "line 2", "load_kw is empty")),
    "infinite": Bad(edit(HOMES_CSV, "37.23,0,18", "1e999,0,18"), (HOMES_CSV, "line 2", "load_kw", "'1e999'")),
    "decimal comma": Bad(edit(HOMES_CSV, "37.23,0,18", "37,23,0,18"), (HOMES_CSV, "line 2", "5 cells", "expected 4")),
    "NaN in public profiles": Bad(
        edit(PUBLIC, "23:00Z,1.4,", "23:00Z,NaN,"), (PUBLIC, "line 2", "temperature_degc", "'NaN'")
    ),
    "gap": Bad(
        edit_lines(HOMES_CSV, lambda lines: [*lines[:20], *lines[21:]]),
        (HOMES_CSV, "gap", "no row for 2016-01-14T03:45Z", "15 minutes"),
    ),
    "too short": Bad(
        edit_lines(PUBLIC, lambda lines: lines[:60]), (PUBLIC, "too short", "no row for 2016-01-14T13:45Z")
    ),
    "same time twice": Bad(
        edit_lines(HOMES_CSV, lambda lines: [*lines[:20], lines[19], *lines[20:]]),
        (HOMES_CSV, "two rows for 2016-01-14T03:30Z", "one row"),
    ),
    "no zone": Bad(edit(HOMES_CSV, "2016-01-13T23:00Z", "2016-01-13T23:00"), (HOMES_CSV, "line 2", "not in UTC", "Z")),
    "local time": Bad(
        edit(PUBLIC, "2016-01-13T23:00Z", "2016-01-14T00:00+01:00"), (PUBLIC, "line 2", "+01:00", "not in UTC")
    ),
    "no time": Bad(edit(HOMES_CSV, "2016-01-13T23:00Z", "noon"), (HOMES_CSV, "line 2", "'noon'", "2016-01-14T00:00Z")),
    "no time column": Bad(edit(HOMES_CSV, "time_utc", "time"), (HOMES_CSV, "'time_utc'")),
    "column twice": Bad(edit(HOMES_CSV, "gains_kw", "load_kw"), (HOMES_CSV, "load_kw", "two columns")),
    "column of the public file": Bad(
        edit(HOMES_CSV, "gains_kw", "pv_pu"), (HOMES_CSV, "'pv_pu'", "profiles/public.csv", "another name")
    ),
    "unknown column of a device": Bad(
        edit(HOMES, '"load_kw"', '"laod_kw"'),
        (HOMES, "load 'load'", "power_kw", "'laod_kw'", "did you mean 'load_kw'?"),
    ),
    "unknown column of a network": Bad(
        edit(CASE_FILE, '"feeder_load_pu"', '"feeder_load"'),
        ("case.toml", "network 'dso'", "load_profile", "'feeder_load'", "did you mean 'feeder_load_pu'?"),
    ),
    "negative load": Bad(
        edit(HOMES_CSV, "37.23,0,18", "-137.23,0,18"),
        (HOMES, "load 'load'", "power_kw ('load_kw')", "2016-01-13T23:00Z", "at least 0"),
    ),
}

VALUES = {
    "negative capacity": Bad(
        edit(HOMES, "capacity_kwh = 200", "capacity_kwh = -200"),
        (HOMES, "battery 'battery'", "capacity_kwh is -200", "greater than 0"),
    ),
    "efficiency above 1": Bad(
        edit(HOMES, "charge_efficiency = 0.96", "charge_efficiency = 96"),
        (HOMES, "battery 'battery'", "charge_efficiency is 96", "1"),
    ),
    "vehicles depart before they arrive": Bad(
        edit(CARS, "departure_hour = 31.0", "departure_hour = 7.0"),
        (CARS, "ev_fleet 'cars'", "class 'v2g'", "departure_hour is 7", "arrival_hour 17.5", "add 24"),
    ),
    "vehicles out of reach": Bad(
        edit(CARS, "charger_kw = 11.0", "charger_kw = 0.5"),
        (CARS, "ev_fleet 'cars'", "class 'v2g'", "energy_at_departure_kwh is 48", "reaches", "charger_kw"),
    ),
    "two devices of one name": Bad(
        edit(HOMES, 'name = "pv"', 'name = "load"'), (HOMES, "two devices are called 'load'", "its own name")
    ),
    "two agents of one name": Bad(
        edit(CASE_FILE, 'name = "ec02-homes-cars"', 'name = "ec01-homes"'), ("case.toml", "called 'ec01-homes'")
    ),
    "agent named like a network": Bad(
        edit(CASE_FILE, 'name = "ec02-homes-cars"', 'name = "dso"'), ("case.toml", "called 'dso'")
    ),
    "unknown bus": Bad(
        edit(CASE_FILE, "bus = 7\n", "bus = 77\n"), ("case.toml", "agent 'ec01-homes'", "bus = 77", "1 to 33")
    ),
    "unknown upstream bus": Bad(
        edit(CASE_FILE, "upstream_bus = 9", "upstream_bus = 99"),
        ("case.toml", "network 'dso'", "upstream_bus = 99", "1 to 57"),
    ),
    "unknown bus of reactive support": Bad(
        edit(CASE_FILE, "bus = 18, q", "bus = 81, q"), ("case.toml", "network 'dso'", "81")
    ),
    "unknown network of an agent": Bad(
        edit(CASE_FILE, FIRST_DSO_AGENT, FIRST_DSO_AGENT.replace('"dso"', '"dos"')),
        ("case.toml", "agent 'ec01-homes'", "network = 'dos'", "did you mean 'dso'?"),
    ),
    "community at the transmission network": Bad(
        edit(CASE_FILE, FIRST_DSO_AGENT, FIRST_DSO_AGENT.replace('"dso"', '"tso"')),
        ("case.toml", "agent 'ec01-homes'", "network = 'tso'", "distribution", "dso"),
    ),
    "unknown upstream": Bad(
        edit(CASE_FILE, 'upstream = "tso"', 'upstream = "tos"'),
        ("case.toml", "network 'dso'", "upstream = 'tos'", "did you mean 'tso'?"),
    ),
    "unknown grid": Bad(
        edit(CASE_FILE, '"ieee33"', '"ieee34"'), ("case.toml", "network 'dso'", "'ieee34'", "did you mean 'ieee33'?")
    ),
    "different numbers of feeders": Bad(
        edit(
            CASE_FILE,
            "[[agent]]",
            '[[network]]\nname = "other"\nkind = "distribution"\nsource = "ieee33"\nupstream = "tso"\n'
            "upstream_bus = 8\nfeeders = 3\n\n[[agent]]",
        ),
        ("case.toml", "different numbers of feeders", "the same number"),
    ),
    "voltage band upside down": Bad(
        edit(CASE_FILE, "voltage_min_pu = 0.95", "voltage_min_pu = 1.1"),
        ("case.toml", "network 'dso'", "voltage_min_pu is 1.1", "voltage_max_pu 1.05"),
    ),
    "loop": Bad(
        own_feeder(edit_lines("feeder/branch.csv", lambda lines: [_tie_closed(line) for line in lines])),
        ("case.toml", "network 'dso'", "'branch 33' closes a loop", "21 - 20", "radial", "open one"),
    ),
    "island": Bad(
        own_feeder(edit_lines("feeder/branch.csv", lambda lines: [*lines[:17], *lines[18:]])),
        ("case.toml", "network 'dso'", "no closed branch connects 18 with the root '1'"),
    ),
    "grid without its tables": Bad(
        own_feeder(remove("feeder/branch.csv")), ("case.toml", "network 'dso'", "feeder/branch.csv: file not found")
    ),
    "impedance that is no number": Bad(
        own_feeder(edit("feeder/branch.csv", "0.0922", "low")),
        ("feeder/branch.csv", "line 2", "r_ohm", "'low'", "finite number"),
    ),
}


def _tie_closed(line: str) -> str:
    """The first tie line of the feeder, closed."""
    return line.replace(",1,", ",0,", 1) if line.startswith("33,") else line


VARIANT = {
    "variant that is no table": Bad(
        edit(CASE_FILE, "[variant.summer.horizon]", "[variant]\nsummer = 3\n[variant.other.horizon]"),
        ("case.toml", "variant", "table"),
    ),
    "unknown key of a variant": Bad(
        edit(CASE_FILE, "[variant.summer.horizon]\nstart", "[variant.summer.horizon]\nbegin"),
        ("case.toml", "variant 'summer'", "unknown key 'begin'"),
    ),
    "variant of a list": Bad(
        edit(CASE_FILE, "[variant.summer.horizon]", "[variant.summer.agent]"),
        ("case.toml", "variant 'summer'", "not 'agent'"),
    ),
    "no such variant": Bad(
        edit(CASE_FILE, "[variant.summer.horizon]", "[variant.autumn.horizon]"),
        ("case.toml", "no variant 'summer'", "winter-15min, autumn, summer-15min"),
    ),
}
REFERENCE = {
    "no JSON": b"{",
    "a list": b"[1]",
    "no optimum": b'{"ieee33-10ec": 3}',
    "no turnover": b'{"ieee33-10ec": {"case_sha256": "0", "objective_eur": 1.0}}',
    "turnover of 0": b'{"ieee33-10ec": {"case_sha256": "0", "objective_eur": 1.0, "turnover_eur": 0}}',
}
ALL = {"files": FILES, "keys": KEYS, "types": TYPES, "horizon": HORIZON, "profiles": PROFILES, "values": VALUES}


def check_refused(ended: Ended, words: tuple[str, ...], code: int = BAD_INPUT) -> None:
    """The exit code and one line on stderr that holds all the words."""
    assert ended.code == code, ended
    assert ended.errors.startswith("tieline: ") and ended.errors.count("\n") == 1, ended.errors
    for word in words:
        assert word in ended.errors


@pytest.mark.parametrize(
    "bad", [pytest.param(bad, id=f"{group}: {name}") for group, table in ALL.items() for name, bad in table.items()]
)
def test_bad_cases_are_refused_in_one_line(bad: Bad, tmp_path: Path, capsys) -> None:
    case = copy_case(tmp_path)
    bad.change(case)
    check_refused(tieline(capsys, "check", case), bad.words)


@pytest.mark.parametrize("bad", VARIANT.values(), ids=VARIANT.keys())
def test_bad_variants_are_refused(bad: Bad, tmp_path: Path, capsys) -> None:
    case = copy_case(tmp_path)
    bad.change(case)
    check_refused(tieline(capsys, "check", f"{case}:summer"), bad.words)


@pytest.mark.parametrize("content", REFERENCE.values(), ids=REFERENCE.keys())
def test_a_broken_reference_shows_before_the_run(content: bytes, tmp_path: Path, capsys) -> None:
    case = copy_case(tmp_path)
    write("reference.json", content)(case)
    check_refused(tieline(capsys, "check", case), ("reference.json", "no saved optima", "save the reference again"))


COMMANDS = {
    "unknown command": (("rnu",), ("'rnu'", "'run'", "--help")),
    "no case": (("run",), ("CASE", "required")),
    "unknown case": (("run", "ieee33-10e"), ("case 'ieee33-10e'", "did you mean 'ieee33-10ec'?")),
    "no such folder": (("run", "/no/such/folder"), ("case '/no/such/folder'", "no such folder", "bundled cases")),
    "case file for a folder": (("run", str(BUNDLED / BUNDLED_CASE / CASE_FILE)), ("is a file", "folder that holds")),
    "overlong name": (("run", "x" * 5000), ("no such folder",)),
    "unknown variant": (("run", f"{BUNDLED_CASE}:winter"), ("no variant 'winter'", "winter-15min")),
    "unknown penalty": (("run", BUNDLED_CASE, "--penalty", "fast"), ("penalty is 'fast'", "adaptive, classical")),
    "penalty of nothing": (("run", BUNDLED_CASE, "--penalty", "classical:x"), ("'classical:x'", "a number")),
    "negative penalty": (("run", BUNDLED_CASE, "--penalty", "classical:-1"), ("-1", "above 0")),
    "unknown scheme": (("run", BUNDLED_CASE, "--scheme", "three"), ("scheme is 'three'", "two-block")),
    "unknown solver": (("run", BUNDLED_CASE, "--qp-solver", "cplex"), ("--qp-solver", "'cplex'", "'osqp'")),
    "tolerance of nan": (
        ("run", BUNDLED_CASE, "--tolerance", "nan"),
        ("--tolerance", "'nan'", "finite number above 0"),
    ),
    "tolerance of 0": (("run", BUNDLED_CASE, "--tolerance", "0"), ("--tolerance", "'0'", "above 0")),
    "tolerance in words": (("run", BUNDLED_CASE, "--optimality-tolerance", "low"), ("--optimality-tolerance", "'low'")),
    "no iterations": (("run", BUNDLED_CASE, "--max-iterations", "0"), ("--max-iterations", "'0'", "at least 1")),
    "half an iteration": (("run", BUNDLED_CASE, "--max-iterations", "1.5"), ("--max-iterations", "'1.5'", "whole")),
    "infinite deadline": (("run", BUNDLED_CASE, "--deadline", "inf"), ("--deadline", "'inf'", "finite")),
    "negative time limit": (("run", BUNDLED_CASE, "--time-limit", "-5"), ("--time-limit", "'-5'")),
    "unknown option": (("run", BUNDLED_CASE, "--tolerence", "1"), ("--tolerence",)),
}


@pytest.mark.parametrize(("arguments", "words"), COMMANDS.values(), ids=COMMANDS.keys())
def test_bad_arguments_are_refused_and_nothing_is_written(
    arguments, words, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_refused(tieline(capsys, *arguments), words)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_output_folder(tmp_path: Path, capsys) -> None:
    file = tmp_path / "taken"
    file.write_text("mine")
    for out in (file, file / "below"):
        check_refused(
            tieline(capsys, "run", BUNDLED_CASE, "--out", out), (f"--out {out}", f"{file} is a file", "choose")
        )
    assert file.read_text() == "mine"


def test_a_folder_of_others_is_no_output_folder(tmp_path: Path, capsys) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    for command in ("run", "centralised"):
        ended = tieline(capsys, command, BUNDLED_CASE, "--out", tmp_path)
        check_refused(ended, (f"--out {tmp_path}", "'thesis.tex'", "empty or new folder"))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["values: negative capacity", "files: no profile file", "profiles: gap"])
@pytest.mark.parametrize("command", ["run", "centralised"])
def test_bad_input_leaves_an_older_result_alone(name: str, command: str, tmp_path: Path, capsys) -> None:
    group, _, key = name.partition(": ")
    case, out = copy_case(tmp_path), tmp_path / "out"
    ALL[group][key].change(case)
    check_refused(tieline(capsys, command, case, "--out", out), ALL[group][key].words)
    assert not out.exists()
    (out / "private").mkdir(parents=True)
    for file in OLDER_RESULT:
        (out / file).write_text(file)
    check_refused(tieline(capsys, command, case, "--out", out), ALL[group][key].words)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == sorted(OLDER_RESULT)
    assert all((out / file).read_text() == file for file in OLDER_RESULT)


@pytest.mark.parametrize("command", ["check", "run"])
def test_an_infeasible_agent_is_named_with_the_limits_in_conflict(
    command: str, tmp_path: Path, capsys, monkeypatch
) -> None:
    """A connection of 8 kW cannot carry an inflexible load of 15 to 64 kW, at night without sun at the latest."""
    monkeypatch.chdir(tmp_path)
    case = copy_case(tmp_path)
    edit(CARS, "import_limit_kw = 220.0", "import_limit_kw = 8.0")(case)
    ended = tieline(capsys, command, case)
    words = ("agent 'ec02-homes-cars' is infeasible", "connection: import limit", "connection: power balance", "period")
    check_refused(ended, words, INFEASIBLE)
    assert [path.name for path in tmp_path.iterdir()] == ["case"]


@pytest.mark.parametrize("command", ["check", "run"])
def test_the_device_in_conflict_is_named(command: str, tmp_path: Path, capsys, monkeypatch) -> None:
    """Homes that lose 7 kW/K at 0 degC outside need 45 kW of heat for 19.5 degC inside: 3 kW (1 kW x 3) are too few."""
    monkeypatch.chdir(tmp_path)
    case = copy_case(tmp_path)
    edit(HOMES, "max_heating_kw = 70", "max_heating_kw = 1")(case)
    words = ("agent 'ec01-homes' is infeasible", "homes: ", "temperature", "period")
    check_refused(tieline(capsys, command, case), words, INFEASIBLE)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (VALUES["unknown bus"], "bus = 77"),
        (FILES["no agent file"], "file not found"),
        (FILES["binary case file"], "UTF-8"),
    ],
)
def test_the_process_ends_with_the_exit_code(bad: Bad, words: str, tmp_path: Path) -> None:
    case = copy_case(tmp_path)
    bad.change(case)
    command = [sys.executable, "-m", "admm", "check", str(case)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    check_refused(Ended(done.returncode, done.stdout, done.stderr), (words,))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path, capsys) -> None:
    case = copy_case(tmp_path)
    (case / HOMES).chmod(0)
    check_refused(tieline(capsys, "check", case), (f"{HOMES}: cannot be read", "Permission denied"))


def embedded(**changes) -> QPAgent:
    """An agent that pays x^2 - 2 x for its one boundary value, with some parts of its program replaced."""
    parts = {"P": sp.csc_matrix([[2.0]]), "q": [-2.0], "A": sp.csc_matrix((0, 1)), "l": [], "u": []}
    return QPAgent(
        QuadraticProgram(**parts | {"boundary": {("hub-dso", "p_mw"): np.array([0])}, "name": "hub"} | changes)
    )


def solve_with(hub, periods: int = 1) -> None:
    coupling = admm.Coupling("hub-dso", "hub", "dso", [admm.Quantity("p_mw", periods=periods)])
    admm.solve({"hub": hub, "dso": embedded(name="dso")}, [coupling])


EMBEDDED = {
    "not convex": (lambda: embedded(P=sp.csc_matrix([[-2.0]])), "hub: P is not positive semidefinite"),
    "wrong shape": (lambda: embedded(q=[1.0, 2.0]), r"hub: q has shape \(2,\), expected \(1,\)"),
    "wrong bounds": (lambda: embedded(A=sp.csc_matrix([[1.0]]), l=[2.0], u=[1.0]), "hub: l is above u in row 0"),
    "no program": (lambda: QPAgent("hub.mps"), "QPAgent got str, expected a QuadraticProgram"),
    "wrong periods": (lambda: solve_with(embedded(), periods=2), "'hub-dso', 'p_mw'.* has 1 positions, expected 2"),
    "coupling to nobody": (
        lambda: admm.solve({"hub": embedded()}, [admm.Coupling("hub-dso", "hub", "dso", [admm.Quantity("p_mw", 1)])]),
        "dso",
    ),
    "no such boundary": (
        lambda: solve_with(embedded(boundary={("hub-dos", "p_mw"): np.array([0])})),
        "'hub-dos', 'p_mw'.* no coupling",
    ),
    "unknown penalty": (
        lambda: admm.Settings(penalty="fast"),
        "penalty is 'fast', expected one of adaptive, classical",
    ),
    "no agent": (lambda: solve_with("hub"), "hub"),
}


@pytest.mark.parametrize(("use", "words"), EMBEDDED.values(), ids=EMBEDDED.keys())
def test_the_embedding_interface_refuses_in_words(use, words: str) -> None:
    with pytest.raises(admm.InputError, match=words):
        use()


def test_the_embedded_agents_are_right_unless_spoilt() -> None:
    solve_with(embedded())
