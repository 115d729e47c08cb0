"""The plan of a synchronization: what is written, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pendulum
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_webcamconsult.api.matching import differing_attributes
from airflow_provider_webcamconsult.api.payload import serialize_attributes
from airflow_provider_webcamconsult.api.record_index import RecordIndex
from airflow_provider_webcamconsult.api.resources import CLIENT, USER
from airflow_provider_webcamconsult.api.sync_plan import (
    SYNC_MODES,
    MalformedRow,
    SyncPlan,
    check_sync,
    exceeds,
    plan_sync,
)
from airflow_provider_webcamconsult.exceptions import WebcamconsultInputError, WebcamconsultResponseError

if TYPE_CHECKING:
    from collections.abc import Iterable

ZONE = pendulum.timezone("Europe/Amsterdam")
ESTER = {"reference_code": "DL-1", "initials": "T", "last_name": "Ester", "email": "t.ester@example.com"}


def plan(
    rows: Iterable[Any], records: Iterable[dict[str, Any]] = (), resource: Any = CLIENT, **parameters: Any
) -> SyncPlan:
    return plan_sync(
        resource, rows, records, **{"key": "reference_code", "mode": "upsert", "zone": ZONE, **parameters}
    )


def apply(service: dict[str, dict[str, Any]], done: SyncPlan) -> dict[str, dict[str, Any]]:
    """Return the records by id after the writes of a plan."""
    after = {record_id: dict(record) for record_id, record in service.items()}
    for write in done.updates:
        after[str(write.record_id)].update(write.payload)
    for record_id in done.deletes if done.may_delete else []:
        del after[record_id]
    for write in done.creates:
        after[f"new{write.row}"] = {"id": f"new{write.row}", **write.payload}
    return after


codes = st.sampled_from(["DL-1", "DL-2", "DL-3", " DL-3", "AB-1", "AB-2", "", "nan", None])
names = st.sampled_from(["Ester", "Ester ", "Jansen", None])
emails = st.sampled_from(["a@example.com", "A@example.com", "nan", None])
days = st.sampled_from(["1984-12-18", "1984-12-18T00:00:00.000+01:00", "1984-12", None])
people = st.fixed_dictionaries(
    {},
    optional={
        "reference_code": codes,
        "last_name": names,
        "email": emails,
        "date_of_birth": days,
    },
)
modes = st.sampled_from(SYNC_MODES)


for_any = given(
    rows=st.lists(people, max_size=6),
    people=st.lists(people, max_size=6),
    mode=modes,
    prefix=st.sampled_from(["DL-", ""]),
)


class TestAnyRowsAndRecords:
    """Whatever the rows and the records are."""

    def prepare(
        self, rows: list[dict[str, Any]], people: list[dict[str, Any]], mode: str, prefix: str
    ) -> tuple[dict[str, dict[str, Any]], SyncPlan, dict[str, dict[str, Any]]]:
        service = {f"id{number}": {"id": f"id{number}", **each} for number, each in enumerate(people)}
        done = plan(rows, service.values(), mode=mode, key_prefix=prefix)
        return service, done, apply(service, done)

    @for_any
    @settings(max_examples=60, deadline=None)
    def test_state_afterwards_is_what_the_mode_says(
        self, rows: list[dict[str, Any]], people: list[dict[str, Any]], mode: str, prefix: str
    ) -> None:
        service, done, after = self.prepare(rows, people, mode, prefix)
        failed = {failure.row for failure in done.failures}
        synced = [row for number, row in enumerate(rows, 1) if number not in failed]
        by_code = {str(record.get("reference_code")).strip(): record for record in after.values()}
        existed = {str(record.get("reference_code")).strip() for record in service.values()}
        for row in synced:
            code = str(row["reference_code"]).strip()
            assert (code in by_code) == (mode != "update" or code in existed)
            if mode in ("upsert", "mirror") or (code in existed) == (mode == "update"):
                sent = serialize_attributes(CLIENT, row, zone=ZONE)
                assert code not in by_code or not differing_attributes(CLIENT, sent, by_code[code])
        if mode == "mirror" and rows and not failed:
            wanted = {str(row["reference_code"]).strip() for row in synced}
            without_key = {"None", "", "nan"}
            assert {code for code in by_code if code.startswith(prefix)} - without_key <= wanted

    @for_any
    @settings(max_examples=60, deadline=None)
    def test_second_run_writes_nothing(
        self, rows: list[dict[str, Any]], people: list[dict[str, Any]], mode: str, prefix: str
    ) -> None:
        _, _, after = self.prepare(rows, people, mode, prefix)
        again = plan(rows, after.values(), mode=mode, key_prefix=prefix)
        assert (again.creates, again.updates) == ([], [])
        assert again.deletes == [] or not again.may_delete

    @for_any
    @settings(max_examples=60, deadline=None)
    def test_nobody_outside_of_the_prefix_is_touched(
        self, rows: list[dict[str, Any]], people: list[dict[str, Any]], mode: str, prefix: str
    ) -> None:
        service, _, after = self.prepare(rows, people, mode, prefix)
        for record_id, record in service.items():
            code = (record.get("reference_code") or "").strip()
            if not code.startswith(prefix) or not code or code == "nan":
                assert after[record_id] == record

    @for_any
    @settings(max_examples=60, deadline=None)
    def test_rows_that_equal_their_records_are_treated_like_others(
        self, rows: list[dict[str, Any]], people: list[dict[str, Any]], mode: str, prefix: str
    ) -> None:
        _, done, _ = self.prepare(rows, people, mode, prefix)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RecordIndex, "find_equal", lambda *_: None)
            _, slow, _ = self.prepare(rows, people, mode, prefix)
        done.warnings.clear()
        slow.warnings.clear()
        assert done == slow

    @for_any
    @settings(max_examples=60, deadline=None)
    def test_every_row_is_counted_once(
        self, rows: list[dict[str, Any]], people: list[dict[str, Any]], mode: str, prefix: str
    ) -> None:
        _, done, _ = self.prepare(rows, people, mode, prefix)
        outcomes = len(done.creates) + len(done.updates) + done.unchanged + len(done.failures)
        assert (done.rows, outcomes) == (len(rows), len(rows))

    @for_any
    @settings(max_examples=60, deadline=None)
    def test_no_two_writes_have_the_same_key(
        self, rows: list[dict[str, Any]], people: list[dict[str, Any]], mode: str, prefix: str
    ) -> None:
        _, done, _ = self.prepare(rows, people, mode, prefix)
        keys = [write.key.strip() for write in (*done.creates, *done.updates)]
        assert len(keys) == len({*keys})


class TestWrites:
    def test_only_attributes_that_differ_are_updated(self) -> None:
        done = plan([{**ESTER, "last_name": "Jansen"}], [{"id": "a", **ESTER, "gender": "male"}])
        (update,) = done.updates
        assert (update.record_id, update.payload) == ("a", {"last_name": "Jansen"})

    def test_values_are_compared_as_the_service_stores_them(self) -> None:
        row = {"reference_code": 12345, "email": "T.Ester@Example.com ", "date_of_birth": "1984-12-18"}
        record = {
            "id": "a",
            "reference_code": "12345",
            "email": "t.ester@example.com",
            "date_of_birth": "1984-12-18T00:00:00.000+01:00",
        }
        assert plan([row], [record]).unchanged == 1

    def test_ids_are_collected_on_request(self) -> None:
        assert plan([ESTER], [{"id": "a", **ESTER}], with_ids=True).ids == {"DL-1": "a"}

    def test_rows_with_the_same_key_have_no_id(self) -> None:
        rows = [ESTER, {**ESTER, "reference_code": " DL-1"}]
        assert plan(rows, [{"id": "a", **ESTER}], with_ids=True).ids == {}

    def test_mirror_deletes_all_records_that_share_a_key_that_is_in_no_row(self) -> None:
        gone = [{"id": name, "reference_code": "DL-2"} for name in "bc"]
        done = plan([ESTER], [{"id": "a", **ESTER}, *gone], mode="mirror", key_prefix="DL-")
        assert (sorted(done.deletes), done.owned) == (["b", "c"], 3)

    @pytest.mark.parametrize("rows", [[], [ESTER, {"last_name": "without key"}]])
    def test_incomplete_rows_prove_no_delete(self, rows: list[dict[str, Any]]) -> None:
        done = plan(rows, [{"id": "b", "reference_code": "DL-2"}], mode="mirror", key_prefix="DL-")
        assert not done.may_delete

    def test_warning_of_many_rows_is_counted(self) -> None:
        done = plan([{"reference_code": f"DL-{number}", "colour": "red"} for number in range(3)])
        (count,) = done.warnings.values()
        assert count == 3

    def test_no_name_in_a_file_without_a_header_is_in_a_warning(self) -> None:
        done = plan([{"DL-1": "DL-2", "Jansen": "Alders"}], [])
        assert (len(done.failures), done.warnings) == (1, {})


class TestFailures:
    @pytest.mark.parametrize(
        ("row", "names"),
        [
            ({"last_name": "Ester"}, ("reference_code",)),
            ({"reference_code": " ", "last_name": "Ester"}, ("reference_code",)),
            ({"reference_code": "nan", "last_name": "Ester"}, ("reference_code",)),
            ({**ESTER, "reference_code": "AB-1"}, ("reference_code",)),
            (
                {**ESTER, "date_of_birth": "31-12-1984", "division_ids": "x"},
                ("date_of_birth", "division_ids"),
            ),
            (MalformedRow("This line is not a JSON object."), ()),
        ],
    )
    def test_row_that_cannot_be_sent_costs_that_row(self, row: Any, names: tuple[str, ...]) -> None:
        other = {**ESTER, "reference_code": "DL-2"}
        done = plan([row, other], key_prefix="DL-")
        assert [(failure.row, failure.attributes) for failure in done.failures] == [(1, names)]
        assert [write.key for write in done.creates] == ["DL-2"]

    def test_rows_with_the_same_key_all_fail(self) -> None:
        rows = [ESTER, {**ESTER, "reference_code": "DL-2"}, {**ESTER, "reference_code": " DL-1"}]
        done = plan(rows)
        assert [failure.row for failure in done.failures] == [1, 3]
        assert done.failures[0].reasons == ("Rows 1 and 3 have the same reference_code.",)
        assert [write.row for write in done.creates] == [2]

    def test_row_whose_key_two_records_have_fails(self) -> None:
        done = plan([ESTER], [{"id": "a", **ESTER}, {"id": "b", **ESTER}])
        assert "a, b" in done.failures[0].reasons[0]

    def test_record_that_a_list_shows_twice_is_one_record(self) -> None:
        done = plan([ESTER], [{"id": "a", **ESTER}, {"id": "a", **ESTER}])
        assert (done.failures, done.unchanged) == ([], 1)

    @pytest.mark.parametrize("codes", [("DL-2", "DL-1"), ("DL-1", "DL-2"), ("DL-2", None)], ids=str)
    def test_record_that_a_list_shows_twice_with_different_keys_is_not_deleted(self, codes: Any) -> None:
        listed = [{"id": "a", **ESTER, "reference_code": code} for code in codes]
        with pytest.raises(WebcamconsultResponseError, match="shows client a twice"):
            plan([ESTER], listed, mode="mirror", key_prefix="DL-")

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            ({"initials": "P"}, "differs in initials"),
            ({"initials": "T", "reference_code": "DL-2"}, "differs in reference_code"),
            ({"last_name": "Ester"}, "no other attribute confirms"),
        ],
    )
    def test_shared_email_is_weak_evidence(self, row: dict[str, Any], reason: str) -> None:
        done = plan([{"email": ESTER["email"], **row}], [{"id": "a", **ESTER}], key="email")
        assert reason in done.failures[0].reasons[0]
        assert (done.creates, done.updates) == ([], [])

    @pytest.mark.parametrize("mode", ["insert", "update", "upsert"])
    @pytest.mark.parametrize("has_email", [True, False])
    def test_row_with_the_reference_code_of_a_record_with_another_email_fails(
        self, mode: str, has_email: bool
    ) -> None:
        other = {"id": "b", "email": "new@example.com", "initials": "T", "last_name": "Ester"}
        records = [{"id": "a", **ESTER}, *([other] if has_email else [])]
        done = plan([{**ESTER, "email": "new@example.com"}], records, key="email", mode=mode)
        assert (done.creates, done.updates) == ([], [])
        (failure,) = done.failures
        assert "a has the same reference_code, but a different email" in failure.reasons[0]

    @pytest.mark.parametrize("is_known", [False, True])
    def test_rows_with_the_same_reference_code_and_other_emails_all_fail(self, is_known: bool) -> None:
        ester = {**ESTER, "date_of_birth": "1984-12-18"}
        records = [{"id": "a", **ester, "date_of_birth": "1984-12-18T00:00:00.000+01:00"}] if is_known else []
        rows = [ester, {**ester, "email": "new@example.com"}, {"email": "c@example.com", "initials": "C"}]
        done = plan(rows, records, key="email")
        assert [(failure.row, failure.key) for failure in done.failures] == [
            (1, None),
            (2, "new@example.com"),
        ]
        assert done.failures[0].reasons == ("Rows 1 and 2 have the same reference_code.",)
        assert [write.row for write in done.creates] == [3]
        assert (done.updates, done.unchanged) == ([], 0)

    def test_email_of_a_client_counts_if_the_date_of_birth_agrees(self) -> None:
        born: dict[str, Any] = {"email": ESTER["email"], "date_of_birth": "1984-12-18"}
        row = {**born, "last_name": "Ester", "gender": "male"}
        record = {"id": "a", **ESTER, "date_of_birth": "1984-12-18T00:00:00.000+01:00"}
        (update,) = plan([row], [record], key="email").updates
        assert update.record_id == "a"

    def test_creation_during_the_run_confirms_a_weak_key(self) -> None:
        start = 1_900_000_000
        record = {"id": f"{start:08x}{0:016x}", "email": ESTER["email"], "last_name": "Ester"}
        row = {"email": ESTER["email"], "last_name": "Ester", "language": "nl"}
        done = plan([row], [record], key="email", since=start, until=start + 1)
        assert [update.record_id for update in done.updates] == [record["id"]]
        done = plan([{**row, "first_name": "Piet"}], [record], key="email", since=start, until=start + 1)
        assert (done.updates, len(done.failures)) == ([], 1)

    def test_users_are_found_by_email(self) -> None:
        done = plan(
            [{"email": "a@example.com", "city": "B"}],
            [{"id": "a", "email": "a@example.com"}],
            USER,
            key="email",
        )
        assert len(done.updates) == 1

    def test_repr_of_failures_and_writes_shows_no_personal_data(self) -> None:
        done = plan([ESTER, {**ESTER, "reference_code": "DL-2", "date_of_birth": "31-12-1984"}])
        shown = f"{done!r} {done.creates} {done.failures}"
        assert not any(text in shown for text in ("DL-", "Ester", "example.com", "1984"))


class TestParameters:
    @pytest.mark.parametrize(
        "parameters",
        [
            {"key": "last_name"},
            {"mode": "replace"},
            {"mode": "mirror"},
            {"key_prefix": 1},
            {"max_deletes": True},
            {"max_deletes": -1},
            {"max_deletes": 1.5},
            {"max_deletes": "5"},
            {"max_deletes": float("nan")},
        ],
    )
    def test_invalid_one_is_refused(self, parameters: dict[str, Any]) -> None:
        valid = {"key": "reference_code", "mode": "upsert", "key_prefix": None, "max_deletes": 0.05}
        with pytest.raises(WebcamconsultInputError):
            check_sync(CLIENT, **{**valid, **parameters})

    @pytest.mark.parametrize(
        ("max_deletes", "is_exceeded"), [(4, True), (5, False), (0.04, True), (0.05, False), (0.0, True)]
    )
    def test_max_deletes_is_a_number_or_a_share(self, max_deletes: float, is_exceeded: bool) -> None:
        assert exceeds(max_deletes, SyncPlan(deletes=["id"] * 5, owned=100)) == is_exceeded
