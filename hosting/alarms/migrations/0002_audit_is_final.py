from django.db import migrations

REFUSE = """
CREATE FUNCTION alarms_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is only ever added to', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER audit_is_final BEFORE UPDATE OR DELETE ON alarms_auditentry
    FOR EACH ROW EXECUTE FUNCTION alarms_refuse_change();
"""
ALLOW = """
DROP TRIGGER audit_is_final ON alarms_auditentry;
DROP FUNCTION alarms_refuse_change();
"""


class Migration(migrations.Migration):
    """What was done stays written down, whatever a program or a person does in Django."""

    dependencies = [("alarms", "0001_alarms")]
    operations = [migrations.RunSQL(REFUSE, ALLOW)]
