"""Take white space off texts."""

from __future__ import annotations

from pydantic import Field

from tasks.data.methods.method import MethodParameters, State, TextMethod


class StripParameters(MethodParameters):
    """Parameters of `Strip`."""

    inner: bool = Field(
        default=False, description="Make one blank of any white space between words too, line ends included."
    )


class Strip(TextMethod):
    """No white space at the start and at the end."""

    name = "strip"
    Parameters = StripParameters

    def apply(self, text: str, parameters: StripParameters, state: State) -> str:
        return " ".join(text.split()) if parameters.inner else text.strip()
