"""Choose placements for a table on disk, as a whole: limits are shares of all its rows."""

from pathlib import Path

from trainables.bundle.place import choose_placements
from trainables.bundle.predict_file import check_paths, read_columns, write_with_columns
from trainables.bundle.predictor import Predictor


def place_file(
    bundle: Path,
    input_path: Path,
    output_path: Path,
    *,
    max_share: float | None = None,
    num_threads: int | None = None,
) -> int:
    """Copy a table with each row's best placement and its click probability added.

    Args:
        bundle: The folder of a placement study's bundle.
        input_path: A .csv, .csv.gz or .parquet file.
        output_path: The same; replaced if it exists.
        max_share: Largest share of the rows that one placement may get; None: no limit.
        num_threads: Threads of the graph; None: one for each core.

    Returns:
        The number of rows.

    Raises:
        ValueError: naming the file and, where it is one row's fault, the row and column.
    """
    check_paths(input_path, output_path)
    predictor = Predictor(bundle, num_threads)
    needed = [
        name for name in predictor.features.columns if name not in predictor.features.placement
    ]
    rows = read_columns(input_path, needed)
    chosen = choose_placements(predictor, rows, max_share=max_share)
    write_with_columns(input_path, output_path, chosen.to_columns())
    return len(chosen.chosen)
