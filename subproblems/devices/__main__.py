"""Print the attributes of all devices as Markdown: python -m subproblems.devices"""

from subproblems.community import Community
from subproblems.devices import DEVICES, EvClass, Window
from subproblems.devices.tables import attribute_tables

print(attribute_tables([Community, *DEVICES.values(), EvClass, Window]), end="")
