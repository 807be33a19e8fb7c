"""Numbers, durations and hyperparameters as a person reads them."""

from collections.abc import Mapping, Sequence

from spaces.parameters import Value

SHORT_NAMES = {
    "learning_rate": "lr",
    "batch_size": "batch",
    "augmentation": "aug",
    "augmentation_rate": "aug rate",
    "augmented_share": "aug share",
    "augmentation_schedule": "aug schedule",
    "mixup_alpha": "mixup",
    "lora_rank": "rank",
    "encoder_layers": "encoder layers",
    "tuned_layers": "layers",
    "weight_decay": "decay",
    "warmup_fraction": "warm-up",
}
"""Names that leave room for values in one line of a terminal."""


def format_value(value: Value) -> str:
    """Write a hyperparameter with three digits; 1e-4 instead of 0.0001."""
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    text = f"{value:.3g}"
    mantissa, exponent, power = f"{value:.2e}".partition("e")
    if exponent and value and not 1e-2 <= abs(value) < 1e4:
        text = f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
    return text


def format_params(params: Mapping[str, Value]) -> str:
    """Write a point of the space in one line."""
    return ", ".join(
        f"{SHORT_NAMES.get(name, name)} {format_value(value)}" for name, value in params.items()
    )


def format_change(value: float) -> str:
    """Write a difference of a metric with its sign; what rounds to nothing is +0.0000."""
    return f"{round(value, 4) + 0.0:+.4f}"


def format_duration(seconds: float) -> str:
    """Write a duration: 42 s, 3 min 05 s, 2 h 10 min."""
    whole = round(max(seconds, 0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_about(seconds: float) -> str:
    """Write a predicted duration no more exactly than it is known: 40 s, 24 min, 2 h 10 min."""
    if seconds < 55:
        return f"{max(10, round(seconds, -1)):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    minutes = round(minutes, -1)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_numbers(numbers: Sequence[int]) -> str:
    """Write rising whole numbers; four or more without a gap as a range: 1, 3, 9 or 2 to 19."""
    if len(numbers) > 3 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))


def format_metric(value: float | None) -> str:
    """Write a metric with four decimals, a dash where there is none."""
    return "–" if value is None else f"{value:.4f}"  # noqa: RUF001 - an en dash on purpose


def trial_name(number: int) -> str:
    """Return a trial's name in folders and tables."""
    return f"trial-{number:04d}"
