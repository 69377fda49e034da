"""Cases that are wrong in form: files, keys, types. {name: (change, words that the message must hold)}."""

from __future__ import annotations

from typing import NamedTuple

from networks.case_file import CASE_FILE
from tests.case_tools import Mutation, edit, edit_lines, folder_instead, remove, write

HOMES, HOMES_CSV = "agents/ec01-homes.toml", "agents/ec01-homes.csv"
CARS = "agents/ec02-homes-cars.toml"
PUBLIC = "profiles/public.csv"
BINARY = bytes(range(256))


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
    "invalid TOML": Bad(edit(CASE_FILE, "periods = 24", "periods = "), ("case.toml", "not valid TOML", "line 10")),
    "invalid TOML of an agent": Bad(edit(HOMES, "[[devices]]", "[[devices]"), (HOMES, "not valid TOML", "line 8")),
    "agent file outside": Bad(
        edit(CASE_FILE, "agents/ec01-homes.toml", "../ec01-homes.toml"),
        ("case.toml", "'../ec01-homes.toml' lies outside the case folder", "move it"),
    ),
    "profile file outside": Bad(
        edit(CASE_FILE, "profiles/public.csv", "/etc/hostname"), ("case.toml", "'/etc/hostname'", "outside")
    ),
    "overlong agent file": Bad(
        edit(CASE_FILE, "agents/ec01-homes.toml", "x" * 300), ("case.toml: file 'xxx", "cannot be looked for")
    ),
    "overlong grid": Bad(edit(CASE_FILE, '"ieee33"', f'"{"x" * 300}"'), ("case.toml: file 'xxx", "check the name")),
    "zero byte in a name": Bad(
        edit(CASE_FILE, "agents/ec01-homes.toml", r"a\u0000b"), (r"case.toml: file 'a\x00b'", "cannot be looked for")
    ),
    "control codes in a key": Bad(
        edit(CASE_FILE, "profiles = [", r'"\u001b[31m\n" = ['), (r"unknown key '\x1b[31m\n'", "profiles")
    ),
    "nested too deeply": Bad(write(CASE_FILE, b"a = " + b"[" * 100_000), ("case.toml", "nested too deeply")),
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
        ("case.toml", "agent ('ec01-homes')", "'comunity'", "'community'"),
    ),
    "no bus": Bad(edit(CASE_FILE, "bus = 7\n", ""), ("case.toml", "agent 'ec01-homes'", "'bus' is missing")),
    "no horizon": Bad(
        edit_lines(CASE_FILE, lambda lines: [*lines[:7], *lines[12:]]),
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
        ("case.toml", "variant 'summer'", "agent.start changes no [[agent]] of the case", "ec01-homes"),
    ),
    "variant of no agent": Bad(
        edit(CASE_FILE, "[variant.summer.horizon]", "[variant.summer.agent.ec11]"),
        ("case.toml", "variant 'summer'", "agent.ec11 changes no [[agent]] of the case"),
    ),
    "variant of a value": Bad(
        edit(CASE_FILE, "[variant.summer.horizon]", "[variant.summer.title]"),
        ("case.toml", "variant 'summer'", "not 'title'"),
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
    "turnover below 0": b'{"ieee33-10ec": {"case_sha256": "0", "objective_eur": 1.0, "turnover_eur": -1.0}}',
}
