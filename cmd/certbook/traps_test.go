package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"certbook/engine"
	"certbook/engine/audit"
	"certbook/lab/kubeadm"

	"github.com/stretchr/testify/require"
)

// These tests walk into the traps of renewing kubeadm's certificates, with real
// kubeadm binaries: what other procedures get wrong in silence.

// due lays out a node whose certificates end in ten days; kubelet's own is good.
func due(t *testing.T, version string) kubeadm.Tree {
	t.Helper()
	tree := kubeadm.Layout(t, kubeadm.Options{Version: version, Remaining: 10 * 24 * time.Hour})
	kubeadm.Reissue(t, tree, []string{"kubelet.conf"}, time.Now().Add(-time.Hour), time.Now().Add(300*24*time.Hour))
	return tree
}

// overlay writes an overlay that changes steps and returns the flags for it.
func overlay(t *testing.T, steps string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "overlay.yaml")
	require.NoError(t, os.WriteFile(file, []byte("version: 1\nname: trap\nsteps:\n"+steps), 0o600))
	return []string{"-f", file}
}

// log reads and verifies the audit log of the machine's only run.
func (m machine) log(t *testing.T) []engine.Event {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(m.dir, "*", "audit.jsonl"))
	require.NoError(t, err)
	require.Len(t, logs, 1)
	var events []engine.Event
	require.NoError(t, audit.Read(logs[0], func(r audit.Record) error {
		events = append(events, r.Event)
		return nil
	}))
	require.NotEmpty(t, events)
	return events
}

// kubeadmCommands returns the kubeadm commands of a run.
func kubeadmCommands(events []engine.Event) []string {
	var list []string
	for _, e := range events {
		if e.Kind == engine.CommandRun && strings.HasPrefix(e.Argv, "kubeadm ") {
			list = append(list, e.Argv)
		}
	}
	return list
}

// serials returns the serial numbers of the leaf certificates.
func serials(t *testing.T, tree kubeadm.Tree) map[string]string {
	t.Helper()
	out := map[string]string{}
	for name, c := range certificates(t, tree) {
		out[name] = c.SerialNumber.Text(16)
	}
	return out
}

// requireOnly proves that of the certificates before just these were replaced.
func requireOnly(t *testing.T, tree kubeadm.Tree, before map[string]string, renewed ...string) {
	t.Helper()
	var changed []string
	for name, serial := range serials(t, tree) {
		if before[name] != serial {
			changed = append(changed, name)
		}
	}
	require.ElementsMatch(t, renewed, changed)
}

// outcomeNames returns the certificates of which the step renew says result, in
// the JSON report.
func outcomeNames(t *testing.T, report, result string) []string {
	t.Helper()
	var doc struct {
		Hosts []struct {
			Steps []struct {
				ID      string
				Outputs struct {
					Outcomes []struct{ Name, Result string }
				}
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(report), &doc))
	var names []string
	for _, s := range doc.Hosts[0].Steps {
		for _, o := range s.Outputs.Outcomes {
			if s.ID == "renew" && o.Result == result {
				names = append(names, o.Name)
			}
		}
	}
	return names
}

func without(list []string, out ...string) []string {
	var left []string
	for _, s := range list {
		if !strings.Contains(" "+strings.Join(out, " ")+" ", " "+s+" ") {
			left = append(left, s)
		}
	}
	return left
}

func TestTrapAlphaCommand(t *testing.T) {
	t.Parallel()
	for _, v := range kubeadm.Versions() {
		t.Run(v, func(t *testing.T) {
			m := local(t, due(t, v))
			code, _, stderr := m.run(t, "run", "renew")
			require.Equal(t, 0, code, stderr)
			commands := kubeadmCommands(m.log(t))
			renew := "kubeadm certs renew "
			if v == "1.19.16" {
				renew = "kubeadm alpha certs renew "
			}
			ran := 0
			for _, c := range commands {
				if strings.Contains(c, " renew ") {
					ran++
					require.True(t, strings.HasPrefix(c, renew), c)
				}
			}
			require.Positive(t, ran, "renew commands in %q", commands)
		})
	}
}

// TestTrapHelpInsteadOfRenewal is "kubeadm alpha certs renew all" on a kubeadm
// that has no such command any more: it prints a help text and exits with 0.
func TestTrapHelpInsteadOfRenewal(t *testing.T) {
	t.Parallel()
	tree := due(t, "1.34.4")
	m := local(t, tree)
	program := tree.Path("/usr/local/bin/kubeadm")
	require.NoError(t, os.Remove(program))
	script := "#!/bin/sh\nif [ \"$1 $2\" = 'certs renew' ]; then exec " + tree.Binary + " alpha certs renew \"$3\"; fi\nexec " + tree.Binary + " \"$@\"\n"
	require.NoError(t, os.WriteFile(program, []byte(script), 0o755))
	before := snapshot(t, tree)
	code, _, stderr := m.run(t, "run", "renew")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "printed its help and did nothing")
	require.Equal(t, before, snapshot(t, tree))
}

// TestTrapsRefused holds what must fail before anything is changed.
func TestTrapsRefused(t *testing.T) {
	t.Parallel()
	fresh := due(t, "1.34.4")
	remove := func(name string) func(*testing.T, kubeadm.Tree) {
		return func(t *testing.T, tree kubeadm.Tree) { require.NoError(t, os.Remove(tree.Path(name))) }
	}
	image := func(version string) func(*testing.T, kubeadm.Tree) {
		return func(t *testing.T, tree kubeadm.Tree) {
			file := tree.Path("/etc/kubernetes/manifests/kube-apiserver.yaml")
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(file, bytes.ReplaceAll(data, []byte("kube-apiserver:v1.34.4"), []byte("kube-apiserver:"+version)), 0o600))
		}
	}
	clock := func(shift string) func(*testing.T, kubeadm.Tree) {
		return func(t *testing.T, tree kubeadm.Tree) {
			script := "#!/bin/sh\necho $(($(/bin/date +%s) " + shift + ")).5\n"
			require.NoError(t, os.WriteFile(tree.Path("/usr/local/bin/date"), []byte(script), 0o755))
		}
	}
	for name, trap := range map[string]struct {
		set  func(*testing.T, kubeadm.Tree)
		want []string
	}{
		"damaged certificate": {
			func(t *testing.T, tree kubeadm.Tree) { kubeadm.Corrupt(t, tree, "etcd-peer") },
			[]string{"etcd-peer: /etc/kubernetes/pki/etcd/peer.crt", "restore it from a backup, or leave it out with names"},
		},
		"damaged kubeconfig": {
			func(t *testing.T, tree kubeadm.Tree) { kubeadm.Corrupt(t, tree, "scheduler.conf") },
			[]string{"scheduler.conf: /etc/kubernetes/scheduler.conf", "restore it from a backup"},
		},
		"key of another CA": {
			func(t *testing.T, tree kubeadm.Tree) { kubeadm.ReplaceKey(t, tree, "ca") },
			[]string{"preflight: ca: the key /etc/kubernetes/pki/ca.key does not match the certificate ca.crt"},
		},
		"key of another certificate": {
			func(t *testing.T, tree kubeadm.Tree) { kubeadm.ReplaceKey(t, tree, "front-proxy-client") },
			[]string{"front-proxy-client: the key /etc/kubernetes/pki/front-proxy-client.key does not match"},
		},
		"expired CA": {
			func(t *testing.T, tree kubeadm.Tree) {
				kubeadm.Reissue(t, tree, []string{"ca"}, time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour))
			},
			[]string{"CA ca ended on ", "renewal cannot help, rotate the CA"},
		},
		"missing certificate": {
			remove("/etc/kubernetes/pki/apiserver-etcd-client.crt"),
			[]string{"apiserver-etcd-client: /etc/kubernetes/pki/apiserver-etcd-client.crt does not exist", "restore it, or set missing: skip"},
		},
		"no kubeadm": {
			remove("/usr/local/bin/kubeadm"),
			[]string{"preflight: there is no kubeadm on this host; install that of the cluster's version"},
		},
		"kubeadm is older": {
			image("v1.35.1"), []string{"preflight: kubeadm v1.34.4 does not fit a cluster of v1.35.1: use a kubeadm of v1.35"},
		},
		"kubeadm is newer": {
			image("v1.32.0"), []string{"preflight: kubeadm v1.34.4 does not fit a cluster of v1.32.0: use a kubeadm of v1.32"},
		},
		"clock an hour ahead": {
			clock("+ 3600"), []string{"preflight: the clock differs from the controller's by 1h0m0s; set it first"},
		},
		"clock an hour behind": {
			clock("- 3600"), []string{"preflight: the clock differs from the controller's by -1h0m0s; set it first"},
		},
		"little space": {
			func(t *testing.T, tree kubeadm.Tree) { small(t, tree, "size=2m") }, []string{"preflight: /etc/kubernetes has 2 MiB free, want 100"},
		},
		"second manifest": {
			func(t *testing.T, tree kubeadm.Tree) {
				copyFile(t, tree.Path("/etc/kubernetes/manifests/etcd.yaml"), tree.Path("/etc/kubernetes/manifests/etcd.yaml.bak"))
			},
			[]string{"preflight: ", "etcd.yaml.bak", "move the copy elsewhere"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := local(t, fresh.Copy(t))
			trap.set(t, m.tree)
			before := snapshot(t, m.tree)
			code, _, stderr := m.run(t, "run", "renew")
			require.Equal(t, 1, code)
			for _, w := range trap.want {
				require.Contains(t, stderr, w)
			}
			require.Equal(t, before, snapshot(t, m.tree))
			for _, c := range kubeadmCommands(m.log(t)) {
				require.NotContains(t, c, " renew ")
			}
		})
	}
}

// TestTrapsLeftOut renews the rest when a step says so.
func TestTrapsLeftOut(t *testing.T) {
	t.Parallel()
	fresh := due(t, "1.34.4")
	all := renewable(fresh)
	signedByCA := []string{"apiserver", "apiserver-kubelet-client", "admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf"}
	for name, trap := range map[string]struct {
		set     func(*testing.T, kubeadm.Tree)
		overlay string
		renewed []string
		outcome string
		of      []string
	}{
		"names": {
			func(t *testing.T, tree kubeadm.Tree) { kubeadm.Corrupt(t, tree, "etcd-peer") },
			"- {id: renew, with: {names: [" + strings.Join(without(all, "etcd-peer"), ", ") + "]}}\n",
			without(all, "etcd-peer"), "renewed", without(all, "etcd-peer"),
		},
		"external CA": {
			func(t *testing.T, tree kubeadm.Tree) {
				require.NoError(t, os.Remove(tree.Path("/etc/kubernetes/pki/ca.key")))
			},
			"- {id: requests, off: they are signed another day}\n- {id: install, off: likewise}\n",
			without(all, signedByCA...), "external-ca", signedByCA,
		},
		"missing": {
			func(t *testing.T, tree kubeadm.Tree) {
				require.NoError(t, os.Remove(tree.CertFile("apiserver-etcd-client")))
			},
			"- {id: renew, with: {missing: skip}}\n",
			without(all, "apiserver-etcd-client"), "missing", []string{"apiserver-etcd-client"},
		},
		"CA ends first": {
			func(t *testing.T, tree kubeadm.Tree) {
				kubeadm.Reissue(t, tree, []string{"ca"}, time.Now().Add(-time.Hour), time.Now().Add(5*24*time.Hour))
			},
			"- {id: renew, with: {force: false}}\n",
			all, "ca-ends-first", signedByCA,
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := local(t, fresh.Copy(t))
			old := serials(t, m.tree)
			trap.set(t, m.tree)
			code, stdout, stderr := m.run(t, append([]string{"run", "renew", "-o", "json"}, overlay(t, trap.overlay)...)...)
			require.Equal(t, 0, code, stderr)
			if name == "names" {
				require.NoError(t, os.Remove(m.tree.CertFile("etcd-peer"))) // cannot be compared
			}
			requireOnly(t, m.tree, old, trap.renewed...)
			require.ElementsMatch(t, trap.of, outcomeNames(t, stdout, trap.outcome))
		})
	}
}
