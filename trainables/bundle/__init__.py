"""What ClickTune delivers: a folder with a model, and all that is needed to run and to trust it."""

from trainables.bundle.predictor import Predictor

__all__ = ["Predictor"]
