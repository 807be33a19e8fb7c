"""What is in a study's table, in the terminal and as one HTML page."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.charts import draw_token_lengths
from search.report import page_templates
from search.study_config import StudyConfig
from search.tables import data_table, new_table, say
from trainables.data.checks import LEAK_AUC, describe_suspicions
from trainables.data.column_facts import ColumnDescription, written_time
from trainables.data.config import Columns
from trainables.data.describe import TableDescription

MAX_VALUE_CHARACTERS = 40
"""Characters of a value that are shown of the most frequent ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnLine:
    """A column as a person reads it."""

    name: str
    """The column."""
    kind: str
    """What it is to a model."""
    distinct: str
    """How many distinct values."""
    missing: str
    """Share of rows without one."""
    unseen: str
    """Share of validation and test rows whose value training lacks."""
    alone: str
    """ROC-AUC of the column by itself."""
    suspicious: bool
    """Whether that is too good."""
    usual: str
    """Quartiles, or the most frequent values."""


def column_lines(facts: TableDescription) -> list[ColumnLine]:
    """Write each column's facts."""
    return [_column_line(column, facts) for column in facts.columns]


def _column_line(column: ColumnDescription, facts: TableDescription) -> ColumnLine:
    alone = facts.checks.alone[column.name]
    unseen = () if column.unseen is None else column.unseen.values()
    return ColumnLine(
        name=column.name,
        kind=column.kind,
        distinct=f"{column.num_distinct:,}",
        missing=f"{column.missing_share:.1%}",
        unseen=" / ".join(f"{share:.1%}" for share in unseen),
        alone="" if alone is None else f"{alone:.4f}",
        suspicious=column.name in facts.checks.leaks,
        usual=_usual(column),
    )


def _usual(column: ColumnDescription) -> str:
    if column.quartiles is not None:
        write = written_time if column.kind == "time" else _short_number
        return " | ".join(write(value) for value in column.quartiles)
    return ", ".join(f"{_shorten(value)} {share:.1%}" for value, share in column.frequent)


def _short_number(number: float) -> str:
    return f"{number:,.6g}"


def _shorten(value: str) -> str:
    line = " ".join(value.split())
    return line if len(line) <= MAX_VALUE_CHARACTERS else f"{line[: MAX_VALUE_CHARACTERS - 1]}…"


def comparisons_sentence(columns: Columns) -> str | None:
    """Say which columns a model sees compared; None where none are."""
    if not columns.compare:
        return None
    pairs = "; ".join(f"{first} with {second}" for first, second in columns.compare)
    return f"a model also sees what they share (data.columns.compare): {pairs}"


def token_sentence(facts: TableDescription, max_tokens: int) -> str:
    """Say how long the rows are."""
    percentiles = facts.token_percentiles
    return (
        f"tokens of a row: median {percentiles[50]}, 95 % up to {percentiles[95]}, longest "
        f"{percentiles[100]}; {facts.truncated_share:.1%} of the rows are longer than "
        f"encoder.max_tokens, {max_tokens}"
    )


def print_data(console: Console, facts: TableDescription, config: StudyConfig) -> None:
    """Print what is in a table."""
    if facts.bad_rows is not None:
        say(console, facts.bad_rows.summary())
    console.print(data_table(facts.fingerprint, (*facts.parts, facts.whole)))
    console.print(_columns_table(column_lines(facts)))
    if compared := comparisons_sentence(config.data.columns):
        say(console, compared)
    say(console, token_sentence(facts, config.encoder.max_tokens))
    for found in facts.checks.duplicates:
        say(
            console,
            f"{found.num_rows:,} {found.part} rows ({found.share:.1%}) repeat a training row",
        )
        for example in found.examples:
            content = _shorten(example.content)
            say(console, f"  row {example.row} repeats row {example.training_row}: {content}")
    for sentence in describe_suspicions(facts.checks, config.data):
        say(console, f"warning: {sentence}")


def _columns_table(lines: Sequence[ColumnLine]) -> Table:
    table = new_table("columns that a model sees")
    table.add_column("column")
    table.add_column("kind")
    for name in ("distinct", "missing", "unseen (val. / test)", "alone"):
        table.add_column(name, justify="right")
    table.add_column("quartiles, or most frequent values")
    for line in lines:
        cells = (line.name, line.kind, line.distinct, line.missing, line.unseen, line.alone)
        # As text: a name or a value may look like markup.
        table.add_row(
            *(Text(cell) for cell in (*cells, line.usual)),
            style="bold" if line.suspicious else None,
        )
    table.caption = (
        "unseen: share of the validation / test rows whose value no training row has; alone: "
        f"ROC-AUC of the column by itself on the validation rows, suspicious from {LEAK_AUC}"
    )
    table.caption_justify = "left"
    return table


def render_data(facts: TableDescription, config: StudyConfig) -> str:
    """Render a table's facts as one HTML page that needs no other file, no network, no script."""
    return (
        page_templates()
        .get_template("data.html.j2")
        .render(
            # A page is passed on; the folders of the machine that wrote it are nobody's business.
            name=config.name,
            file=Path(config.data.path).name,
            facts=facts,
            columns=column_lines(facts),
            compared=comparisons_sentence(config.data.columns),
            suspicions=describe_suspicions(facts.checks, config.data),
            leak_auc=LEAK_AUC,
            max_tokens=config.encoder.max_tokens,
            token_sentence=token_sentence(facts, config.encoder.max_tokens),
            chart=draw_token_lengths(facts.token_counts, config.encoder.max_tokens),
            written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
    )


def write_data_page(path: Path, facts: TableDescription, config: StudyConfig) -> None:
    """Write the page, whole or not at all.

    Raises:
        OSError: if the file can't be written.
    """
    unfinished = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        unfinished.write_text(render_data(facts, config), encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
