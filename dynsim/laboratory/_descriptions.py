"""Descriptions of toy networks, which theory reads too: public here, defined beside `Setup`."""

from dynsim._network_setup import HiddenRate as HiddenRate
from dynsim._network_setup import NetworkFamily as NetworkFamily
from dynsim._network_setup import NetworkModel as NetworkModel
from dynsim._network_setup import NetworkName as NetworkName
from dynsim._network_setup import NetworkSetup as NetworkSetup
