"""The commands of ``python -m converters``: a module for each, with ``add_arguments(parser)`` and ``run(args)``."""
