"""Cells of a paper's table, trained here and set beside what was published.

A budget between `smoke` and `small` for four cells of Table 1 of Zheng et al. (NeurIPS 2022): data on manifolds of r
dimensions in d columns, codes of 20. In the shell, `vaelab reproduce zheng/table1` trains all 18.
"""

from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt

import vaelab_papers
from vaelab.specs import FitSettings
from vaelab_papers import Scale

table = vaelab_papers.TABLES["zheng/table1"]
budget = Scale(20_000, 64, FitSettings(epochs=50, batch_size=400, lr=5e-3, schedule="one_cycle"))
four = [cell for cell in table.cells if cell.number("κ") == 20 and cell.number("r") <= 4 and cell.number("d") >= 20]
table = replace(table, cells=tuple(four), scales={"small": budget})
found = vaelab_papers.run(table, "small", Path("tables"))
print(vaelab_papers.markdown(table, found))

figure, places = plt.subplots(1, 2)
for place, measure, title in zip(places, ("active", "nelbo"), ("active dimensions", "−ELBO, doubled"), strict=True):
    names = [f"d={cell.number('d'):.0f}\nr={cell.number('r'):.0f}" for cell in four]
    place.bar([i - 0.2 for i in range(len(four))], [one.measured[measure] for one in found], 0.4, label="measured")
    place.bar([i + 0.2 for i in range(len(four))], [cell.published[measure] for cell in four], 0.4, label="published")
    place.set_xticks(range(len(four)), names)
    place.set_title(title)
places[0].legend()
figure.savefig("paper_table.png")
