"""Published networks through the imports, and the judge of their topology, which knows nothing of the imports."""

from __future__ import annotations

import logging

import pandapower as pp
import pandapower.networks as pn
import pytest

from benchmarks.__main__ import main
from benchmarks.grid_imports import DC_MW, LOSS_PERCENT, VOLTAGE_PU, grid_row
from benchmarks.grid_networks import published
from benchmarks.grid_topology import shows_cell, topology_of
from benchmarks.matpower_flows import matpower_flows
from benchmarks.tables import read_csv

logging.getLogger("pandapower").setLevel(logging.ERROR)
FEEDERS = [
    "pandapower create_cigre_network_lv",
    "pandapower create_cigre_network_mv(with_der=all)",
    "pandapower create_kerber_landnetz_freileitung_1",
    "pandapower create_synthetic_voltage_control_lv_network(network_class=rural_1)",
    "pandapower simple_mv_open_ring_net",
    "pandapower case33bw",
]
"""A small part of what `python -m benchmarks grid_imports` runs, one network a kind."""


@pytest.mark.parametrize("name", FEEDERS)
def test_a_published_feeder_is_imported_right_and_a_run_on_it_passes_its_checks(name):
    row = grid_row(name, published()[name])
    assert row.feeder and row.imported, row
    assert row.max_voltage_error_pu <= VOLTAGE_PU and row.loss_error_percent <= LOSS_PERCENT
    assert row.run_exit_code == 0 and row.ac_passed is True and row.words == "" and row.right


@pytest.mark.parametrize("name", ["pandapower case9", "pandapower example_multivoltage"])
def test_a_meshed_network_is_no_feeder_and_its_dc_flows_are_pandapowers(name):
    row = grid_row(name, published()[name])
    assert not row.feeder and not row.imported and row.right
    assert row.max_dc_error_mw <= DC_MW


def test_the_command_writes_its_table(tmp_path, capsys):
    assert main(["grid_imports", "--out", str(tmp_path), "--subjects", "pandapower case4gs"]) == 0
    (row,) = read_csv(tmp_path / "grid_imports.csv")
    assert row["network"] == "pandapower case4gs" and row["right"] is True
    text = (tmp_path / "grid_imports.md").read_text(encoding="utf-8")
    assert "| pandapower | 1 | 0 | 0 | 0 | 0 | 0 | 1 of 1 | 1 of 1 |" in text and "Nothing is wrong." in text


def ring():
    """Four buses of 20 kV in a ring of lines behind one source."""
    net = pp.create_empty_network()
    for _ in range(4):
        pp.create_bus(net, 20.0)
    pp.create_ext_grid(net, 0)
    for start, end in ((0, 1), (1, 2), (2, 3), (3, 0)):
        pp.create_line_from_parameters(net, start, end, 1.0, 0.2, 0.1, 0.0, 0.4)
    return net


def open_a_line(net):
    pp.create_switch(net, 0, 3, "l", closed=False)


def out_of_service(net):
    net.bus.loc[2, "in_service"] = False


def in_parallel(net):
    open_a_line(net)
    pp.create_line_from_parameters(net, 0, 1, 1.0, 0.2, 0.1, 0.0, 0.4)


def couple(net):
    open_a_line(net)
    pp.create_switch(net, 3, 0, "b")


def couple_by_a_short_line(net):
    open_a_line(net)
    pp.create_bus(net, 20.0)
    pp.create_line_from_parameters(net, 3, 4, 1e-9, 0.2, 0.1, 0.0, 0.4)
    pp.create_switch(net, 3, 4, "b")


def second_source(net):
    open_a_line(net)
    pp.create_gen(net, 3, 1.0)


def second_source_elsewhere(net):
    open_a_line(net)
    pp.create_gen(net, pp.create_bus(net, 20.0), 1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda net: None, "meshed"),
        (open_a_line, "radial"),
        (out_of_service, "radial"),
        (in_parallel, "radial"),
        (couple, "meshed"),
        (couple_by_a_short_line, "radial"),
        (second_source, "radial, 2 sources"),
        (second_source_elsewhere, "radial"),
        (lambda net: pp.create_dcline(net, 0, 1, 1.0, 0.0, 0.0, 1.0, 1.0), "meshed, has dcline"),
    ],
)
def test_topology_is_decided_from_the_tables(change, words):
    net = ring()
    change(net)
    found = topology_of(net)
    assert found.words() == words and found.is_feeder == (words == "radial")


def test_a_three_winding_transformer_is_a_star():
    found = topology_of(pn.example_multivoltage())
    assert found.has_loop and len(found.sources) == 2 and found.foreign == ("xward",)


def test_a_refusal_of_a_cell_is_right_only_if_the_table_holds_it():
    net = ring()
    net.line.loc[1, "x_ohm_per_km"], net.line.loc[2, "max_i_ka"] = -0.1, float("nan")
    assert shows_cell(net, "pandapower network: line 1: x_ohm_per_km is -0.1, expected at least 0")
    assert shows_cell(net, "pandapower network: line 2: max_i_ka is empty, expected a number")
    for words in (
        "line 0: x_ohm_per_km is 0.1, expected",
        "line 1: x_ohm_per_km is -0.2, expected",
        "line 0: max_i_ka is",
    ):
        assert not shows_cell(net, words)


def test_matpowers_own_losses_are_those_that_are_published():
    """Of Baran and Wu's 33 and 69 buses: 202.7 and 225.0 kW."""
    flows = matpower_flows()
    assert flows["case33bw"].losses_mw == pytest.approx(0.2027, abs=5e-5)
    assert flows["case69"].losses_mw == pytest.approx(0.2250, abs=5e-5)
