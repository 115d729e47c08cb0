"""Tell OpenLineage what a sync read and wrote: datasets, counts and names, but no row and no key."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_webcamconsult.operators.record_files import FilePath

#: Name of the facet with the counts.
COUNTS_FACET = "webcamconsult_sync"


def file_dataset(path: FilePath) -> tuple[str, str]:
    """
    Return the namespace and the name of a file, as OpenLineage's naming conventions have them.

    :param path: path or URL of the file. A connection id or password in it is left out.
    """
    text = str(path)
    if "://" not in text:
        return "file", os.path.abspath(text)
    url = urlsplit(text)
    if url.scheme == "file":
        return "file", url.path
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}", url.path.lstrip("/")


def sync_lineage(
    records: tuple[str, str],
    *,
    source: FilePath | None,
    reports: Collection[FilePath],
    attributes: Collection[str],
    counts: Mapping[str, int],
    plan_only: bool,
) -> OperatorLineage[Any, Any]:
    """
    Return the lineage of a sync. Only for use where Airflow's OpenLineage provider is installed.

    :param records: namespace and name of the records at the service.
    :param source: path or URL of the file with the rows; None for a callable, which is no dataset.
    :param reports: paths or URLs of the files with failures and ids.
    :param attributes: names of the attributes that the rows have.
    :param counts: what the sync did; empty if it failed before that.
    :param plan_only: whether it wrote nothing to the service.
    """
    from airflow.providers.common.compat.openlineage.facet import (
        Dataset,
        OutputDataset,
        OutputStatisticsOutputDatasetFacet,
        RunFacet,
        SchemaDatasetFacet,
        SchemaDatasetFacetFields,
    )
    from airflow.providers.openlineage.extractors import OperatorLineage

    facets: dict[str, Any] = {}
    if attributes:
        fields = [SchemaDatasetFacetFields(name=name) for name in sorted(attributes)]
        facets["schema"] = SchemaDatasetFacet(fields=fields)
    inputs = [] if source is None else [Dataset(*file_dataset(source), facets=facets)]
    outputs = [Dataset(*file_dataset(path)) for path in reports]
    if plan_only:
        inputs.append(Dataset(*records, facets=facets))
    else:
        written: dict[str, Any] = {}
        if counts:
            rows = counts["created"] + counts["updated"]
            written["outputStatistics"] = OutputStatisticsOutputDatasetFacet(rowCount=rows)
        outputs.append(OutputDataset(*records, facets=facets, outputFacets=written))
    run_facets = {}
    if counts:
        run_facets[COUNTS_FACET] = RunFacet().with_additional_properties(**counts, plan_only=plan_only)
    return OperatorLineage(inputs=inputs, outputs=outputs, run_facets=run_facets)
