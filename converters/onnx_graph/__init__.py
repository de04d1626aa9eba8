"""Caffe nets as ONNX graphs, written with the ``onnx`` package itself: a rule for each layer type.

``writing`` adds nodes, ``registry`` finds a layer's rule, ``rules`` holds them, ``dimensions`` tells which axes go with
the batch, ``model`` puts it all together, ``comparing`` runs the outcome beside the net.
"""
