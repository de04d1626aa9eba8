"""Nets for inference alone, as fast and in as little memory as this package can: ``Net.engine``."""

from caffe_compat.engine.engine import PRECISIONS, Engine

__all__ = ["PRECISIONS", "Engine"]
