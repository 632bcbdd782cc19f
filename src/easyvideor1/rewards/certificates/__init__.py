"""Certificates: what every task type promises, as data that can be read and run."""

from easyvideor1.rewards.certificates.case import Case, Certificate, cases, load_certificate, problem
from easyvideor1.rewards.certificates.relations import RELATIONS, Relation

__all__ = ["RELATIONS", "Case", "Certificate", "Relation", "cases", "load_certificate", "problem"]
