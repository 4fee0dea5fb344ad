from django.db import migrations

# Roles belong to the whole server, so another database of ours may have made it.
ROLE = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bulkhead_tenant') THEN
        CREATE ROLE bulkhead_tenant NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'the role bulkhead_tenant is missing, and this login may not make it'
        USING HINT = 'As a superuser: CREATE ROLE bulkhead_tenant NOLOGIN; GRANT bulkhead_tenant TO <this login>;';
END $$;
DO $$ BEGIN
    IF NOT pg_has_role(current_user, 'bulkhead_tenant', 'MEMBER') THEN
        EXECUTE format('GRANT bulkhead_tenant TO %I', current_user);
    END IF;
END $$;
CREATE FUNCTION bulkhead_tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS
    $$ SELECT nullif(current_setting('bulkhead.tenant', true), '')::uuid $$;
"""

# Table → which rows are the tenant's, and what may be done to them.
OWN = {
    "tenants_tenant": ("uuid = bulkhead_tenant()", "SELECT, UPDATE"),
    "tenants_membership": ("tenant_id = bulkhead_tenant()", "SELECT, INSERT, UPDATE, DELETE"),
    "tenants_apitoken": ("tenant_id = bulkhead_tenant()", "SELECT, INSERT, UPDATE"),
    "tenants_quota": ("tenant_id = bulkhead_tenant()", "SELECT, UPDATE"),
    "tenants_user": (
        "id IN (SELECT user_id FROM tenants_membership WHERE tenant_id = bulkhead_tenant())"
        # Who made a token and has left is still named beside it.
        " OR id IN (SELECT created_by_id FROM tenants_apitoken WHERE tenant_id = bulkhead_tenant())",
        "SELECT",
    ),
    "compute_container": ("tenant_id = bulkhead_tenant()", "SELECT, INSERT, UPDATE"),
    "compute_instance": (
        "container_id IN (SELECT uuid FROM compute_container WHERE tenant_id = bulkhead_tenant())",
        "SELECT, INSERT, UPDATE",
    ),
    "catalog_image": ("tenant_id = bulkhead_tenant()", "SELECT, INSERT, UPDATE"),
    "catalog_imageversion": ("image_id IN (SELECT uuid FROM catalog_image)", "SELECT"),
    "operations_operation": (
        "instance_id IN (SELECT uuid FROM compute_instance)"
        " OR image_id IN (SELECT uuid FROM catalog_image WHERE tenant_id = bulkhead_tenant())",
        "SELECT, INSERT, UPDATE",
    ),
    "operations_operationevent": (
        "operation_id IN (SELECT uuid FROM operations_operation)",
        "SELECT, INSERT",
    ),
    "fleet_virtualmachine": (
        "instance_uuid IN (SELECT uuid FROM compute_instance)",
        "SELECT",
    ),
}
# What is everybody's may be looked at: their images, and how the import of those goes.
EVERYBODYS = {
    "catalog_image": "tenant_id IS NULL",
    "operations_operation": "image_id IN (SELECT uuid FROM catalog_image WHERE tenant_id IS NULL)",
}
# Not a tenant's, and needed while its requests are served.
SHARED = {
    "fleet_pool": "SELECT",
    "fleet_host": "SELECT",
    "catalog_goldendisk": "SELECT",
    # Keyed by its caller, its body sealed.
    "api_answer": "SELECT, INSERT, UPDATE, DELETE",
    "django_session": "SELECT, INSERT, UPDATE, DELETE",
}


def _secure() -> str:
    lines = []
    for table, (rows, may) in OWN.items():
        lines += [
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;",
            # Whoever is not confined sees all, owner of the table or not.
            f"CREATE POLICY unconfined ON {table} USING (current_user <> 'bulkhead_tenant');",
            f"CREATE POLICY own ON {table} TO bulkhead_tenant USING ({rows});",
            f"GRANT {may} ON {table} TO bulkhead_tenant;",
        ]
    lines += [
        f"CREATE POLICY everybodys ON {table} FOR SELECT TO bulkhead_tenant USING ({rows});"
        for table, rows in EVERYBODYS.items()
    ]
    lines += [f"GRANT {may} ON {table} TO bulkhead_tenant;" for table, may in SHARED.items()]
    lines.append("GRANT USAGE ON SCHEMA public TO bulkhead_tenant;")
    lines.append("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO bulkhead_tenant;")
    return "\n".join(lines)


def _open() -> str:
    lines = [f"DROP POLICY everybodys ON {table};" for table in EVERYBODYS]
    for table in OWN:
        lines += [
            f"DROP POLICY own ON {table};",
            f"DROP POLICY unconfined ON {table};",
            f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY;",
        ]
    lines += [f"REVOKE ALL ON {table} FROM bulkhead_tenant;" for table in [*OWN, *SHARED]]
    lines.append("REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM bulkhead_tenant;")
    lines.append("REVOKE ALL ON SCHEMA public FROM bulkhead_tenant;")
    return "\n".join(lines)


class Migration(migrations.Migration):
    """The role that a tenant's requests act as, and which rows it sees. The role itself stays."""

    dependencies = [
        ("operations", "0003_instances_and_images"),
        ("api", "0001_answers"),
        ("catalog", "0001_catalog"),
        ("compute", "0001_compute"),
        ("fleet", "0001_fleet"),
        ("sessions", "0001_initial"),
        ("tenants", "0001_tenants"),
    ]
    operations = [
        migrations.RunSQL(ROLE, "DROP FUNCTION bulkhead_tenant();"),
        migrations.RunSQL(_secure(), _open()),
    ]
