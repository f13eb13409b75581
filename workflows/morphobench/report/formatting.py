"""How numbers are said: scores with their interval, times, sizes; the same in figures, captions and tables."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

__all__ = [
    "METRIC_TITLES",
    "count",
    "in_order",
    "interval",
    "mean_and_interval",
    "metric_title",
    "number",
    "percent",
    "power_label",
    "scientific",
    "score",
    "seconds",
    "sentence_list",
    "signed",
]

METRIC_TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC",
    "ece": "calibration error (ECE)",
    "dice": "Dice",
    "dice_limit": "Dice of the true classes",
    "iou": "IoU",
    "cldice": "clDice",
    "hd95": "Hausdorff 95 % (pixels)",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
}
# below how many seconds a duration is said in which unit; 999.6 ms is 1 s in three digits
UNITS = ((0.9995e-3, 1e6, "µs"), (0.9995, 1e3, "ms"), (120.0, 1.0, "s"), (7200.0, 1 / 60, "min"))
DECIMALS = {"psnr": 2, "hd95": 2}  # the other metrics lie in [0, 1]: three
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def metric_title(metric: str) -> str:
    """Title of a metric, with its unit where it has one."""
    return METRIC_TITLES.get(metric, metric)


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or value != value


def score(value: float, metric: str = "") -> str:
    """A score with as many decimals as its metric deserves.

    Examples
    --------
    >>> score(0.95349, "accuracy"), score(31.4159, "psnr"), score(float("nan"))
    ('0.953', '31.42', '—')
    """
    return "—" if _missing(value) else f"{value:.{DECIMALS.get(metric, 3)}f}"


def signed(value: float, metric: str = "") -> str:
    """A difference with its sign, one decimal more than a score has; no sign for what rounds to zero.

    Examples
    --------
    >>> signed(-0.01234), signed(0.01234), signed(-0.00001)
    ('−0.0123', '+0.0123', '0.0000')
    """
    if _missing(value):
        return "—"
    text = f"{value:+.{DECIMALS.get(metric, 3) + 1}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def interval(low: float, high: float, metric: str = "", *, difference: bool = False) -> str:
    """An interval in brackets, empty where there is none.

    Examples
    --------
    >>> interval(0.91, 0.93), interval(float("nan"), float("nan"))
    ('[0.910, 0.930]', '')
    """
    if _missing(low) or _missing(high):
        return ""
    say = signed if difference else score
    return f"[{say(low, metric)}, {say(high, metric)}]"


def mean_and_interval(row: Any) -> str:
    """Mean of a row of ``means``, with its interval where it has one.

    Examples
    --------
    >>> mean_and_interval({"mean": 0.92, "low": 0.91, "high": 0.93, "metric": "dice"})
    '0.920 [0.910, 0.930]'
    """
    return f"{score(row['mean'], row['metric'])} {interval(row['low'], row['high'], row['metric'])}".strip()


def percent(level: float) -> str:
    """A level as a percentage.

    Examples
    --------
    >>> percent(0.95)
    '95 %'
    """
    return f"{100 * level:g} %"


def number(value: float) -> str:
    """Three significant digits, thousands grouped.

    Examples
    --------
    >>> number(12345), number(0.012345), number(3)
    ('12,345', '0.0123', '3')
    """
    if _missing(value):
        return "—"
    text = f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")


def scientific(value: float) -> str:
    """Two significant digits, with a power of ten where the number is small or large.

    Examples
    --------
    >>> scientific(3.2e-13), scientific(0.93), scientific(0.0)
    ('3.2 × 10⁻¹³', '0.93', '0')
    """
    if _missing(value):
        return "—"
    if value == 0:
        return "0"
    if 0.01 <= abs(value) < 100:
        return f"{value:.2g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(SUPERSCRIPTS)}"


def power_label(value: float) -> str:
    """Label of a tick on a logarithmic axis.

    Examples
    --------
    >>> power_label(0.01), power_label(2000), power_label(1e-12), power_label(3e7)
    ('0.01', '2,000', '10⁻¹²', '3·10⁷')
    """
    if 1e-3 <= value < 1e5:
        return f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"
    mantissa, exponent = f"{value:.0e}".split("e")
    power = f"10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    return power if mantissa == "1" else f"{mantissa}·{power}"


def seconds(value: float) -> str:
    """A duration in the unit that suits it.

    Examples
    --------
    >>> seconds(0.00321), seconds(12.3), seconds(321)
    ('3.21 ms', '12.3 s', '5.35 min')
    """
    if _missing(value):
        return "—"
    for limit, factor, unit in UNITS:
        if value < limit:
            return f"{value * factor:.3g} {unit}"
    return f"{value / 3600:.3g} h"


def count(quantity: int, noun: str, plural: str = "") -> str:
    """A number and its noun.

    Examples
    --------
    >>> count(1, "seed"), count(6, "seed")
    ('1 seed', '6 seeds')
    """
    return f"{quantity:,} {noun if quantity == 1 else plural or noun + 's'}"


def sentence_list(parts: Iterable[str]) -> str:
    """Join by commas and a final "and".

    Examples
    --------
    >>> sentence_list(["a", "b", "c"])
    'a, b and c'
    """
    items = list(parts)
    return ", ".join(items[:-1]) + " and " + items[-1] if len(items) > 1 else "".join(items)


def in_order(found: Iterable[str], known: Iterable[str]) -> list[str]:
    """Names that were found: those that are known in their order, then the others by name.

    Examples
    --------
    >>> in_order({"b", "z", "a", "y"}, ["b", "a", "c"])
    ['b', 'a', 'y', 'z']
    """
    names, order = set(found), list(known)
    return [name for name in order if name in names] + sorted(names - set(order))
