"""Rules of the configuration: what is wrong with the values of several keys together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from quietcount_schemas.configuration import readers

__all__ = [
    "Rule",
    "a_name_is_given_once",
    "a_password_is_sent_over_tls",
    "a_path_is_given_once",
    "others_are_let_in_by_tls_and_password",
    "others_deliver_over_tls",
    "tls_is_on_with_its_files",
    "witnesses_are_as_many_as_required",
]

Rule = Callable[[Mapping[str, Any]], Iterator[tuple[str, str]]]
"""Looks at the values of a section, None for those that are not given, and yields a key's name and what is wrong."""


def tls_is_on_with_its_files(kafka: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """[kafka]: TLS is not switched off beside files that are for TLS."""
    given = [name for name in ("ca_file", "certificate_file", "key_file") if kafka[name] is not None]
    if given and kafka["tls"] is False:
        yield "tls", f"is false, and kafka.{given[0]} is for TLS; leave one of them out"


def a_password_is_sent_over_tls(registry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """[schema_registry]: a password goes over TLS, or does not leave this machine."""
    if registry["url"] is None or registry["url"].startswith("https:"):
        return
    from urllib.parse import urlsplit

    if registry["ca_file"] is not None:
        yield "ca_file", "is for an address that begins with https://"
    elif registry["password_file"] is not None and not readers.is_this_machine(
        urlsplit(registry["url"]).hostname or ""
    ):
        yield "url", "a password is sent over https:// only, or to this machine (127.0.0.1)"


def others_are_let_in_by_tls_and_password(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """[metrics]: an address that other machines reach has TLS and a password."""
    guards = ("certificate_file", "key_file", "username", "password_file")
    host = metrics["listen"].host if metrics["listen"] else None
    if host and not readers.is_this_machine(host) and any(metrics[name] is None for name in guards):
        yield (
            "listen",
            f"{host} can be reached from other machines and needs TLS and a password: certificate_file, "
            "key_file, username and password_file of [metrics]; or listen on 127.0.0.1",
        )


def others_deliver_over_tls(receive: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """[receive]: at an address that other machines reach, deliveries come over TLS."""
    host = receive["listen"].host if receive["listen"] else None
    if host and not readers.is_this_machine(host) and receive["certificate_file"] is None:
        yield (
            "listen",
            f"{host} can be reached from other machines and needs TLS: certificate_file and key_file of [receive]; or "
            "listen on 127.0.0.1",
        )


def a_path_is_given_once(receive: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """[receive]: no two tools deliver to one path."""
    paths = [each["path"] for each in receive["path"]]
    twice = next((path for path in paths if path is not None and paths.count(path) > 1), None)
    if twice is not None:
        yield "path", f"two tables [[receive.path]] have the path {twice}; give each its own"


def a_name_is_given_once(whole: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The whole file: no two populations have one name, and no two tables."""
    populations = [each["name"] for each in whole["population"]]
    tables = [table["name"] for each in whole["population"] for table in each["table"]]
    for key, what, given in (("population", "populations", populations), ("population.table", "tables", tables)):
        names = [name for name in given if name is not None]
        twice = next((name for name in sorted(names) if names.count(name) > 1), None)
        if twice is not None:
            yield key, f"two {what} are named {twice!a}; give each its own name"


def witnesses_are_as_many_as_required(witnesses: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """[witnesses]: each is named once, and as many are named as have to sign."""
    keys = [each["key"] for each in witnesses["witness"] if each["key"] is not None]
    public = [key.rpartition("+")[2] for key in keys]
    twice = next((key for key in keys if public.count(key.rpartition("+")[2]) > 1), None)
    if twice is not None:
        yield "witness", f"two tables [[witnesses.witness]] have the key of {twice.partition('+')[0]!a}; name each once"
    required = witnesses["require"]
    if required is not None and not 0 <= required <= len(witnesses["witness"]):
        yield (
            "require",
            f"is {required}, and {len(witnesses['witness'])} witnesses are named: write a number up to that",
        )
