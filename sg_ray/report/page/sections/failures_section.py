"""Trials that ended with an error."""

from sg_ray.report.page.content import Sweep
from sg_ray.report.page.sections.section import Section


def section(sweep: Sweep) -> Section | None:
    """Return the section; None if nothing failed."""
    if not sweep.failures:
        return None
    return Section("failures", "Failures", "failures.html.jinja", sweep.failures)
