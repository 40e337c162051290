"""The objective that a kind of example is trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from empu.tune.examples import Example, PreferenceExample, TrainingExample
from empu.tune.objectives.objective import Objective
from empu.tune.objectives.preference import PreferenceObjective
from empu.tune.objectives.supervised import SupervisedObjective
from empu.tune.recipe import Recipe

OBJECTIVES: Mapping[type, Callable[[Recipe, Any], Objective[Any]]] = {
    Example: SupervisedObjective.from_recipe,
    PreferenceExample: PreferenceObjective.from_recipe,
}
"""Type of example -> constructor of its objective from the recipe and the training examples."""


def objective_for(recipe: Recipe, train: Sequence[TrainingExample]) -> Objective[Any]:
    """Return the objective for training examples, which are all of one type."""
    return OBJECTIVES[type(train[0]) if train else Example](recipe, train)
