# gpu.bash: stand-ins for NVIDIA's tools: a hook where dockerd looks for it, and a device with a CDI name.
# shellcheck shell=bash
# With tools in its PATH the hook finds init and the root of the container, and copies files there before the pivot.
mkdir -p /run/world/tools /run/cdi
echo 'a driver of the host' >/run/world/driver
cat >/run/world/tools/nvidia-container-runtime-hook <<'END'
#!/bin/sh
set -e
field() { python3 -c "import json, sys; print(json.load(sys.stdin)$1)"; }
state=$(cat)
cd "$(echo "$state" | field '["bundle"]')"
root=$(realpath "$(field '["root"]["path"]' <config.json)")
case $1 in
    # In the container's namespaces.
    createContainer) ln -s driver "$root/usr/lib/driver.1" ;;
    *)
        nsenter -t "$(echo "$state" | field '["pid"]')" -m -- sh -ec "
            mkdir -p $root/usr/lib
            touch $root/usr/lib/driver
            mount --bind -o ro /run/world/driver $root/usr/lib/driver
            echo $1 >$root/etc/hooked"
        ;;
esac
END
chmod 755 /run/world/tools/nvidia-container-runtime-hook
cat >/run/cdi/gpu.json <<'END'
{
    "cdiVersion": "0.5.0",
    "kind": "brig.test/gpu",
    "devices": [{"name": "all", "containerEdits": {"deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/full"}]}}],
    "containerEdits": {
        "env": ["GPU=all"],
        "mounts": [{"hostPath": "/run/world/driver", "containerPath": "/usr/share/of-the-host", "options": ["ro", "nosuid", "nodev", "bind"]}],
        "hooks": [
            {
                "hookName": "createRuntime", "path": "/run/world/tools/nvidia-container-runtime-hook",
                "args": ["hook", "createRuntime"], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
            },
            {
                "hookName": "createContainer", "path": "/run/world/tools/nvidia-container-runtime-hook",
                "args": ["hook", "createContainer"], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
            }
        ]
    }
}
END
