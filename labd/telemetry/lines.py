"""Points in InfluxDB's line protocol."""

from typing import Any

from influxdb_client.client.write.point import Point as ClientPoint

from labd.model.measurements import CATALOGUE, Kind
from labd.model.point import Point


def line(point: Point, time_ns: int) -> bytes:
    """One line without its end. The point is sound by the catalogue.

    A field is of the catalogue's type also where its value happens to be whole: InfluxDB refuses a second type.
    """
    made: Any = ClientPoint(point.measurement)  # type: ignore[no-untyped-call]
    made.time(time_ns)
    for name, value in point.tags.items():
        made.tag(name, value)
    measurement = CATALOGUE[point.measurement]
    for name, content in point.fields.items():
        field = measurement.field(name)
        made.field(name, float(content) if field is not None and field.kind is Kind.FLOAT else content)
    text: str = made.to_line_protocol()
    return text.encode()
