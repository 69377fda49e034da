"""Static generators follow a profile of their own, not that of the loads; what is constant follows none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandapower as pp
import pytest

from networks.case import load_case
from networks.case_file import CASE_FILE
from networks.pandapower_import import transmission_from_pandapower
from tests.case_tools import edit, tieline
from tests.test_cases import CASE_TOML, LIMITS, LOAD, write_feeder
from tests.test_feeder_settings import small_case


def transmission_net():
    """Two buses: a load of 50 MW, 20 MW of PV and a plant of 5 MW that nobody moves, 3 MW of a shunt, one generator."""
    net = pp.create_empty_network(name="two buses")
    first, second = (pp.create_bus(net, 110.0) for _ in range(2))
    pp.create_ext_grid(net, first, min_p_mw=-100, max_p_mw=100)
    pp.create_poly_cost(net, 0, "ext_grid", cp1_eur_per_mw=30)
    pp.create_line_from_parameters(net, first, second, 10, 0.1, 0.4, 0, 1)
    pp.create_load(net, second, 50.0)
    pp.create_sgen(net, second, 20.0)
    pp.create_gen(net, first, 5.0, controllable=False)
    pp.create_shunt(net, second, q_mvar=0, p_mw=3.0)
    return net


def write_case(folder: Path, *lines: str, net: Any = None) -> Path:
    """A case with the grid above, whose loads follow 0.5, and a feeder at its second bus."""
    write_feeder(folder / "feeder.json")
    pp.to_json(net or transmission_net(), str(folder / "grid.json"))
    for agent in ("shop", "homes"):
        (folder / f"{agent}.toml").write_text(LIMITS + LOAD.format(100))
    text = CASE_TOML.replace('source = "ieee57"', 'source = "grid.json"\nload_profile = 0.5\n' + "\n".join(lines))
    text = text.replace("upstream_bus = 9", "upstream_bus = 1\nreplaces_bus_load = false").replace("feeders = 20", "")
    (folder / CASE_FILE).write_text(text)
    return folder


def test_the_import_keeps_apart_what_follows_different_profiles() -> None:
    grid = transmission_from_pandapower(transmission_net())
    assert list(grid.load_mw) == [0.0, 50.0]
    assert list(grid.sgen_mw) == [-5.0, -20.0]
    assert list(grid.constant_mw) == [0.0, 3.0]


def test_a_missing_profile_of_static_generators_is_named(tmp_path, capsys) -> None:
    ended = tieline(capsys, "check", write_case(tmp_path))
    assert ended.code == 2 and ended.errors.count("\n") == 1
    for words in ("network 'grid'", "key 'sgen_profile' is missing", "'grid.json'", "25 MW at bus 0, 1"):
        assert words in ended.errors


def test_generation_does_not_follow_the_load(tmp_path) -> None:
    case = load_case(str(write_case(tmp_path, "sgen_profile = 0.1")))
    model = case.transmission_model(case.operators["grid"])
    assert model.load_mw[0] == pytest.approx([-0.5, 25.0 - 2.0 + 3.0])
    assert model.reserve_up_mw == pytest.approx(np.full(24, 0.25)), "the reserve is a share of the load"


@pytest.mark.parametrize(("bus", "left_mw"), [(1, 0.5 * 7), (2, 0.5 * 50)])
def test_a_feeder_replaces_the_load_of_its_own_bus_only(bus, left_mw, tmp_path) -> None:
    """Bus 2 is joined with bus 1 by a closed switch and has a load of 7 MW."""
    net = transmission_net()
    joined = pp.create_bus(net, 110.0)
    pp.create_switch(net, 1, joined, "b")
    pp.create_load(net, joined, 7.0)
    folder = write_case(tmp_path, "sgen_profile = 0", net=net)
    edit(CASE_FILE, "upstream_bus = 1\nreplaces_bus_load = false", f"upstream_bus = {bus}")(folder)
    case = load_case(str(folder))
    model = case.transmission_model(case.operators["grid"])
    assert model.load_mw[0] == pytest.approx([0.0, left_mw + 3.0])


def test_static_generators_of_a_feeder_are_refused_without_a_profile_of_their_own(tmp_path, capsys) -> None:
    ended = tieline(capsys, "check", small_case("sgen_follows_load_profile", tmp_path))
    assert ended.code == 2 and ended.errors.count("\n") == 1
    for words in ("network 'dso'", "key 'sgen_profile' is missing", "'feeder.json'", "3 MW at bus 2"):
        assert words in ended.errors


@pytest.mark.parametrize(("share", "supplied_mw"), [(1.0, -0.495), (0.0, 2.505), (0.5, 1.005)])
def test_the_sun_shines_on_a_feeder_whatever_its_load(share, supplied_mw, tmp_path, capsys) -> None:
    """Half of 5 MW of load, 3 MW of PV by its profile, 5 kW of the agent; the rest is losses, charging is constant."""
    case = small_case("sgen_follows_load_profile", tmp_path, f"sgen_profile = {share}")
    ended = tieline(capsys, "run", case, "--out", tmp_path / "out")
    assert ended.code == 0, ended.out + ended.errors
    with h5py.File(tmp_path / "out" / "private" / "dso.h5") as file:
        supply, losses = (np.asarray(file[key]) for key in ("supply/p_mw", "base/losses_mw"))
    assert supply - losses == pytest.approx(np.full(2, supplied_mw), abs=1e-4)


def test_a_profile_that_nothing_follows_is_named(tmp_path, capsys) -> None:
    case = write_case(tmp_path, "sgen_profile = 1")
    edit(CASE_FILE, "voltage_min_pu = 0.9", "voltage_min_pu = 0.9\nsgen_profile = 0.5")(case)
    words = "network 'feeder': sgen_profile changes nothing: no static generator is in service"
    assert words in load_case(str(case)).notes


def test_a_profile_that_is_no_public_column_is_named(tmp_path, capsys) -> None:
    ended = tieline(capsys, "check", write_case(tmp_path, 'sgen_profile = "sun"'))
    assert ended.code == 2 and "sgen_profile" in ended.errors and "'sun'" in ended.errors
