"""The command `brainseg`: one verb a station of the road. Thin: it parses, calls one function and prints.

Exit codes: 0 done, 1 the work found faults, 2 the request or its input was wrong.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from brainseg_utils.errors import BrainsegError, SettingError

FAULTS, WRONG_REQUEST, INTERRUPTED = 1, 2, 130
HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    help="Brain-tumour segmentation, from a folder of MRI scans to a scored, explained segmentation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings=HELP,
)
data = typer.Typer(help="Folders of scans: check, download, make, divide, cache.", no_args_is_help=True)
course = typer.Typer(help="The notebooks: run them from start to end.", no_args_is_help=True)
app.add_typer(data, name="data", context_settings=HELP)
app.add_typer(course, name="course", context_settings=HELP)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A data set's root, its parent, or one case folder.")]
LayoutOption = Annotated[
    str | None,
    typer.Option(help="brats2020, brats2021, brats2023, brats2024, msd or lgg. Default: recognised from the names."),
]
SchemeOption = Annotated[
    str | None, typer.Option(help="Label scheme, where it is not the layout's own (brats2024-ped).")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes. Default: one a CPU.")]


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """Options of every verb; `main` reads --debug itself."""


@app.command()
def doctor() -> None:
    """Check Python, packages, device, memory, disk and widgets, and say what to do about each that is wrong."""
    from rich.console import Console
    from rich.table import Table

    from brainseg_utils.course.doctor import diagnose

    findings = diagnose()
    table = Table("", "what", "found", "what to do", box=None)
    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "wrong": "[red]wrong[/]"}
    for finding in findings:
        table.add_row(marks[finding.status], finding.what, finding.found, finding.remedy)
    Console().print(table)
    wrong = sum(finding.status == "wrong" for finding in findings)
    print(f"{wrong} thing(s) to mend before the course runs" if wrong else "ready for the course")
    raise typer.Exit(FAULTS if wrong else 0)


@data.command()
def verify(
    folder: Folder,
    layout: LayoutOption = None,
    scheme: SchemeOption = None,
    workers: Workers = None,
    json: Annotated[Path | None, typer.Option(help="Also write the faults to this file.")] = None,
) -> None:
    """List every fault of a folder of scans, with file, found, expected and remedy. Exit code 1 if there are any."""
    from brainseg_utils.datasets.verify import verify

    report = verify(folder, layout=layout, scheme=scheme, workers=workers)
    report.print()
    if json:
        report.write_json(json)
        print(f"faults written to {json}")
    raise typer.Exit(report.exit_code)


@data.command()
def download(
    name: Annotated[str, typer.Argument(help="lgg, msd, brats2020, brats2021, brats2023 or brats2024.")],
    out: Annotated[Path, typer.Option(help="Where the data set goes.")] = Path("brainseg-data"),
) -> None:
    """Download a public data set, or say how to get one that wants registration. Resumes where it was cut off."""
    from brainseg_utils.datasets.download import download

    print(f"data set in {download(name, out)}")


@data.command()
def phantom(
    out: Annotated[Path, typer.Option(help="Folder to write; cases that are there already are left alone.")],
    cases: Annotated[int, typer.Option(min=1, help="How many (lgg: patients).")] = 24,
    layout: Annotated[str, typer.Option(help="Whose names, labels and headers to write.")] = "brats2023",
    seed: Annotated[int, typer.Option(help="Same seed, same voxels.")] = 0,
    spacing: Annotated[int, typer.Option(min=1, max=2, help="Voxel size in mm.")] = 2,
    difficulty: Annotated[str, typer.Option(help="easy, normal or hard.")] = "normal",
    workers: Workers = None,
) -> None:
    """Make a cohort of synthetic patients in a data set's own layout. Nothing is downloaded."""
    from brainseg_utils.phantom.cohort import make

    made = make(out, cases, layout, seed=seed, spacing=spacing, difficulty=difficulty, workers=workers)
    print(f"{len(made)} cases in {out}")


@data.command()
def split(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="JSON file; one that is there already is checked and kept.")],
    layout: LayoutOption = None,
    folds: Annotated[int | None, typer.Option(min=2, help="k folds instead of fractions.")] = None,
    fractions: Annotated[str, typer.Option(help="train,val or train,val,test.")] = "0.8,0.2",
    seed: Annotated[int, typer.Option()] = 0,
    stratify: Annotated[bool, typer.Option(help="Spread tumour sizes evenly (reads every mask).")] = False,
) -> None:
    """Divide a cohort by patient and save who is where."""
    from brainseg_utils.datasets import splits
    from brainseg_utils.datasets.find import find_cases

    cases = find_cases(folder, layout)
    saved = splits.reuse_or_make(out, cases, folds=folds, fractions=_fractions(fractions), seed=seed, stratify=stratify)
    counts = ", ".join(f"{subset} {len(ids)}" for subset, ids in saved.subsets.items())
    print(f"{counts} cases in {out}")


def _fractions(text: str) -> dict[str, float]:
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        raise SettingError(f"fractions {text!r}", expected="numbers such as 0.75,0.15,0.10") from None
    if len(shares) not in (2, 3):
        raise SettingError(f"{len(shares)} fractions", expected="two (train,val) or three (train,val,test)")
    return dict(zip(("train", "val", "test"), shares, strict=False))


@data.command()
def cache(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Folder of the cache.")] = Path("runs/cache"),
    layout: LayoutOption = None,
    workers: Workers = None,
) -> None:
    """Read every case once into a memory-mapped cache, from which training reads patches."""
    from brainseg_utils.datasets.find import find_cases
    from brainseg_utils.pipeline.cache import Cache

    summary = Cache(out).build(find_cases(folder, layout), workers=workers)
    print(f"{summary} in {out}")


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe (r2_unet_dice, course_lgg, ...) or a TOML file.")],
    data_dir: Annotated[Path, typer.Option("--data", help="A data set's root or its parent.")],
    out: Annotated[Path | None, typer.Option(help="The run's folder. Default: runs/train/<recipe>-<time>.")] = None,
    profile: Annotated[str, typer.Option(help="quick or full.")] = "quick",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
) -> None:
    """Train a recipe. Interrupt it at any time: --resume goes on as if nothing had happened."""
    from brainseg_utils.training.train import train

    print(f"run in {train(recipe, data_dir, out, profile, resume).path}")


@app.command()
def predict(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A case folder, a data set, or LGG slices.")],
    out: Annotated[Path, typer.Option(help="Masks go here; cases that are there already are left alone.")],
    weights: Annotated[
        list[str] | None,
        typer.Option(help="A model's name, a run's folder or its weights; repeat to average. Default: the layout's."),
    ] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also write probabilities.")] = False,
    layout: LayoutOption = None,
    scheme: SchemeOption = None,
) -> None:
    """Segment every case into OUT/<case>/, named and labelled as its data set does. Resumes where it was interrupted.

    Cases that cannot be predicted are named, the rest are predicted: exit 2.
    """
    from brainseg_utils.inference.predict import predict

    done = predict(source, out, weights or None, probabilities=probabilities, layout=layout, scheme=scheme)
    for kind, messages in (("note", done.notices), ("not predicted", done.faults)):
        for message in messages:
            print(f"{kind}: {message}", file=sys.stderr)
    print(f"{done} in {out}")
    raise typer.Exit(WRONG_REQUEST if done.faults else 0)


@app.command()
def evaluate(
    truth: Annotated[Path, typer.Argument(help="A mask, or a folder of cases.")],
    prediction: Annotated[Path, typer.Argument(help="A mask, or a folder; matched by case id.")],
    protocol: Annotated[str, typer.Option(help="brats2020, brats2023[-ssa|-ped|-men|-met], brats2024 or lgg.")],
    json: Annotated[Path | None, typer.Option(help="Write the tidy table as JSON.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the tidy table as CSV.")] = None,
    workers: Workers = None,
) -> None:
    """Score predictions as the challenge does. Cases that cannot be scored are named, the rest are scored: exit 2."""
    from brainseg_utils.evaluation.cohort import evaluate

    evaluation = evaluate(truth, prediction, protocol, workers=workers)
    evaluation.print()
    for path, write in ((json, evaluation.write_json), (csv, evaluation.write_csv)):
        if path:
            write(path)
            print(f"scores written to {path}")
    raise typer.Exit(evaluation.exit_code)


@app.command()
def report(
    scores: Annotated[Path, typer.Argument(help="What `brainseg evaluate` wrote, JSON or CSV.")],
    out: Annotated[Path, typer.Option(help="The HTML file, one that needs no other.")],
    other: Annotated[Path | None, typer.Option(help="Scores of a second model on the same cases.")] = None,
    truth: Annotated[Path | None, typer.Option(help="The cases, to show pictures of the worst.")] = None,
    prediction: Annotated[Path | None, typer.Option(help="Their predictions; goes with --truth.")] = None,
) -> None:
    """Write a report about a cohort's scores: summary, spread, comparison, worst cases."""
    from brainseg_utils.evaluation.cohort import read_evaluation
    from brainseg_utils.evaluation.report import write_report
    from brainseg_utils.views.gallery import case_pictures

    if (truth is None) != (prediction is None):
        raise SettingError("one of --truth and --prediction", expected="both, or neither")
    evaluation = read_evaluation(scores)
    pictures = case_pictures(truth, prediction, evaluation.protocol) if truth and prediction else None
    second = read_evaluation(other) if other else None
    print(f"report in {write_report(evaluation, out, other=second, picture=pictures)}")


@course.command("run")
def course_run(
    only: Annotated[str | None, typer.Option(help="Notebooks by number: 01,02. Default: all.")] = None,
    profile: Annotated[str, typer.Option(help="quick or full.")] = "quick",
    parameter: Annotated[
        list[str] | None, typer.Option("-p", metavar="NAME VALUE", help="A parameter of the notebooks; repeat.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Default: runs/course/<time>.")] = None,
    record: Annotated[bool, typer.Option(help="Keep the times in data/reference, for README and notebooks.")] = False,
) -> None:
    """Run the notebooks with papermill and write an index of time, memory and status. One that fails stops no other."""
    from brainseg_utils.course.runner import run

    finished = run(only=only, profile=profile, parameters=_pairs(parameter or []), out=out, record=record)
    print(f"{finished.summary} in {finished.index}")
    raise typer.Exit(finished.exit_code)


def _pairs(words: list[str]) -> dict[str, str]:
    pairs = dict(word.split("=", 1) for word in words if "=" in word)
    if len(pairs) < len(words):
        raise SettingError(f"parameter {words!r}", expected="-p name value")
    return pairs


def join_pairs(arguments: list[str]) -> list[str]:
    """Turns papermill's `-p NAME VALUE` into `-p NAME=VALUE`, which the parser can take.

    Example:
        >>> join_pairs(["course", "run", "-p", "seed", "3", "--only", "01"])
        ['course', 'run', '-p', 'seed=3', '--only', '01']
    """
    joined: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "-p" and len(rest) >= 2 and "=" not in rest[0]:
            joined += [word, f"{rest[0]}={rest[1]}"]
            del rest[:2]
        else:
            joined.append(word)
    return joined


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; an error that the user can mend is one line and exit code 2."""
    arguments = join_pairs(sys.argv[1:] if arguments is None else arguments)
    try:
        app(arguments)
    except BrainsegError as error:
        if "--debug" in arguments:
            raise
        print(f"brainseg: {error}", file=sys.stderr)
        sys.exit(WRONG_REQUEST)
    except KeyboardInterrupt:
        print("brainseg: interrupted; what was finished is kept", file=sys.stderr)
        sys.exit(INTERRUPTED)
