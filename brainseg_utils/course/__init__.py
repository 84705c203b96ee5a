"""The notebooks' own machinery; a notebook begins with `setup = course.begin("01", ...)`.

session      begin: seeds, no network, data, checks and questions of one notebook
profiles     quick and full; how many processes
threads      one or two for a live training, whichever is quicker
offline      the guard that keeps a process off the network
checks       exercise checks (their content: exercises/), quiz: questions (quizzes/)
source       a jupytext source becomes a student and a solution notebook; build executes and writes them
parameters   the tagged cell that the runner fills in
runner       all notebooks through papermill, with time, memory and status; index, measure
lab          the reader's own copy of the notebooks
reference    recorded runs that prose and tables quote
"""

from brainseg_utils.course.session import begin

__all__ = ["begin"]
