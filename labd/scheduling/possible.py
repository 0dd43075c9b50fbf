"""Whether a wish could ever be served, by benches that are all free and well."""

from collections.abc import Mapping, Sequence

from labd.scheduling.candidates import Candidates
from labd.scheduling.lab import Bench, Lab
from labd.scheduling.matching import Fleet
from labd.scheduling.wish import Part, Wish


def impossible(parts: Sequence[Part], same_site: bool, benches: Mapping[str, Mapping[str, str]]) -> str | None:
    """Why these benches, by name with their labels, could never serve all the parts at once; None if they could.

    That each part has enough benches of its own is taken for granted.
    """
    fleet = Fleet([Bench(name, labels) for name, labels in benches.items()])
    candidates = Candidates(Lab(now=0.0, benches=tuple(fleet.benches)), fleet, ())
    if same_site and candidates.fit(_wish(parts, same_site=True), fleet.everything):
        return None
    count = sum(part.count for part in parts)
    if not candidates.fit(_wish(parts, same_site=False), fleet.everything):
        return f"{count} different benches are wanted, and not so many meet these selectors together"
    return f"no site has the {count} benches together" if same_site else None


def _wish(parts: Sequence[Part], same_site: bool) -> Wish:
    return Wish("", 0, tuple(parts), duration_s=0.0, asked_at=0.0, same_site=same_site)
