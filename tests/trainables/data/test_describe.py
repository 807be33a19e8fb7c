"""A description counts what the table holds."""

from pathlib import Path

import pandas as pd

from trainables.data.config import Columns, DataConfig
from trainables.data.describe import describe
from trainables.data.table import load_clicks
from trainables.encoder import EncoderConfig
from trainables.task import TaskConfig


def test_counts_rates_and_token_lengths(tmp_path: Path) -> None:
    titles = [f"sofa {'very ' * (number % 10)}red" for number in range(100)]
    frame = pd.DataFrame(
        {"title": titles, "clicks": [1, 0] * 50, "impressions": 4, "id": range(100)}
    )
    frame.to_csv(tmp_path / "log.csv", index=False)
    columns = Columns(text=("title",), clicks="clicks", impressions="impressions", group="id")
    table = load_clicks(DataConfig(path=str(tmp_path / "log.csv"), columns=columns), TaskConfig())

    found = describe(table, columns, EncoderConfig(max_tokens=8))

    assert found.num_source_rows == found.whole.num_rows == found.whole.num_groups == 100
    assert found.whole.click_rate == 50 / 400
    assert [part.num_rows for part in found.parts] == [70, 15, 15]
    assert sum(part.clicks for part in found.parts) == 50
    # [CLS] sofa red [SEP], and 0 to 9 times "very".
    assert found.token_counts == dict.fromkeys(range(4, 14), 10)
    assert found.token_percentiles[0] == 4
    assert found.token_percentiles[100] == 13
    assert found.truncated_share == 0.5
    assert found.fingerprint == table.fingerprint
