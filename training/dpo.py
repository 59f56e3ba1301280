"""Direct preference optimisation with TRL's DPOTrainer (S11-R20). The reference is the base model, or the adapter turned off.

TRL loads the reference a second time by the model's name: it is on the disk.
"""

from __future__ import annotations

from trl import DPOTrainer  # pyright: ignore[reportPrivateImportUsage] - its public door

from training.findings import Finding
from training.trl_trainer import Job, TrlMethod


def moving_reference(job: Job) -> list[Finding]:
    """A reference that moves with the policy is in no checkpoint: a resumed run would compare with another one."""
    if not (job.get("arguments") or {}).get("sync_ref_model"):
        return []
    fact = "moves the reference model, which no checkpoint holds: a resumed run would go on with another one"
    return [Finding("error", "sync_ref_model", fact, "remove sync_ref_model")]


METHOD = TrlMethod(DPOTrainer, checks=(moving_reference,))
check, build, train = METHOD.check, METHOD.build, METHOD.train
