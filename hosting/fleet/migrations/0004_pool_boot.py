from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("fleet", "0003_pv_drivers"),
    ]

    operations = [
        migrations.AddField(
            model_name="pool",
            name="boot_args",
            field=models.CharField(
                blank=True, help_text="The kernel's command line.", max_length=1000
            ),
        ),
        migrations.AddField(
            model_name="pool",
            name="boot_kernel",
            field=models.CharField(
                blank=True, help_text="Of a direct boot: its path on every host.", max_length=255
            ),
        ),
        migrations.AddField(
            model_name="pool",
            name="boot_mode",
            field=models.CharField(
                choices=[
                    ("bios", "from disk, by BIOS"),
                    ("uefi", "from disk, by UEFI"),
                    ("pvh", "a host's kernel, as PVH"),
                    ("pv", "a host's kernel, as PV"),
                ],
                default="bios",
                max_length=4,
            ),
        ),
        migrations.AddField(
            model_name="pool",
            name="boot_ramdisk",
            field=models.CharField(blank=True, max_length=255),
        ),
        migrations.AddConstraint(
            model_name="pool",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("boot_mode__in", ("pvh", "pv")),
                        models.Q(("boot_kernel", ""), _negated=True),
                    ),
                    models.Q(
                        ("boot_args", ""),
                        ("boot_kernel", ""),
                        ("boot_mode__in", ("bios", "uefi")),
                        ("boot_ramdisk", ""),
                    ),
                    _connector="OR",
                ),
                name="pool_has_a_kernel_to_boot_directly",
            ),
        ),
    ]
