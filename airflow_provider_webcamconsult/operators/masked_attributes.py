"""Mask the attributes of an operator in what Airflow stores and shows."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_webcamconsult.api.redaction import MASK
from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError
from airflow_provider_webcamconsult.version_compat import ResolveMixin, XComArg

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from airflow_provider_webcamconsult.api.resources import Resource
    from airflow_provider_webcamconsult.version_compat import Context


class MaskedValue:
    """Stands for a personal value in :class:`MaskedAttributes`. It shows as ``***`` and cannot be sent."""

    def __repr__(self) -> str:
        return MASK


class MaskedAttributes(ResolveMixin, Mapping[str, Any]):
    """
    Wraps ``attributes`` so that Airflow stores and shows only the names and the values that are not personal.

    Airflow shows a template field in three places: in the serialized DAG, in the rendered templates, and in
    the log if rendering fails. :meth:`_WithAttributes.render_template` renders the wrapped value.

    As a mapping, this has the values that are not personal, for templates such as ``map_index_template``, and
    a :class:`MaskedValue` for each of the others. :attr:`value` has the attributes unmasked.

    :param value: the attributes, or a callable, an XComArg or a template that returns them.
    :param resource: the kind of record.
    :param without_value: names of attributes whose template or XCom had no value when it was rendered.
    :param is_from_xcom: whether one template or XCom returned all attributes.
    """

    # The values are not in vars(): some listeners send all of a task's vars() to another system.
    __slots__ = ("_resource", "_value", "is_from_xcom", "without_value")

    def __init__(
        self,
        value: Any,
        resource: Resource[Any, Any],
        without_value: Collection[str] = (),
        *,
        is_from_xcom: bool = False,
    ) -> None:
        self._value = value
        self._resource = resource
        self.without_value = without_value
        self.is_from_xcom = is_from_xcom

    @property
    def value(self) -> Any:
        """The attributes, unmasked."""
        return self._value

    def __getitem__(self, name: str) -> Any:
        if not isinstance(self._value, Mapping):
            return MaskedValue()
        return self._value[name] if self._is_shown(name) or name not in self._value else MaskedValue()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __bool__(self) -> bool:
        return True  # Airflow 2 ignores a rendered value that is false

    def _names(self) -> Collection[str]:
        if isinstance(self._value, Mapping):
            return self._value.keys()
        raise WebcamconsultInputError(
            f"The attributes are not a dict, but of type {type(self._value).__name__}. "
            "Use 'attributes.value' to access them."
        )

    def __eq__(self, other: object) -> bool:
        return bool(self._value == (other.value if isinstance(other, MaskedAttributes) else other))

    __hash__ = None  # type: ignore[assignment]

    def __deepcopy__(self, memo: dict[int, Any]) -> MaskedAttributes:
        return MaskedAttributes(
            copy.deepcopy(self._value, memo),
            self._resource,
            self.without_value,
            is_from_xcom=self.is_from_xcom,
        )

    def __repr__(self) -> str:
        return str(self.serialize())

    def serialize(self) -> Any:
        """Return the masked attributes, for Airflow 3 to store; Airflow 2 stores their ``repr``."""
        if callable(self._value):
            return f"<attributes from {getattr(self._value, '__qualname__', type(self._value).__name__)}>"
        if isinstance(self._value, Mapping):
            return {
                str(_describe(name)): str(_describe(value)) if self._is_shown(name) else MASK
                for name, value in self._value.items()
            }
        return MASK

    def _is_shown(self, name: Any) -> bool:
        return isinstance(name, str) and (
            self._resource.aliases.get(name, name) in self._resource.non_personal
        )

    def resolve(self, context: Context, **kwargs: Any) -> Any:
        """
        Not used: :meth:`_WithAttributes.render_template` renders the wrapped value.

        :param context: the task's context.
        """
        raise NotImplementedError

    def iter_references(self) -> Iterator[tuple[Any, str]]:
        """Return the upstream tasks whose XComs the attributes contain, with the XCom keys."""
        return XComArg.iter_xcom_references(self._value)


def _describe(value: Any) -> Any:
    """
    Return a value whose text is the same each time the DAG file is parsed.

    Otherwise each parse would be a new version of the DAG. The default repr contains a memory address.
    """
    if value is None or isinstance(value, _STABLE_TYPES):
        return value if isinstance(value, (bool, int, float)) or value is None else str(value)
    if isinstance(value, Mapping):
        return {str(_describe(name)): _describe(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_describe(item) for item in value]
    return f"<{type(value).__name__}>"


_STABLE_TYPES = (str, bool, int, float, datetime.date, datetime.time, datetime.timedelta, XComArg)


def names_without_value(content: Any, rendered: Any) -> list[str]:
    """
    Return the names of the attributes that became None when they were rendered.

    :param content: the attributes before they were rendered.
    :param rendered: the rendered attributes.
    """
    if not isinstance(content, Mapping) or not isinstance(rendered, Mapping):
        return []
    return [str(name) for name, value in content.items() if _lost_value(value, rendered.get(name))]


def _lost_value(content: Any, rendered: Any) -> bool:
    if rendered is None:
        return content is not None
    if isinstance(content, Mapping) and isinstance(rendered, Mapping):
        return any(_lost_value(value, rendered.get(name)) for name, value in content.items())
    if isinstance(content, (list, tuple)) and isinstance(rendered, (list, tuple)):
        return any(_lost_value(*pair) for pair in zip(content, rendered, strict=False))
    return False
