from django.apps.registry import Apps
from django.db import migrations, models

IS_A_VM = "blank_is_a_vm_once_ready"
# What containers have whose owners said nothing of their disks.
DISK_BYTES = 2**30


def retire_those_without_disks(apps: Apps, schema_editor: object) -> None:
    """One that an instance is taking just now makes the constraint fail: let such starts end first."""
    idle = apps.get_model("warm", "Blank").objects.filter(state__in=["preparing", "ready"])
    idle.update(state="retired")


class Migration(migrations.Migration):
    dependencies = [
        ("compute", "0003_addresses"),
        ("fleet", "0006_blanks"),
        ("warm", "0001_warm"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="warmpolicy",
            options={
                "ordering": ["vcpus", "memory_bytes", "disk_bytes"],
                "verbose_name_plural": "warm policies",
            },
        ),
        migrations.RemoveConstraint(model_name="blank", name="blank_has_sizes"),
        migrations.RemoveConstraint(model_name="blank", name=IS_A_VM),
        migrations.RemoveConstraint(model_name="warmpolicy", name="one_warm_policy_per_size"),
        migrations.RemoveConstraint(model_name="warmpolicy", name="warm_policy_has_sizes"),
        migrations.AddField(
            model_name="blank",
            name="disk_bytes",
            field=models.PositiveBigIntegerField(default=DISK_BYTES),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="blank",
            name="disk_uuid",
            field=models.UUIDField(help_text="Its scratch disk, as XAPI named it.", null=True),
        ),
        migrations.AddField(
            model_name="blank",
            name="mac",
            field=models.CharField(
                blank=True,
                help_text="Of its interface, and of who takes it. Empty: it has none.",
                max_length=17,
            ),
        ),
        migrations.AddField(model_name="blank", name="sr_uuid", field=models.UUIDField(null=True)),
        migrations.AddField(
            model_name="warmpolicy",
            name="disk_bytes",
            field=models.PositiveBigIntegerField(default=DISK_BYTES),
            preserve_default=False,
        ),
        migrations.RunPython(retire_those_without_disks, migrations.RunPython.noop),
        migrations.AddConstraint(
            model_name="blank",
            constraint=models.CheckConstraint(
                name="blank_has_sizes",
                condition=models.Q(vcpus__gt=0, memory_bytes__gt=0, disk_bytes__gt=0),
            ),
        ),
        migrations.AddConstraint(
            model_name="blank",
            constraint=models.CheckConstraint(
                name=IS_A_VM,
                condition=~models.Q(state__in=["ready", "taken"])
                | models.Q(vm_uuid__isnull=False, disk_uuid__isnull=False, ready_at__isnull=False),
            ),
        ),
        migrations.AddConstraint(
            model_name="warmpolicy",
            constraint=models.UniqueConstraint(
                fields=["pool", "vcpus", "memory_bytes", "disk_bytes"],
                name="one_warm_policy_per_size",
            ),
        ),
        migrations.AddConstraint(
            model_name="warmpolicy",
            constraint=models.CheckConstraint(
                name="warm_policy_has_sizes",
                condition=models.Q(vcpus__gt=0, memory_bytes__gt=0, disk_bytes__gt=0, count__gt=0),
            ),
        ),
    ]
