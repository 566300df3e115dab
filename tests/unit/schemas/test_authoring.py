"""`schemas new` and `schemas stubs`: a draft that the check takes, and a module that says what the schemas say."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.strategies import envelope, registry_of

from quietcount_schemas import SchemaRegistry
from quietcount_schemas.authoring.stubs import stubs
from quietcount_schemas.commands.schemas import schemas
from quietcount_schemas.errors import SchemasError
from quietcount_schemas.events.event_types import FieldKind
from quietcount_schemas.lint.rules import MAX_SYMBOLS

pytestmark = pytest.mark.quick

Run = Callable[..., Result]

FIELDS = (
    *("--enum", "channel=PHONE,CHAT,OTHER", "--enum", "purpose=ADVICE,SHELTER", "--flag", "repeated"),
    *("--number", "age=0:120", "--date", "seen_on"),
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `quietcount schemas ...` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUIETCOUNT_CONFIG", raising=False)
    return lambda *arguments: CliRunner().invoke(schemas, list(arguments))


def refusal(result: Result) -> str:
    assert isinstance(result.exception, SchemasError), (result.output, result.exception)
    assert result.exception.what
    assert result.exception.remedy
    return str(result.exception)


def test_one_command_writes_a_schema_that_the_check_takes(run: Run) -> None:
    assert run("new", "ClinicVisit", *FIELDS).exit_code == 0
    assert run("check", "my-schemas").exit_code == 0
    visit = SchemaRegistry.load([Path("my-schemas")]).event_type("ClinicVisit")
    found = {field.name: (field.kind, field.symbols, field.nullable, field.default) for field in visit.attributes}
    assert found == {
        "channel": (FieldKind.ENUM, ("PHONE", "CHAT", "OTHER"), False, "OTHER"),
        # Something has to stand for what nobody said, and for a symbol that an older reader does not know.
        "purpose": (FieldKind.ENUM, ("ADVICE", "SHELTER", "UNKNOWN"), False, "UNKNOWN"),
        "repeated": (FieldKind.BOOLEAN, (), False, False),
        "age": (FieldKind.INT, (), True, None),
        "seen_on": (FieldKind.DATE, (), True, None),
    }
    assert visit.attributes[0].labels == {"en": {"PHONE": "Phone", "CHAT": "Chat", "OTHER": "Other"}}
    assert visit.attributes[1].titles == {"en": "Purpose"}


def test_the_next_steps_are_said_and_lead_on(run: Run) -> None:
    said = run("new", "ClinicVisit").output
    assert "quietcount schemas check my-schemas" in said
    (line,) = [line for line in said.splitlines() if "schemas = " in line]
    Path("quietcount.toml").write_text(line.partition("brackets: ")[2])
    assert "ClinicVisit" in run("list").output
    # From then on it goes into the folder that the configuration names, and there is nothing to write there.
    said = run("new", "HotlineCalled").output
    assert said.startswith("wrote my-schemas/HotlineCalled.avsc\n")
    assert "schemas = " not in said


def test_a_folder_can_be_named_and_is_added_to_those_that_are_configured(run: Run) -> None:
    run("new", "ClinicVisit")
    Path("quietcount.toml").write_text('schemas = ["my-schemas"]')
    said = run("new", "HotlineCalled", "-o", "more/schemas").output
    assert "in place of the line that begins with `schemas`" in said  # twice is no TOML, and `init` writes one
    (line,) = [line for line in said.splitlines() if "schemas = " in line]
    Path("quietcount.toml").write_text(line.partition("brackets: ")[2])
    listed = run("list").output
    assert "ClinicVisit" in listed
    assert "HotlineCalled" in listed


def test_no_file_is_replaced(run: Run) -> None:
    run("new", "ClinicVisit", "--flag", "first")
    before = Path("my-schemas/ClinicVisit.avsc").read_bytes()
    assert "already" in refusal(run("new", "ClinicVisit", "--flag", "second"))
    # Not even one that is no schema, which the check would refuse.
    Path("my-schemas/ClinicVisit.avsc").write_bytes(b"{")
    assert "is there already" in refusal(run("new", "ClinicVisit"))
    assert Path("my-schemas/ClinicVisit.avsc").read_bytes() == b"{"
    assert before.startswith(b"{\n")
    Path("plain").touch()
    refusal(run("new", "ClinicVisit", "-o", "other/../plain/folder"))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("helpRequested",), "already has an event type of that name"),
        (("Clinic Visit",), "not a valid name"),
        (("Visit", "--flag", "estimate"), "estimate: the name means something else"),
        (("Visit", "--flag", "timeout"), "timeout: the name means something else"),
        (("Visit", "--flag", "a", "--flag", "A"), "two fields have this name"),
        (("Visit", "--enum", "kind=7.1,8"), 'kind: the symbol "7.1" holds "."'),
        (("Visit", "--enum", "kind="), 'the symbol "" is empty'),
        (("Visit", "--enum", "kind=A,a"), "the name a"),
        (("Visit", "--enum", "kind=" + ",".join(f"A{n}" for n in range(MAX_SYMBOLS))), "more than 250 symbols"),
        (("Visit", "--number", "age=5:1"), "the bounds are not valid"),
        (("Visit", "--number", "number=0:99999"), "an identifier would fit"),
        (("Visit", "--namespace", "our clinic"), "the namespace is missing or not valid"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason_and_nothing_is_written(
    run: Run, arguments: tuple[str, ...], words: str
) -> None:
    assert words in refusal(run("new", *arguments))
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("arguments", [("--number", "age"), ("--number", "age=1"), ("--enum", "kind")])
def test_an_option_that_says_too_little_is_wrong_usage(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("new", "Visit", *arguments).exit_code == 2
    assert list(Path().iterdir()) == []


# Stubs


def test_the_stubs_have_each_event_type_twice_with_its_fields_and_defaults(run: Run) -> None:
    run("new", "ClinicVisit", *FIELDS, "-o", "my-schemas")
    Path("quietcount.toml").write_text('schemas = ["my-schemas"]')
    text = run("stubs").stdout
    names: dict[str, Any] = {}
    exec(compile(text, "events.py", "exec"), names)  # noqa: S102
    assert set(names["__all__"]) <= set(names)
    assert names["ClinicVisit_channel"].__args__ == ("PHONE", "CHAT", "OTHER")
    methods = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    known = SchemaRegistry.load([Path("my-schemas")]).event_types
    assert [method.name for method in methods] == ["emit"] * len(known) + ["emit_async"] * len(known)
    for method, event_type in zip(methods, [*known.values()] * 2, strict=True):
        arguments = method.args
        assert ast.unparse(arguments.args[1]) == f"event: Literal['{event_type.name}']"
        given = [each.arg for each in arguments.kwonlyargs]
        assert given == ["event_id", "revision", "timeout", *(field.name for field in event_type.attributes)]
        defaults = [ast.literal_eval(each) for each in arguments.kw_defaults if each is not None]
        assert defaults == [None, 0, None, *(field.default for field in event_type.attributes)]


def test_a_field_that_python_cannot_name_leaves_the_rest_checked() -> None:
    flag = {"type": "boolean", "default": False, "doc": "."}
    date = {"type": "int", "logicalType": "date", "minimum": 0, "maximum": 47481}
    record = {"type": "record", "namespace": "example.trial", "doc": "."}
    fields = [{**flag, "name": "from"}, {"name": "due", "type": date, "default": 1, "doc": "."}]
    text = stubs(
        registry_of(
            {**record, "name": "A", "fields": [*envelope(), *fields]}, {**record, "name": "B", "fields": envelope()}
        ).event_types.values()
    )
    compile(text, "events.py", "exec")
    assert text.count("**others: object") == 2  # of A alone, in emit and in emit_async
    assert "due: dt.date | str = dt.date(1970, 1, 2)" in text


def test_stubs_replace_stubs_and_nothing_else(run: Run) -> None:
    assert run("stubs", "-o", "events.py").exit_code == 0
    first = Path("events.py").read_bytes()
    assert run("stubs", "-o", "events.py").exit_code == 0
    assert Path("events.py").read_bytes() == first
    Path("events.py").write_text("import mine\n")
    assert "did not make it" in refusal(run("stubs", "-o", "events.py"))
    assert Path("events.py").read_text() == "import mine\n"
    assert "cannot be written" in refusal(run("stubs", "-o", "missing/events.py"))


def test_lines_of_stubs_are_short_enough_to_read(run: Run) -> None:
    run("new", "ClinicVisit", "--enum", "kind=" + ",".join(f"SYMBOL_{n}" for n in range(200)))
    Path("quietcount.toml").write_text('schemas = ["my-schemas"]')
    assert max(map(len, run("stubs").stdout.splitlines())) <= 120
    assert json.loads(Path("my-schemas/ClinicVisit.avsc").read_text())["fields"][4]["type"]["default"] == "UNKNOWN"
