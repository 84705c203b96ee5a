"""The exercises' checks, one module a notebook: `nb00`, `nb01`, ...; how they are written: `course.checks`."""
