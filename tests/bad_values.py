"""Cases that are wrong in what they say: horizon, profiles, values, networks. {name: (change, words)}."""

from __future__ import annotations

from networks.case_file import CASE_FILE
from tests.bad_files import CARS, HOMES, HOMES_CSV, PUBLIC, Bad
from tests.case_tools import edit, edit_lines, own_feeder, remove

FIRST_DSO_AGENT = 'name = "ec01-homes"\nkind = "community"\nnetwork = "dso"'
ROW_0345 = 308
"""Line, counted from 0, of 2016-01-14T03:45Z in the profiles; the horizon starts in line 290, counted from 1."""


def _tie_closed(line: str) -> str:
    """The first tie line of the feeder, closed."""
    return line.replace(",1,", ",0,", 1) if line.startswith("33,") else line


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
    "connection in MW by mistake": Bad(
        edit(CASE_FILE, "connection_kw = 260.0", "connection_kw = 0.26"),
        ("ec01-homes.toml", "import_limit_kw = 260", "above connection_kw = 0.26", "both are in kW"),
    ),
    "no periods": Bad(edit(CASE_FILE, "periods = 24", "periods = 0"), ("case.toml", "[horizon]", "periods is 0", "1")),
    "a year": Bad(
        edit(CASE_FILE, "periods = 24", "periods = 8784"), ("case.toml", "[horizon]", "periods is 8784", "2688")
    ),
    "before the profiles": Bad(
        edit(CASE_FILE, "2016-01-13T23:00:00Z", "2015-01-13T23:00:00Z"), (PUBLIC, "2015-01-13T23:00Z", "2016-01-10")
    ),
    "finer than the profiles": Bad(
        edit(CASE_FILE, "periods = 24\nstep_minutes = 60", "periods = 24\nstep_minutes = 5"),
        (PUBLIC, "15 minutes", "5 minutes"),
    ),
}

PROFILES = {
    "NaN": Bad(
        edit(HOMES_CSV, "37.23,0,18", "nan,0,18"),
        (HOMES_CSV, "line 290", "load_kw", "'nan'", "expected a finite number"),
    ),
    "words": Bad(
        edit(HOMES_CSV, "37.23,0,18", "n/a,0,18"), (HOMES_CSV, "line 290", "load_kw", "'n/a'", "finite number")
    ),
    "empty cell": Bad(edit(HOMES_CSV, "37.23,0,18", ",0,18"), (HOMES_CSV, "line 290", "load_kw is empty")),
    "infinite": Bad(edit(HOMES_CSV, "37.23,0,18", "1e999,0,18"), (HOMES_CSV, "line 290", "load_kw", "'1e999'")),
    "decimal comma": Bad(edit(HOMES_CSV, "37.23,0,18", "37,23,0,18"), (HOMES_CSV, "line 290", "5 cells", "expected 4")),
    "NaN in public profiles": Bad(
        edit(PUBLIC, "23:00Z,1.4,", "23:00Z,NaN,"), (PUBLIC, "line 290", "temperature_degc", "'NaN'")
    ),
    "gap": Bad(
        edit_lines(HOMES_CSV, lambda lines: [*lines[:ROW_0345], *lines[ROW_0345 + 1 :]]),
        (HOMES_CSV, "gap", "no row for 2016-01-14T03:45Z", "15 minutes"),
    ),
    "too short": Bad(
        edit_lines(PUBLIC, lambda lines: lines[: ROW_0345 + 40]), (PUBLIC, "too short", "no row for 2016-01-14T13:45Z")
    ),
    "same time twice": Bad(
        edit_lines(HOMES_CSV, lambda lines: [*lines[:ROW_0345], lines[ROW_0345 - 1], *lines[ROW_0345:]]),
        (HOMES_CSV, "two rows for 2016-01-14T03:30Z", "one row"),
    ),
    "no zone": Bad(
        edit(HOMES_CSV, "2016-01-13T23:00Z", "2016-01-13T23:00"), (HOMES_CSV, "line 290", "not in UTC", "Z")
    ),
    "local time": Bad(
        edit(PUBLIC, "2016-01-13T23:00Z", "2016-01-14T00:00+01:00"), (PUBLIC, "line 290", "+01:00", "not in UTC")
    ),
    "no time": Bad(
        edit(HOMES_CSV, "2016-01-13T23:00Z", "noon"), (HOMES_CSV, "line 290", "'noon'", "2016-01-14T00:00Z")
    ),
    "no time column": Bad(edit(HOMES_CSV, "time_utc", "time"), (HOMES_CSV, "'time_utc'")),
    "column twice": Bad(edit(HOMES_CSV, "gains_kw", "load_kw"), (HOMES_CSV, "load_kw", "two columns")),
    "column of the public file": Bad(
        edit(HOMES_CSV, "gains_kw", "temperature_degc"),
        (HOMES_CSV, "'temperature_degc'", "profiles/public.csv", "another name"),
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
    "network without agents": Bad(
        edit(
            CASE_FILE,
            "[[agent]]",
            '[[network]]\nname = "other"\nkind = "distribution"\nsource = "ieee33"\nupstream = "tso"\n'
            "upstream_bus = 8\nfeeders = 25\n\n[[agent]]",
        ),
        ("case.toml", "network 'other'", "no agent", "remove it"),
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
