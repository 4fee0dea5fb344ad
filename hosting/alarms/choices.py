from django.db.models import TextChoices


class Severity(TextChoices):
    """Critical wakes a person; warning waits for the morning; info is only for the record."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"
