"""Which figures each table of a report shows, and for which experiments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from summarybench.report.experiment import EAGER, ExperimentView
from summarybench.report.figures import (
    batches,
    comparison,
    continuous,
    cost,
    declared,
    device,
    faithfulness,
    long_documents,
    memory,
    model_scores,
    profile,
    quality,
    speed,
    students,
    ways,
)
from summarybench.report.figures.figure import Column
from summarybench.report.layout import Table, TableLayout, TableRow, columns_of
from summarybench.runs.run_file import rounds_of

# The terminal --------------------------------------------------------------------------------------------------------

SPEED = TableLayout(
    title="Speed",
    columns=columns_of(
        speed.DOCUMENTS,
        speed.GENERATED,
        speed.DOCUMENT_TOKENS,
        speed.FIRST_TOKEN,
        speed.SECONDS,
        memory.PEAK,
        comparison.VERDICT,
        Column(figure=comparison.RATIO, has_interval=False),
    ),
)
QUALITY = TableLayout(
    title="Quality (F1)",
    key=quality.EMPTY,
    columns=columns_of(
        Column(figure=quality.ROUGE1, short="ROUGE-1\n95% interval"),
        quality.ROUGE2,
        quality.ROUGE_LSUM,
        quality.LEAD3,
        quality.SCORED,
        quality.FLOOR,
        quality.EMPTY,
        quality.REPEATING,
        quality.CAP_HITS,
        quality.TRUNCATED,
    ),
)
FAITHFULNESS = TableLayout(
    title="Faithfulness: what summaries have that their documents do not",
    key=faithfulness.NOVEL_WORDS,
    columns=columns_of(
        faithfulness.NOVEL_WORDS,
        faithfulness.NOVEL_NUMBERS,
        faithfulness.NOVEL_DATES,
        faithfulness.NOVEL_NAMES,
        faithfulness.COVERAGE,
        faithfulness.DENSITY,
        faithfulness.COMPRESSION,
        faithfulness.LENGTH_RATIO,
        faithfulness.IN_BAND,
    ),
)
DEVICE = TableLayout(
    title="Device",
    key=device.COPY_BANDWIDTH,
    columns=columns_of(
        memory.LOAD,
        memory.WEIGHTS,
        memory.PREDICTED,
        Column(figure=memory.PEAK, short="measured\npeak GiB"),
        memory.PREDICTION_ERROR,
        device.UTILIZATION,
        device.JOULES,
        device.POWER,
        device.TEMPERATURE,
    ),
)

# Experiments of some kinds, in every report --------------------------------------------------------------------------

CONTINUOUS = TableLayout(
    title="Continuous batching",
    key=continuous.IN_FLIGHT,
    columns=columns_of(
        continuous.IN_FLIGHT,
        continuous.ROUNDS,
        speed.DOCUMENTS_PER_SECOND,
        continuous.FINISH,
        continuous.LAST_FINISH,
        continuous.STEPS,
        continuous.CHANGED_SUMMARIES,
        continuous.ATTENTION,
    ),
)
BATCHES = TableLayout(
    title="Batches",
    key=batches.BATCHES,
    columns=columns_of(
        batches.BATCH_SIZE,
        batches.BATCHES,
        speed.GENERATED,
        speed.DOCUMENTS_PER_SECOND,
        batches.BATCH_SECONDS,
        batches.PADDING,
        memory.PEAK,
        Column(figure=quality.ROUGE1, has_interval=False),
    ),
)
LONG_DOCUMENTS = TableLayout(
    title="Long documents",
    key=long_documents.LONG,
    columns=columns_of(
        long_documents.LONG,
        long_documents.UNREAD,
        long_documents.CALLS,
        long_documents.PROMPT_TOKENS,
        long_documents.GENERATED_TOKENS,
        long_documents.SECONDS,
        long_documents.ROUGE1,
    ),
)
STUDENTS = TableLayout(
    title="Students beside their teachers",
    key=students.STUDENT_WEIGHTS,
    columns=columns_of(
        students.STUDENT_SPEED,
        students.STUDENT_SECONDS,
        students.STUDENT_SAVING,
        students.STUDENT_WEIGHTS,
        students.STUDENT_PEAK,
        students.STUDENT_ROUGE1,
        students.STUDENT_MARGIN,
        students.STUDENT_QUALITY,
        students.STUDENT_LENGTH,
        students.STUDENT_FAITHFULNESS,
    ),
)

COST = TableLayout(
    title="Cost and energy",
    columns=columns_of(
        cost.PRICE,
        cost.GPUS,
        cost.COST_PER_DOCUMENTS,
        cost.COST_PER_TOKENS,
        cost.ENERGY_PER_DOCUMENTS,
        cost.ENERGY_PER_TOKENS,
    ),
)

PROFILE = columns_of(
    profile.SCENARIO,
    speed.DOCUMENTS_PER_SECOND,
    profile.STREAM_SECONDS,
    profile.WITHIN_OBJECTIVE,
    profile.ROUGE1_SHARE,
    profile.ROUGE2_SHARE,
    profile.ROUGE_L_SHARE,
    profile.ROUGE_LSUM_SHARE,
    profile.LENGTH_SHARE,
    profile.TARGETS,
)

BESIDE_SERVERS = TableLayout(
    title="Engines and servers, same documents",
    columns=columns_of(
        speed.GENERATED,
        speed.DOCUMENTS_PER_SECOND,
        speed.FIRST_TOKEN,
        Column(figure=quality.ROUGE1, has_interval=False),
        memory.PEAK,
        device.JOULES,
    ),
)

# The HTML page -------------------------------------------------------------------------------------------------------

ANCHOR_COLUMN = Column(figure=comparison.ANCHOR, is_strong=True)
OVERVIEW = columns_of(
    Column(figure=speed.GENERATED, is_strong=True),
    comparison.VERDICT,
    Column(figure=comparison.RATIO, heading="ratio to latest", is_strong=True),
    ANCHOR_COLUMN,
    quality.ROUGE1,
    quality.SCORED,
    memory.PEAK,
    speed.SECONDS,
    speed.FIRST_TOKEN,
    Column(figure=speed.DOCUMENTS, heading="docs"),
)
SCORES = (
    quality.ROUGE2,
    quality.ROUGE_L,
    quality.ROUGE_LSUM,
    quality.LEAD3,
    quality.FLOOR,
    quality.QUALITY,
    quality.EMPTY,
    quality.REPEATING,
    quality.CAP_HITS,
    quality.TRUNCATED,
)
FAITHFULNESS_IN_FULL = TableLayout(
    title="Faithfulness: what summaries have that their documents do not, how much they copy, and their length",
    key=faithfulness.NOVEL_WORDS,
    columns=columns_of(
        faithfulness.NOVEL_WORDS,
        faithfulness.NOVEL_BIGRAMS,
        faithfulness.NOVEL_TRIGRAMS,
        *FAITHFULNESS.columns[1:],
    ),
)
RESOURCES = (
    speed.DECODE,
    speed.DOCUMENT_TOKENS,
    memory.LOAD,
    memory.WEIGHTS,
    memory.PREDICTED,
    device.JOULES,
)

# Markdown ------------------------------------------------------------------------------------------------------------

SUMMARY = TableLayout(
    title="Experiments",
    columns=columns_of(
        speed.DOCUMENTS,
        speed.GENERATED,
        speed.DOCUMENT_TOKENS,
        Column(figure=quality.ROUGE1, heading="ROUGE-1 (95% interval)"),
        quality.SCORED,
        memory.PEAK,
        comparison.VERDICT,
        Column(figure=comparison.RATIO, heading="ratio (95% interval)"),
    ),
)


def run_tables(experiments: Sequence[ExperimentView]) -> list[Table]:
    """The tables of the terminal that have rows, in the order in which they are shown."""
    first = [SPEED.table(experiments), QUALITY.table(experiments), FAITHFULNESS.table(experiments)]
    last = [DEVICE.table(experiments), side_by_side(experiments)]
    return [each for each in (*first, *kind_tables(experiments), *last) if each.rows]


def kind_tables(experiments: Sequence[ExperimentView]) -> list[Table]:
    """The tables of figures that only some experiments have. Kinds that declare figures have a table each."""
    scores = TableLayout(title="Quality by models", columns=columns_of(*model_scores.figures_of(experiments)))
    scored = [each for each in experiments if each.info.get("model_scores")]
    layouts = (CONTINUOUS, BATCHES, LONG_DOCUMENTS, STUDENTS)
    known = [scores.table(scored), *(layout.table(experiments) for layout in layouts)]
    shared = (*_beside_servers(experiments), *_profiles(experiments), _costs(experiments))
    found = (*known, *_declared_tables(experiments), *shared)
    return [each for each in found if each.rows]


def _profiles(experiments: Sequence[ExperimentView]) -> Iterator[Table]:
    """One table for each profile, under its title."""
    for title in dict.fromkeys(title for each in experiments if (title := profile.title_of(each))):
        own = [each for each in experiments if profile.title_of(each) == title]
        yield TableLayout(title=title, columns=PROFILE).table(own)


def _costs(experiments: Sequence[ExperimentView]) -> Table:
    """The experiments with a price or a known energy."""
    having = [each for each in experiments if each.source.price or each.consumption.joules_per_token is not None]
    return COST.table(having)


def _declared_tables(experiments: Sequence[ExperimentView]) -> Iterator[Table]:
    """One table for each kind, of its experiments with a value: runs from before a figure was declared lack it."""
    for name in dict.fromkeys(each.kind.name for each in experiments if each.kind.figures):
        own = [each for each in experiments if each.kind.name == name]
        figures = declared.figures_of_kind(own[0].kind)
        having = [each for each in own if any(figure.value(each) is not None for figure in figures)]
        yield TableLayout(title=own[0].kind.heading, columns=columns_of(*figures)).table(having)


def page_tables(experiments: Sequence[ExperimentView]) -> list[Table]:
    """The page's tables between the main one and the further figures."""
    return [each for each in (side_by_side(experiments), *summary_tables(experiments)) if each.rows]


def summary_tables(experiments: Sequence[ExperimentView]) -> list[Table]:
    """The tables of the markdown page below the one of all experiments."""
    return [each for each in (FAITHFULNESS_IN_FULL.table(experiments), *kind_tables(experiments)) if each.rows]


def overview(experiments: Sequence[ExperimentView]) -> Table:
    """The page's main table."""
    return TableLayout(title="Speed, memory and quality of each experiment", columns=OVERVIEW).table(experiments)


def details(experiments: Sequence[ExperimentView]) -> list[Table]:
    """The page's tables of further figures. Where nothing was scored, one table has room for all."""
    if any(each.rouge1 is not None for each in experiments):
        groups = {"Further figures: quality": SCORES, "Further figures: speed, memory and energy": RESOURCES}
    else:
        groups = {"Further figures": (quality.CAP_HITS, quality.TRUNCATED, *RESOURCES)}
    tables = [
        TableLayout(title=title, columns=columns_of(*figures)).table(experiments) for title, figures in groups.items()
    ]
    return [each for each in tables if each.rows and each.columns]


def _beside_servers(experiments: Sequence[ExperimentView]) -> Iterator[Table]:
    """Engines of this process and servers that summarized the same documents, the slowest first."""
    groups: dict[tuple[str, int, frozenset[str]], list[ExperimentView]] = {}
    for each in experiments:
        if each.kind.place is not None:
            info = each.info
            key = info["model"], info["max_new_tokens"], frozenset(info["document_ids"])
            groups.setdefault(key, []).append(each)
    shown = [each for group in groups.values() if len({"served" in each.info for each in group}) > 1 for each in group]
    shown.sort(key=lambda each: (each.info["model"], each.info["generated_tokens_per_second"]))
    yield BESIDE_SERVERS.table(shown)


# Ways side by side ---------------------------------------------------------------------------------------------------

SIDE_BY_SIDE = columns_of(
    ways.WAY,
    speed.GENERATED,
    ways.TIMES_EAGER,
    speed.DOCUMENTS_PER_SECOND,
    device.UTILIZATION,
    memory.PEAK,
)


def side_by_side(experiments: Sequence[ExperimentView]) -> Table:
    """Each model and precision that one run measured in more than one way, with the speed of each way beside eager's.

    Kinds without a place measure other documents or disturb the speed, and are left out.
    """
    groups: dict[tuple[str, str, str], list[ExperimentView]] = {}
    for each in experiments:
        if each.kind.place is not None:
            groups.setdefault((each.source.tag, each.info["model"], each.precision), []).append(each)
    rows = [row for group in groups.values() if len(group) > 1 for row in way_rows(sorted(group, key=_place))]
    return Table(title="Side by side", columns=SIDE_BY_SIDE, rows=tuple(rows))


def way_rows(group: Sequence[ExperimentView], columns: Sequence[Column] = SIDE_BY_SIDE) -> Iterator[TableRow]:
    """The rows of one model and precision, each with its speed ÷ that of the eager way, if there is one."""
    speeds = {each.way: float(each.info["generated_tokens_per_second"]) for each in group}
    eager = speeds.get(EAGER)
    for each in group:
        speed = float(each.info["generated_tokens_per_second"])
        times = None if eager is None else speed / eager
        cells = [
            column.cell(times if column.figure is ways.TIMES_EAGER else column.figure.value(each)) for column in columns
        ]
        yield TableRow(experiment=each, cells=tuple(cells))


def _place(experiment: ExperimentView) -> tuple[int, int, int, bool]:
    """From single documents to the fastest kind, then by processes and batch size, compiled last."""
    info = experiment.info
    is_compiled = experiment.precision != info["loader"]
    return experiment.kind.place or 0, info.get("processes", 1), max(map(len, rounds_of(info))), is_compiled
