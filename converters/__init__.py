"""Weights and graphs from Caffe into torch, and back."""
