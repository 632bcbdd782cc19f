"""Readers of values that several task types share: plain text, JSON, boxes, tubes, time spans, number words."""
