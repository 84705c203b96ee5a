"""The sixth room of the road: masks and truths in, scores out, as the BraTS challenges compute them.

`voxel`, `boundary` and `lesions` work on arrays, `protocols` puts them together for a case, `cohort` for folders of
files. `statistics`, `errors`, `calibration` and `tuning` ask what the scores mean, `report` writes it down.
"""
