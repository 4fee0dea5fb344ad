from django.apps import AppConfig


class AlarmsConfig(AppConfig):
    name = "hosting.alarms"
    verbose_name = "Alarms"
