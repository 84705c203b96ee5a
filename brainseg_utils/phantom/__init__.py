"""A synthetic glioma cohort: a seed becomes a folder of scans in any data set's layout.

A case is built in two steps that are kept apart. Its geometry (where every tissue lies, seconds) and its rendering (how
a scanner sees it, a fraction of a second, drawn anew as often as one likes).

    parameters, settings, contrast_settings   every number, from parameters.toml
    fields, grids, streams, threads           smooth random fields, coordinates, named random streams
    template, anatomy, structures, head       the average head, bent into a new one; vessels, skull, scalp
    plan, eikonal, tumour                     what lesion, where; how it grows
    geometry                                  one case without its contrast
    contrast, scanner                         four modalities of it
    packed, redraw                            the same for training: three times as quick, fresh at every draw
    lgg                                       the same as 2D colour slices
    cohort                                    a folder of cases, in parallel, with a record of what was drawn
"""
