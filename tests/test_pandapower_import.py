"""Networks from pandapower: the imported model must give pandapower's own flow and optimum."""

from __future__ import annotations

import json
import logging
import warnings

import numpy as np
import pandapower as pp
import pandapower.networks as pn
import pytest

from admm import InputError
from networks.feeder import read_feeder_csv
from networks.grids import grid_folder
from networks.pandapower_import import feeder_from_pandapower, transmission_from_pandapower
from networks.pandapower_tables import open_network
from networks.transmission import read_transmission_csv
from tests.feeder_nets import own_flow
from tests.test_transmission import PUBLISHED_CENT, PUBLISHED_USD, model_of, solve
from tests.tolerances import EXACT

logging.getLogger("pandapower").setLevel(logging.ERROR)


def chain(tap_pos=0, tap_side="hv"):
    """110 kV - transformer - 20 kV, two lines, a load, a generator, an open line and a closed switch."""
    net = pp.create_empty_network(name="chain")
    high, low, middle, end = (pp.create_bus(net, kv) for kv in (110.0, 20.0, 20.0, 20.0))
    beside = pp.create_bus(net, 20.0)
    pp.create_ext_grid(net, high, vm_pu=1.02)
    pp.create_transformer_from_parameters(
        net,
        high,
        low,
        **{"sn_mva": 25, "vn_hv_kv": 110, "vn_lv_kv": 21, "vkr_percent": 0.4, "vk_percent": 12, "pfe_kw": 0},
        **{"i0_percent": 0, "shift_degree": 150, "tap_side": tap_side, "tap_pos": tap_pos, "tap_neutral": 0},
        **{"tap_min": -9, "tap_max": 9, "tap_step_percent": 1.5, "tap_changer_type": "Ratio"},
    )
    for start, stop in ((low, middle), (middle, end), (low, end)):
        pp.create_line_from_parameters(
            net, start, stop, 5.0, r_ohm_per_km=0.2, x_ohm_per_km=0.15, c_nf_per_km=0, max_i_ka=0.4
        )
    pp.create_switch(net, low, 2, "l", closed=False)
    pp.create_switch(net, end, beside, "b", closed=True)
    pp.create_load(net, middle, 6.0, 2.0, scaling=0.8)
    pp.create_load(net, beside, 3.0, 1.0)
    pp.create_sgen(net, end, 1.5, 0.2)
    pp.create_load(net, end, 99.0, in_service=False)
    return net


def test_the_33_node_feeder_is_the_bundled_one():
    found, bundled = feeder_from_pandapower(pn.case33bw()), read_feeder_csv(grid_folder("ieee33"))
    assert [int(name) + 1 for name in found.nodes] == [int(name) for name in bundled.nodes]
    for key in ("parent", "r_pu", "x_pu", "load_p_mw", "load_q_mvar"):
        assert getattr(found, key) == pytest.approx(getattr(bundled, key), abs=EXACT)
    assert np.isinf(found.i_max_pu).all()  # its 99999 kA are no rating


def test_from_a_json_file(tmp_path):
    path = tmp_path / "chain.json"
    pp.to_json(chain(), str(path))
    assert own_flow(feeder_from_pandapower(path)).losses_mw == pytest.approx(
        own_flow(feeder_from_pandapower(chain())).losses_mw, abs=EXACT
    )
    path.write_text("{}")
    with pytest.raises(InputError, match="chain.json"):
        feeder_from_pandapower(path)
    with pytest.raises(InputError, match="no such file"):
        feeder_from_pandapower(tmp_path / "none.json")


@pytest.mark.parametrize("spelling", ["_class", "_cl\\u0061ss"])
def test_a_file_runs_nothing_and_reads_no_other_file(tmp_path, monkeypatch, spelling):
    """pandapower imports the module of any class that a file names, and reads a table from a path in its place."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text("open('ran', 'w').close()\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    content = json.loads(pp.to_json(chain()))
    hidden = {"_module": "evil", "_class": "Evil", "_object": {}}
    content["_object"]["extra"] = hidden
    table = {"columns": ["object"], "index": [0], "data": [[hidden]]}
    content["_object"]["controller"] = {
        "_module": "pandas.core.frame", "_class": "DataFrame", "orient": "split",
        "_object": json.dumps(table).replace("_class", spelling),
    }  # fmt: skip
    path = tmp_path / "net.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert feeder_from_pandapower(path).nodes == feeder_from_pandapower(chain()).nodes
    assert not (tmp_path / "ran").exists()
    content["_object"]["load"]["_object"] = str(path)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match="pandapower cannot read it"):
        feeder_from_pandapower(path)


def test_profiles_of_a_year_are_not_read(tmp_path):
    """SimBench's networks hold them; they took ten seconds."""
    content = json.loads(pp.to_json(chain()))
    content["_object"]["profiles"] = {"load": "no table at all", "renewables": {"_class": "Evil", "_module": "evil"}}
    (tmp_path / "net.json").write_text(json.dumps(content), encoding="utf-8")
    assert "profiles" not in open_network(tmp_path / "net.json")
    assert feeder_from_pandapower(tmp_path / "net.json").nodes == feeder_from_pandapower(chain()).nodes


def test_what_pandapower_logs_does_not_reach_the_terminal(tmp_path, caplog):
    content = json.loads(pp.to_json(chain()))
    content["_object"]["load"]["is_multiindex"] = True
    (tmp_path / "net.json").write_text(json.dumps(content), encoding="utf-8")
    feeder_from_pandapower(tmp_path / "net.json")
    assert caplog.records == []
    assert logging.getLogger("pandapower").handlers == [] and logging.getLogger("pandapower").propagate


def test_tables_that_are_not_as_pandapower_makes_them_are_refused():
    for table, changes in (("bus", 3), ("line", chain().line.drop(columns="from_bus")), ("switch", None)):
        net = chain()
        net[table] = changes
        with pytest.raises(InputError, match="a table is not as pandapower makes it|line has no column from_bus"):
            feeder_from_pandapower(net)
    net = chain()
    net.load["p_mw"] = 1e300
    with pytest.raises(InputError, match="load 0: p_mw is 1e.300, expected a number of at most"):
        feeder_from_pandapower(net)


def test_the_57_bus_system_is_the_bundled_one():
    grid, bundled = transmission_from_pandapower(pn.case57()), read_transmission_csv(grid_folder("ieee57"), "matpower")
    assert len(grid.buses) == len(bundled.buses) and grid.fixed_mw.sum() == pytest.approx(
        bundled.fixed_mw.sum(), abs=EXACT
    )
    _, answer = solve(model_of(grid, grid.fixed_mw[None], bus="8"))
    assert answer.cost_eur == pytest.approx(PUBLISHED_USD["matpower"], abs=10 * PUBLISHED_CENT)


def test_a_grid_with_fixed_and_movable_generators_costs_what_pandapower_says():
    net = pn.case9()
    pp.create_sgen(net, 4, 20.0, controllable=False)
    pp.create_sgen(net, 6, 10.0, min_p_mw=0.0, max_p_mw=30.0, controllable=True)
    pp.create_poly_cost(net, 0, "sgen", 3.0, cp0_eur=7.0)
    net.poly_cost.loc[net.poly_cost.index[-1], "element"] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pp.rundcopp(net)
    grid = transmission_from_pandapower(net)
    _, answer = solve(model_of(grid, grid.fixed_mw[None], bus="8"))
    assert answer.cost_eur == pytest.approx(net.res_cost, rel=1e-5)


def test_generators_without_a_cost_are_noted():
    net = pn.case9()
    assert not any("poly_cost" in note for note in transmission_from_pandapower(net).notes)
    net.poly_cost = net.poly_cost[net.poly_cost["et"] != "gen"]
    words = "gen 0, gen 1: no poly_cost, so what they generate costs nothing"
    assert words in transmission_from_pandapower(net).notes


def test_what_a_dc_grid_cannot_represent_is_named():
    net = pn.case9()
    net.ext_grid["max_p_mw"] = np.nan
    with pytest.raises(InputError, match="ext_grid 0 has p from .* set min_p_mw and max_p_mw"):
        transmission_from_pandapower(net)
    net = pn.case9()
    pp.create_pwl_cost(net, 0, "gen", [[0, 20, 1]], check=False)
    with pytest.raises(InputError, match="piecewise linear"):
        transmission_from_pandapower(net)
