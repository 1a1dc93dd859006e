# cri.bash: containerd with its CRI plugin and the runtime, a pod network, the images box:1 and pause:1; and the client.
# shellcheck shell=bash
cri() { /usr/bin/python3 "$HERE/cri.py" "$@"; }
# py CLAIM PYTHON
py() { t "$1" "cri $(printf %q "$2")"; }
export -f cri
export image=docker.io/library/box:1 RUNTIME_PATH

# The configuration in docs/kubernetes.md, for containerd 1 and 2, and a separate handler for a RuntimeClass.
config() {
    local version=2 images cdi='' cni='bin_dir = "/usr/lib/cni"' runtime=io.containerd.grpc.v1.cri
    case $(containerd --version | sed 's/.* v\?\([0-9]*\.[0-9]*\)\..*/\1/') in
        1.6) images='  sandbox_image = "docker.io/library/pause:1"' ;;
        1.*) images='  sandbox_image = "docker.io/library/pause:1"' cdi='  enable_cdi = true' ;;
        *)
            version=3 runtime=io.containerd.cri.v1.runtime cni='bin_dirs = ["/usr/lib/cni"]'
            images='[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "docker.io/library/pause:1"'
            ;;
    esac
    cat <<CONF
version = $version
root = "/var/lib/containerd"
state = "/run/containerd"

$([ $version = 2 ] || echo "$images")
[plugins."$runtime"]
$([ $version = 3 ] || echo "$images")
$cdi
  restrict_oom_score_adj = true
  [plugins."$runtime".cni]
    $cni
    conf_dir = "/run/world/cni"
  [plugins."$runtime".containerd]
    default_runtime_name = "brig"
    [plugins."$runtime".containerd.runtimes.brig]
      runtime_type = "${SHIM:-io.containerd.runc.v2}"
      [plugins."$runtime".containerd.runtimes.brig.options]
        BinaryName = "$RUNTIME_PATH"
        SystemdCgroup = ${SYSTEMD_CGROUP:-false}
    [plugins."$runtime".containerd.runtimes.class]
      runtime_type = "${SHIM:-io.containerd.runc.v2}"
      privileged_without_host_devices = true
      [plugins."$runtime".containerd.runtimes.class.options]
        BinaryName = "$RUNTIME_PATH"
        Root = "/run/world/class"
CONF
}
config >/etc/containerd/config.toml
# shellcheck source=/dev/null
. "$HERE/gpu.bash"
mkdir -p /run/world/cni
cat >/run/world/cni/10-pods.conflist <<CONF
{
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge", "bridge": "pods0", "isGateway": true,
            "ipam": {
                "type": "host-local", "dataDir": "/run/world/leases",
                "ranges": [[{ "subnet": "10.88.0.0/16" }]], "routes": [{ "dst": "0.0.0.0/0" }]
            }
        }
    ]
}
CONF
begin() {
    [ -z "${GUEST:-}" ] || { systemctl restart containerd && within 60 ctr version; return; }
    containerd >>"$LOGS/containerd.txt" 2>&1 </dev/null &
    echo $! >/run/world/containerd.pid
    within 30 ctr version
}
export -f begin
rm -f "$LOGS/containerd.txt"
begin || { tail -n 20 "$LOGS/containerd.txt" || journalctl -n 20 -u containerd; exit 1; }
# The pause image: box with a command that keeps running.
sed -i 's/"Cmd":\["sh"\]/"Cmd":["sleep","100000"]/' /run/world/box.d/config.json
sed -i 's/box:1/pause:1/' /run/world/box.d/manifest.json
tar -C /run/world/box.d -cf /run/world/pause.tar manifest.json config.json layer.tar
for tar in box pause; do ctr -n k8s.io image import /run/world/$tar.tar >/dev/null; done
cri --schema "$(command -v containerd)" /run/world/cri.schema
