"""A gas grid from a pandapipes network in JSON; pandapipes itself is not needed.

Junctions get their index as name; junctions that open valves without a loss join are one node, under the smallest
index. An ext_grid is a gate that holds its pressure, a compressor one that lifts up to its ratio. Friction is that
of pandapipes' model "nikuradse", at the mean temperature of the junctions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from admm import InputError
from admm.values import is_finite
from networks.gas_grid import (
    NORMAL_K,
    SOURCE,
    GasCompressor,
    GasGate,
    GasGrid,
    GasNode,
    GasPipe,
    GasProperties,
)
from networks.source_files import GAS, is_matpower, read_json, refuse_content
from subproblems.devices.sizes import SENSIBLE, is_sensible

SINK = "sink"
"""The profile of all demand of a pandapipes file."""
KNOWN = ("junction", "pipe", "ext_grid", "sink", "source", "valve", "compressor")
IGNORED = ("controller",)
"""Tables without a flow of their own, beside results and geodata."""
VALVE_ROUGHNESS_MM = 0.1
"""Of a piece of pipe of no length: it only has to be a number."""


@dataclass(frozen=True)
class PandapipesOptions:
    """What pandapipes does not say. p_min_bar_g, p_max_bar_g: of every node; without an upper limit the highest
    pressure that any element sets or is made for. heating_value_kwh_per_kg: where the fluid has none."""

    p_min_bar_g: float = 0.0
    p_max_bar_g: float | None = None
    cost_eur_per_mwh: float = 0.0
    heating_value_kwh_per_kg: float | None = None


def gas_from_pandapipes(source: Path | str, options: PandapipesOptions | None = None) -> GasGrid:
    """The grid in a pandapipes JSON file. InputError says what stands in the way."""
    path = Path(source)
    try:
        return _Import(path, _network(path), options or PandapipesOptions()).grid()
    except InputError:
        raise
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"{path}: is stored in another way than expected ({type(error).__name__}: {error}); "
            "write it anew with pandapipes.to_json"
        ) from None


def _network(path: Path) -> dict[str, Any]:
    if is_matpower(path):
        raise InputError(f"{path}: looks like a MATPOWER case, an electric network, expected {GAS}")
    content = read_json(path, GAS)
    if not isinstance(content, dict) or content.get("_class") != "pandapipesNet":
        refuse_content(path, content, GAS)
    return content["_object"]


def _plain(value: Any) -> Any:
    """A value without the class names that the file wraps it in."""
    if isinstance(value, dict) and "_object" in value:
        inner = value["_object"]
        if isinstance(inner, str) and inner[:1] in "{[":
            inner = json.loads(inner)
        return _plain(inner)
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


class _Import:
    """Collects one grid's tables."""

    def __init__(self, path: Path, net: Mapping[str, Any], options: PandapipesOptions) -> None:
        self.path, self._options = path, options
        self._tables = {key: dict(self._rows(key, value)) for key, value in net.items() if _is_table(value)}
        self._refuse_unknown()
        self.junctions = self._tables.get("junction", {})
        self.gas = self._gas(_plain(net.get("fluid")))
        self.fused = self._fused()

    def _error(self, found: str, expected: str) -> InputError:
        return InputError(f"{self.path}: {found}, expected {expected}")

    def _rows(self, table: str, value: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
        """(index, row) of the elements of a table that are in service."""
        frame = _plain(value)
        if not isinstance(frame, dict) or not {"columns", "index", "data"} <= frame.keys():
            raise self._error(f"table {table} is stored in another way", 'a data frame in "split" orientation')
        for index, cells in zip(frame["index"], frame["data"], strict=True):
            row = dict(zip(frame["columns"], cells, strict=True))
            if row.get("in_service", True):
                yield index, row

    def _refuse_unknown(self) -> None:
        found = {
            name: len(rows)
            for name, rows in self._tables.items()
            if rows and name not in (*KNOWN, *IGNORED) and not name.startswith("res_") and not name.endswith("_geodata")
        }
        if found:
            words = ", ".join(f"{count} {name}" for name, count in found.items())
            raise self._error(
                f"the network has {words} in service", f"only {', '.join(KNOWN)}; take them out of service"
            )

    def _number(self, table: str, index: int, row: Mapping[str, Any], key: str, default: float | None = None) -> float:
        value = row.get(key)
        value = default if value is None else value
        if not is_finite(value):
            raise self._error(f"{table} {index}: {key} is {value!r}", "a finite number")
        if not is_sensible(value):
            raise self._error(f"{table} {index}: {key} is {value!r}", SENSIBLE)
        return float(value)

    def _diameter_mm(self, table: str, index: int, row: Mapping[str, Any]) -> float:
        if "diameter_m" in row:  # pandapipes before 0.12
            return 1e3 * self._number(table, index, row, "diameter_m")
        return self._number(table, index, row, "inner_diameter_mm")

    def _node(self, table: str, index: int, row: Mapping[str, Any], key: str) -> str:
        junction = row.get(key)
        if junction not in self.fused:
            raise self._error(f"{table} {index}: {key} is {junction!r}", "a junction in service")
        return str(self.fused[junction])

    # ------------------------------------------------------------------- the gas

    def _gas(self, fluid: Any) -> GasProperties:
        if not isinstance(fluid, dict) or not fluid.get("is_gas"):
            name = fluid.get("name") if isinstance(fluid, dict) else fluid
            raise self._error(f"the fluid is {name!r}", "a gas; create the network with fluid='hgas' or another gas")
        properties = fluid["all_properties"]
        kelvin = [self._number("junction", i, row, "tfluid_k") for i, row in self.junctions.items()]
        mean = float(np.mean(kelvin)) if kelvin else NORMAL_K
        offset = self._property(properties, "compressibility", 0.0)
        if abs(offset - 1) > 1e-9:
            raise self._error(f"the gas has a compressibility of {offset:g} without pressure", "1, of an ideal gas")
        return GasProperties(
            self._property(properties, "density", NORMAL_K),
            self._property(properties, "viscosity", mean),
            mean,
            self._heating_value(properties),
            self._property(properties, "compressibility", 1.0) - offset,
        )

    def _heating_value(self, properties: Mapping[str, Any]) -> float:
        if self._options.heating_value_kwh_per_kg is not None:
            return self._options.heating_value_kwh_per_kg
        if "hhv" not in properties:
            raise self._error(
                "the fluid has no higher heating value (hhv)",
                "one: give the network heating_value_kwh_per_kg (H gas: about 14.6, hydrogen: 39.4)",
            )
        return self._property(properties, "hhv", NORMAL_K)

    def _property(self, properties: Mapping[str, Any], name: str, at: float) -> float:
        """A property of the fluid: constant, linear, or a table that goes on in a straight line."""
        given = properties.get(name, {})
        x, y = given.get("x", given.get("x_values")), given.get("y", given.get("y_values"))
        if "value" in given:
            return float(np.ravel(given["value"])[0])
        if "slope" in given:
            return float(given["offset"]) + float(given["slope"]) * at
        if x is None or y is None or len(x) < 2:
            raise self._error(f"the fluid's {name} is given as {sorted(given)}", "a constant, a line or a table")
        i = int(np.clip(np.searchsorted(x, at), 1, len(x) - 1))
        return float(y[i - 1] + (y[i] - y[i - 1]) * (at - x[i - 1]) / (x[i] - x[i - 1]))

    # ------------------------------------------------------------------- the grid

    def _valves(self) -> Iterator[tuple[int, dict[str, Any], int, int, bool]]:
        """(index, row, junction, other junction or pipe, whether it is on a pipe) of every valve."""
        for index, row in self._tables.get("valve", {}).items():
            if "et" in row:
                if row["et"] not in ("ju", "pi"):
                    raise self._error(f"valve {index}: et is {row['et']!r}", "'ju' or 'pi'")
                yield index, row, row["junction"], row["element"], row["et"] == "pi"
            else:
                yield index, row, row["from_junction"], row["to_junction"], False

    def _fused(self) -> dict[int, int]:
        """The smallest junction that open valves without a loss join each one with."""
        found = {index: index for index in self.junctions}
        for index, row, one, other, on_pipe in self._valves():
            loss = self._number("valve", index, row, "loss_coefficient", 0.0)
            if on_pipe or not row["opened"] or loss > 0 or not {one, other} <= found.keys():
                continue
            heights = [self._number("junction", i, self.junctions[i], "height_m", 0.0) for i in (one, other)]
            if heights[0] != heights[1]:
                raise self._error(f"valve {index} joins heights of {heights[0]:g} and {heights[1]:g} m", "one height")
            keep, gone = sorted((found[one], found[other]))
            found = {junction: keep if node == gone else node for junction, node in found.items()}
        return found

    def grid(self) -> GasGrid:
        gates, compressors = tuple(self._gates()), tuple(self._compressors())
        name = self.path.stem
        try:
            nodes, pipes = tuple(self._nodes(gates)), tuple(self._pipes())
            titles = {str(i): str(row["name"]) for i, row in self.junctions.items() if row.get("name")}
            return GasGrid(name, nodes, pipes, gates, compressors, self.gas, titles)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None

    def _nodes(self, gates: tuple[GasGate, ...]) -> Iterator[GasNode]:
        demand, fed_in = (dict.fromkeys(self.fused.values(), 0.0) for _ in range(2))
        for table, total in ((SINK, demand), (SOURCE, fed_in)):
            for index, row in self._tables.get(table, {}).items():
                drawn = self._number(table, index, row, "mdot_kg_per_s") * self._number(
                    table, index, row, "scaling", 1.0
                )
                total[int(self._node(table, index, row, "junction"))] += drawn * self.gas.mw_per_kgps
        upper = self._options.p_max_bar_g
        if upper is None:
            made_for = (self._number("junction", i, row, "pn_bar") for i, row in self.junctions.items())
            upper = max([*made_for, *(gate.p_set_bar_g for gate in gates)])
        for node in sorted(demand):
            height = self._number("junction", node, self.junctions[node], "height_m", 0.0)
            net, lower = demand[node] - fed_in[node], self._options.p_min_bar_g
            yield GasNode(str(node), lower, upper, net, SINK, height, fed_in[node])

    def _gates(self) -> Iterator[GasGate]:
        for index, row in self._tables.get("ext_grid", {}).items():
            if row.get("type", "pt") not in ("p", "pt"):
                raise self._error(f"ext_grid {index}: type is {row['type']!r}", "'p' or 'pt': it must set a pressure")
            pressure = self._number("ext_grid", index, row, "p_bar")
            node = self._node("ext_grid", index, row, "junction")
            cost = self._options.cost_eur_per_mwh
            yield GasGate(f"ext_grid {index}", node, pressure, pressure, pressure, cost_eur_per_mwh=cost)

    def _pipes(self) -> Iterator[GasPipe]:
        extra, closed = self._valves_on_pipes()
        for index, row in self._tables.get("pipe", {}).items():
            if index in closed:
                continue
            diameter = self._diameter_mm("pipe", index, row)
            numbers = (self._number("pipe", index, row, key) for key in ("length_km", "k_mm"))
            length, rough = numbers
            loss = self._number("pipe", index, row, "loss_coefficient", 0.0) + extra.get(index, 0.0) * diameter**4
            ends = (self._node("pipe", index, row, key) for key in ("from_junction", "to_junction"))
            yield GasPipe(f"pipe {index}", *ends, length, diameter, rough, loss)
        for index, row, one, other, on_pipe in self._valves():
            loss = self._number("valve", index, row, "loss_coefficient", 0.0)
            if not on_pipe and row["opened"] and loss > 0:
                ends = (self._node("valve", index, {"junction": end}, "junction") for end in (one, other))
                diameter = self._diameter_mm("valve", index, row)
                yield GasPipe(f"valve {index}", *ends, 0.0, diameter, VALVE_ROUGHNESS_MM, loss)

    def _valves_on_pipes(self) -> tuple[dict[int, float], set[int]]:
        """Loss over diameter^4 that open valves add to pipes, per mm^4, and the pipes that closed ones shut."""
        extra: dict[int, float] = {}
        closed = set()
        for index, row, _, pipe, on_pipe in self._valves():
            if on_pipe and row["opened"]:
                loss = self._number("valve", index, row, "loss_coefficient", 0.0)
                extra[pipe] = extra.get(pipe, 0.0) + loss / self._diameter_mm("valve", index, row) ** 4
            elif on_pipe:
                closed.add(pipe)
        return extra, closed

    def _compressors(self) -> Iterator[GasCompressor]:
        for index, row in self._tables.get("compressor", {}).items():
            ends = (self._node("compressor", index, row, key) for key in ("from_junction", "to_junction"))
            yield GasCompressor(f"compressor {index}", *ends, self._number("compressor", index, row, "pressure_ratio"))


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and value.get("_class") == "DataFrame"
