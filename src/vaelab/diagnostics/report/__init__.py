"""A diagnosis as one page that opens anywhere: verdicts, the pictures that they rest on, all numbers."""

from vaelab.diagnostics.report.page import render as render
from vaelab.diagnostics.report.page import render_summary as render_summary
