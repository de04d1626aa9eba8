"""SegNet: its networks, and what the paper does with them."""
