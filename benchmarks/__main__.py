"""Print the table. Ratios are medians over interleaved rounds, since machines are noisy."""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass

import torch

from benchmarks import diagnosis, memory, metrics, objectives, stacked, startup, steps

PARTS = ("mlp", "infogan", "codes", "objectives", "stacked", "metrics", "diagnosis", "import", "memory")


@dataclass(frozen=True)
class Row:
    """One line: what, the measured ratio or size, the target, and how to read it."""

    what: str
    value: str
    target: str
    detail: str = ""


def speed_rows(case: steps.Case, rounds: int, against_bare: float, against_pythae: float | None) -> list[Row]:
    """Time vaelab, the bare loop and pythae in turns on one case."""
    runners = {"vaelab": steps.ours, "bare": steps.bare}
    if against_pythae is not None and steps.pythae_is_here():
        runners["pythae"] = steps.pythae
    times: dict[str, list[float]] = {name: [] for name in runners}
    for runner in runners.values():
        runner(case, case.warm_up)
    for _ in range(rounds):
        for name, runner in runners.items():
            times[name].append(runner(case, case.steps))
    middle = {name: statistics.median(values) * 1e3 for name, values in times.items()}

    def ratio(other: str) -> float:
        return statistics.median(b / a for a, b in zip(times["vaelab"], times[other], strict=True))

    detail = ", ".join(f"{name} {value:.2f} ms" for name, value in middle.items())
    rows = [Row(f"{case.name}: speed, of a bare loop", f"{ratio('bare'):.2f}", f"≥ {against_bare}", detail)]
    if against_pythae is not None:
        value = f"{ratio('pythae'):.2f}" if "pythae" in times else "pythae is not installed"
        rows.append(Row(f"{case.name}: speed, of pythae's trainer", value, f"≥ {against_pythae}"))
    return rows


def metric_rows(rounds: int, full: bool) -> list[Row]:
    """Fréchet distance, feature extraction and likelihood, each beside the plain way."""
    found = []
    for name, decay in (("flat spectrum", 0.0), ("falling spectrum", 1.0)):
        x, y = metrics.features(decay=decay)
        metrics.frechet_ours(x, y)
        pairs = [(metrics.frechet_ours(x, y), metrics.frechet_by_sqrtm(x, y)) for _ in range(min(rounds, 3))]
        ours, theirs = (statistics.median(pair[i][0] for pair in pairs) for i in range(2))
        times = statistics.median(b / a for (a, _), (b, _) in pairs)
        (_, value), (_, other) = pairs[0]
        detail = f"vaelab {ours:.2f} s, sqrtm {theirs:.2f} s, relative difference {abs(value - other) / other:.0e}"
        what = f"Fréchet distance, 2 × 10,000 rows of 2,048, {name}: speed, of sqrtm's route"
        found.append(Row(what, f"{times:.1f}", "≥ 10", detail))
    grown = metrics.extraction_memory()
    found.append(Row("features of 100,000 images beside 5,000: peak grows by, MB", f"{grown:.0f}", "0, to noise"))
    vae, rows, draws = metrics.infogan(), *((1000, 500) if full else (200, 100))
    metrics.bound_and_decoder(vae, 40, 50)
    bound, bare = metrics.bound_and_decoder(vae, rows, draws)
    what = f"importance-weighted bound, {rows:,} images, k = {draws}, InfoGAN: time, of its decoder calls"
    return [*found, Row(what, f"{bound / bare:.2f}", "≤ 1.2", f"bound {bound:.1f} s, decoder {bare:.1f} s")]


def objective_rows(rounds: int) -> list[Row]:
    """Compare steps of each variance's shape with the fixed one's, and of each penalty with a plain autoencoder's."""
    found = []
    for suite in (objectives.shapes(), objectives.penalties()):
        times = objectives.rounds_of(suite, 3 * rounds)
        first, *others = times
        for name in others:
            ratio = statistics.median(b / a for a, b in zip(times[first], times[name], strict=True))
            detail = ", ".join(f"{n} {statistics.median(times[n]) * 1e3:.1f} ms" for n in (first, name))
            target = suite.targets.get(name, "none")
            found.append(Row(f"{suite.title}, {name}: time of a step, of {first}", f"{ratio:.3f}", target, detail))
    return found


def stacked_rows(rounds: int) -> list[Row]:
    """Cells per second of a table's small trainings, of those of one training after another."""
    times = [stacked.seconds_per_cell(2000) for _ in range(rounds)]
    first, *others = times[0]
    apart = statistics.median(one[first] for one in times)
    found = []
    for name, target in zip(others, ("≥ 2", "≥ 3"), strict=True):
        ratio = statistics.median(one[first] / one[name] for one in times)
        detail = f"{statistics.median(one[name] for one in times):.1f} s a cell, {first} {apart:.1f} s"
        what = f"{stacked.CELLS} MLPs of 16 units {name}: speed, of {first}"
        found.append(Row(what, f"{ratio:.1f}", target, detail))
    return found


def main() -> None:
    """Run what was asked for and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved repetitions")
    parser.add_argument(
        "--only",
        choices=PARTS,
        help="one part",
    )
    parser.add_argument("--full", action="store_true", help="the likelihood at 1,000 images and k = 500: minutes")
    chosen = parser.parse_args()
    rows: list[Row] = []
    wanted = [chosen.only] if chosen.only else PARTS
    if "mlp" in wanted:
        rows += speed_rows(steps.mlp(), chosen.rounds, 0.85, 2.0)
    if "infogan" in wanted:
        rows += speed_rows(steps.infogan(), chosen.rounds, 0.97, 1.4)
    if "codes" in wanted:
        rows += speed_rows(steps.codes(), chosen.rounds, 0.95, None)
    if "objectives" in wanted:
        rows += objective_rows(chosen.rounds)
    if "stacked" in wanted:
        rows += stacked_rows(min(chosen.rounds, 3))
    if "metrics" in wanted:
        rows += metric_rows(chosen.rounds, chosen.full)
    if "diagnosis" in wanted:
        (seconds, grown), (_, more) = (diagnosis.cost(images) for images in (10_000, 60_000))
        rows.append(Row("diagnosis on 10,000 images, InfoGAN, κ = 64: seconds", f"{seconds:.0f}", "≤ 300"))
        detail = f"10,000 images: {grown:.0f} MB"
        rows.append(Row("diagnosis on 60,000 images: memory above the images, MB", f"{more:.0f}", "the same", detail))
    if "import" in wanted:
        rows.append(Row("import vaelab, times import torch", f"{startup.ratio(chosen.rounds):.2f}", "< 1.3"))
        rows.append(Row("vaelab --help, seconds", f"{startup.help_seconds(chosen.rounds):.2f}", "< 1"))
    if "memory" in wanted:
        rows.append(Row("memory for a 4 GB array, MB above start", f"{memory.growth():.0f}", "< 1000"))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {chosen.rounds} rounds\n")
    print("| what | measured | target | median time |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.value} | {row.target} | {row.detail} |")


if __name__ == "__main__":
    main()
