"""From a table on disk to token arrays that every trial shares."""
