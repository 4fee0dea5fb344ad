from django.apps import AppConfig


class WarmConfig(AppConfig):
    name = "hosting.warm"
    verbose_name = "Warm starts"
