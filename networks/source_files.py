"""Recognises the kind of a file that a case names as a grid, and says how to convert what is not read.

A file is told by its first bytes, then by its ending. Pickles and scripts are named, never loaded, as they run code.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from admm import InputError
from networks.validation import read_text

ELECTRIC = (
    "a pandapower network in JSON (pandapower.to_json), a MATPOWER case (.m or .mat, version 2), "
    "or a folder with bus.csv and branch.csv"
)
ELECTRIC_TABLES, GAS_TABLES = ("bus.csv", "branch.csv"), ("node.csv", "pipe.csv", "gate.csv")
GAS = "a pandapipesNet in JSON (pandapipes.to_json), or a folder with node.csv, pipe.csv and gate.csv"
THEN = 'pandapower.to_json(net, "{stem}.json")'
HEAD_BYTES = 4096
MOST_NAMES = 6
MATPOWER_ENDINGS = (".m", ".mat")


@dataclass(frozen=True)
class Foreign:
    """A kind of file that is not read: what it is called, and how it becomes one that is."""

    name: str
    convert: str


EXCEL = Foreign("an Excel workbook", 'net = pandapower.from_excel("{name}"); ' + THEN)
PICKLE = Foreign(
    "a pickle, which can run code",
    'if you trust it, net = pandapower.from_pickle("{name}"); ' + THEN,
)
SQLITE = Foreign("an SQLite database", 'net = pandapower.from_sqlite("{name}"); ' + THEN)
OPENDSS = Foreign("an OpenDSS script", 'net = pandapower.converter.opendss.from_opendss("{name}"); ' + THEN)
CIM = Foreign(
    "a CIM or other XML file",
    'net = pandapower.converter.cim.cim2pp.from_cim.from_cim(["{name}"]); ' + THEN,
)
UCTE = Foreign("a UCTE-DEF file", 'net = pandapower.converter.ucte.from_ucte("{name}"); ' + THEN)
POWERFACTORY = Foreign(
    "a PowerFactory file",
    'in PowerFactory\'s Python, net = pandapower.converter.powerfactory.from_pfd(app, "PROJECT"); ' + THEN,
)
PSSE = Foreign("a PSS/E file", "in MATLAB or Octave, savecase('{stem}.m', psse2mpc('{name}'))")
ZIP = Foreign("a ZIP archive", "unpack it and name the network in it; a CIM archive: " + CIM.convert)
GZIP = Foreign("a compressed file", "unpack it first")
HDF5 = Foreign("an HDF5 file", "read it with the program that wrote it and build a pandapower network; " + THEN)
TABLE = Foreign("a single table", "name the folder that holds all tables")
WORKSPACE = Foreign("a MATLAB file of version 7.3", "in MATLAB, save('{stem}.mat', 'mpc', '-v7')")
GEOGRAPHY = Foreign("a map or drawing", "build a pandapower network from it; " + THEN)

STARTS = {
    b"SQLite format 3\0": SQLITE,
    b"\x80": PICKLE,
    b"\xd0\xcf\x11\xe0": EXCEL,  # .xls
    b"\x1f\x8b": GZIP,
    b"BZh": GZIP,
    b"\xfd7zXZ": GZIP,
    b"(\xb5/\xfd": GZIP,
    b"7z\xbc\xaf": GZIP,
    b"\x89HDF": HDF5,
    b"<?xml": CIM,
    b"<rdf:": CIM,
    b"##C ": UCTE,
}
ENDINGS = {
    **dict.fromkeys((".xlsx", ".xlsm", ".xls", ".ods"), EXCEL),
    **dict.fromkeys((".p", ".pkl", ".pickle"), PICKLE),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3"), SQLITE),
    **dict.fromkeys((".dss",), OPENDSS),
    **dict.fromkeys((".xml", ".rdf", ".cim", ".xiidm", ".iidm"), CIM),
    **dict.fromkeys((".uct",), UCTE),
    **dict.fromkeys((".pfd", ".dgs", ".dz"), POWERFACTORY),
    **dict.fromkeys((".raw", ".rawx", ".sav"), PSSE),
    **dict.fromkeys((".zip",), ZIP),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".7z", ".tgz"), GZIP),
    **dict.fromkeys((".h5", ".hdf5", ".nc"), HDF5),
    **dict.fromkeys((".csv", ".tsv"), TABLE),
    **dict.fromkeys((".geojson", ".shp", ".kml", ".gpkg", ".dwg", ".dxf", ".svg"), GEOGRAPHY),
}
CLASSES = {
    "pandapipesNet": "a pipe network of pandapipes, for a network of kind gas",
    "pandapowerNet": "an electric network of pandapower",
    "MultiNet": "a multi-energy network: write each of its networks to a file",
    "DataFrame": "a single table: write the whole network",
}
"""Kinds of JSON objects that pandapower and pandapipes write."""
DSS_WORDS = ("new circuit", "new object=circuit", "redirect ", "compile ")


def is_matpower(path: Path) -> bool:
    """Whether the file's ending says that it is a MATPOWER case."""
    return path.suffix.lower() in MATPOWER_ENDINGS


def refuse_foreign(path: Path, accepted: str) -> None:
    """InputError if the file is empty, or of a kind that is known and not read.

    Args:
        path: an existing file.
        accepted: what is read in its place, in words.
    """
    head = _head(path)
    if not head.strip():
        raise InputError(f"{path}: is empty, expected {accepted}")
    kind = _foreign(path, head)
    if kind is not None:
        how = kind.convert.format(name=path.name, stem=path.stem)
        raise InputError(f"{path}: looks like {kind.name}, expected {accepted}; to convert: {how}")


def read_json(path: Path, accepted: str) -> Any:
    """The content of a JSON file. InputError says what the file looks like and what is accepted."""
    refuse_foreign(path, accepted)
    try:
        text = read_text(path)
    except InputError as error:
        raise InputError(f"{error}; expected {accepted}") from None
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError(f"{path}: is no JSON that can be read (nested too deeply), expected {accepted}") from None
    except ValueError as error:  # JSONDecodeError, and numbers of thousands of digits
        if not text.lstrip().startswith(("{", "[")):
            raise InputError(f"{path}: is no JSON but another text file, expected {accepted}") from None
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise InputError(f"{path}: is no JSON as {where} is damaged, expected {accepted}; write it anew") from None


def refuse_incomplete(path: Path, tables: tuple[str, ...], accepted: str) -> None:
    """InputError if a folder has none of the tables of a grid."""
    if not any((path / name).exists() for name in tables):
        try:
            holds = sorted(one.name for one in path.iterdir())[:MOST_NAMES]
        except OSError:
            holds = []
        files = f"it holds {', '.join(holds)}" if holds else "it is empty"
        raise InputError(f"{path}: is a folder without {', '.join(tables)} ({files}), expected {accepted}")


def refuse_content(path: Path, content: Any, accepted: str) -> None:
    """Raises an InputError that says what a JSON file holds in place of a network."""
    kind = content.get("_class") if isinstance(content, dict) else None
    if isinstance(kind, str):
        hint = f"; it is {CLASSES[kind]}" if kind in CLASSES else ""
        raise InputError(f"{path}: holds {kind[:40]}, expected {accepted}{hint}")
    hint = f"; it looks like {_other(content)}"
    raise InputError(f"{path}: holds other JSON, expected {accepted}{hint}")


def _other(content: Any) -> str:
    if not isinstance(content, dict):
        return f"a {'list' if isinstance(content, list) else 'single value'}"
    if content.get("type") in ("FeatureCollection", "Feature"):
        return "GeoJSON"
    if {"bus", "branch", "gen"} <= content.keys():
        return "a case of PowerModels or PYPOWER"
    return f"an object with {', '.join(map(str, list(content)[:MOST_NAMES]))[:60] or 'nothing'}"


def _head(path: Path) -> bytes:
    try:
        if not os.path.isfile(path):
            return b" "
        with open(path, "rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b"{"  # reading it as text says why


def _foreign(path: Path, head: bytes) -> Foreign | None:
    matlab = path.suffix.lower() == ".mat"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head[:4] == b"PK\3\4":
        return EXCEL if b"xl/" in head or b"[Content_Types]" in head else ENDINGS.get(path.suffix.lower(), ZIP)
    if matlab and (start.startswith(b"\x89HDF") or b"MATLAB 7.3" in head[:128]):
        return WORKSPACE
    for mark, kind in STARTS.items():
        if start.startswith(mark) and not matlab:
            return kind
    if start.startswith((b"{", b"[")) or is_matpower(path):
        return None
    kind = ENDINGS.get(path.suffix.lower())
    lines = start.decode("utf-8", "replace").lower().splitlines()
    if kind is None and any(line.strip().startswith(DSS_WORDS) for line in lines):
        return OPENDSS
    return kind
