"""A net's weights under the names of a hand-written torch model of the same structure."""

from converters.torch_layout.fitting import Fitted as Fitted
from converters.torch_layout.fitting import fit as fit
from converters.torch_layout.reference import Reference as Reference
from converters.torch_layout.reference import read_reference as read_reference
