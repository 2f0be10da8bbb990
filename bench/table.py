"""Numbers to Markdown: the median, and the spread behind it."""
import statistics


def render(machine, cells):
    lines = ["# Results", "", "Made by the command below; [README](README.md) says how. Median (lowest to highest); ratios are those of the",
             "pairs, each of a peer and the limit that was measured right before it.", "",
             f"- {machine['date']}, Linux {machine['kernel']}, {machine['processors']} processors, {machine['memory_mb']} MB; load"
             f" {machine['load'][0]} before and {machine['load'][1]} after",
             f"- `{machine['command']}`"]
    lines += [f"- {name}: {said['version']} ({said['about']})" for name, said in machine["peers"].items()]
    lines += [f"- {name}: left out, {why}" for name, why in machine["skipped"].items()]
    for part in (life, crash, control, memory, kill, failures):
        lines += part(cells)
    return "\n".join(lines) + "\n"


def grouped(cells, part):
    """{(peer, services): [cell]} of what has not failed."""
    found = {}
    for cell in cells:
        if cell["part"] == part and "failed" not in cell:
            found.setdefault((cell["peer"], cell["services"]), []).append(cell)
    return found


def spread(values, form="{:.3g}"):
    if not values:
        return "-"
    middle = form.format(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({form.format(min(values))} to {form.format(max(values))})"


def part(values, share):
    """The value that so large a share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def rows(title, head, body):
    if not body:
        return []
    return ["", f"## {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head),
            *("| " + " | ".join(str(field) for field in row) + " |" for row in body)]


def life(cells):
    body = []
    for (peer, count), found in sorted(grouped(cells, "life").items(), key=lambda item: item[0][1]):
        def times(key):
            return [cell[key] for cell in found]

        def ratios(key, limit):
            return [cell[key] / cell[limit] for cell in found]
        body.append([peer, count, len(found), spread(times("start")), spread(ratios("start", "limit_start")), spread(times("dead")),
                     spread(ratios("dead", "limit_stop")), spread(times("gone")), spread(ratios("gone", "limit_stop"))])
    head = ["", "services", "pairs", "start, s", "of the limit", "all dead, s", "of the limit", "gone too, s", "of the limit"]
    return rows("Start and stop", head, body)


def crash(cells):
    body = []
    for (peer, _), found in grouped(cells, "crash").items():
        for key, name in (("young_ms", "up 50 ms"), ("old_ms", "up longer")):
            ours, limit = found[0][key], found[0]["limit_ms"]
            numbers = [part(ours, 0.5), part(ours, 0.99), max(ours), part(limit, 0.5), part(limit, 0.99)]
            ratios = [numbers[0] / numbers[3], numbers[1] / numbers[4]]
            body.append([peer, name, len(ours), *(f"{n:.3g}" for n in numbers), *(f"{n:.3g}" for n in ratios)])
    head = ["", "service was", "samples", "p50, ms", "p99, ms", "max, ms", "limit p50", "limit p99", "p50 of the limit", "p99 of the limit"]
    return rows("SIGKILL of a service to the first instruction of its successor", head, body)


def control(cells):
    body = [[peer, count, spread(found[0]["status_ms"]), spread(found[0]["restart_ms"])]
            for (peer, count), found in grouped(cells, "control").items()]
    return rows("Commands", ["", "services", "status of all, ms", "restart of one, to its first instruction, ms"], body)


def memory(cells):
    found, body = grouped(cells, "memory"), []
    for (peer, count), group in found.items():
        cell, none = group[0], found.get((peer, 0), [None])[0]
        each = (cell["private_kb"] - none["private_kb"]) / count if none and count else None
        body.append([peer, count, cell["private_kb"], cell["pss_kb"], "-" if each is None else f"{each:.2f}", cell["processes"],
                     f"{cell['cpu_ms']:.3g}", f"{cell['wakes_per_s']:.3g}", cell.get("restarted_kb", "-"),
                     cell.get("restarted_again_kb", "-")])
    head = ["", "services", "private, KB", "PSS, KB", "private KB a service", "processes", "CPU ms while idle", "wake-ups a second",
            "private KB when each was restarted once", "and twice"]
    return rows("Memory of all its processes, and what they do when nothing happens", head, body)


def kill(cells):
    body = [[peer, count, len(found[0]["kill_ms"]), f"{part(found[0]['kill_ms'], 0.5):.3g}", f"{max(found[0]['kill_ms']):.3g}"]
            for (peer, count), found in grouped(cells, "kill").items()]
    return rows("SIGKILL of the manager and of a service at once, to the service's successor", ["", "services", "times", "p50, ms", "max, ms"], body)


def failures(cells):
    return rows("Not measured", ["", "", "services", "why"],
                [[cell["part"], cell["peer"], cell["services"], cell["failed"].replace("\n", " ").replace("|", "/")[:160]]
                 for cell in cells if "failed" in cell])
