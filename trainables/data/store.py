"""The token store beside the studies: a table is tokenized once for all of them."""

import errno
from pathlib import Path

from trainables.data.prepared import PreparedData, data_fingerprint, is_whole, prepare, share
from trainables.data.table import ClickTable
from trainables.encoder import EncoderConfig

STORE = ".prepared"
"""The store's folder, beside those of the studies. It may be deleted while nothing runs."""
DATA_FOLDER = "data"
"""Where a study, or a single trial, has its share of the store."""

NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)


def prepare_shared(table: ClickTable, encoder: EncoderConfig, folder: Path) -> PreparedData:
    """Prepare a table in the store, unless it is there, and give a study's folder its share of it.

    The share is whole without the store, so that a study can be moved, but takes no room beside it:
    its files are hard links. A store that is gone is made of the share, if there is one.

    Args:
        table: The checked table.
        encoder: Whose tokenizer is used.
        folder: The study's or the single trial's; the store is beside it.

    Returns:
        The store's data, which all studies' trials read. Where there can't be a store, because the
        folder above isn't ours to write, the share.

    Raises:
        ValueError: if the encoder can't be found.
        OSError: if there is no room, or a folder can't be written.
    """
    mine = folder / DATA_FOLDER / data_fingerprint(table, encoder)
    try:
        data = prepare(table, encoder, folder.absolute().parent / STORE, spare=mine)
    except OSError as error:
        if error.errno not in NOT_OURS:
            raise
        return prepare(table, encoder, mine.parent)
    if not is_whole(mine):
        share(data.folder, mine)
    return data
