"""One signal of the workspace, and how the API shows it at a given instant. Times are UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from syncd.sandbox.bodies import Draft, JsonObject


@dataclass(frozen=True, slots=True)
class Job:
    """One processing run: when it ends, and what will have come of it then."""

    id: str
    started_at: datetime
    ends_at: datetime
    insight_ids: tuple[str, ...] = ()
    error: str | None = None

    def ended(self, now: datetime) -> bool:
        """Whether it is over."""
        return now >= self.ends_at

    def status(self, now: datetime) -> str:
        """The signal's status as far as this job decides it."""
        if not self.ended(now):
            return "processing"
        return "failed" if self.error else "processed"

    def shown(self, now: datetime) -> JsonObject:
        """The `processing` object of a signal."""
        status = self.status(now)
        return {
            "lastJobId": self.id,
            "startedAt": _iso(self.started_at),
            "processedAt": _iso(self.ends_at) if status == "processed" else None,
            "failedAt": _iso(self.ends_at) if status == "failed" else None,
            "lastError": self.error if status == "failed" else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One signal of the workspace. `place` is where it stands in the list; `status` is one set by hand."""

    id: str
    public_id: str
    place: tuple[float, int, str]
    draft: Draft
    received_at: datetime
    created_at: datetime
    updated_at: datetime
    job: Job
    status: str | None = None

    def status_at(self, now: datetime) -> str:
        """What a caller sees it to be."""
        return self.status or self.job.status(now)

    def insights_at(self, now: datetime) -> list[str]:
        """The insights linked to it: the sender's own, and what processing has found."""
        found = self.job.insight_ids if self.job.ended(now) else ()
        return [*self.draft.insight_ids, *found]

    def updated_by(self, now: datetime) -> datetime:
        """When it changed last."""
        return max(self.updated_at, self.job.ends_at) if self.job.ended(now) else self.updated_at

    def shown(self, workspace_id: str, now: datetime) -> JsonObject:
        """The Signal object of the reference."""
        draft, job = self.draft, self.job
        provenance = {
            "providerType": draft.provider_type,
            "evidenceKind": draft.evidence_kind,
            "analysisProfile": draft.analysis_profile,
        }
        return {
            "id": self.id,
            "name": draft.name,
            "publicId": self.public_id,
            "workspaceId": workspace_id,
            "status": self.status_at(now),
            "context": draft.context,
            "signalType": draft.signal_type,
            "processorType": draft.processor_type,
            **provenance,
            "provenance": provenance,
            "sourceFacet": f"{draft.provider_type}:{draft.evidence_kind}",
            "sourceLabel": _words(f"{draft.provider_type} {draft.evidence_kind}"),
            "sourceLinks": list(draft.links),
            "source": draft.source,
            "data": self._data(workspace_id),
            "insightIds": self.insights_at(now),
            "accountIds": list(draft.account_ids),
            "accountId": draft.account_ids[0] if draft.account_ids else None,
            "accountExternalId": draft.account_external_id,
            "externalId": draft.external_id,
            "createdAt": _iso(self.created_at),
            "updatedAt": _iso(self.updated_by(now)),
            "processing": job.shown(now),
        }

    def _data(self, workspace_id: str) -> JsonObject | None:
        if not self.draft.stores_text:
            return self.draft.data
        key = f"signals/{self.draft.processor_type}/{workspace_id}/{self.id}.txt"
        return {"s3Key": key, **(self.draft.data or {}), "uploadedAt": _iso(self.received_at)}


def _iso(moment: datetime) -> str:
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00").removesuffix(".000") + "Z"


def _words(name: str) -> str:
    """`g2 support_ticket` as `G2 Support Ticket`."""
    return name.replace("_", " ").replace("-", " ").title()


def default_name(draft: Draft, at: datetime) -> str:
    """`Review - 3/11/25, 2:30 PM`, as the reference shows it."""
    kind = _words(draft.signal_type or draft.evidence_kind)
    half = "AM" if at.hour < 12 else "PM"
    return f"{kind} - {at.month}/{at.day}/{at:%y}, {at.hour % 12 or 12}:{at:%M} {half}"
