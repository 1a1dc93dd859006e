# soak-pods.sh: PODS=50 pods for SOAK_SECONDS=120, with the kubelet's calls: each is created, probed by an exec each second,
# and replaced after 15 to 45 s. Nothing may be left. `make soak-pods`; engines.sh runs it only by name.
# needs: containerd containernetworking-plugins python3-grpcio python3-protobuf python3-websocket
# suite needs: iptables

# shellcheck source=/dev/null
. "$HERE/cri.bash"
: "${SOAK_SECONDS:=120}" "${PODS:=50}"
export PATIENCE=$((SOAK_SECONDS + 300)) PODS SOAK_SECONDS
py "$PODS pods, probed each second, for $SOAK_SECONDS s; nothing is left" "$(cat "$HERE/soak-pods.py")"
sed -n '/^| /p' "$LOGS"/1.txt
kill "$(cat /run/world/containerd.pid)"
