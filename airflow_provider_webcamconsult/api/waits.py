"""What the waits wait for: what they read, when they are over, and how messages name that."""

from __future__ import annotations

import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict

from airflow_provider_webcamconsult.api.dates import parse_datetime
from airflow_provider_webcamconsult.api.states import (
    describe_state,
    format_target_states,
    is_reached,
    state_of,
)
from airflow_provider_webcamconsult.exceptions import WebcamconsultResponseError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

#: "lost": the wait can no longer succeed. "late": its time passed too long ago.
Verdict: TypeAlias = Literal["waiting", "reached", "lost", "late"]
#: Whether all of many appointments have to reach a target state, or any of them.
WaitFor: TypeAlias = Literal["all", "any"]

#: Maximum number of ids that a message names.
NAMED_IDS_MAX = 50
#: Number of dates of which the parsed value is kept.
DATES_KEPT = 4096


class Goal(Protocol):
    """What a wait waits for. Values are by appointment id, and can be stored as JSON."""

    @property
    def ids(self) -> Sequence[str]:
        """The ids of the appointments."""

    @property
    def fields(self) -> Collection[str]:
        """The attributes that :meth:`read` needs."""

    def read(self, appointment: Mapping[str, Any]) -> Any:
        """
        Return the value of an appointment.

        :param appointment: the appointment.
        :raises WebcamconsultResponseError: if it lacks what the wait needs.
        """

    def is_value(self, value: object) -> bool:
        """
        Return whether a value from elsewhere, such as an event, is one that :meth:`read` can return.

        :param value: the value.
        """

    def due(self, values: Mapping[str, Any]) -> float | None:
        """
        Return when time itself ends the wait, in seconds since the epoch; None if it does not.

        :param values: the known values.
        """

    def verdict(self, values: Mapping[str, Any], missing: Collection[str], now: float) -> Verdict:
        """
        Return whether the wait is over.

        :param values: the known values.
        :param missing: ids of the appointments that do not exist.
        :param now: seconds since the epoch.
        """

    def result(self, values: Mapping[str, Any]) -> Any:
        """
        Return what a successful task returns.

        :param values: the known values.
        """

    def purpose(self, values: Mapping[str, Any]) -> str:
        """
        Describe what the wait waits for, as in "appointment X to reach 'finished'".

        :param values: the known values.
        """

    def summary(self, values: Mapping[str, Any]) -> str | None:
        """
        Describe how far the wait is, for a log that reports each change of this text.

        :param values: the known values; None if there are none.
        """

    def last_known(self, values: Mapping[str, Any], missing: Collection[str]) -> str:
        """
        Describe why the wait did not succeed, for an error.

        :param values: the known values.
        :param missing: ids of the appointments that do not exist.
        """


class StateGoal:
    """
    Wait until one or many appointments reach a state.

    Only the current states count: a wait that restarts in another process knows no earlier ones.

    :param ids: ids of the appointments.
    :param target_states: states to wait for; None means any state except "idle".
    :param failed_states: states that end the wait as a failure.
    :param wait_for: whether all of the appointments have to reach a target state, or any.
    :param is_single: whether the task returns the state of its only appointment, not a dict.
    """

    fields = ("state",)

    def __init__(
        self,
        ids: Sequence[str],
        target_states: Collection[str] | None,
        failed_states: Collection[str],
        wait_for: WaitFor = "all",
        *,
        is_single: bool = False,
    ) -> None:
        self.ids = ids
        self.target_states = target_states
        self.failed_states = failed_states
        self.wait_for = wait_for
        self.is_single = is_single

    def read(self, appointment: Mapping[str, Any]) -> str:
        """
        Return the state of an appointment.

        :param appointment: the appointment.
        :raises WebcamconsultResponseError: if the state is missing or is not a string.
        """
        return state_of(appointment)

    def is_value(self, value: object) -> bool:
        """
        Return whether a value can be a state.

        :param value: the value.
        """
        return isinstance(value, str) and bool(value)

    def due(self, values: Mapping[str, str]) -> None:
        """
        Return None: only a state ends the wait.

        :param values: the known states.
        """

    def verdict(self, values: Mapping[str, str], missing: Collection[str], now: float = 0.0) -> Verdict:
        """
        Return whether the wait is over.

        :param values: the known states.
        :param missing: ids of the appointments that do not exist.
        :param now: not used.
        """
        enough = len(self.ids) if self.wait_for == "all" else 1
        if len(self._reached(values)) >= enough:
            return "reached"
        return "lost" if len(self.ids) - len(self._lost(values, missing)) < enough else "waiting"

    def _reached(self, values: Mapping[str, str]) -> dict[str, str]:
        return {
            id: values[id]
            for id in self.ids
            if id in values
            and values[id] not in self.failed_states
            and is_reached(values[id], self.target_states)
        }

    def _lost(self, values: Mapping[str, str], missing: Collection[str]) -> list[str]:
        return [id for id in self.ids if id in missing or values.get(id) in self.failed_states]

    def result(self, values: Mapping[str, str]) -> str | dict[str, str]:
        """
        Return the state; of many appointments, the states of those that have reached a target state, by id.

        :param values: the known states.
        """
        reached = self._reached(values)
        return reached[self.ids[0]] if self.is_single else reached

    def purpose(self, values: Mapping[str, str]) -> str:
        """
        Describe what the wait waits for, as in "appointment X to reach 'finished'".

        :param values: not used.
        """
        who = f"appointment {self.ids[0]}"
        if not self.is_single:
            who = f"{self.wait_for} of {len(self.ids)} appointments"
        return f"{who} to reach {format_target_states(self.target_states)}"

    def summary(self, values: Mapping[str, str]) -> str | None:
        """
        Describe the state of one appointment, or how many of many have reached a target state.

        :param values: the known states.
        """
        if not values:
            return None
        if self.is_single:
            return f"Appointment {self.ids[0]} is in {describe_state(values[self.ids[0]])}."
        count = f"{len(self._reached(values))} of {len(self.ids)} appointments"
        return f"Have reached {format_target_states(self.target_states)}: {count}."

    def last_known(self, values: Mapping[str, str], missing: Collection[str]) -> str:
        """
        Describe the last known state of each appointment that has not reached a target state.

        :param values: the known states.
        :param missing: ids of the appointments that do not exist.
        """
        if self.is_single:
            state = values.get(self.ids[0])
            return f"last seen in {describe_state(state)}" if state else "its state was never received"
        reached = self._reached(values)
        others = [id for id in self.ids if id not in reached]
        others.sort(key=lambda id: id not in missing and values.get(id) not in self.failed_states)
        named = [f"{id} {self._what_is_known(id, values, missing)}" for id in others[:NAMED_IDS_MAX]]
        more = f", and {len(others) - NAMED_IDS_MAX} more" if len(others) > NAMED_IDS_MAX else ""
        return f"{len(others)} of {len(self.ids)} have not: {', '.join(named)}{more}"

    def _what_is_known(self, id: str, values: Mapping[str, str], missing: Collection[str]) -> str:
        if id in missing:
            return "does not exist"
        state = values.get(id)
        return f"is in {describe_state(state)}" if state else "was never received"


@lru_cache(maxsize=DATES_KEPT)
def _parse_text(text: str) -> datetime.datetime | None:
    return parse_datetime(text)


def _parse(date: object) -> datetime.datetime | None:
    """Parse a date. Each poll returns the dates of the poll before."""
    return _parse_text(date) if isinstance(date, str) else None


class Schedule(TypedDict):
    """When an appointment takes place, and its state if that is known."""

    date: str
    state: str | None


class TimeGoal:
    """
    Wait until the date of an appointment plus an offset.

    :param appointment_id: id of the appointment.
    :param offset: seconds from the date to the end of the wait; negative for a time before the date.
    :param cancelled_states: states in which the appointment does not take place.
    :param max_lateness: seconds after which the time has passed too long ago; None means never.
    """

    fields = ("date", "state")

    def __init__(
        self,
        appointment_id: str,
        offset: float,
        cancelled_states: Collection[str],
        max_lateness: float | None,
    ) -> None:
        self.ids = (appointment_id,)
        self.offset = offset
        self.cancelled_states = cancelled_states
        self.max_lateness = max_lateness

    def read(self, appointment: Mapping[str, Any]) -> Schedule:
        """
        Return the date of an appointment, and its state.

        :param appointment: the appointment.
        :raises WebcamconsultResponseError: if it has no date, or no state although some states matter.
        """
        date = appointment.get("date")
        if _parse(date) is None:
            raise WebcamconsultResponseError(
                f"Webcamconsult returned appointment {appointment['id']} without a valid date. "
                "If it has none in Webcamconsult either, add one there."
            )
        state = state_of(appointment) if self.cancelled_states else appointment.get("state")
        return {"date": str(date), "state": state if isinstance(state, str) else None}

    def is_value(self, value: object) -> bool:
        """
        Return whether a value is a :class:`Schedule`.

        :param value: the value.
        """
        return isinstance(value, dict) and _parse(value.get("date")) is not None and "state" in value

    def due(self, values: Mapping[str, Schedule]) -> float | None:
        """
        Return when the wait ends, in seconds since the epoch; None if the date is not known yet.

        :param values: the known date.
        """
        date = self._date(values)
        return None if date is None else date.timestamp() + self.offset

    def _date(self, values: Mapping[str, Schedule]) -> datetime.datetime | None:
        value = values.get(self.ids[0])
        return _parse(value["date"]) if value else None

    def verdict(self, values: Mapping[str, Schedule], missing: Collection[str], now: float) -> Verdict:
        """
        Return whether the wait is over. A cancelled appointment counts as "lost".

        :param values: the known date.
        :param missing: ids of the appointments that do not exist.
        :param now: seconds since the epoch.
        """
        due = self.due(values)
        if missing or (due is not None and values[self.ids[0]]["state"] in self.cancelled_states):
            return "lost"
        if due is None or now < due:
            return "waiting"
        return "late" if self.max_lateness is not None and now - due > self.max_lateness else "reached"

    def result(self, values: Mapping[str, Schedule]) -> str:
        """
        Return the date of the appointment, as the service returned it.

        :param values: the known date.
        """
        return values[self.ids[0]]["date"]

    def purpose(self, values: Mapping[str, Schedule]) -> str:
        """
        Describe until when the wait waits.

        :param values: the known date.
        """
        date, offset = self._date(values), datetime.timedelta(seconds=self.offset)
        distance = (
            f"{abs(offset)} {'before' if self.offset < 0 else 'after'}" if self.offset else "the date of"
        )
        when = f"{distance} appointment {self.ids[0]}"
        if date is None:
            return when
        try:
            return f"{(date + offset).isoformat(sep=' ', timespec='seconds')}, {when}"
        except OverflowError:
            return when

    def summary(self, values: Mapping[str, Schedule]) -> str | None:
        """
        Describe the date and the state of the appointment.

        :param values: the known date.
        """
        date = self._date(values)
        if date is None:
            return None
        when = date.isoformat(sep=" ", timespec="seconds")
        return f"Appointment {self.ids[0]} is at {when}, in {describe_state(values[self.ids[0]]['state'])}."

    def last_known(self, values: Mapping[str, Schedule], missing: Collection[str]) -> str:
        """
        Describe the last known date.

        :param values: the known date.
        :param missing: not used.
        """
        return (self.summary(values) or "its date was never received").rstrip(".")
