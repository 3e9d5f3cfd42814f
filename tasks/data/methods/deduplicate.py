"""Keep one of texts that are the same."""

from __future__ import annotations

from tasks.data.methods.method import MethodParameters, State, TextMethod


class DeduplicateParameters(MethodParameters):
    """Parameters of `Deduplicate`."""


class Deduplicate(TextMethod):
    """The first of equal texts stays, whatever their labels: train before validation before test.

    Equal is what is equal after the steps before this one. A text in a request stays as it is.
    """

    name = "deduplicate"
    Parameters = DeduplicateParameters
    leaves_out = "copies"
    mends = "copies"

    def apply(self, text: str, parameters: DeduplicateParameters, state: State) -> str:
        return text
