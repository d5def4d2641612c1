"""The one Jinja environment: `<< >>` and `<% %>` are ours, so that `{{ }}` stays Packer's and SSM's."""

from pathlib import Path

import jinja2


def environment(*folders: Path, html: bool = False) -> jinja2.Environment:
    """An environment that reads templates from `folders` and stops at a name that it was not given.

    With `html` values are escaped as HTML needs it; HCL and YAML have filters of their own where values are written.
    """
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        undefined=jinja2.StrictUndefined,
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=html,  # noqa: S701 - the caller says whether it is HTML
    )


def line_of(error: jinja2.TemplateError, template: Path) -> int:
    """The template's line at which Jinja stopped; 0 when it stopped elsewhere."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        return error.lineno
    line, step = 0, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == str(template):
            line = step.tb_lineno
        step = step.tb_next
    return line
