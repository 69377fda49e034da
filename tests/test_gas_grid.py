"""Gas grids from folders and from pandapipes, and what is said of bad ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from admm import InputError
from networks.gas_flow import GasFlow
from networks.gas_grid import GasCompressor, GasProperties
from networks.gas_tables import read_gas_csv
from networks.grids import GAS, grid_folder
from networks.pandapipes_import import PandapipesOptions, gas_from_pandapipes
from tests.gas_tools import gas65, square
from tests.tolerances import EXACT, PRESSURE_BAR

LOOP = Path(__file__).parent / "pandapipes_loop.json"
"""Written by pandapipes 0.16 after a pipe flow with friction model "nikuradse": a loop over two heights, valves
open, closed and with a loss, fittings, a source, elements out of service. Its results stand in res_junction."""
IMPORTED_BAR = 1e-5
"""Import and flow against pandapipes' own results."""


def copy(tmp_path):
    return Path(shutil.copytree(grid_folder("gas65", GAS), tmp_path / "grid"))


def edit(folder, file, old, new):
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_bundled_grid_is_what_its_description_says():
    grid = gas65()
    assert (len(grid.nodes), len(grid.pipes), len(grid.gates)) == (65, 67, 2)
    assert grid.column(grid.nodes, "demand_mw").sum() == pytest.approx(51.62, abs=EXACT)
    assert grid.column(grid.pipes, "length_km").sum() == pytest.approx(44.6, abs=0.05)
    assert grid.volume_m3.sum() == pytest.approx(275.0, abs=0.5)
    assert grid.gas.mw_per_kgps == pytest.approx(52.639, abs=1e-3)


def test_demand_follows_the_profile_of_its_kind():
    grid, kinds = gas65(), ("residential", "commercial", "industrial")
    shares = {kind: np.array([1.0, 0.1 * i]) for i, kind in enumerate(kinds)}
    demand = grid.demand_mw(shares)
    assert demand[0].sum() == pytest.approx(51.62, abs=EXACT)
    assert demand[1, grid.node("3")] == pytest.approx(0.2 * 1.98, abs=EXACT)
    with pytest.raises(InputError, match="there is no profile 'residential', found commercial, industrial"):
        grid.demand_mw({kind: shares[kind] for kind in kinds[1:]})


def test_compressors_are_read_from_a_fourth_table(tmp_path):
    folder = copy(tmp_path)
    edit(folder, "pipe.csv", "1,1,2,", "900,1,900,")
    edit(folder, "node.csv", "2,junction", "900,junction,0,0,0,1,4,0,,0\n2,junction")
    (folder / "compressor.csv").write_text(
        "compressor,from_node,to_node,max_ratio,max_flow_kw,cost_eur_per_mwh\nlift,900,2,1.5,60000,0.5\n",
        encoding="utf-8",
    )
    grid = read_gas_csv(folder)
    assert grid.compressors == (GasCompressor("lift", "900", "2", 1.5, 60.0, 0.5),)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("pipe.csv", "1,1,2,0.833,147.2", "1,1,2,0.833,0", ("pipe 'pipe 1': inner_diameter_mm is 0", "at least 1e-09")),
        ("pipe.csv", "0.833,147.2", "0.833,147200000", ("inner_diameter_mm is 1.472e+08", "at most 10000")),
        ("pipe.csv", "0.833,147.2", "0.833,0.0472", ("inner_diameter_mm is 0.0472 and roughness_mm 0.05", "use mm")),
        ("pipe.csv", "1,1,2,0.833", "1,1,2,-0.833", ("pipe 'pipe 1': length_km is -0.833", "at least 0")),
        ("pipe.csv", "1,1,2,0.833", "1,1,2,0", ("length_km is 0 and it has no fittings", "make its two nodes one")),
        ("pipe.csv", "1,1,2,0.833", "1,1,2,nan", ("pipe.csv: line 2", "length_km is 'nan'", "finite number")),
        ("pipe.csv", "1,1,2,", "1,1,x,", ("pipe 'pipe 1': to_node is 'x'", "expected one of its nodes 1, 2,")),
        ("pipe.csv", "1,1,2,", "1,2,2,", ("pipe 'pipe 1': begins and ends at node '2'",)),
        ("pipe.csv", "\n2,", "\n1,", ("two pipes are called 'pipe 1'", "rename")),
        ("pipe.csv", "roughness_mm", "roughness_m", ("pipe.csv: column 'roughness_mm' is missing",)),
        ("pipe.csv", "is_loop_pipe", "is_lop_pipe", ("column 'is_lop_pipe' is unknown", "did you mean 'is_loop_pipe'")),
        ("node.csv", "\n2,junction", "\n1,junction", ("two nodes are called '1'", "rename")),
        ("node.csv", "1.843,0.0,1.5,4.0", "1.843,0.0,4.5,4.0", ("node '1': p_min_bar_g is 4.5 and p_max_bar_g is 4",)),
        ("node.csv", "1.783,0.0,1.5,", "1.783,0.0,-1.5,", ("node '2': p_min_bar_g is -1.5", "vacuum")),
        ("node.csv", "\n2,", "\n90,residential,0,0,0,1.5,4,100,,0\n2,", ("no pipe connects node 90 with a gate",)),
        ("node.csv", "1.783,0.0,1.5,", "1.783,0.0,-1.0,", ("node '2': p_min_bar_g is -1", "vacuum", "0.1 bar")),
        ("gate.csv", "65,4.0,3.0", "65,4.0,-1.0", ("gate 'city gate East': p_min_bar_g is -1", "vacuum")),
        ("gate.csv", "65,4.0,3.0", "65,4.0,4.2", ("gate 'city gate East': p_min_bar_g is 4.2 and p_max_bar_g is 4",)),
        ("gate.csv", "65,4.0,3.0", "65,2.0,3.0", ("p_min_bar_g is 3 and p_set_bar_g is 2",)),
        ("gate.csv", "East,65", "East,66", ("gate 'city gate East': node is '66'",)),
        ("gate.csv", "East,65", "East,1", ("gate 'city gate East' and gate 'city gate West' both set the pressure",)),
        ("gate.csv", "52639", "0", ("gate 'city gate West': max_flow_mw is 0",)),
    ],
)  # fmt: skip
def test_one_clear_error_for_each_mistake(tmp_path, file, old, new, words):
    folder = copy(tmp_path)
    edit(folder, file, old, new)
    with pytest.raises(InputError) as caught:
        read_gas_csv(folder)
    message = str(caught.value)
    assert all(word in message for word in words) and str(folder) in message and "\n" not in message


def test_a_grid_needs_a_gate():
    with pytest.raises(InputError, match="gas grid 'square': has no gate, expected at least one source of gas"):
        replace(square(), gates=())


def test_what_lies_behind_a_compressor_that_nothing_feeds_is_named():
    grid = square()
    pipes = tuple(pipe for pipe in grid.pipes if pipe.name in ("ab", "cd"))
    with pytest.raises(InputError, match="no pipe connects nodes c, d with a gate"):
        replace(grid, pipes=pipes, gates=grid.gates[:1])
    lifted = replace(grid, pipes=pipes, gates=grid.gates[:1], compressors=(GasCompressor("k", "b", "c", 1.2),))
    assert len(lifted.compressors) == 1
    with pytest.raises(InputError, match="no pipe connects nodes c, d"):
        replace(lifted, compressors=(GasCompressor("k", "d", "c", 1.2),))
    with pytest.raises(InputError, match="max_ratio is 0.8, expected at least 1"):
        replace(lifted, compressors=(GasCompressor("k", "b", "c", 0.8),))
    with pytest.raises(InputError, match="compressor 'k' and gate 'west' both set the pressure of node 'a'"):
        replace(lifted, pipes=grid.pipes, compressors=(GasCompressor("k", "b", "a", 1.2),))


def test_the_gas_is_checked():
    with pytest.raises(InputError, match="viscosity_pa_s is 0.0, expected a number above 0"):
        replace(square(), gas=GasProperties(viscosity_pa_s=0.0))


def test_a_gate_that_is_not_there_cannot_be_lost():
    with pytest.raises(InputError, match="there is no gate 'north', its gates are west, east"):
        square().without_gate("north")


# ------------------------------------------------------------------------- pandapipes


def test_an_imported_network_has_pandapipes_pressures():
    grid = gas_from_pandapipes(LOOP)
    results = json.loads(json.loads(LOOP.read_text(encoding="utf-8"))["_object"]["res_junction"]["_object"])
    expected = {str(i): row[0] for i, row in zip(results["index"], results["data"], strict=True)}
    gate = grid.absolute_bar(grid.column(grid.gates, "p_set_bar_g"), grid.gate_nodes)
    state = GasFlow(grid).run(grid.column(grid.nodes, "demand_mw")[None], gate[None])
    found = dict(zip([node.name for node in grid.nodes], state.p_bar[0] - grid.ambient_bar, strict=True))
    assert found == pytest.approx({name: expected[name] for name in found}, abs=IMPORTED_BAR)
    assert set(found) == {"0", "1", "2", "4", "5", "6"}  # an open valve joins 2 and 3; 7 is out of service
    assert [pipe.name for pipe in grid.pipes] == ["pipe 0", "pipe 1", "pipe 2", "pipe 3", "pipe 5", "pipe 6", "valve 2"]
    assert min(expected[name] for name in found) < 3.2 - 50 * PRESSURE_BAR


def test_the_import_leaves_pandapipes_alone():
    code = f"import sys; from networks.pandapipes_import import gas_from_pandapipes as g; g({str(LOOP)!r}); "
    code += "print(any('pandapipes' == m.split('.')[0] or 'pandapower' == m for m in sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert ended.stdout.strip() == "False", ended.stderr


def test_limits_and_costs_are_given_with_the_import():
    grid = gas_from_pandapipes(LOOP, PandapipesOptions(2.0, 4.5, 40.0, 14.0))
    assert {(node.p_min_bar_g, node.p_max_bar_g) for node in grid.nodes} == {(2.0, 4.5)}
    assert grid.gates[0].cost_eur_per_mwh == 40.0 and grid.gas.heating_value_kwh_per_kg == 14.0
    plain = gas_from_pandapipes(LOOP)
    ratio = plain.nodes[3].demand_mw / grid.nodes[3].demand_mw
    assert ratio == pytest.approx(14.62197 / 14.0, rel=1e-6)
    assert {node.p_max_bar_g for node in plain.nodes} == {4.0}


def spoiled(tmp_path, table, columns, row):
    """The network with one row in a table."""
    net = json.loads(LOOP.read_text(encoding="utf-8"))
    frame = {"_class": "DataFrame", "_module": "pandas.core.frame", "orient": "split"}
    net["_object"][table] = frame | {"_object": json.dumps({"columns": columns, "index": [0], "data": [row]})}
    path = tmp_path / "net.json"
    path.write_text(json.dumps(net), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("table", "columns", "row", "words"),
    [
        ("press_control", ["in_service"], [True], "the network has 1 press_control in service, expected only junction"),
        ("heat_consumer", ["in_service"], [True], "1 heat_consumer in service"),
        ("sink", ["junction", "mdot_kg_per_s"], [99, 1.0], "sink 0: junction is 99, expected a junction in service"),
        ("sink", ["junction", "mdot_kg_per_s"], [1, None], "sink 0: mdot_kg_per_s is None, expected a finite number"),
        (
            "sink",
            ["junction", "mdot_kg_per_s"],
            [1, 1e99],
            "mdot_kg_per_s is 1e+99, expected a number of at most 1e+12",
        ),
        ("sink", ["junction", "mdot_kg_per_s"], [[1], 1.0], "stored in another way than expected (TypeError"),
        ("valve", ["junction", "element", "et"], [1, 2, "ju"], "stored in another way than expected (KeyError"),
        ("ext_grid", ["junction", "p_bar", "type"], [0, 3.0, "t"], "ext_grid 0: type is 't', expected 'p' or 'pt'"),
        ("ext_grid", ["junction", "p_bar", "in_service"], [0, 3.0, False], "has no gate"),
        ("valve", ["junction", "element", "et", "opened"], [1, 2, "ju", True], "joins heights of 0 and 12 m"),
        ("valve", ["junction", "element", "et", "opened"], [1, 2, "xx", True], "valve 0: et is 'xx'"),
    ],
)
def test_what_cannot_be_imported_is_named_with_its_table(tmp_path, table, columns, row, words):
    path = spoiled(tmp_path, table, columns, row)
    with pytest.raises(InputError) as caught:
        gas_from_pandapipes(path)
    assert words in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no JSON"),
        ("[1]", "holds other JSON, expected a pandapipesNet"),
        ('{"_class": "pandapowerNet", "_object": {}}', "holds pandapowerNet, expected a pandapipesNet"),
        ('{"_class": "pandapipesNet", "_object": {}}', "the fluid is None, expected a gas"),
        ('{"_class": "pandapipesNet"}', "stored in another way than expected (KeyError"),
        ('{"_class": "pandapipesNet", "_object": {"pipe": {"_class": "DataFrame", "_object": "[["}}}', "another way"),
        ("[" * 100_000, "is no JSON"),
        ("9" * 5000, "is no JSON"),
    ],
)
def test_other_files_are_refused(tmp_path, text, words):
    path = tmp_path / "net.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        gas_from_pandapipes(path)
    assert words in str(caught.value)
