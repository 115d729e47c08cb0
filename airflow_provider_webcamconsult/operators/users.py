"""Operators for users, who are professionals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_webcamconsult.api.resources import USER
from airflow_provider_webcamconsult.api.sync_plan import MAX_DELETES
from airflow_provider_webcamconsult.hooks.webcamconsult import WebcamconsultHook
from airflow_provider_webcamconsult.operators.base import (
    BaseCreateOperator,
    BaseDeleteOperator,
    BaseGetOperator,
    BaseListOperator,
    BaseUpdateOperator,
    check_literal_if_exists,
)
from airflow_provider_webcamconsult.operators.sync import BaseSyncOperator
from airflow_provider_webcamconsult.sync.run import WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from airflow.sdk import XComArg

    from airflow_provider_webcamconsult.api.resources import UntypedAttributes, UserAttributes
    from airflow_provider_webcamconsult.api.sync_plan import SyncMode
    from airflow_provider_webcamconsult.create_result import IfExists
    from airflow_provider_webcamconsult.operators.record_files import FilePath
    from airflow_provider_webcamconsult.version_compat import ObjectStoragePath


class WebcamconsultCreateUserOperator(BaseCreateOperator):
    """
    Create a user (API document, "Create a New User").

    Users are professionals. A retry never creates a second user. The task returns the id of the user.

    :param attributes: attributes to write, with the API's own names (templated), or a callable that takes the
        context and returns the attributes. Omitted attributes are not sent; ``None`` is sent as ``null``.
        Airflow stores and shows personal values as ``***``. The callable is called when the task runs, and
        its result is neither rendered nor stored.
    :param if_exists: what to do if a user with the same ``email`` already exists (templated): ``"create"``
        creates a new user without checking, ``"reuse"`` returns the id of the existing user, ``"update"``
        updates the attributes that differ and returns the id, and ``"fail"`` fails the task.
    :param strict: whether to fail if the service did not store an attribute as sent. By default, this is only
        logged as a warning, but a date, duration or id that was not stored as sent always fails the task.
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = USER
    template_fields: Sequence[str] = ("attributes", "if_exists", "webcamconsult_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"attributes": "json"}

    def __init__(
        self,
        *,
        attributes: UserAttributes
        | UntypedAttributes
        | Callable[[Any], UserAttributes | Mapping[str, object]]
        | XComArg,
        if_exists: IfExists = "create",
        strict: bool = False,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.attributes = attributes
        self.if_exists = if_exists
        check_literal_if_exists(if_exists)
        self.strict = strict
        self.webcamconsult_conn_id = webcamconsult_conn_id


class WebcamconsultUpdateUserOperator(BaseUpdateOperator):
    """
    Update a user (API document, "Update a User").

    Users are professionals. The task returns the id of the user.

    :param user_id: id of the user (templated).
    :param attributes: attributes to write, with the API's own names (templated), or a callable that takes the
        context and returns the attributes. Omitted attributes keep their values; ``None`` clears an
        attribute. Airflow stores and shows personal values as ``***``. The callable is called when the task
        runs, and its result is neither rendered nor stored.
    :param strict: whether to fail if the service did not store an attribute as sent. By default, this is only
        logged as a warning, but a date, duration or id that was not stored as sent always fails the task.
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = USER
    template_fields: Sequence[str] = ("user_id", "attributes", "webcamconsult_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"attributes": "json"}

    def __init__(
        self,
        *,
        user_id: str | XComArg,
        attributes: UserAttributes
        | UntypedAttributes
        | Callable[[Any], UserAttributes | Mapping[str, object]]
        | XComArg,
        strict: bool = False,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.user_id = user_id
        self.attributes = attributes
        self.strict = strict
        self.webcamconsult_conn_id = webcamconsult_conn_id


class WebcamconsultDeleteUserOperator(BaseDeleteOperator):
    """
    Delete a user (API document, "Delete a User").

    Users are professionals. The task returns nothing.

    :param user_id: id of the user (templated).
    :param ignore_if_missing: whether to succeed if the user does not exist. A retry always succeeds in this
        case, because an earlier try may have deleted the user.
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = USER
    template_fields: Sequence[str] = ("user_id", "webcamconsult_conn_id")

    def __init__(
        self,
        *,
        user_id: str | XComArg,
        ignore_if_missing: bool = False,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.user_id = user_id
        self.ignore_if_missing = ignore_if_missing
        self.webcamconsult_conn_id = webcamconsult_conn_id


class WebcamconsultGetUserOperator(BaseGetOperator):
    """
    Get a user (API document, "View a User detail").

    Users are professionals. The task returns a dict.

    :param user_id: id of the user (templated).
    :param fields: names of the attributes to return, and therefore to store in Airflow's database
        (templated). By default, only the attributes that are not personal: ``id`` and ``roles``.
    :param ignore_if_missing: whether to skip the task, instead of failing it, if the user does not exist.
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = USER
    template_fields: Sequence[str] = ("user_id", "fields", "webcamconsult_conn_id")

    def __init__(
        self,
        *,
        user_id: str | XComArg,
        fields: Collection[str] | None = None,
        ignore_if_missing: bool = False,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.user_id = user_id
        self.fields = fields
        self.ignore_if_missing = ignore_if_missing
        self.webcamconsult_conn_id = webcamconsult_conn_id


class WebcamconsultListUsersOperator(BaseListOperator):
    """
    List users of the token's organisation (API document, "List All Users").

    Users are professionals. The task returns a list of dicts. With ``path``, it writes a file and
    returns ``{"path": …, "records": …}`` with the number of records instead.

    :param fields: names of the attributes to return, and therefore to store in Airflow's database
        (templated). By default, only the attributes that are not personal: ``id`` and ``roles``.
    :param where: which users to return: a dict of attribute names, each with a value or a list of values
        (templated), or a callable that takes the context and returns the dict. By default, all users.
    :param path: path of the file to write, as text or as an ``ObjectStoragePath`` (templated). The end of its
        name tells the format: ``.jsonl`` or ``.ndjson`` (JSON Lines), ``.csv``, or ``.parquet`` (needs the
        extra ``parquet``). By default, the task returns the users, which Airflow stores in its database.
    :param pseudonymize: names of the attributes in ``fields`` whose values to replace by keyed digests, which
        are the same in every run (templated). Needs ``pseudonymize_conn_id``.
    :param pseudonymize_conn_id: id of an Airflow connection of any type whose password is the key of the
        digests (templated).
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = USER
    template_fields: Sequence[str] = (
        "fields",
        "where",
        "path",
        "pseudonymize",
        "pseudonymize_conn_id",
        "webcamconsult_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"where": "json"}

    def __init__(
        self,
        *,
        fields: Collection[str] | None = None,
        where: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | XComArg | None = None,
        path: str | ObjectStoragePath | None = None,
        pseudonymize: Collection[str] | None = None,
        pseudonymize_conn_id: str | None = None,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.fields = fields
        self.where = where
        self.path = path
        self.pseudonymize = pseudonymize
        self.pseudonymize_conn_id = pseudonymize_conn_id
        self.webcamconsult_conn_id = webcamconsult_conn_id


class WebcamconsultSyncUsersOperator(BaseSyncOperator):
    """
    Bring all users in line with the rows of another system.

    Users are professionals. All of them are listed once, and only what differs is written. A retry never
    creates a second user. The task returns the counts ``rows``, ``created``, ``updated``, ``unchanged``,
    ``deleted`` and ``failed``, and logs its progress.

    :param rows: path or URL of a CSV or JSON Lines file (templated), on any storage that Airflow's
        ``ObjectStoragePath`` reads, or a callable that takes the context and returns or yields dicts. The
        names are the API's own. Attributes that a row lacks are left alone; ``None`` and an empty cell of a
        CSV file clear an attribute. Airflow stores only the path or the name of the callable.
    :param key: name of the attribute that identifies a user: ``"email"`` (templated).
    :param mode: ``"insert"`` creates users that are missing, ``"update"`` updates those that differ,
        ``"upsert"`` does both, and ``"mirror"`` also deletes those that are in no row (templated).
    :param key_prefix: beginning of the keys to synchronize (templated). Users with
        another key are not touched, and a row with another key is a failure. ``"mirror"`` requires it; ``""``
        means all keys. Users without a key are never deleted.
    :param max_deletes: maximum number of deletes: an int is a number of users, a float a share of those
        with the prefix (templated). If more are due, nothing at all is written. If there are no rows,
        the task fails and writes nothing. If a row fails, nothing is deleted.
    :param max_failures: number of failures to tolerate. A row that fails does not affect the others.
    :param plan_only: whether to write nothing, and only return what a run would do.
    :param errors_path: path or URL of a JSON Lines file for all failures: row number, key, attributes and
        reasons (templated). An existing file is replaced.
    :param ids_path: path or URL of a JSON Lines file for the key and the id of each row (templated). An
        existing file is replaced.
    :param workers: number of threads that send writes, 1 to 10.
    :param max_active_tis_per_dag: maximum number of this task's runs at the same time. Two would create the
        same records twice.
    :param webcamconsult_conn_id: id of the Airflow connection (templated).
    """

    resource = USER
    template_fields: Sequence[str] = (
        "rows",
        "key",
        "mode",
        "key_prefix",
        "max_deletes",
        "errors_path",
        "ids_path",
        "webcamconsult_conn_id",
    )

    def __init__(
        self,
        *,
        rows: FilePath | Callable[[Any], Iterable[UserAttributes | Mapping[str, Any]]] | XComArg,
        key: str = "email",
        mode: SyncMode = "upsert",
        key_prefix: str | None = None,
        max_deletes: float | str = MAX_DELETES,
        max_failures: int = 0,
        plan_only: bool = False,
        errors_path: FilePath | None = None,
        ids_path: FilePath | None = None,
        workers: int = WORKERS,
        max_active_tis_per_dag: int | None = 1,
        webcamconsult_conn_id: str = WebcamconsultHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_active_tis_per_dag=max_active_tis_per_dag, **kwargs)
        self.rows = rows
        self.key = key
        self.mode = mode
        self.key_prefix = key_prefix
        self.max_deletes = max_deletes
        self.max_failures = max_failures
        self.plan_only = plan_only
        self.errors_path = errors_path
        self.ids_path = ids_path
        self.workers = workers
        self.webcamconsult_conn_id = webcamconsult_conn_id
