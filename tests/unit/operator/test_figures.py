"""What Prometheus is told of the operator, over HTTP."""

import urllib.request
from typing import Any, cast

from prometheus_client.parser import text_string_to_metric_families

from labd.operator.service import Operator, serve_health


class _Stood:
    """How an operator is, as it tells."""

    ready = well = True

    def state(self) -> dict[str, object]:
        return {"leading": True, "ready": True, "well": True, "testruns": 7, "labd": "not reached"}


def test_the_operator_tells_prometheus_beside_its_health() -> None:
    server = serve_health("127.0.0.1", 0, cast(Operator, cast(Any, _Stood())))
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:  # noqa: S310 - our own
            families = text_string_to_metric_families(answer.read().decode())
            told = {sample.name: sample.value for family in families for sample in family.samples}
        with urllib.request.urlopen(f"{url}/readyz", timeout=20) as answer:  # noqa: S310 - our own
            assert answer.headers["Content-Type"] == "application/json"
    finally:
        server.shutdown()
        server.server_close()
    assert told["labd_operator_testruns"] == 7
    assert (told["labd_operator_leading"], told["labd_operator_reaches_labd"]) == (1, 0)
    assert told["process_resident_memory_bytes"] > 1_000_000
