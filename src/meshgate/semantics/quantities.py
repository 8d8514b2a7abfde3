"""Quantities of Kubernetes (`100m`, `1Gi`, `2e3`) as numbers."""

import re
from decimal import Decimal

_QUANTITY = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)([numkMGTPE]|[KMGTPE]i)?")
_FACTORS = {
    "": Decimal(1),
    **{unit: Decimal(10) ** power for unit, power in zip("num", (-9, -6, -3), strict=True)},
    **{unit: Decimal(10) ** (3 * power) for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


def amount(quantity: str) -> Decimal:
    """Return a quantity as a number of its base unit; raise ValueError for what is none."""
    found = _QUANTITY.fullmatch(quantity)
    if found is None:
        raise ValueError(f"{quantity!r} is not a quantity")
    return Decimal(found[1]) * _FACTORS[found[2] or ""]


def shown(value: Decimal, resource: str) -> str:
    """Return a number as people write it: memory in Mi or Gi, CPU in cores or millicores."""
    if "memory" in resource or "storage" in resource:
        for unit in ("Gi", "Mi", "Ki"):
            if value >= _FACTORS[unit] and value % _FACTORS[unit] == 0:
                return f"{value / _FACTORS[unit]:f}".split(".")[0] + unit
        return f"{value / _FACTORS['Mi']:.0f}Mi" if value >= _FACTORS["Mi"] else f"{value:.0f}"
    whole = value == value.to_integral_value()
    return f"{value:.0f}" if whole else f"{value * 1000:.0f}m"
