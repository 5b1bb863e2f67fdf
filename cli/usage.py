"""Says what is wrong with an option in the words of all other messages; Typer would show those of pydantic."""

from typing import Any


def use_own_words() -> None:
    """Word Typer's complaints about values of options, from now on."""
    from typer import _coercion, _param_types

    for module in (_coercion, _param_types):
        setattr(module, "get_error_msg", complaint)  # noqa: B010


def complaint(error: Any) -> str:
    """Say what was expected and what arrived.

    Parameters
    ----------
    error : pydantic.ValidationError
    """
    from offers.yaml_file import expectation

    fault = error.errors()[0]
    return f"expected {expectation(fault)}, got {fault['input']!r}"
