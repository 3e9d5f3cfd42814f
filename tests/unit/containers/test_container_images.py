"""References of container images by the grammar of the OCI distribution project, and what pools are told."""

from __future__ import annotations

import pytest

from tasks.containers.reference import is_block_name, require_reference
from tasks.containers.variables import Image, Pool, taken
from tasks.errors import InvalidSettings

SHA = "a1b2c3d4" * 8
ACCOUNT = "0b9a4e1f-0000-4000-8000-000000000000"
DOCKER = Pool("boxes", "docker", ("image", "registry_credentials", "env"))
KUBERNETES = Pool("cluster", "kubernetes", ("image", "namespace"))


@pytest.mark.parametrize(
    "reference",
    [
        "python:3.11",
        "library/python",
        "localhost/trainer:latest",
        "registry.example.com/team/trainer",
        "registry.example.com:5000/team/trainer:1.4.0-rc_1",
        "Registry.Example.com/team/trainer:V2",
        f"ghcr.io/team/trainer:1.4@sha256:{SHA}",
        f"ghcr.io/team/trainer@sha256:{SHA}",
        f"trainer@sha512:{SHA * 2}",
        "192.168.1.9:5000/trainer:1",
        "[2001:db8::1]:5000/trainer:1",
        "a/b__c/d--e.f_g:x",
        f"trainer:{'t' * 128}",
    ],
)
def test_references_of_the_grammar_are_taken(reference: str) -> None:
    assert require_reference(reference) == reference
    assert not is_block_name(reference)


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("Trainer:1", "capital letters"),
        ("team/Trainer:1", "capital letters"),
        ("https://ghcr.io/team/trainer:1", "an address"),
        (" ghcr.io/team/trainer:1", "spaces around it"),
        ("trainer:1\n", "spaces around it"),
        ("trainer@sha256:abc", "64 small hexadecimal digits"),
        (f"trainer@sha256:{SHA.upper()}", "64 small hexadecimal digits"),
        (f"trainer@md5:{SHA[:32]}", "64 small hexadecimal digits"),
        ("trainer:", "no reference"),
        ("trainer:.1", "no reference"),
        (f"trainer:{'t' * 129}", "no reference"),
        ("team//trainer:1", "no reference"),
        ("team/___trainer:1", "no reference"),
        ("-host/trainer:1", "no reference"),
        ("team/trainer:1 --privileged", "no reference"),
        ("{{ prefect.blocks.secret.token }}:1", "no reference"),
        ("a/" * 130 + "b:1", "no reference"),
        ("a-" * 5_000 + "/b:1", "no reference"),
    ],
)
def test_what_is_no_reference_is_refused_with_the_cause(reference: str, why: str) -> None:
    with pytest.raises(InvalidSettings, match=f"{why}.*Allowed: .*name"):
        require_reference(reference)


def test_a_name_alone_is_a_block() -> None:
    assert is_block_name("our-trainer")
    assert is_block_name("python")  # and never Docker Hub's, which a misspelt block could meet


def test_a_pool_is_told_what_its_template_takes() -> None:
    assert taken(Image("a:1").job_variables, KUBERNETES) == {"image": "a:1"}
    private = Image("a:1", account_id=ACCOUNT, pull_secret="pull-a")
    credentials = {"$ref": {"block_document_id": ACCOUNT}}
    assert taken(private.job_variables, DOCKER) == {"image": "a:1", "registry_credentials": credentials}
    extended = Pool("cluster", "kubernetes", ("image", "image_pull_secret"))
    assert taken(private.job_variables, extended) == {"image": "a:1", "image_pull_secret": "pull-a"}


def test_a_pool_that_cannot_is_named_with_what_it_offers() -> None:
    with pytest.raises(
        InvalidSettings, match=r"pool local runs in no container image.*process.*env, name.*leave"
    ):
        taken({"image": "a:1"}, Pool("local", "process", ("name", "env")))
    for private in (Image("a:1", account_id=ACCOUNT), Image("a:1", pull_secret="pull-a")):
        with pytest.raises(
            InvalidSettings, match=r"cluster has no way to pull.*image, namespace.*image_pull_secret"
        ):
            taken(private.job_variables, KUBERNETES)
    extended = Pool("cluster", "kubernetes", ("image", "image_pull_secret"))
    with pytest.raises(InvalidSettings, match="no way to pull"):  # the account is not the cluster's secret
        taken(Image("a:1", account_id=ACCOUNT).job_variables, extended)
