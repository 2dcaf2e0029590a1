package cluster

import (
	"os"
	"os/exec"
	goruntime "runtime" // "runtime" is the node's container runtime here
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// dockerd is what it sets up in iptables, with a rule of somebody else's.
const dockerd = `set -e
for c in DOCKER DOCKER-ISOLATION-STAGE-1 DOCKER-ISOLATION-STAGE-2 DOCKER-USER; do iptables -w -N $c; done
iptables -w -A DOCKER-ISOLATION-STAGE-1 -j DOCKER-ISOLATION-STAGE-2
iptables -w -A DOCKER-ISOLATION-STAGE-1 -j RETURN
iptables -w -I FORWARD -j DOCKER-ISOLATION-STAGE-1
iptables -w -I FORWARD -j DOCKER-USER
iptables -w -t nat -N DOCKER
iptables -w -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables -w -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
iptables -w -P FORWARD DROP
echo 1 >/proc/sys/net/ipv4/ip_forward`

// TestForwarding proves in a network namespace that what dockerd leaves behind
// is undone, and that what was there before stays.
func TestForwarding(t *testing.T) {
	if _, err := exec.LookPath("iptables"); (err != nil || os.Getuid() != 0) && os.Getenv("CI") == "" {
		t.Skip("needs root and iptables")
	}
	goruntime.LockOSThread() // never unlocked: the thread ends with the test
	require.NoError(t, syscall.Unshare(syscall.CLONE_NEWNET))
	sh := func(script string) string {
		out, err := exec.Command("sh", "-c", script).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	const state = "iptables -w -S; iptables -w -t nat -S; cat /proc/sys/net/ipv4/ip_forward"
	e := engine{dir: t.TempDir()}

	sh("echo 0 >/proc/sys/net/ipv4/ip_forward; iptables -w -A FORWARD -s 192.0.2.1 -j ACCEPT")
	clean := sh(state)
	require.NoError(t, e.remember(t.Context()))
	sh(dockerd)
	left := sh(state)
	require.NotEqual(t, clean, left)
	require.NoError(t, e.remember(t.Context())) // started again after a crash
	require.NoError(t, e.restore(t.Context()))
	require.Equal(t, clean, sh(state))

	sh(dockerd) // by somebody else
	require.NoError(t, e.remember(t.Context()))
	require.NoError(t, e.restore(t.Context()))
	require.Equal(t, left, sh(state))
}
