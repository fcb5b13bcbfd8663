"""
Let SkyPilot itself load and plan a task, without any cloud: `plan.py FILE`.

Runs in an environment with SkyPilot, and in its own home folder. The catalog, which
SkyPilot downloads else, has two machines; that a cloud is enabled is written where
`sky check` writes it.
"""

import json
import os
import sys
from pathlib import Path

TABLES = {
    "common/accelerators.csv": 'AcceleratorName,Clouds\nA100,"[""AWS""]"\n',
    "common/metadata.csv": "GPU,Manufacturer,MemoryGB\nA100,NVIDIA,40\n",
    "aws/vms.csv": (
        "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,"
        "Region,AvailabilityZone,Arch\n"
        'p4d.24xlarge,A100,8,96,1152,"{""Gpus"": [{""Name"": ""A100""}]}",32.77,10.0,'
        "us-east-1,us-east-1a,x86_64\n"
        "m6i.xlarge,,,4,16,,0.19,0.06,us-east-1,us-east-1a,x86_64\n"
    ),
    "aws/images.csv": (
        "Tag,Region,OS,OSVersion,ImageId,CreationDate,BaseImageId\n"
        "skypilot:custom-gpu-ubuntu-2204,us-east-1,ubuntu,22.04,ami-1,20240101,x\n"
    ),
    "aws/instance_quota_mapping.csv": "InstanceType,OnDemandInstanceCode,SpotInstanceCode\n",
}


def prepare():
    """Write the catalog where this version of SkyPilot looks for it."""
    from sky.skylet import constants

    root = Path.home() / ".sky" / "catalogs" / constants.CATALOG_SCHEMA_VERSION
    for name, text in TABLES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def enable(cloud):
    from sky import check, global_user_state
    from sky.clouds import CloudCapability

    for capability in CloudCapability:
        global_user_state.set_enabled_clouds([cloud], capability, "default")
    allowed = check._get_workspace_allowed_clouds("default")
    global_user_state.set_allowed_clouds(allowed, "default")


def plan(path):
    import sky
    import yaml
    from sky import dag, optimizer
    from sky.data import mounting_utils

    with dag.Dag() as graph:
        config = yaml.safe_load(Path(path).read_text())
        # As `sky jobs launch --secret NAME` does; the registry's are not in the file.
        names = ("WANDB_API_KEY", "SAMERUN_REGISTRY_USER", "SAMERUN_REGISTRY_PASSWORD")
        given = [(name, "not-a-secret") for name in names]
        task = sky.Task.from_yaml_config(config, secrets_overrides=given)
    optimizer.Optimizer.optimize(graph, quiet=True)
    best = task.best_resources
    return {
        "name": task.name,
        "nodes": task.num_nodes,
        "instance": best.instance_type,
        "spot": best.use_spot,
        "recovery": best.job_recovery,
        "mounts": {path: str(s.mode.value) for path, s in task.storage_mounts.items()},
        "secrets": sorted(task.secrets),
        "cached": mounting_utils.get_mount_cached_cmd("", "profile", "bucket", "/place"),
    }


if __name__ == "__main__":
    os.environ["SKYPILOT_DISABLE_USAGE_COLLECTION"] = "1"
    prepare()
    enable("AWS")
    print(json.dumps(plan(sys.argv[1])))
