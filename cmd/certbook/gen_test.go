package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"certbook/actions/kube"

	"github.com/stretchr/testify/require"
)

// generate runs a playbook of one gen-kubeconfig step.
func (m machine) generate(t *testing.T, with string) (code int, stderr string) {
	t.Helper()
	book := filepath.Join(t.TempDir(), "book.yaml")
	require.NoError(t, os.WriteFile(book, []byte("version: 1\nname: gen\nplays:\n- name: gen\n  hosts: masters\n  on_failure: rollback\n  steps:\n  - {id: gen, action: gen-kubeconfig, with: "+with+"}\n"), 0o600))
	args := append([]string{"run", book, "--yes", "--run-dir", m.dir}, m.flags...)
	code, _, stderr = certbook(t, args...)
	return code, stderr
}

// TestGenKubeconfigAnyClient makes a kubeconfig for a client of one's own, with
// each kubeadm, and none a second time.
func TestGenKubeconfigAnyClient(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1.19.16", "1.34.4", "1.37.2"} {
		t.Run(version, func(t *testing.T) {
			m := local(t, due(t, version).Copy(t))
			const with = "{name: ops, client_name: jane, organizations: [ops, audit]}"
			code, stderr := m.generate(t, with)
			require.Zero(t, code, stderr)
			file := m.tree.Path("/etc/kubernetes/ops.conf")
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			config, err := kube.ParseKubeconfig(text)
			require.NoError(t, err)
			_, user, err := config.Current()
			require.NoError(t, err)
			leaf, err := user.Leaf()
			require.NoError(t, err)
			require.Equal(t, "jane", leaf.Subject.CommonName)
			require.ElementsMatch(t, []string{"ops", "audit"}, leaf.Subject.Organization)
			require.NoError(t, leaf.CheckSignatureFrom(m.tree.Certificate(t, "ca")))
			info, err := os.Stat(file)
			require.NoError(t, err)
			require.EqualValues(t, 0o600, info.Mode().Perm())

			code, stderr = m.generate(t, with)
			require.Zero(t, code, stderr)
			again, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, text, again)
		})
	}
}

// TestGenKubeconfigFails leaves the old file as it is when kubeadm fails, or
// writes nothing and says that all is well.
func TestGenKubeconfigFails(t *testing.T) {
	fresh := due(t, "1.34.4")
	for name, program := range map[string]string{
		"exit status": "#!/bin/sh\n[ \"$1\" = version ] && exec %s \"$@\"\necho 'kubeadm: no space left' >&2\nexit 1\n",
		"nothing":     "#!/bin/sh\n[ \"$1\" = version ] && exec %s \"$@\"\nexit 0\n",
	} {
		t.Run(name, func(t *testing.T) {
			m := local(t, fresh.Copy(t))
			replaceKubeadm(t, m, program)
			before := snapshot(t, m.tree)
			code, stderr := m.generate(t, "{name: scheduler, force: true}")
			require.Equal(t, 1, code, stderr)
			require.Contains(t, stderr, "gen: ")
			require.Equal(t, before, snapshot(t, m.tree))
		})
	}
}

// replaceKubeadm puts a script in kubeadm's place; %s in it is the real one.
func replaceKubeadm(t *testing.T, m machine, script string) {
	t.Helper()
	file := m.tree.Path("/usr/local/bin/kubeadm")
	require.NoError(t, os.Remove(file))
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, script, m.tree.Binary), 0o755))
}
