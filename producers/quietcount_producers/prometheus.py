"""The emitters' metrics, for a service that embeds a publisher and is scraped by Prometheus.

They say nothing about an event. What waits in a spool is given in whole days, so that it rises only at midnight (UTC).
We look once an hour, because the moment at which a spool is empty again shows how much was in it. Whether the relay
fails at this moment is left out: it is only found out when an event has come.

Needs the extra `prometheus` of quietcount-producers; nothing else here imports this module.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Final

from quietcount_producers.publisher import CaseEventPublisher
from quietcount_schemas.errors import QuietcountError

try:
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    raise ImportError(
        "quietcount_producers.prometheus needs prometheus_client. Install quietcount-producers with its extra: "
        "pip install './producers[prometheus]'"
    ) from error

__all__ = ["BUILD_INFO", "SPOOL_AGE", "EmitterCollector"]

BUILD_INFO: Final = "quietcount_emitter_build_info"
SPOOL_AGE: Final = "quietcount_emitter_spool_age_seconds"

_GRID: Final = dt.timedelta(hours=1)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DAY_SECONDS: Final = 86_400


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class EmitterCollector(Collector):
    """A collector for any registry of prometheus_client: `registry.register(EmitterCollector(publisher))`.

    `now` is the time in UTC. Collecting raises nothing; a spool that cannot be read is NaN.
    """

    def __init__(self, publisher: CaseEventPublisher, *, now: Callable[[], dt.datetime] = _utc_now) -> None:
        self._publisher = publisher
        self._now = now
        self._shown: tuple[dt.datetime, float] | None = None

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics without their values: registering looks at no spool."""
        yield GaugeMetricFamily(
            BUILD_INFO, "The version of quietcount-producers that emits; always 1.", labels=["version"]
        )
        yield GaugeMetricFamily(
            SPOOL_AGE,
            "How long events have waited in the spool because the log did not take them, in whole days (UTC); 0 when "
            "none have waited over a midnight. Looked at once an hour.",
        )

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics."""
        build, age = self.describe()
        build.add_metric([metadata.version("quietcount-producers")], 1)
        yield build
        age.add_metric([], self._age())
        yield age

    def _age(self) -> float:
        """Return the age in seconds, as it was at the first look of this hour."""
        now = self._now()
        hour = now - (now - _EPOCH) % _GRID
        if self._shown is None or self._shown[0] != hour:
            self._shown = hour, self._looked_at(now.date())
        return self._shown[1]

    def _looked_at(self, today: dt.date) -> float:
        try:
            since = self._publisher.spool_state().waiting_since
        except QuietcountError:
            return math.nan
        return 0.0 if since is None else float(max(0, (today - since).days) * _DAY_SECONDS)
