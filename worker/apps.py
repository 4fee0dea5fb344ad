from django.apps import AppConfig


class WorkerConfig(AppConfig):
    name = "worker"
    verbose_name = "Worker"

    def ready(self) -> None:
        """Register every workflow; a workflow that names a missing step keeps the program from starting."""
        import worker.workflows  # noqa: F401  (models must be loaded before)
        from worker.workflow import Workflow

        for workflow in Workflow.registry.values():
            workflow.check()
