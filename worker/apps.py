from django.apps import AppConfig


class WorkerConfig(AppConfig):
    name = "worker"
    verbose_name = "Worker"

    def ready(self) -> None:
        """Register every workflow. One that names a missing step keeps the program from starting, and so
        do mirrors and a proxy that make no sense.
        """
        import worker.workflows  # noqa: F401  (models must be loaded before)
        from worker.images.ways import mirrors_by_settings, proxy_by_settings
        from worker.workflow import Workflow

        for workflow in Workflow.registry.values():
            workflow.check()
        mirrors_by_settings()
        proxy_by_settings()
