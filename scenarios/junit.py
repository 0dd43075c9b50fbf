"""The result as JUnit XML, in the dialect that Jenkins and GitLab read."""

import re
from xml.etree import ElementTree

from labd.client.types import CaseResult, Failure, Result

# Characters that XML 1.0 cannot carry, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(result: Result) -> str:
    """One ``testsuite`` with one ``testcase`` per case.

    What broke outside every case becomes a test case of its own, named "(scenario)", since JUnit has no other place
    that CI systems show.
    """
    entries = [_case(result["name"], case) for case in result["cases"]]
    if result["failure"] is not None and result["failure"] not in [case["failure"] for case in result["cases"]]:
        entry = _entry(result["name"], "(scenario)", 0.0)
        kind = "failure" if result["verdict"] == "failed" else "error"
        _add_failure(entry, kind, result["failure"])
        entries.append(entry)
    totals = {
        "tests": str(len(entries)),
        "failures": str(sum(entry.find("failure") is not None for entry in entries)),
        "errors": str(sum(entry.find("error") is not None for entry in entries)),
        "time": f"{result['duration_s']:.3f}",
    }
    root = ElementTree.Element("testsuites", totals)
    attributes = {"name": _clean(result["name"]), "timestamp": result["started_at"], **totals}
    suite = ElementTree.SubElement(root, "testsuite", attributes)
    properties = ElementTree.SubElement(suite, "properties")
    for bench in result["benches"]:
        ElementTree.SubElement(properties, "property", {"name": "bench", "value": _clean(bench)})
    suite.extend(entries)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(suite: str, case: CaseResult) -> ElementTree.Element:
    entry = _entry(suite, case["name"], case["duration_s"])
    if case["failure"] is not None:
        _add_failure(entry, "failure" if case["verdict"] == "failed" else "error", case["failure"])
    lines = [f"{step['at_s']:10.6f} s  {step['text']}" for step in case["steps"]]
    if case["frames"]:
        lines += ["", "last frames on the bench's buses:"]
        lines += [f"({frame['time']:.6f}) {frame['bus']} {frame['frame']}" for frame in case["frames"]]
    if lines:
        ElementTree.SubElement(entry, "system-out").text = _clean("\n".join(lines))
    return entry


def _entry(suite: str, name: str, seconds: float) -> ElementTree.Element:
    attributes = {"classname": _clean(suite), "name": _clean(name), "time": f"{seconds:.3f}"}
    return ElementTree.Element("testcase", attributes)


def _add_failure(entry: ElementTree.Element, kind: str, failure: Failure) -> None:
    if failure["file"]:
        entry.set("file", _clean(failure["file"]))
        entry.set("line", str(failure["line"]))
    element = ElementTree.SubElement(entry, kind, {"message": _clean(failure["message"])})
    where = f"{failure['file']}:{failure['line']}: " if failure["file"] else ""
    element.text = _clean(f"{where}{failure['message']}\n{failure['traceback']}".rstrip())


def _clean(text: str) -> str:
    return _FORBIDDEN.sub(lambda found: f"\\x{ord(found.group()):02x}", text)
