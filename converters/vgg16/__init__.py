"""VGG16's weights as the start of an encoder."""
