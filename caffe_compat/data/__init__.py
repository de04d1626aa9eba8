"""Data layers without a net: images and lists, Caffe's arithmetic on them, and reading ahead."""
