from django.apps import AppConfig


class ComputeConfig(AppConfig):
    name = "hosting.compute"
    verbose_name = "Compute"
