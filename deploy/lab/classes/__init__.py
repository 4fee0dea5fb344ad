"""What each class of the datamodel does beyond the generic: one module a class or family.

Importing this package registers every message with a meaning of its own.
"""

from deploy.lab.classes import access as _access  # noqa: F401
from deploy.lab.classes import blob as _blob  # noqa: F401
from deploy.lab.classes import bond as _bond  # noqa: F401
from deploy.lab.classes import certificate as _certificate  # noqa: F401
from deploy.lab.classes import console as _console  # noqa: F401
from deploy.lab.classes import data_sources as _data_sources  # noqa: F401
from deploy.lab.classes import event as _event  # noqa: F401
from deploy.lab.classes import host as _host  # noqa: F401
from deploy.lab.classes import host_operations as _host_operations  # noqa: F401
from deploy.lab.classes import host_power as _host_power  # noqa: F401
from deploy.lab.classes import host_settings as _host_settings  # noqa: F401
from deploy.lab.classes import message as _message  # noqa: F401
from deploy.lab.classes import network as _network  # noqa: F401
from deploy.lab.classes import passthrough as _passthrough  # noqa: F401
from deploy.lab.classes import pbd as _pbd  # noqa: F401
from deploy.lab.classes import pif as _pif  # noqa: F401
from deploy.lab.classes import pool as _pool  # noqa: F401
from deploy.lab.classes import pool_ha as _pool_ha  # noqa: F401
from deploy.lab.classes import pool_settings as _pool_settings  # noqa: F401
from deploy.lab.classes import secret as _secret  # noqa: F401
from deploy.lab.classes import sr as _sr  # noqa: F401
from deploy.lab.classes import task as _task  # noqa: F401
from deploy.lab.classes import tunnel as _tunnel  # noqa: F401
from deploy.lab.classes import vbd as _vbd  # noqa: F401
from deploy.lab.classes import vdi as _vdi  # noqa: F401
from deploy.lab.classes import vdi_copies as _vdi_copies  # noqa: F401
from deploy.lab.classes import vdi_fields as _vdi_fields  # noqa: F401
from deploy.lab.classes import vif as _vif  # noqa: F401
from deploy.lab.classes import vlan as _vlan  # noqa: F401
from deploy.lab.classes import vm_appliance as _vm_appliance  # noqa: F401
from deploy.lab.classes import vm_checkpoint as _vm_checkpoint  # noqa: F401
from deploy.lab.classes import vm_clone as _vm_clone  # noqa: F401
from deploy.lab.classes import vm_create as _vm_create  # noqa: F401
from deploy.lab.classes import vm_fields as _vm_fields  # noqa: F401
from deploy.lab.classes import vm_guest as _vm_guest  # noqa: F401
from deploy.lab.classes import vm_lifecycle as _vm_lifecycle  # noqa: F401
from deploy.lab.classes import vm_memory as _vm_memory  # noqa: F401
from deploy.lab.classes import vm_migrate as _vm_migrate  # noqa: F401
from deploy.lab.classes import vm_migrate_send as _vm_migrate_send  # noqa: F401
from deploy.lab.classes import vm_power as _vm_power  # noqa: F401
from deploy.lab.classes import vm_provision as _vm_provision  # noqa: F401
from deploy.lab.classes import vm_reset as _vm_reset  # noqa: F401
from deploy.lab.classes import vm_snapshot as _vm_snapshot  # noqa: F401
from deploy.lab.classes import vm_suspend as _vm_suspend  # noqa: F401
from deploy.lab.classes import vtpm as _vtpm  # noqa: F401
