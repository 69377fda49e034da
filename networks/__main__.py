"""Print the attributes of a case file as Markdown: python -m networks"""

from networks.case_tables import (
    AgentTable,
    DistributionTable,
    GasTable,
    HorizonTable,
    HubTable,
    PriceTable,
    ReactiveSupport,
    TransmissionTable,
)
from networks.market.ev_errors import EvErrorTable
from networks.market.forecast_errors import ErrorTable
from networks.market.rules import MarketTable
from subproblems.devices.tables import attribute_tables

TABLES = {
    "`[horizon]`": HorizonTable,
    "`[prices]`": PriceTable,
    '`[[network]]` of kind "distribution"': DistributionTable,
    "an entry of its `reactive_support`": ReactiveSupport,
    '`[[network]]` of kind "transmission"': TransmissionTable,
    '`[[network]]` of kind "gas"': GasTable,
    '`[[agent]]` of kind "community"': AgentTable,
    '`[[agent]]` of kind "hub"': HubTable,
    "`[market]`": MarketTable,
    "`[[market.error]]`": ErrorTable,
    "`[[market.ev_error]]`": EvErrorTable,
}


def case_tables() -> str:
    """One headed table a part of case.toml."""
    return attribute_tables(TABLES)


if __name__ == "__main__":
    print(case_tables(), end="")
