from django.apps import AppConfig


class FleetConfig(AppConfig):
    name = "hosting.fleet"
    verbose_name = "Fleet"
