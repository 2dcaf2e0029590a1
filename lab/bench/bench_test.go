//go:build bench

// Package bench_test measures Certbook beside the floor and beside what people
// use instead, one after the other in turns, and prints ratios.
package bench_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine/host/hosttest"
	"certbook/lab/kubeadm"
)

// rounds is how often each client is measured; the medians are compared.
const rounds = 5

// client is a program that is measured.
type client struct {
	name string
	argv []string
	env  []string
	want string // what it must print, at least once for each host or step
}

// cost is what one run of a client took.
type cost struct {
	wall, cpu time.Duration
}

func (c client) run(t *testing.T, times int) cost {
	t.Helper()
	cmd := exec.Command(c.argv[0], c.argv[1:]...)
	cmd.Env = append(os.Environ(), c.env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	began := time.Now()
	err := cmd.Run()
	wall := time.Since(began)
	require.NoError(t, err, "%s: %s%s", c.name, &out, &errOut)
	require.GreaterOrEqual(t, strings.Count(out.String()+errOut.String(), c.want), times, "%s: %s%s", c.name, &out, &errOut)
	return cost{wall, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
}

// race runs the clients in turns and prints the median of each, and its ratio to
// the first one.
func race(t *testing.T, title string, times int, clients []client) {
	t.Helper()
	costs := make([][]cost, len(clients))
	for round := range rounds {
		for i := range clients { // each is first as often as the others
			i = (i + round) % len(clients)
			costs[i] = append(costs[i], clients[i].run(t, times))
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s, medians of %d\n| | wall | CPU of the client | wall, ratio | CPU, ratio |\n|---|---|---|---|---|\n", title, rounds)
	var floor cost
	for i, c := range clients {
		m := median(costs[i])
		if i == 0 {
			floor = m
		}
		fmt.Fprintf(&text, "| %s | %.0f ms | %.0f ms | %.1f | %.1f |\n", c.name, ms(m.wall), ms(m.cpu),
			float64(m.wall)/float64(floor.wall), float64(m.cpu)/float64(floor.cpu))
	}
	fmt.Println(text.String())
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func median(list []cost) cost {
	middle := func(of func(cost) time.Duration) time.Duration {
		var all []time.Duration
		for _, c := range list {
			all = append(all, of(c))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	return cost{middle(func(c cost) time.Duration { return c.wall }), middle(func(c cost) time.Duration { return c.cpu })}
}

// build builds a program of this module as it is shipped.
func build(t *testing.T, pkg string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), filepath.Base(pkg))
	out, err := exec.Command("go", "build", "-trimpath", "-o", bin, pkg).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return bin
}

// TestCheck reads the certificates of many hosts: one real sshd on loopback is
// all of them.
func TestCheck(t *testing.T) {
	tree := kubeadm.Layout(t, kubeadm.Options{Version: "1.34.4"})
	require.NoError(t, os.RemoveAll(tree.Path("/etc/kubernetes/manifests"))) // no ports to ask: the others only read files
	s := hosttest.SSHD(t, hosttest.SSHDOptions{
		HostKeys: []string{"ed25519"}, Config: []string{"MaxStartups 1000", "LogLevel QUIET"},
		Binds: map[string]string{"/etc/kubernetes": tree.Path("/etc/kubernetes"), "/var/lib/kubelet": tree.Path("/var/lib/kubelet")},
	})
	var files []string
	for _, pattern := range []string{"*.crt", "etcd/*.crt"} {
		found, err := filepath.Glob(tree.Path("/etc/kubernetes/pki/" + pattern))
		require.NoError(t, err)
		for _, f := range found {
			files = append(files, strings.TrimPrefix(f, tree.Root))
		}
	}
	require.Len(t, files, 10)
	certbook, floor := build(t, "certbook/cmd/certbook"), build(t, "certbook/lab/bench/floor")
	script := "for f in " + strings.Join(files, " ") + "; do openssl x509 -noout -enddate -in $f; done"
	const atOnce = "50"
	for _, n := range []int{10, 50} {
		dir := t.TempDir()
		var hosts, names, ini strings.Builder
		for i := range n {
			fmt.Fprintf(&hosts, "  h%d: {address: 127.0.0.1}\n", i)
			fmt.Fprintf(&names, "h%d\n", i)
			fmt.Fprintf(&ini, "h%d ansible_host=127.0.0.1 ansible_port=%d ansible_user=root ansible_ssh_private_key_file=%s\n", i, s.Port, s.Identity)
		}
		inventory := write(t, dir, "inventory.yaml", fmt.Sprintf("version: 1\nssh: {user: root, port: %d, identity: [%s], known_hosts: [%s]}\nhosts:\n%sgroups: {masters: {hosts: [%s]}}\n",
			s.Port, s.Identity, s.KnownHosts, hosts.String(), strings.ReplaceAll(strings.TrimSpace(names.String()), "\n", ", ")))
		list := write(t, dir, "names", names.String())
		ssh := fmt.Sprintf("-F none -o BatchMode=yes -o UserKnownHostsFile=%s -i %s -p %d", s.KnownHosts, s.Identity, s.Port)
		clients := []client{
			{name: "floor: Go, one session a host", argv: append([]string{floor, "127.0.0.1:" + strconv.Itoa(s.Port), s.Identity, s.KnownHosts, strconv.Itoa(n), atOnce}, files...), want: "UTC"},
			{name: "certbook check", argv: []string{certbook, "check", "-i", inventory, "--ssh-config", "none", "--forks", atOnce}, want: "apiserver-etcd-client"},
			{name: "xargs -P50 ssh, openssl", argv: []string{"sh", "-c", `xargs -a "$1" -P 50 -I{} ssh ` + ssh + ` root@127.0.0.1 "$2"`, "sh", list, script}, want: "notAfter"},
		}
		if path, err := exec.LookPath("ansible"); err == nil && n <= 10 { // it takes half a second a host
			clients = append(clients, client{
				name: "ansible, pipelining, openssl", argv: []string{path, "all", "-i", write(t, dir, "hosts.ini", ini.String()), "-f", atOnce, "-m", "ansible.builtin.shell", "-a", script},
				env:  []string{"ANSIBLE_PIPELINING=True", "ANSIBLE_SSH_ARGS=-o ControlMaster=no -o UserKnownHostsFile=" + s.KnownHosts, "ANSIBLE_CONFIG=" + write(t, dir, "ansible.cfg", "")},
				want: "notAfter",
			})
		} else if err != nil {
			fmt.Println("ansible is left out: it is not installed")
		}
		race(t, fmt.Sprintf("A check of %d hosts, 50 at once", n), n, clients)
	}
}

// TestSteps runs steps that do nothing on this machine.
func TestSteps(t *testing.T) {
	const steps = 100
	certbook := build(t, "certbook/cmd/certbook")
	dir := t.TempDir()
	var book strings.Builder
	book.WriteString("version: 1\nname: steps\nplays:\n- name: one\n  hosts: all\n  steps:\n")
	for i := range steps {
		fmt.Fprintf(&book, "  - {id: s%d, action: run-command, with: {argv: [echo, done-%d]}}\n", i, i)
	}
	race(t, fmt.Sprintf("%d steps that do nothing, on this machine", steps), steps, []client{
		{name: "sh, one program after the other", argv: []string{"sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do /bin/echo done-$i; i=$((i + 1)); done", steps)}, want: "done-"},
		{name: "certbook run, with its log synced at each step", argv: []string{certbook, "run", write(t, dir, "steps.yaml", book.String()), "--yes", "--run-dir", filepath.Join(dir, "runs")}, want: "changed"},
	})
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}
