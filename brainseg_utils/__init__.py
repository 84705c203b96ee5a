"""Brain-tumour segmentation, from a folder of MRI scans to a scored, explained segmentation.

The package is a road with one room for each station, in the order in which the data passes:

    datasets -> pipeline -> training -> inference -> evaluation -> views

`phantom` makes a synthetic cohort in any data set's layout, `models` maps a name to a network, and
`course` holds what the notebooks need around them. Importing the package imports none of the rooms.
"""

__version__ = "0.1.0"
