"""The CamVid road scenes as the paper uses them (section 4.1): size, classes and the weights of the loss."""

HEIGHT, WIDTH = 360, 480

#: Class names by label. Pixels of no class have the label that comes next, ``VOID``.
CLASSES = (
    "Sky",
    "Building",
    "Pole",
    "Road",
    "Pavement",
    "Tree",
    "SignSymbol",
    "Fence",
    "Car",
    "Pedestrian",
    "Bicyclist",
)
VOID = len(CLASSES)

#: A colour (RGB) for each class, then that of void, as the tutorial's test_segmentation_camvid.py paints them.
PALETTE = (
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
    (0, 0, 0),
)

#: Median frequency balancing, as published with the networks.
CLASS_WEIGHTS = (0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614)

#: Where the tutorial keeps the lists; the folder is remapped as every path in a prototxt is.
TRAIN_LIST = "/SegNet/CamVid/train.txt"
