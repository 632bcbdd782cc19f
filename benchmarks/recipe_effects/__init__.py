"""The headline effects of the recipes: one file per recipe, with its ``EFFECT``."""
