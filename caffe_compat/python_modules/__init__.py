"""Modules of Python layers that published prototxts name; searched after all other places."""
