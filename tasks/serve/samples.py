"""How to call an endpoint: curl and Python for each request form, ready to be pasted.

The token stands in none of them; they read it from its file.
"""

from __future__ import annotations

import base64
import json
import shlex
from dataclasses import dataclass
from typing import Any

from tasks.refs import Problem
from tasks.serve.record import EndpointPlace, EndpointRecord, write_atomically


@dataclass(frozen=True)
class Example:
    """An input to put into the samples.

    Attributes:
        instances: One row of a table's model; None for images.
        image: Path of an image file, for a model of images.
    """

    instances: list[Any] | None
    image: str = "image.png"


def example_of(place: EndpointPlace, version: int) -> Example:
    """One of the inputs that are stored with a version; an image is put beside the endpoint's record."""
    version_folder = place.versions / str(version)
    bundle = json.loads((version_folder / "bundle" / "bundle.json").read_bytes())
    is_table = Problem(bundle["problem"]).is_table
    try:
        stored = json.loads((version_folder / "examples.json").read_bytes())["instances"][:1]
    except FileNotFoundError:
        stored = []
    if is_table and not stored:
        features = bundle["preprocessing"]["features"]
        stored = [[0.0 if f["type"] == "numeric" else next(iter(f["categories"]), "") for f in features]]
    if is_table or not stored:
        return Example(stored or None)
    content = base64.b64decode(stored[0]["data"])
    image = place.folder / ("sample.jpg" if content.startswith(b"\xff\xd8") else "sample.png")
    write_atomically(image, content)
    return Example(None, str(image))


def curl(record: EndpointRecord, example: Example) -> str:
    """The shortest command that asks the endpoint: a form for images, JSON for tables."""
    return curl_form(record, example) if example.instances is None else curl_json(record, example)


def curl_json(record: EndpointRecord, example: Example) -> str:
    """A curl command with JSON."""
    head = f'curl -sS -H "token: $(cat {shlex.quote(record.token_file)})" -H "Content-Type: application/json"'
    if example.instances is None:
        image = shlex.quote(example.image)
        body = f"""printf '{{"instances": [{{"data": "%s"}}]}}' "$(base64 -w0 {image})" | \\\n"""
        return f"{body}{head} \\\n  --data-binary @- {shlex.quote(record.url)}"
    body = shlex.quote(json.dumps({"instances": example.instances}))
    return f"{head} \\\n  -d {body} {shlex.quote(record.url)}"


def curl_form(record: EndpointRecord, example: Example) -> str:
    """A curl command with the multipart form, for images."""
    return (
        f'curl -sS -H "token: $(cat {shlex.quote(record.token_file)})" \\\n'
        f"  -F {shlex.quote('input=@' + example.image)} {shlex.quote(record.url)}"
    )


def python_json(record: EndpointRecord, example: Example) -> str:
    """A Python script with JSON; needs `requests`."""
    lines = ["from pathlib import Path", "", "import requests", ""]
    if example.instances is None:
        lines[0] = "import base64\nfrom pathlib import Path"
        lines += [
            f"image = base64.b64encode(Path({json.dumps(example.image)}).read_bytes()).decode()",
            'instances = [{"data": image}]',
        ]
    else:
        lines += [f"instances = {json.dumps(example.instances)}"]
    return "\n".join(
        [
            *lines,
            f"token = Path({json.dumps(record.token_file)}).read_text().strip()",
            "answer = requests.post(",
            f"    {json.dumps(record.url)},",
            '    headers={"token": token},',
            '    json={"instances": instances},',
            "    timeout=30,",
            ")",
            "answer.raise_for_status()",
            'print(answer.json()["predictions"])',
        ]
    )


def python_form(record: EndpointRecord, example: Example) -> str:
    """A Python script with the multipart form, for images; needs `requests`."""
    return "\n".join(
        [
            "from pathlib import Path",
            "",
            "import requests",
            "",
            f"token = Path({json.dumps(record.token_file)}).read_text().strip()",
            f'with open({json.dumps(example.image)}, "rb") as image:',
            "    answer = requests.post(",
            f"        {json.dumps(record.url)},",
            '        headers={"token": token},',
            '        files={"input": image},',
            "        timeout=30,",
            "    )",
            "answer.raise_for_status()",
            "print(answer.text)  # [<integer label>]",
        ]
    )


def page(record: EndpointRecord, version: int, example: Example) -> str:
    """All of it as one Markdown page.

    Args:
        record: The endpoint.
        version: The model version that answers.
        example: What the samples send.
    """
    rows = [
        f"# Endpoint {record.name}",
        "",
        "| | |",
        "| --- | --- |",
        f"| Address | `{record.url}` |",
        f"| Token | in the file `{record.token_file}` |",
        f"| Model | {record.model} v{version}, follows the alias `{record.alias}` |",
        f"| Ready | [{record.base_url}/readyz]({record.base_url}/readyz) |",
        f"| Described for machines | [{record.base_url}/openapi.json]({record.base_url}/openapi.json) |",
        f"| Limits | {record.max_instances} instances and {record.max_body_mib} MiB a request |",
        "",
        "## JSON",
        "",
        *("```bash", curl_json(record, example), "```", ""),
        *("```python", python_json(record, example), "```", ""),
    ]
    if example.instances is None:
        rows += [
            "## Multipart form",
            "",
            *("```bash", curl_form(record, example), "```", ""),
            *("```python", python_form(record, example), "```", ""),
        ]
    return "\n".join(rows)
