"""Where a study runs: machines, not studies."""
