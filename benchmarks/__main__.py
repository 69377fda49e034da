"""`python -m benchmarks COMMAND`: every measurement of the project, a command each. See README.md."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from admm import InputError
from admm.threads import start_with_few
from benchmarks.options import ARGUMENTS, add_options, options_from

RUNNER = "resume again processes"
ALL = " ".join(ARGUMENTS)
COMMANDS = {
    "grid": (
        "a fixed penalty at each of 21 values: what the baselines are tuned by",
        f"with subjects solver start cap {RUNNER}",
    ),
    "convergence": ("exchanges of all variants on all subjects", ALL),
    "round_trips": ("at which round-trip time which scheme wins", ""),
    "headline": ("adaptive against classical on the case with hubs", ALL),
    "wrong_start": ("the penalty started 100 times wrong", ALL),
    "ablation": ("each ingredient of the default left out", ALL),
    "warm": ("warm start after errors of load and PV", f"with subjects variants solver cap skip-unknown {RUNNER}"),
    "scaling": ("10 to 1000 hubs, against monolithic solvers", "cap resume again"),
    "main_case": ("the main case in all variants against its reference", "subjects"),
    "nonlinear": ("hubs, feeder and gas network against IPOPT's optimum", "subjects solver"),
    "flexibility": ("what the hubs' flexibility is worth", "subjects"),
    "reward_tariffs": ("how much of it all a tariff reaches", "subjects solver"),
    "privacy": ("what noise and masked sums cost", "solver cap"),
    "market_studies": ("six studies on the market, many draws", f"subjects solver {RUNNER}"),
    "market_gates": ("every gate of a day, warm and cold", "subjects solver resume again"),
    "market_settlement": ("five draws settled, and recomputed from their CSV files", "resume"),
    "market_kills": ("the market killed at random moments, and resumed", ""),
    "faults": ("what becomes of a run when something goes wrong", "again"),
    "kills": ("runs killed at start, in mid-run and at the end, and two runs at once", "resume again"),
    "stragglers": ("one rank slowed, and stalls: staleness 0 to 10", "solver cap"),
    "cluster.two_hosts": ("two hosts, and the link between them cut (root)", ""),
    "stuck_solvers": ("how long agents' solvers are stuck, and what replacing them brings", ""),
    "blas_threads": ("what threads of the linear algebra library cost", ""),
    "time_by_rank": ("where the wall time goes on 1 to 11 ranks", ""),
    "grid_imports": ("published networks through the imports, against pandapower's own flows", "subjects resume again"),
    "infeasible": ("wholes without an agreement, and hardly with one", "subjects solver resume again"),
    "random_qps": ("5000 random QPs: is what is called converged the optimum?", f"solver {RUNNER}"),
    "random_cases": ("300 random cases: does a run end at the optimum of the whole?", RUNNER),
    "fuzz": ("bad input of every kind: each ends in a result or one line of ours", "subjects"),
}
"""{module: (what it measures, those of ARGUMENTS that it heeds)}; the function is called run_ and the module's name."""


def main(arguments: list[str] | None = None) -> int:
    start_with_few()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for path, (words, options) in COMMANDS.items():
        name, module = path.rpartition(".")[2], import_module(f"benchmarks.{path}")
        command = commands.add_parser(name, help=words, description=words)
        command.set_defaults(run=getattr(module, f"run_{name}"))
        add_options(command, options.split())
        if hasattr(module, "add_own_options"):
            module.add_own_options(command)
    given = parser.parse_args(arguments)
    try:
        given.run(options_from(given))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
