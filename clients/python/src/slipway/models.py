"""What is sent and what comes back, as docs/deploying.md, docs/collections.md and /openapi.json describe it.

Requests leave out what is None, so that the service's defaults hold; what is wrong in them the service says, as a
ConfigurationError. In answers, a field that the service left out is None; fields that this version does not know are kept
as attributes. Statuses, states and kinds are plain strings. Ids that are always UUIDs are given as `uuid.UUID`; ids that a
client may have chosen (of tasks, models) are strings.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from . import errors

T = TypeVar("T")


class Page(list[T], Generic[T]):
    """A list of some of the things there are; `total_count` says how many there are (None where nobody counts)."""

    total_count: int | None = None


class Request(BaseModel):
    # A field that this version does not know goes out all the same: the service is the judge of it.
    model_config = ConfigDict(extra="allow", protected_namespaces=())

    def body(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True)


class Answer(BaseModel):
    model_config = ConfigDict(extra="allow", protected_namespaces=())


# ---- deployments


class ResourceConfig(Request):
    """What each replica is given."""

    cpu: float | None = None  # cores
    memory: int | str | None = None  # bytes, or a size like "2Gi"
    gpu: int | None = None  # whole accelerators; recorded


class DeploymentTargetConfig(Request):
    type: str  # "api_service" or "batch_inference_job"
    target: str | None = None  # "local"
    serving_image: str | None = None
    replicas: int | None = None  # 1
    port: int | None = None
    strategy: str | None = None  # "rolling" or "recreate"
    env: dict[str, str] | None = None
    # of a batch job (docs/batch-jobs.md):
    input_uri: str | None = None
    output_uri: str | None = None
    format: str | None = None  # "ndjson" or "csv"
    batch_size: int | None = None
    part_rows: int | None = None
    on_error: str | None = None  # "fail" or "skip"
    priority: str | None = None  # "idle" or "normal"
    id_field: str | None = None
    input_field: str | None = None
    output_field: str | None = None
    inputs: dict[str, str] | None = None
    outputs: dict[str, str] | None = None


class DeploymentRequest(Request):
    model_uri: str
    deployment_name: str
    deployment_target_config: DeploymentTargetConfig
    resource_allocation: ResourceConfig | None = None
    tags: dict[str, Any] | None = None
    recipe: dict[str, Any] | None = None


class ModelConfig(Request):
    """A DeploymentRequest without a name, all of it optional: how a model that is named by its id is deployed."""

    model_uri: str | None = None
    deployment_target_config: DeploymentTargetConfig | None = None
    resource_allocation: ResourceConfig | None = None
    tags: dict[str, Any] | None = None
    recipe: dict[str, Any] | None = None


class ErrorRecord(Answer):
    """An error that is kept with a task or a deployment."""

    error: str  # its class, like "ModelRegistryError"
    message: str
    causes: list[str] = Field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.error}: {self.message}"

    def exception(self) -> errors.SlipwayError:
        """The same as an exception that can be raised."""
        return errors.class_of(self.error, 500)(self.message, causes=self.causes)


class Progress(Answer):
    done: int = 0
    total: int = 0  # 0: not known yet
    rate: float = 0.0  # a second
    failed: int = 0
    step: str | None = None

    @property
    def fraction(self) -> float | None:
        """0 to 1; None while the total is not known."""
        return self.done / self.total if self.total else None


class DeploymentStatusResponse(Answer):
    deployment_id: UUID
    deployment_name: str
    model_uri: str  # of the wanted revision, as it was given
    status: str  # creating active updating failed deleting inactive delete_failed
    message: str | None = None
    error: ErrorRecord | None = None
    endpoint_url: str | None = None
    deployed_model_version: str | None = None  # what answers: the resolved, immutable URI
    revision: int = 0
    serving_revision: int | None = None
    replicas: int = 1
    task_id: str | None = None
    progress: Progress | None = None
    tags: dict[str, Any] = Field(default_factory=dict)
    created_at: datetime
    updated_at: datetime


class Revision(Answer):
    revision: int
    model_uri: str
    deployed_model_version: str | None = None
    package_digest: str | None = None
    encoder_digest: str | None = None
    image_reference: str | None = None  # where a container registry has it as an image
    image_digest: str | None = None
    deployment_target_config: dict[str, Any] | None = None
    recipe: dict[str, Any] | None = None
    facts: dict[str, Any] | None = None
    served: bool = False
    created_at: datetime


class Event(Answer):
    event_id: int
    at: datetime
    kind: str
    message: str | None = None
    task_id: str | None = None
    data: Any = None
    deployment_id: str | None = None
    deployment: str | None = None


class LogLine(Answer):
    replica_id: str
    revision: int
    line: str
    at: datetime | None = None
    gap: bool = False  # lines before it were lost
    position: str | None = None


# ---- tasks


class Task(Answer):
    task_id: str
    kind: str
    status: str  # pending processing done canceled failed refused
    step: str | None = None
    progress: Progress = Field(default_factory=Progress)
    parent_id: str | None = None
    children: list[str] = Field(default_factory=list)
    deployment_id: UUID | None = None
    collection: str | None = None
    attempts: int = 0
    deadline: datetime | None = None
    detail: str | None = None
    error: ErrorRecord | None = None
    metadata: dict[str, Any] | None = None
    created_at: datetime
    updated_at: datetime

    @property
    def is_finished(self) -> bool:
        return self.status not in ("pending", "processing")

    @property
    def reason(self) -> str:
        """Why it ended as it did: the service's own words."""
        return self.error.message if self.error else self.detail or self.status


class ModelTask(Answer):
    """A task by which a model is deployed or deleted by its id."""

    task_id: str
    status: str
    created_at: datetime
    updated_at: datetime
    embedding_model_id: str | None = None
    deployed_model_id: str | None = None  # the same, once the task is done
    metadata: dict[str, Any] | None = None
    detail: str | None = None


class FailedItem(Answer):
    id: str
    stage: str  # inference upsert other
    detail: str
    line: int | None = None  # of a batch job's input


class ReindexTask(ModelTask):
    """A re-index by model ids."""

    collection: str | None = None
    progress: float = 0.0  # 0 to 1
    count: int = 0
    total: int = 0
    children: list[str] = Field(default_factory=list)
    failed_items: list[FailedItem] = Field(default_factory=list)


# ---- collections


class Index(Answer):
    index_id: str
    set: str  # documents queries
    deployment: str
    revision: int
    digest: str
    dimension: int
    state: str  # filling ready blue rollback failed deleting
    applied_seq: int = 0
    durable_seq: int = 0
    head_seq: int = 0
    rows: int = 0
    failed: int = 0
    rate: float = 0.0
    detail: str | None = None


class Collection(Answer):
    collection_id: UUID
    name: str
    state: str
    deployment: str | None = None
    metric: str = "cosine"
    keep_queries: bool = False
    quantized: bool = False
    documents: int | None = None
    blue: Index | None = None
    rollback: Index | None = None
    created_at: datetime


class MinimumOverlap(Request):
    k: int
    at_least: float


class ReindexRequest(Request):
    destination: str | DeploymentRequest  # a deployment by name or id, or one that is to be made
    blue_switch: bool | None = None  # True
    rollback_window: float | None = None  # seconds
    wait_on_conflict: bool | None = None  # False
    max_failed: float | None = None  # documents that may fail; below 1: a share of them
    delete_source: bool | None = None  # True
    min_overlap: MinimumOverlap | None = None
    task_id: str | None = None
    parent_id: str | None = None


# ---- documents and searches


class DocumentWrite(Request):
    """One of many writes; with `delete`, the document of that id goes."""

    id: str
    text: str | None = None
    payload: dict[str, Any] | None = None
    delete: bool | None = None


class Write(Answer):
    """What a write came to. It is in the log and on the disk, whatever `indexed` says."""

    id: str
    seq: int
    indexed: bool | None = None  # asked to wait: searches see it; False: the model refused the text, and `detail` says why
    detail: str | None = None


class LineError(Answer):
    line: int  # from 1
    id: str | None = None
    detail: str


class Bulk(Answer):
    seq: int = 0
    accepted: int = 0
    rejected: int = 0
    errors: list[LineError] = Field(default_factory=list)
    indexed: bool | None = None
    detail: str | None = None


class Document(Answer):
    id: str
    text: str
    payload: dict[str, Any] = Field(default_factory=dict)
    seq: int
    updated_at: datetime | None = None


class Hit(Answer):
    id: str
    score: float
    payload: dict[str, Any] | None = None
    vector: list[float] | None = None


class Encoder(Answer):
    deployment: str
    revision: int
    digest: str


class Hits(Answer):
    hits: list[Hit] = Field(default_factory=list)
    encoder: Encoder
    applied_seq: int


# ---- packages, tokens, processes, inference


class Package(Answer):
    """A model as it was fetched, uploaded or imported, addressed by its digest."""

    package_uri: str  # what deploys it: "package:sha256:…"
    digest: str | None = None
    size_bytes: int = 0
    files: int = 0
    source_uri: str | None = None
    resolved_uri: str | None = None
    pinned_by: list[str] = Field(default_factory=list)
    created_at: datetime | None = None
    used_at: datetime | None = None


class PackageFile(Answer):
    path: str
    size_bytes: int


class PackageDetails(Package):
    recipe: dict[str, Any] | None = None
    facts: dict[str, Any] | None = None
    manifest_digest: str | None = None
    layer_digest: str | None = None
    manifest: dict[str, Any] | None = None
    contents: list[PackageFile] = Field(default_factory=list)


class PackagePruned(Answer):
    digest: str
    size_bytes: int = 0


class PackagesPruned(Answer):
    removed: list[PackagePruned] = Field(default_factory=list)
    size_bytes: int = 0
    dry_run: bool = False


class Token(Answer):
    token_id: UUID
    name: str
    role: str  # admin deploy infer read
    deployments: list[str] | None = None
    collections: list[str] | None = None
    rate: float | None = None
    burst: int | None = None
    created_at: datetime
    revoked_at: datetime | None = None
    detail: str | None = None
    token: str | None = None  # the secret; only the answer that makes it has it


class Process(Answer):
    role: str
    pid: int
    since: datetime
    restarts: int = 0
    memory_bytes: int = 0
    deployment: str | None = None
    revision: int | None = None


class Upgrade(Answer):
    state: str  # none checking running done failed
    version: str
    running: str
    program: str | None = None
    reason: str | None = None


class Embeddings(Answer):
    """One vector a text, in their order."""

    model: str
    vectors: list[list[float]]
    prompt_tokens: int = 0
    truncated_inputs: int = 0
