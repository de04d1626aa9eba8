"""Caffe's file formats without torch: text and binary model files of every dialect, upgraded and checked."""
