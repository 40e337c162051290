"""No setting is without effect: each option of the command line and each field of a recipe is read by the program.

These tests find settings that nothing reads. What a setting changes is tested where it is used.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from empu.cli.main import COMMANDS
from empu.tune.recipe import Recipe

SOURCE = Path(__file__).resolve().parent.parent / "src" / "empu"
CLICK_READS = {"help", "version"}
RECIPE_FIELDS = [field.name for field in dataclasses.fields(Recipe)]


def commands() -> Iterator[tuple[str, click.Command]]:
    for name in COMMANDS:
        command = getattr(importlib.import_module(f"empu.cli.commands.{name}"), name)
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {child}", subcommand) for child, subcommand in command.commands.items())


OPTIONS = [(name, option.name or "") for name, command in commands() for option in command.params]


def names_read(path: Path) -> Iterator[str]:
    """Yield variables that are read and texts, which may be keys of options: not parameters and not decorators."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    decorators = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for decorator in function.decorator_list
        for node in ast.walk(decorator)
    }
    for node in ast.walk(tree):
        if id(node) in decorators:
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.attr


READ_BY_CLI = {name for path in (SOURCE / "cli").rglob("*.py") for name in names_read(path)}


@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=[" ".join(option) for option in OPTIONS])
def test_every_option_is_read(command: str, option: str) -> None:
    path = SOURCE / "cli" / "commands" / f"{command.split()[0]}.py"
    assert option in CLICK_READS or option in names_read(path) or option in READ_BY_CLI


@pytest.mark.parametrize("field", RECIPE_FIELDS)
def test_every_field_of_a_recipe_is_read_by_the_training(field: str) -> None:
    files = [path for path in (SOURCE / "tune").rglob("*.py") if path.name not in ("recipe.py", "recipe_plan.py")]
    in_training = {name for path in files for name in recipe_reads(path)}
    in_recipe = names_read(SOURCE / "tune" / "recipe.py")
    through_lora = {"rank", "alpha", "targets"}  # Recipe.lora
    through_schedule = {"warmup_ratio"}  # Recipe.learning_rate_at
    assert field in in_training or (field in through_lora | through_schedule and field in in_recipe)


def recipe_reads(path: Path) -> Iterator[str]:
    """Yield the fields that are read as ``recipe.FIELD`` or ``….recipe.FIELD``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            owner = node.value
            is_name = isinstance(owner, ast.Name) and owner.id == "recipe"
            if is_name or (isinstance(owner, ast.Attribute) and owner.attr == "recipe"):
                yield node.attr


@pytest.mark.parametrize("field", RECIPE_FIELDS)
def test_every_field_of_a_recipe_is_part_of_its_record(field: str) -> None:
    assert field in Recipe().to_json()
