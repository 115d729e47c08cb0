"""The records of a synchronization by key, kept as compact JSON, because there may be 100,000 of them."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.api.dates import serialize_datetime
from airflow_provider_webcamconsult.api.evidence import Sent, Target
from airflow_provider_webcamconsult.api.matching import normalize
from airflow_provider_webcamconsult.api.missing import is_no_key
from airflow_provider_webcamconsult.exceptions import (
    WebcamconsultConflictError,
    WebcamconsultInputError,
    WebcamconsultResponseError,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from pendulum import Timezone

    from airflow_provider_webcamconsult.api.resources import Resource

# What JSON returns as it was sent. Lists are those of ids.
_COMPARABLE = frozenset((str, list, type(None)))


class RecordIndex:
    """
    Records by key.

    :param resource: the kind of record.
    :param key: name of the attribute that identifies a record.
    :param records: the records.
    :param only: normalized keys to keep. By default, all keys.
    :raises WebcamconsultResponseError: if a record is in the list twice, with different keys.
    """

    def __init__(
        self,
        resource: Resource[Any, Any],
        key: str,
        records: Iterable[Mapping[str, Any]],
        *,
        only: Container[str] | None = None,
    ) -> None:
        import msgspec

        self.resource = resource
        self.key = key
        self._documented = frozenset(resource.writable)
        self._other_keys = frozenset(resource.key_attributes) - {key}
        #: A key that identifies a record whatever else differs, if the one of this index does not.
        self.strong_key = _strong_key(resource) if key in resource.weak_keys else None
        #: Ids of the records with each strong key.
        self._owners: dict[str, list[str]] = {}
        self._decode = msgspec.json.Decoder(dict).decode
        self._records: dict[str, bytes] = {}
        self._dates: dict[str, str] = {}
        #: Ids of the records that share a key.
        self._shared: dict[str, list[str]] = {}
        encode = msgspec.json.Encoder().encode
        seen = set[str]()
        for record in records:
            if strong := self.strong_value(record):
                self._owners.setdefault(strong, []).append(record["id"])
            value = normalize_key(resource, key, record.get(key))
            if only is not None and value not in only:
                continue
            ids = self._ids(value)
            if record["id"] in seen and record["id"] not in ids:
                # In "mirror", one of them could be in no row, and the person be deleted.
                raise WebcamconsultResponseError(
                    f"The list shows {resource.name} {record['id']} twice, with different values of {key}. "
                    "Nothing was written. Try again."
                )
            if value is None or record["id"] in ids:
                continue
            seen.add(record["id"])
            if ids:
                self._shared[value] = [*ids, record["id"]]
                continue
            # A missing value is the same as None.
            self._records[value] = encode({name: item for name, item in record.items() if item is not None})

    def strong_value(self, attributes: Mapping[str, Any]) -> str | None:
        """
        Return the normalized strong key of a record or of a row.

        :param attributes: the record, or the attributes of the row.
        """
        name = self.strong_key
        return None if name is None else normalize_key(self.resource, name, attributes.get(name))

    def _ids(self, value: str | None) -> list[str]:
        """Return the ids of the records with a key."""
        if value is None or value not in self._records:
            return []
        return self._shared.get(value) or [self._decode(self._records[value])["id"]]

    def ids_with_prefix(self, prefix: str, *, besides: Container[str | None]) -> tuple[int, list[str]]:
        """
        Return how many records have a key that begins with a prefix, and the ids of those besides some keys.

        :param prefix: beginning of the keys.
        :param besides: normalized keys.
        """
        owned, others = 0, []
        prefix = normalize_prefix(self.key, prefix)
        for value in self._records:
            if not value.startswith(prefix):
                continue
            owned += len(self._shared.get(value, (None,)))
            if value not in besides:
                others += self._ids(value)
        return owned, others

    def find_equal(self, row: object, zone: Timezone) -> tuple[str, str] | None:
        """
        Return the normalized key and the id of a row's record if all values of the row are the record's.

        Such a row needs neither validation nor serialization, and nearly all rows of a nightly run are like
        that. Any other row may still turn out to be unchanged.

        :param row: the row.
        :param zone: time zone of dates without a UTC offset.
        """
        # A key that people can share needs more evidence.
        if type(row) is not dict or self.key in self.resource.weak_keys:
            return None
        value = normalize_key(self.resource, self.key, row.get(self.key))
        if value is None or value in self._shared or value not in self._records:
            return None
        record = self._decode(self._records[value])
        dates = self.resource.dates
        for name, sent in row.items():
            stored = record.get(name)
            if name not in self._documented:
                return None
            if name in dates and sent is not None:
                if stored is None or str(stored)[:10] != str(sent)[:10]:
                    return None
                sent = self._serialize_date(name, sent, zone)
            if sent != stored or type(sent) not in _COMPARABLE:
                return None
            if name in self._other_keys and sent is not None and is_no_key(sent):
                return None
        return value, record["id"]

    def _serialize_date(self, name: str, sent: object, zone: Timezone) -> str | None:
        """Serialize a date once, because many people have the same date of birth."""
        if type(sent) is not str:
            return None
        if sent not in self._dates:
            try:
                self._dates[sent] = serialize_datetime(sent, name=name, zone=zone, day_only=True)
            except WebcamconsultInputError:
                return None
        return self._dates[sent]

    def match(
        self, value: str, payload: Mapping[str, Any], *, since: float | None = None, until: float = 0.0
    ) -> dict[str, Any] | None:
        """
        Return the record of a row.

        The rules are those of a create: people can share an e-mail address, so something else has to confirm
        that the record is the same person's.

        :param value: the normalized key.
        :param payload: serialized attributes of the row.
        :param since: when a create of this row with an unknown outcome was sent, in seconds since the epoch.
        :param until: the current time.
        :return: the record, or None if there is none.
        :raises WebcamconsultConflictError: if several records have the key, or the record may be a different
            person's.
        """
        if value in self._shared:
            ids = self._shared[value]
            raise WebcamconsultConflictError(
                f"{len(ids)} {self.resource.plural} have the same {self.key}: {', '.join(ids)}. "
                "Delete the duplicate, or give each of them its own.",
                ids=ids,
            )
        record: dict[str, Any] | None = None
        if value in self._records:
            record = self._decode(self._records[value])
        owners = self._owners.get(self.strong_value(payload) or "", ())
        if others := [owner for owner in owners if record is None or owner != record["id"]]:
            raise WebcamconsultConflictError(
                f"{self.resource.name.capitalize()} {', '.join(others)} has the same {self.strong_key}, but "
                f"a different {self.key}. Use key='{self.strong_key}', or correct one of them.",
                ids=others,
            )
        if record is not None and self.key in self.resource.weak_keys:
            target = Target(self.resource, payload, key_name=self.key)
            target.check_person(record, Sent(since, until=until))
        return record


def _strong_key(resource: Resource[Any, Any]) -> str | None:
    names = [names[0] for names in resource.natural_keys if len(names) == 1]
    return next((name for name in names if name not in resource.weak_keys), None)


def normalize_key(resource: Resource[Any, Any], name: str, value: object) -> str | None:
    """
    Normalize the value of a key attribute for comparison.

    :param resource: the kind of record.
    :param name: name of the attribute.
    :param value: the value.
    :return: the normalized value; None if this does not identify a record.
    """
    normalized = normalize(resource, name, value)
    return normalized if isinstance(normalized, str) and not is_no_key(normalized) else None


def normalize_prefix(key: str, prefix: str) -> str:
    """
    Normalize the beginning of keys for comparison with normalized keys.

    :param key: name of the key attribute.
    :param prefix: the beginning.
    """
    text = unicodedata.normalize("NFC", prefix).lstrip()
    return text.casefold() if key == "email" else text
