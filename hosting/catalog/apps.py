from django.apps import AppConfig


class CatalogConfig(AppConfig):
    name = "hosting.catalog"
    verbose_name = "Catalogue"
