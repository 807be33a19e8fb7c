"""From a winner's checkpoint to a smaller model: pruning, recovery, quantization."""
