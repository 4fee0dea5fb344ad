from django.db import migrations

REFUSE = """
CREATE FUNCTION operations_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is only ever added to', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER journal_is_final BEFORE UPDATE ON operations_operationevent
    FOR EACH ROW EXECUTE FUNCTION operations_refuse_change();
"""
ALLOW = """
DROP TRIGGER journal_is_final ON operations_operationevent;
DROP FUNCTION operations_refuse_change();
"""


class Migration(migrations.Migration):
    """A line of the journal is never rewritten. Old ones may be dropped with their operation."""

    dependencies = [("operations", "0001_operations")]
    operations = [migrations.RunSQL(REFUSE, ALLOW)]
