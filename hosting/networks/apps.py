from django.apps import AppConfig


class NetworksConfig(AppConfig):
    name = "hosting.networks"
    verbose_name = "Networks"
