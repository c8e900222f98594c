"""Checks of constructor arguments; an error names the argument, the rule and the value."""


def check_sizes(**sizes: int) -> None:
    """Raises a `ValueError` for a size below 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1; got {name}={size}.")


def check_dropouts(**rates: float) -> None:
    """Raises a `ValueError` for a dropout probability that is not in [0, 1)."""
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(f"{name} must be in [0, 1); got {name}={rate}.")


def check_heads(d_model: int, num_heads: int) -> None:
    """Raises a `ValueError` where the heads cannot share the width evenly."""
    if d_model % num_heads:
        raise ValueError(
            "d_model must be a multiple of num_heads; "
            f"got d_model={d_model}, num_heads={num_heads}."
        )
