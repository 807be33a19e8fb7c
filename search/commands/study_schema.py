"""clicktune study-schema: the study file's JSON Schema, for editors."""

import json

import click


@click.command("study-schema")
def study_schema() -> None:
    """Print the JSON Schema of study files.

    Editors complete and check a file that begins with the line
    `# yaml-language-server: $schema=study.schema.json`.
    """
    from search.study_schema import study_schema as build

    click.echo(json.dumps(build(), indent=2))
