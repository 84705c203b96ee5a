"""First station of the road: a folder of scans becomes a list of `Case` records.

labels, layouts             what each integer in a mask means; how each data set names its files: two tables
nifti                       reading and writing one file, to and from RAS
cases                       the `Case` record and its lazy loading
find, decathlon             a folder, searched for cases
export                      arrays, written as a case of any layout
verify, faults              every fault of a folder, with file, found, expected, remedy
names_*, inspect_*          what it looks at: names, headers, volumes, slices
damage, damage_slices       ways to damage a cohort, to learn and to test with
splits                      by patient, seeded, saved, refusing overlap
download, fetch, archives   public data sets, resumed and checked, and how to get the others
"""
