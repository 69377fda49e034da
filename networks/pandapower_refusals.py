"""What a feeder cannot represent of a pandapower network, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from admm import InputError
from networks.pandapower_columns import WHOSE, Elements, is_empty

CARRIED = (
    *("bus", "line", "trafo", "trafo3w", "impedance", "switch", "ext_grid", "gen"),
    *("load", "sgen", "storage", "motor", "asymmetric_load", "asymmetric_sgen", "shunt", "ward"),
)
"""Tables that a feeder is made of."""
NO_ELEMENTS = ("measurement", "pwl_cost", "poly_cost", "controller", "group", "characteristic", "bus_geodata")
"""Tables that a power flow does not depend on."""
REFUSED = {
    "xward": "it holds a voltage; replace it with pandapower.toolbox.replace_xward_by_ward(net)",
    "dcline": "it holds voltages; replace it by an sgen at each end",
    "svc": "it controls a voltage; replace it by a shunt",
    "tcsc": "it controls a flow; replace it by an impedance",
    "ssc": "it controls a voltage; replace it by an sgen",
    "vsc": "converters are not modelled; replace it by an sgen",
}
OPTIONS_EXPECTED = {
    **{"ac": True, "mode": "pf", "trafo_loading": "current", "trafo3w_losses": "hv"},
    **dict.fromkeys(("consider_line_temperature", "tdpf", "enforce_q_lims", "enforce_p_lims"), False),
    **dict.fromkeys(("neglect_open_switch_branches", "distributed_slack", "run_control"), False),
}
"""Options whose other values change a flow in a way that a feeder cannot represent."""


def refuse_elements(net: Any) -> None:
    """Raise InputError if an element in service, or an option stored in the network, cannot be represented."""
    for name in other_tables(net):
        for index in Elements(net, name).index:
            why = REFUSED.get(name, "a feeder has no such element; replace it by loads or sgens")
            raise InputError(f"{WHOSE}: {name} {index} cannot be represented: {why}, or take it out of service")
    _refuse_options(net)


def other_tables(net: Any) -> Iterator[str]:
    """Names of the tables of elements that a feeder cannot represent, unless they are out of service."""
    import pandas

    for name, table in list(net.items()):
        if name.startswith(("_", "res_")) or name in CARRIED + NO_ELEMENTS or not isinstance(table, pandas.DataFrame):
            continue
        if "in_service" in table.columns or name in REFUSED:
            yield name


def _refuse_options(net: Any) -> None:
    options = net.get("user_pf_options") or {}
    for key, expected in OPTIONS_EXPECTED.items():
        found = options.get(key)
        plain = found.lower() if isinstance(found, str) else found
        if not is_empty(found) and plain != expected:
            raise InputError(
                f"{WHOSE}: user_pf_options has {key} = {found!r}, which a feeder cannot represent; "
                "remove it with pandapower.set_user_pf_options(net, overwrite=True)"
            )
