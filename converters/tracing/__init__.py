"""Torch modules as Caffe nets: the exported graph of a module, operation by operation, as layers."""
