"""Operators as functions of their tensors alone, for tests that differentiate or draw them one after the other."""

from __future__ import annotations


def by_position(operator):
    """Take the weight third, before the level, as it is drawn; operators without a weight stay as they are."""

    def apply(x, bias, *numbers, **options):
        return (
            operator(x, bias, *numbers[1:], weight=numbers[0], **options) if numbers else operator(x, bias, **options)
        )

    return apply
