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

#: Median frequency balancing, as published with the networks.
CLASS_WEIGHTS = (0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614)

#: Where the tutorial keeps the lists; the folder is remapped as every path in a prototxt is.
TRAIN_LIST = "/SegNet/CamVid/train.txt"
