package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"certbook/engine"
	"certbook/lab/kubeadm"

	"github.com/stretchr/testify/require"
)

// mortal is certbook that kills itself at the point whose number is in its
// environment, or lists the points in a file.
func mortal() {
	at, _ := strconv.Atoi(os.Getenv("CERTBOOK_TEST_DIES_AT"))
	n := 0
	os.Exit(run(os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr, point: func(name string) {
		n++
		if file := os.Getenv("CERTBOOK_TEST_POINTS"); file != "" {
			f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			if err == nil {
				fmt.Fprintln(f, name)
				f.Close()
			}
		}
		if n == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}}))
}

// die runs a playbook until the point and returns the id of the run.
func (m machine) die(t *testing.T, at int, points string, args ...string) string {
	t.Helper()
	all := append(slices.Clone(args), "--yes", "--run-dir", m.dir)
	if args[0] == "run" {
		all = append(append(all, m.flags...), idle("renew")...)
	} else {
		all = append(all, m.flags[2:]...) // the log has --root or the inventory
	}
	cmd := exec.Command("certbook-mortal", all...) // TestMain has put it into PATH
	cmd.Env = append(os.Environ(), fmt.Sprintf("CERTBOOK_TEST_DIES_AT=%d", at), "CERTBOOK_TEST_POINTS="+points)
	out, err := cmd.CombinedOutput()
	if at == 0 {
		require.NoError(t, err, "%s", out)
	} else {
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal(), "%s", out)
	}
	runs, err := filepath.Glob(filepath.Join(m.dir, "*"))
	require.NoError(t, err)
	if len(runs) == 0 {
		return ""
	}
	return filepath.Base(runs[len(runs)-1])
}

// sound proves what must hold after any crash: every pair matches, every file
// parses, and nothing half-written, parked or secret lies about.
func (m machine) sound(t *testing.T) {
	t.Helper()
	for _, name := range renewable(m.tree) {
		cert := m.tree.Certificate(t, name)
		require.Equal(t, cert.PublicKey, m.tree.Key(t, name).Public(), "%s: key", name)
	}
	for _, pattern := range []string{
		"/etc/kubernetes/.certbook.*", "/etc/kubernetes/*/.certbook.*", "/etc/kubernetes/*/*/.certbook.*", "/var/lib/kubelet/pki/.certbook.*",
		"/run/certbook/*/*", "/var/lib/certbook/parked/*/*",
	} {
		left, err := filepath.Glob(m.tree.Path(pattern))
		require.NoError(t, err)
		require.Empty(t, left)
	}
}

// unlocked proves that no run has left its lock.
func (m machine) unlocked(t *testing.T) {
	t.Helper()
	lock, err := os.ReadFile(m.tree.Path(engine.LockFile))
	if !os.IsNotExist(err) {
		require.NoError(t, err)
		require.Empty(t, string(lock), "a lock is left")
	}
}

// points returns where a renewal can be cut off.
func points(t *testing.T, m machine) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "points")
	m.die(t, 0, file, "run", "renew")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	list := strings.Split(strings.TrimSpace(string(text)), "\n")
	require.Greater(t, len(list), 40)
	return list
}

// sample returns which of n points are tried: all with FAULTS=all, else a few
// that differ from run to run.
func sample(n int) []int {
	step := 12
	if os.Getenv("FAULTS") == "all" {
		step = 1
	}
	var list []int
	for i := 1 + int(time.Now().UnixNano()%int64(step)); i <= n; i += step {
		list = append(list, i)
	}
	return list
}

// TestCrash kills the controller at each point of a renewal. Whatever was cut
// off, resume ends with a renewed node and rollback with one as before; a
// third run finds nothing to do.
func TestCrash(t *testing.T) {
	t.Parallel()
	fresh := due(t, "1.34.4")
	for how, connect := range map[string]func(*testing.T, kubeadm.Tree) machine{"local": local, "ssh": remote} {
		t.Run(how, func(t *testing.T) {
			names := points(t, connect(t, fresh.Copy(t)))
			for _, at := range sample(len(names)) {
				for _, cure := range []string{"resume", "rollback"} {
					t.Run(fmt.Sprintf("%03d %s, %s", at, names[at-1], cure), func(t *testing.T) {
						t.Parallel()
						survive(t, connect(t, fresh.Copy(t)), at, cure)
					})
				}
			}
		})
	}
}

func survive(t *testing.T, m machine, at int, cure string) {
	old, before := certificates(t, m.tree), snapshot(t, m.tree)
	id := m.die(t, at, "", "run", "renew")
	_, err := os.Stat(filepath.Join(m.dir, id, "audit.jsonl"))
	if err != nil {
		require.Equal(t, before, snapshot(t, m.tree), "the log had not begun")
		return
	}
	code, stdout, _ := certbook(t, "runs", "--run-dir", m.dir)
	require.Zero(t, code)
	if over(id, m.dir) { // it was killed after its last event
		requireRenewed(t, m.tree, old, before)
		if cure == "resume" {
			code, _, stderr := certbook(t, "resume", id, "--yes", "--run-dir", m.dir)
			require.Equal(t, 1, code)
			require.Contains(t, stderr, "there is nothing left to do")
			return
		}
	} else {
		require.Contains(t, stdout, "cut off")
	}
	m.cure(t, id, cure, old, before)
}

// cure resumes a run that was cut off, or rolls it back, and proves what must
// be true then.
func (m machine) cure(t *testing.T, id, cure string, old map[string]*x509.Certificate, before map[string]entry) {
	t.Helper()
	flags := append([]string{"--yes", "--run-dir", m.dir}, m.flags[2:]...) // the log has --root or the inventory

	if cure == "resume" {
		code, _, stderr := certbook(t, append([]string{"resume", id}, flags...)...)
		switch {
		case strings.Contains(stderr, "run it again yourself"): // the log had not begun
			require.Equal(t, before, snapshot(t, m.tree))
		default:
			require.Zero(t, code, stderr)
			requireRenewed(t, m.tree, old, before)
			m.unlocked(t)
		}
	} else {
		more := append(flags, "--set", "restart=none", "--set", "verify_served=false")
		code, _, stderr := certbook(t, append([]string{"rollback", id}, more...)...)
		if strings.Contains(stderr, "has changed nothing") {
			require.Equal(t, 1, code) // its lock is the next run's to take
		} else {
			require.Zero(t, code, stderr)
			m.unlocked(t)
		}
		require.Equal(t, before, snapshot(t, m.tree))
	}
	m.sound(t)
	code, _, stderr := m.run(t, "run", "renew")
	require.Zero(t, code, stderr)
	requireRenewed(t, m.tree, old, before)
	after := snapshot(t, m.tree)
	code, _, stderr = m.run(t, "run", "renew")
	require.Zero(t, code, stderr)
	require.Equal(t, after, snapshot(t, m.tree), "another run changes nothing")
	m.sound(t)
	m.unlocked(t)
	logs, err := filepath.Glob(filepath.Join(m.dir, "*", "audit.jsonl"))
	require.NoError(t, err)
	cut := 0
	for _, log := range logs {
		code, _, stderr := certbook(t, "audit", "verify", log)
		if code != 0 {
			require.Contains(t, stderr, "cut off")
			cut++
		}
		requireNoSecrets(t, log, m.tree)
	}
	require.LessOrEqual(t, cut, 2)
}

// TestCrashTwice kills a resumed run as well, at the place where the first one
// was killed and a little later.
func TestCrashTwice(t *testing.T) {
	t.Parallel()
	fresh := due(t, "1.34.4")
	names := points(t, local(t, fresh.Copy(t)))
	at := slices.Index(names, "before localhost files") + 1
	require.NotZero(t, at)
	for _, second := range []int{4, at / 2, at} {
		for _, cure := range []string{"resume", "rollback"} {
			t.Run(fmt.Sprintf("%d, %s", second, cure), func(t *testing.T) {
				t.Parallel()
				m := local(t, fresh.Copy(t))
				old, before := certificates(t, m.tree), snapshot(t, m.tree)
				first := m.die(t, at, "", "run", "renew")
				id := m.die(t, second, "", "resume", first)
				require.NotEqual(t, first, id)
				if cure == "resume" {
					m.cure(t, id, cure, old, before)
					return
				}
				if code, stderr := m.rollback(t, first); code != 0 {
					require.Contains(t, stderr, "bring that back first: certbook rollback "+id)
					code, stderr = m.rollback(t, id)
					require.Zero(t, code, stderr)
				}
				m.cure(t, first, cure, old, before)
			})
		}
	}
}
