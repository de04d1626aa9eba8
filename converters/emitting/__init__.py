"""A converted net as Python source: an ``nn.Module`` that needs torch alone and gives the net's outputs bit by bit."""

from converters.emitting import module_rules as module_rules  # registers the layer types
from converters.emitting import pooling_rules as pooling_rules
from converters.emitting import shape_rules as shape_rules
from converters.emitting import value_rules as value_rules
from converters.emitting.source import emit as emit
