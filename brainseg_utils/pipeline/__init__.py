"""Cases become batches: preprocessing, augmentation, a cache, and loaders that read it.

registry                    pipelines by name: r0 to r4 as the reports state them, and the course's
reports, course             their steps, mistakes of the reports kept and named
transforms                  how a case becomes a dictionary, and the transforms that MONAI has not
arrays, augment, augment2d  the arithmetic: normalisation, boxes, what each augmentation does
regrid, spacing, prepare    a scan at a network's voxel size, and the way back
cache, entry, reading       a case preprocessed once, and patches read out of it
loaders, slices             batches of patches, batches of slices
"""
