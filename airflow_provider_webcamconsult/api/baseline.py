"""
The baseline: which list was taken in last, and what the last runs reported.

Both are stored together, in one write. So a run that is killed has either changed nothing, or its next try
finds what it had to report.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_webcamconsult.api.changes import UNKNOWN_DIGEST, Mark, diff, select, unite

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_provider_webcamconsult.api.changes import Change

#: What to report while there is no baseline.
Initial = Literal["none", "all"]

#: Number of runs whose reports are stored, for their retries and for users who clear them.
REPORTS_MAX = 20

#: Keys in the state of an asset: the baseline, and the digest of the list that was taken in last.
BASELINE_KEY = "webcamconsult_baseline"
DIGEST_KEY = "webcamconsult_digest"

#: Version of the stored format.
FORMAT = 1


@dataclass(frozen=True)
class Baseline:
    """
    What is stored.

    :param marks: the marks of the records that were taken in last, by id.
    :param check: tells whether their digests can be compared; see
        :class:`~airflow_provider_webcamconsult.api.changes.Marker`.
    :param reports: what the last runs reported, by run.
    """

    marks: Mapping[str, Mark]
    check: str
    reports: Mapping[str, list[Change]] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        """Whether there is no place for another report, so that earlier ones may have been dropped."""
        return len(self.reports) >= REPORTS_MAX

    def report(self, run: str) -> list[Change]:
        """
        Return what a run has to report.

        :param run: the run.
        """
        return self.reports.get(run, [])


def take_in(
    old: Baseline | None,
    marks: Mapping[str, Mark],
    check: str,
    run: str,
    *,
    kinds: Collection[str],
    states: Collection[str] | None = None,
    initial: Initial = "none",
    unreadable: Collection[str] | None = (),
) -> Baseline:
    """
    Return the baseline after a run: what it has to report is what an earlier try had, and what is new.

    :param old: the baseline before; None if there is none yet.
    :param marks: the marks of the records now, by id.
    :param check: tells whether the digests can be compared.
    :param run: the run.
    :param kinds: the kinds of changes to report.
    :param states: report only changes of appointments in these states; None means any.
    :param initial: what to report if there is no baseline yet.
    :param unreadable: ids of the listed records that have no mark. They count as unchanged. None means any
        id, because some of the records have no readable one.
    """
    if old is None:
        old = Baseline({} if initial == "all" else marks, check)
    kept = old.marks.keys() - marks.keys()
    if unreadable is not None:
        kept &= {*unreadable}
    more = {} if check == old.check else {"digest": UNKNOWN_DIGEST}
    marks = {**marks, **{record_id: old.marks[record_id]._replace(**more) for record_id in kept}}
    changes = select(diff(old.marks, marks, with_attributes=check == old.check), kinds, states)
    reports = dict(old.reports)
    if report := unite(reports.pop(run, ()), changes):
        reports[run] = report  # as the newest
    return Baseline(marks, check, dict([*reports.items()][-REPORTS_MAX:]))


def dump(baseline: Baseline, **details: str) -> dict[str, Any]:
    """
    Return a baseline as a short value for JSON.

    :param baseline: the baseline.
    :param details: what to store with it.
    """
    # By column and sorted, which compresses best.
    ids = sorted(baseline.marks)
    columns = [ids, *zip(*(baseline.marks[record_id] for record_id in ids), strict=True)]
    return {
        "format": FORMAT,
        **details,
        "check": baseline.check,
        "marks": _pack(columns),
        "reports": _pack(baseline.reports),
    }


def load(stored: Any) -> Baseline:
    """
    Return the baseline in a value from :func:`dump`.

    :param stored: the value.
    :raises ValueError: if it is not such a value.
    """
    try:
        if stored["format"] == FORMAT:
            ids, *columns = _unpack(stored["marks"])
            marks = dict(zip(ids, map(Mark, *columns), strict=True)) if columns else {}
            return Baseline(marks, str(stored["check"]), dict(_unpack(stored["reports"])))
    except (LookupError, TypeError, ValueError, zlib.error, binascii.Error):
        pass
    # Raised outside of the except block: the text of the other error may contain the value.
    raise ValueError("This is not a baseline.")


def _pack(value: Any) -> str:
    return base64.b85encode(zlib.compress(json.dumps(value).encode(), 9)).decode()


def _unpack(text: str) -> Any:
    return json.loads(zlib.decompress(base64.b85decode(text)))
