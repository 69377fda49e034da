"""Files of other kinds as the source of a grid: one line says what each looks like, what is read, how to convert."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
import sqlite3
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandapower as pp
import pytest

from tests.case_tools import tieline

CASES = Path(__file__).parent / "data" / "failing"
GAS_FILE = CASES / "gas_without_heating_value" / "gas.json"


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def electric(tmp_path: Path, source: str) -> Path:
    """A case whose feeder is the file `source` of the folder."""
    case = Path(shutil.copytree(CASES / "source_not_json", tmp_path / "case"))
    text = (case / "case.toml").read_text(encoding="utf-8")
    (case / "case.toml").write_text(text.replace("feeder.dss", source), encoding="utf-8")
    return case


def small_net() -> pp.pandapowerNet:
    net = pp.create_empty_network()
    pp.create_ext_grid(net, pp.create_bus(net, 10.0))
    return net


def make_excel(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("[Content_Types].xml", "<Types/>")
        book.writestr("xl/workbook.xml", "<workbook/>")


def make_sqlite(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("create table bus (vn_kv real)")


def make_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["bus"] = np.zeros(3)


def text(content: str):
    return lambda path: path.write_text(content, encoding="utf-8")


DSS = "Clear\nNew Circuit.x basekv=12.47\n"
KINDS = {
    "feeder.dss": (text(DSS), "OpenDSS script", "from_opendss("),
    "dss.json": (text(DSS), "OpenDSS script", "from_opendss("),
    "feeder.xlsx": (make_excel, "Excel workbook", "pandapower.from_excel("),
    "excel.json": (make_excel, "Excel workbook", "pandapower.from_excel("),
    "old.xls": (lambda path: path.write_bytes(b"\xd0\xcf\x11\xe0" + bytes(600)), "Excel workbook", "from_excel("),
    "feeder.p": (lambda path: path.write_bytes(pickle.dumps(Trap(path.with_name("ran")))), "pickle", "from_pickle("),
    "pickle.json": (lambda path: path.write_bytes(pickle.dumps(Trap(path.with_name("ran")))), "pickle", "if you trust"),
    "feeder.sqlite": (make_sqlite, "SQLite database", "pandapower.from_sqlite("),
    "feeder.xml": (text("<?xml version='1.0'?><rdf:RDF/>"), "CIM or other XML", "from_cim("),
    "feeder.uct": (text("##C 2007.05.01\n##N\n"), "UCTE-DEF", "from_ucte("),
    "feeder.pfd": (lambda path: path.write_bytes(b"PF\0\1"), "PowerFactory", "from_pfd("),
    "feeder.dgs": (text("$$General;ID(a:40)\n"), "PowerFactory", "from_pfd("),
    "feeder.raw": (text("0, 100.0, 33 / PSS/E\n"), "PSS/E", "psse2mpc("),
    "feeder.json.gz": (lambda path: path.write_bytes(gzip.compress(b"{}")), "compressed", "unpack it"),
    "feeder.h5": (make_hdf5, "HDF5", "pandapower.to_json("),
    "bus.csv": (text("bus,type\n1,slack\n"), "a single table", "folder that holds"),
    "gas.json": (lambda path: shutil.copy(GAS_FILE, path), "holds pandapipesNet", "pandapower network in JSON"),
    "table.json": (text('{"_class": "DataFrame", "_object": "{}"}'), "a single table", "bus.csv"),
    "models.json": (text('{"bus": {}, "branch": {}, "gen": {}}'), "PowerModels", "bus.csv"),
    "map.json": (text('{"type": "FeatureCollection"}'), "GeoJSON", "bus.csv"),
    "list.json": (text("[1, 2]"), "a list", "bus.csv"),
    "number.json": (text("3"), "a single value", "bus.csv"),
    "other.json": (text('{"a": 1}'), "an object with a", "bus.csv"),
    "cut.json": (text('{"_class": "pandapowerNet",\n "_obj'), "line 2 is damaged", "write it anew"),
    "words.txt": (text("hello\n"), "another text file", "bus.csv"),
    "empty.json": (text(""), "is empty", "bus.csv"),
    "blank.m": (text("\n \n"), "is empty", "bus.csv"),
    "binary.bin": (lambda path: path.write_bytes(bytes(range(1, 256)) * 9), "no UTF-8 text", "bus.csv"),
    "other.m": (text("disp('hello')\n"), "is no MATPOWER case", "function mpc"),
    "new.mat": (make_hdf5, "MATLAB file of version 7.3", "-v7"),
    "folder": (lambda path: path.mkdir(), "folder without bus.csv, branch.csv (it is empty)", "bus.csv and branch.csv"),
}


@pytest.mark.parametrize("name", KINDS)
def test_one_line_says_what_a_file_looks_like_and_what_is_read(tmp_path, capsys, name):
    make, looks, accepted = KINDS[name]
    case = electric(tmp_path, name)
    (case / "feeder.dss").unlink()
    make(case / name)
    code, _, errors = tieline(capsys, "check", case)
    assert code == 2 and errors.count("\n") == 1
    assert looks in errors and accepted in errors and name in errors and "network 'dso'" in errors
    assert not (case / "ran").exists()


@pytest.mark.parametrize(("name", "make"), [("net.json", pp.to_json), ("case.m", None), ("feeder.dss", None)])
def test_an_electric_file_is_no_gas_grid(tmp_path, capsys, name, make):
    case = Path(shutil.copytree(CASES / "gas_without_heating_value", tmp_path / "case"))
    (case / "gas.json").unlink()
    toml = (case / "case.toml").read_text(encoding="utf-8").replace("gas.json", name)
    (case / "case.toml").write_text(toml, encoding="utf-8")
    if make:
        make(small_net(), str(case / name))
    else:
        (case / name).write_text(DSS if name.endswith("dss") else "function mpc = x\n", encoding="utf-8")
    code, _, errors = tieline(capsys, "check", case)
    assert code == 2 and errors.count("\n") == 1
    assert "pandapipes.to_json" in errors and "node.csv" in errors
    assert any(
        words in errors for words in ("an electric network", "an electric network of pandapower", "an OpenDSS script")
    )


def gas_case(tmp_path: Path, keys: str = "") -> Path:
    case = Path(shutil.copytree(CASES / "gas_without_heating_value", tmp_path / "case"))
    toml = (case / "case.toml").read_text(encoding="utf-8")
    (case / "case.toml").write_text(toml.replace('"gas.json"\n', f'"gas.json"\n{keys}\n'), encoding="utf-8")
    return case


def test_a_gas_without_a_heating_value_is_given_one_in_the_case(tmp_path, capsys):
    code, _, errors = tieline(capsys, "check", gas_case(tmp_path))
    assert code == 2 and errors.count("\n") == 1 and "heating_value_kwh_per_kg" in errors
    shutil.rmtree(tmp_path / "case")
    code, _, errors = tieline(capsys, "check", gas_case(tmp_path, "heating_value_kwh_per_kg = 14.6"))
    assert code == 2 and errors.count("\n") == 1
    assert "there is no profile 'sink'" in errors and "demand_profiles = { sink = 1.0 }" in errors
    shutil.rmtree(tmp_path / "case")
    keys = "heating_value_kwh_per_kg = 14.6\np_min_bar_g = 0.5\np_max_bar_g = 4.5\ndemand_profiles = { sink = 1.0 }"
    folder = tmp_path / "out"
    code, _, _ = tieline(capsys, "run", gas_case(tmp_path, keys), "--out", folder)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert code == 0 and summary["converged"]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("heating_value_kwh_per_kg = 0.0", "heating_value_kwh_per_kg"),
        ('heating_value_kwh_per_kg = "14"', "heating_value_kwh_per_kg"),
        ("heating_value_kwh_per_kg = 14.6\np_min_bar_g = 4.0\np_max_bar_g = 3.0", "p_min_bar_g is 4"),
        ("heating_value_kwh_per_kg = 14.6\np_max_bar_g = 0.1", "p_max_bar_g is 0.1"),
        ("heating_value_kwh_per_kg = 14.6\np_min_bar_g = -3.0", "expected more than a vacuum"),
    ],
)
def test_wrong_values_of_the_gas_keys_are_named(tmp_path, capsys, keys, words):
    code, _, errors = tieline(capsys, "check", gas_case(tmp_path, keys))
    assert code == 2 and errors.count("\n") == 1 and words in errors


def test_tables_have_no_use_for_the_gas_keys(tmp_path, capsys):
    case = gas_case(tmp_path, "heating_value_kwh_per_kg = 14.6")
    toml = (case / "case.toml").read_text(encoding="utf-8").replace('"gas.json"', '"gas65"')
    (case / "case.toml").write_text(toml, encoding="utf-8")
    code, _, errors = tieline(capsys, "check", case)
    assert code == 2 and "heating_value_kwh_per_kg = 14.6 is for pandapipes files only" in errors


def test_what_sources_feed_in_does_not_follow_the_demand():
    from networks.pandapipes_import import PandapipesOptions, gas_from_pandapipes

    grid = gas_from_pandapipes(GAS_FILE, PandapipesOptions(heating_value_kwh_per_kg=14.6))
    fed_in = sum(node.feed_in_mw for node in grid.nodes)
    drawn = sum(node.drawn_mw for node in grid.nodes)
    assert fed_in > 0 and drawn > 0
    shares = {"sink": np.array([1.0, 0.25, 0.0])}
    total = grid.demand_mw(shares, scale=2.0).sum(axis=1)
    assert total == pytest.approx(2 * drawn * shares["sink"] - fed_in, rel=1e-12)
    shares["source"] = np.array([1.0, 0.5, 0.0])
    total = grid.demand_mw(shares).sum(axis=1)
    assert total == pytest.approx(drawn * shares["sink"] - fed_in * shares["source"], rel=1e-12)
