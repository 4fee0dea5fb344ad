"""What a person reads when everything runs: where to look, how to log in, what to try."""

import json
from collections.abc import Mapping
from typing import Any

from deploy.demo.place import Place

_JSON = "-H 'Content-Type: application/json'"


def welcome(
    place: Place,
    seconds: float,
    *,
    address: str,
    operator: str,
    environment: Mapping[str, str],
    worker: int | None,
) -> str:
    furnished = json.loads(place.kept("furnished") or "{}")
    return f"""
    Bulkhead is ready in {seconds:.1f} s{_containers(furnished)}

      tenants              {address}/
                           harbor: ada / {place.secret("ada-password")}
                           mill:   ben / {place.secret("ben-password")}
      operators            {address}/console/
                           {operator} / {place.secret("operator-password")}

    To try

      deploy a container   on the tenant's page, or by program (the token is harbor's):
{_deploy(address, furnished)}
      drain a host         on a host's page of the operators' console: its containers move, alive
{_lab(place, environment, address, furnished)}\
      kill a worker        kill -9 {worker}
                           It comes back within a second, and nothing is lost: what it was doing
                           goes on where it stood. Its number is told at each start.

    Kept in {place.folder} (`make demo-reset` forgets it). Ctrl-C stops everything.
"""


def _containers(furnished: Mapping[str, Any]) -> str:
    text = f", with {furnished['running']} containers running" if furnished.get("running") else ""
    if furnished.get("missing"):
        text += f" (not yet: {', '.join(furnished['missing'])})"
    return text


def _deploy(address: str, furnished: Mapping[str, Any]) -> str:
    body = json.dumps({"name": "hello", "image": furnished["image"], "env": {"GREETING": "hello"}})
    return f"""\
                           curl -H 'Authorization: Bearer {furnished["token"]}' {_JSON} \\
                             -d '{body}' \\
                             {address}/api/v1/tenants/harbor/containers
"""


def _lab(
    place: Place, environment: Mapping[str, str], address: str, furnished: Mapping[str, Any]
) -> str:
    """What can be done with a pool that is ours; nothing about another."""
    if "LAB_CONTROL" not in environment:
        return ""
    control, host = environment["LAB_CONTROL"], furnished.get("host") or "h3"
    return f"""\
      switch a host off    curl {_JSON} -d '{{"state": "off"}}' {control}/hosts/{host}/power
                           After half a minute of silence {host} is suspected and fenced by its BMC;
                           after a minute its containers run elsewhere. Watch it on
                           {address}/console/
                           "on" powers it again; the console takes it back into service.
      ask the pool         {environment["XAPI_URL"]}, root / {place.secret("lab-password")}
"""
