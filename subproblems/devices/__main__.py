"""Print the attributes of all devices as Markdown: python -m subproblems.devices"""

from subproblems.community import Community
from subproblems.devices import DEVICES, EvClass, Window
from subproblems.devices.tables import attribute_tables
from subproblems.hub import Hub

MODELS = [Community, Hub, *DEVICES.values(), EvClass, Window]

if __name__ == "__main__":
    print(attribute_tables({model.label: model for model in MODELS}), end="")
