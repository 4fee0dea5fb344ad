from django.db import migrations

# Table → which rows are the tenant's, and what may be done to them (operations/0004).
OWN = {
    "networks_network": ("tenant_id = bulkhead_tenant()", "SELECT"),
    "networks_segment": ("network_id IN (SELECT uuid FROM networks_network)", "SELECT"),
}


def _secure() -> str:
    return "\n".join(
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;"
        f"CREATE POLICY unconfined ON {table} USING (current_user <> 'bulkhead_tenant');"
        f"CREATE POLICY own ON {table} TO bulkhead_tenant USING ({rows});"
        f"GRANT {may} ON {table} TO bulkhead_tenant;"
        for table, (rows, may) in OWN.items()
    )


def _open() -> str:
    return "\n".join(
        f"REVOKE ALL ON {table} FROM bulkhead_tenant;"
        f"DROP POLICY own ON {table};"
        f"DROP POLICY unconfined ON {table};"
        f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY;"
        for table in OWN
    )


class Migration(migrations.Migration):
    """Networks are given out by workers: a tenant's request only looks at its own."""

    dependencies = [
        ("networks", "0001_networks"),
        ("operations", "0004_row_level_security"),
    ]
    operations = [migrations.RunSQL(_secure(), _open())]
