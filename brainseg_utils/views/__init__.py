"""Anything becomes a picture: one pure function draws, thin shells show it.

state            what is looked at (`Scene`) and how (`ViewState`)
slices, draw     `render(state)`: pixels of slices with overlay, outline, crosshair, letters
words            the same picture in words: alt text
palette          one colour, pattern and line a tissue, all through the course
figures, png     figures in notebooks with alt text, small enough to keep
widget           the slice viewer: slider, mouse, keyboard
volumes          three planes and 3D
frames           a series of pictures with a slider, or played as a film
metric_sliders   a mask that is moved, grown, split and blurred while its scores follow
real_or_fake     a game: which of these pictures is real?
gallery          the worst cases of a cohort, for its report
"""
