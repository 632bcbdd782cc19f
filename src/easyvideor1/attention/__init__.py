"""Attention over packed rows in which sequences share prefixes."""
