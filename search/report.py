"""The HTML report."""

import os
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from search.charts import draw_all
from search.display import count_ended
from search.evidence import REPORT_FILE, StudyEvidence, without_paths
from search.final_scores import LABELS
from search.formatting import format_change, format_duration, format_metric, format_value
from search.study_config import dump_study
from search.summary import format_interval, summarize
from search.tables import say_state
from trainables.metrics import METRICS


def page_templates() -> Environment:
    """Return the templates of HTML pages; what they are given is escaped."""
    return Environment(
        loader=PackageLoader("search", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_report(evidence: StudyEvidence) -> str:
    """Render a study as one HTML page that needs no other file, no network and no JavaScript."""
    environment = page_templates()
    environment.filters.update(
        metric=format_metric,
        change=format_change,
        duration=format_duration,
        value=format_value,
        interval=format_interval,
    )
    return environment.get_template("report.html.j2").render(
        evidence=evidence,
        metric=evidence.metric,
        metrics=METRICS,
        summary=summarize(evidence),
        charts=draw_all(evidence),
        counts=count_ended(evidence.trials),
        labels=LABELS,
        say_state=say_state,
        # A report is passed on; the folders of the machine that wrote it are nobody's business.
        study=dump_study(without_paths(evidence.config)),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def write_report(evidence: StudyEvidence) -> Path:
    """Write ``report.html`` into the study's folder, whole or not at all."""
    path = evidence.folder / REPORT_FILE
    unfinished = path.with_name(f".{REPORT_FILE}-{os.getpid()}")
    unfinished.write_text(render_report(evidence), encoding="utf-8")
    unfinished.replace(path)
    return path
