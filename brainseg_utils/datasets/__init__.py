"""First station of the road: a folder of scans becomes a list of `Case` records.

labels     what each integer in a mask means, per data set, as one table
layouts    how each data set names its folders and files
nifti      reading and writing one file, to and from RAS
cases      the `Case` record and its lazy loading
find       a folder, searched for cases
export     arrays, written as a case of any layout
verify     every fault of a folder, with file, found, expected, remedy (faults, names_*, inspect_*)
damage     ways to damage a cohort, to see that verify finds them
splits     by patient, seeded, saved, refusing overlap
download   public data sets, and how to get the others
"""
