package main

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"certbook/engine/host/hosttest"
	"certbook/lab/kubeadm"

	"github.com/stretchr/testify/require"
)

// These tests run the shipped playbooks with real kubeadm binaries on trees
// that these kubeadms have made. Nothing runs in such a tree, so restarts and
// the proof of what is served are turned off; the lab shows those.

// idle are the flags for a tree in which nothing runs.
func idle(playbook string) []string {
	switch playbook {
	case "check":
		return []string{"--set", "verify_served=false"}
	case "seed":
		return []string{"--set", "restart=none", "--set", "kubeconfig_users=[]"}
	}
	return []string{"--set", "restart=none", "--set", "verify_served=false"}
}

// machine is a tree and how certbook reaches it.
type machine struct {
	tree  kubeadm.Tree
	flags []string
	dir   string // of the controller: runs
}

// certbook runs the program and returns its exit code and output.
func certbook(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(args, streams{out: &out, err: &errs})
	t.Logf("certbook %s: exit %d\n%s%s", strings.Join(args, " "), code, out.String(), errs.String())
	return code, out.String(), errs.String()
}

// run runs a command on the machine.
func (m machine) run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	all := append([]string{}, args...)
	all = append(all, m.flags...)
	if args[0] == "run" {
		all = append(append(all, "--yes", "--run-dir", m.dir), idle(args[1])...)
	}
	switch args[0] {
	case "plan":
		all = append(all, idle(args[1])...)
	case "check":
		all = append(all, idle("check")...)
	}
	return certbook(t, all...)
}

// local reaches a tree as the root directory of this machine.
func local(t *testing.T, tree kubeadm.Tree) machine {
	t.Helper()
	bin := tree.Path("/usr/local/bin")
	require.NoError(t, os.MkdirAll(bin, 0o755))
	require.NoError(t, os.Symlink(tree.Binary, filepath.Join(bin, "kubeadm")))
	noAPI(t, tree)
	return machine{tree: tree, flags: []string{"--root", tree.Root}, dir: t.TempDir()}
}

// remote reaches a tree through a real sshd, which sees it as its own /etc and
// /var.
func remote(t *testing.T, tree kubeadm.Tree) machine {
	t.Helper()
	return remoteFor(t, tree)
}

// remoteFor is remote into which these users may log in as well as root.
func remoteFor(t *testing.T, tree kubeadm.Tree, users ...string) machine {
	t.Helper()
	binds := map[string]string{}
	for _, dir := range []string{"/etc/kubernetes", "/var/lib/kubelet", "/var/lib/certbook", "/var/backups", "/run/certbook", "/usr/local/bin"} {
		require.NoError(t, os.MkdirAll(tree.Path(dir), 0o755))
		binds[dir] = tree.Path(dir)
	}
	copyFile(t, tree.Binary, tree.Path("/usr/local/bin/kubeadm"))
	noAPI(t, tree)
	s := hosttest.SSHD(t, hosttest.SSHDOptions{Binds: binds, Users: users})
	inventory := filepath.Join(t.TempDir(), "inventory.yaml")
	require.NoError(t, os.WriteFile(inventory, fmt.Appendf(nil, `version: 1
ssh: {user: root, port: %d, identity: [%s], known_hosts: [%s]}
hosts: {node: {address: 127.0.0.1}}
groups: {masters: {hosts: [node]}}
`, s.Port, s.Identity, s.KnownHosts), 0o600))
	return machine{tree: tree, flags: []string{"-i", inventory, "--ssh-config", "none"}, dir: t.TempDir()}
}

// noAPI gives a machine a kubectl whose API server is away, instead of one that
// this machine may have.
func noAPI(t *testing.T, tree kubeadm.Tree) {
	t.Helper()
	require.NoError(t, os.WriteFile(tree.Path("/usr/local/bin/kubectl"),
		[]byte("#!/bin/sh\necho 'The connection to the server was refused' >&2\nexit 1\n"), 0o755))
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, data, 0o755))
}

// entry is what must stay of a file.
type entry struct {
	mode     fs.FileMode
	uid, gid uint32
	link     string
	data     string
}

// snapshot reads everything below the node's /etc/kubernetes and /var/lib/kubelet.
func snapshot(t *testing.T, tree kubeadm.Tree) map[string]entry {
	t.Helper()
	out := map[string]entry{}
	for _, top := range []string{"/etc/kubernetes", "/var/lib/kubelet"} {
		require.NoError(t, filepath.WalkDir(tree.Path(top), func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			st := info.Sys().(*syscall.Stat_t)
			e := entry{mode: info.Mode(), uid: st.Uid, gid: st.Gid}
			if info.Mode().IsRegular() {
				data, err := os.ReadFile(p)
				if err != nil {
					return err
				}
				e.data = string(data)
			}
			if info.Mode()&fs.ModeSymlink != 0 {
				e.link, _ = os.Readlink(p)
			}
			out[strings.TrimPrefix(p, tree.Root)] = e
			return nil
		}))
	}
	return out
}

// certificates returns the leaf certificates that kubeadm renews, by name.
func certificates(t *testing.T, tree kubeadm.Tree) map[string]*x509.Certificate {
	t.Helper()
	out := map[string]*x509.Certificate{}
	for _, name := range renewable(tree) {
		out[name] = tree.Certificate(t, name)
	}
	return out
}

func renewable(tree kubeadm.Tree) []string {
	var names []string
	for _, n := range tree.Names() {
		if n != "ca" && n != "etcd-ca" && n != "front-proxy-ca" && n != "kubelet.conf" && n != "kubelet-client" {
			names = append(names, n)
		}
	}
	return names
}

// requireRenewed proves that every leaf is a proper renewal and that nothing
// else has changed.
func requireRenewed(t *testing.T, tree kubeadm.Tree, old map[string]*x509.Certificate, before map[string]entry) {
	t.Helper()
	touched := map[string]bool{}
	for name, was := range old {
		is := tree.Certificate(t, name)
		require.NotEqual(t, was.SerialNumber, is.SerialNumber, name)
		require.True(t, is.NotAfter.After(was.NotAfter), "%s ends %s, before %s", name, is.NotAfter, was.NotAfter)
		require.True(t, is.NotAfter.After(time.Now().Add(60*24*time.Hour)), "%s ends %s", name, is.NotAfter)
		require.Equal(t, was.Subject.String(), is.Subject.String(), name)
		require.Equal(t, was.DNSNames, is.DNSNames, name)
		require.Equal(t, fmt.Sprint(was.IPAddresses), fmt.Sprint(is.IPAddresses), name)
		require.Equal(t, was.ExtKeyUsage, is.ExtKeyUsage, name)
		require.Equal(t, was.KeyUsage, is.KeyUsage, name)
		require.Equal(t, was.PublicKeyAlgorithm, is.PublicKeyAlgorithm, name)
		require.Equal(t, is.PublicKey, tree.Key(t, name).Public(), "%s: key", name)
		touched[strings.TrimPrefix(tree.CertFile(name), tree.Root)] = true
		touched[strings.TrimPrefix(tree.KeyFile(name), tree.Root)] = true
	}
	after := snapshot(t, tree)
	for p, was := range before {
		is, ok := after[p]
		require.True(t, ok, "%s has gone", p)
		if touched[p] {
			require.NotEqual(t, was.data, is.data, "%s is the same", p)
			was.data = is.data
		}
		require.Equal(t, was, is, "%s", p)
	}
	require.Len(t, after, len(before), "files were added")
}

func TestShippedPlaybooksWithRealKubeadm(t *testing.T) {
	t.Parallel()
	reach := map[string]func(*testing.T, kubeadm.Tree) machine{"local": local, "ssh": remote}
	for _, v := range kubeadm.Versions() {
		t.Run(v, func(t *testing.T) {
			fresh := kubeadm.Layout(t, kubeadm.Options{Version: v, Remaining: 10 * 24 * time.Hour})
			kubeadm.Reissue(t, fresh, []string{"kubelet.conf"}, time.Now().Add(-time.Hour), time.Now().Add(300*24*time.Hour))
			for _, playbook := range []string{"renew", "seed"} {
				for how, connect := range reach {
					t.Run(playbook+"/"+how, func(t *testing.T) {
						m := connect(t, fresh.Copy(t))
						renewTwice(t, m, playbook)
					})
				}
			}
		})
	}
}

// renewTwice renews, proves the result, and shows that a second run changes
// nothing.
func renewTwice(t *testing.T, m machine, playbook string) {
	old, before := certificates(t, m.tree), snapshot(t, m.tree)
	require.NotEmpty(t, old)

	code, _, _ := m.run(t, "check")
	require.Equal(t, 3, code, "check of due certificates")
	code, _, _ = m.run(t, "plan", playbook, "--detailed-exitcode")
	require.Equal(t, 3, code, "plan with changes")
	require.Equal(t, before, snapshot(t, m.tree), "a plan changes nothing")

	code, _, stderr := m.run(t, "run", playbook)
	require.Equal(t, 0, code, stderr)
	requireRenewed(t, m.tree, old, before)
	code, _, _ = m.run(t, "check")
	require.Equal(t, 0, code, "check after the renewal")

	after := snapshot(t, m.tree)
	code, _, stderr = m.run(t, "run", playbook)
	require.Equal(t, 0, code, stderr)
	require.Equal(t, after, snapshot(t, m.tree), "a second run changes nothing")

	logs, err := filepath.Glob(filepath.Join(m.dir, "*", "audit.jsonl"))
	require.NoError(t, err)
	require.Len(t, logs, 2)
	for _, log := range logs {
		code, _, _ := certbook(t, "audit", "verify", log)
		require.Equal(t, 0, code)
		requireNoSecrets(t, log, m.tree)
	}
}

// requireNoSecrets looks for every line of every private key in a log, base64
// as in kubeconfigs as well.
func requireNoSecrets(t *testing.T, log string, tree kubeadm.Tree) {
	t.Helper()
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	require.NotContains(t, string(text), "PRIVATE KEY")
	looked := 0
	for p, e := range snapshot(t, tree) {
		for _, line := range strings.Split(e.data, "\n") {
			secret := ""
			switch {
			case strings.HasSuffix(p, ".key") && len(line) == 64:
				secret = line
			case strings.Contains(line, "client-key-data: "):
				_, secret, _ = strings.Cut(line, "client-key-data: ")
				secret = secret[:60]
			}
			if secret != "" {
				looked++
				require.False(t, bytes.Contains(text, []byte(secret)), "a line of %s is in the log", p)
			}
		}
	}
	require.Greater(t, looked, 20, "secrets to look for")
}
