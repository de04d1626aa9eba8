"""The commands of ``python -m caffe_compat``: a module for each, with ``add_arguments(parser)`` and ``run(args)``."""
