package main

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"certbook/engine/host/hosttest"
	"certbook/lab/kubeadm"

	"github.com/stretchr/testify/require"
)

// small puts the node's /etc/kubernetes on a file system of its own.
func small(t *testing.T, tree kubeadm.Tree, options string) (remount func(flags uintptr)) {
	t.Helper()
	at := tree.Path("/etc/kubernetes")
	aside := at + ".aside"
	require.NoError(t, os.Rename(at, aside))
	require.NoError(t, os.Mkdir(at, 0o755))
	if err := syscall.Mount("tmpfs", at, "tmpfs", 0, options); err != nil {
		hosttest.Lacks(t, fmt.Sprintf("this test needs to mount a file system: %v", err))
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(at, 0)) })
	require.NoError(t, os.CopyFS(at, os.DirFS(aside)))
	require.NoError(t, filepath.WalkDir(aside, func(file string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.Chmod(at+file[len(aside):], info.Mode())
	}))
	return func(flags uintptr) {
		require.NoError(t, syscall.Mount("tmpfs", at, "tmpfs", syscall.MS_REMOUNT|flags, options))
	}
}

// fill writes to new files in dir until the file system has no room for more.
func fill(t *testing.T, dir string, size int) {
	t.Helper()
	for i := range 100_000 {
		err := os.WriteFile(fmt.Sprintf("%s/manifests/.fill%d", dir, i), make([]byte, size), 0o600)
		if errors.Is(err, syscall.ENOSPC) {
			return
		}
		require.NoError(t, err)
	}
	t.Fatal("the file system has no end")
}

// TestTrapNoRoom cannot write where the certificates lie: no space, no inode, or
// a file system that the kernel has made read-only. Preflight is told to pass
// over the space, so that it ends while files are written.
func TestTrapNoRoom(t *testing.T) {
	t.Parallel()
	fresh := due(t, "1.34.4")
	for name, c := range map[string]struct {
		options string
		set     func(t *testing.T, dir string, remount func(uintptr))
		want    string
	}{
		"disk":      {"size=2m", func(t *testing.T, dir string, _ func(uintptr)) { fill(t, dir, 4096) }, "No space left on device"},
		"inodes":    {"size=2m,nr_inodes=100", func(t *testing.T, dir string, _ func(uintptr)) { fill(t, dir, 0) }, "No space left on device"},
		"read-only": {"size=2m", func(_ *testing.T, _ string, remount func(uintptr)) { remount(syscall.MS_RDONLY) }, "Read-only file system"},
	} {
		t.Run(name, func(t *testing.T) {
			m := local(t, fresh.Copy(t))
			remount := small(t, m.tree, c.options)
			c.set(t, m.tree.Path("/etc/kubernetes"), remount)
			before := snapshot(t, m.tree)
			code, _, stderr := m.run(t, append([]string{"run", "renew"}, overlay(t, "- {id: preflight, with: {free_mib: 0, free_inodes: 0}}\n")...)...)
			require.Equal(t, 1, code)
			require.Contains(t, stderr, "renew: install: ")
			require.Contains(t, stderr, c.want)
			requireRolledBack(t, m, before, "renew", "backup_pki", "backup_kubernetes")
		})
	}
}

// TestTrapKubeadmEnds is a kubeadm that does not come to its end: it hangs, or
// the kernel kills it for want of memory after it has renewed.
func TestTrapKubeadmEnds(t *testing.T) {
	t.Parallel()
	fresh := due(t, "1.34.4")
	for name, c := range map[string]struct{ script, timeout, want string }{
		"hangs":  {"exec sleep 600", "3s", "renew: timed out after 3s: kubeadm certs renew all"},
		"killed": {"$real \"$@\"\nkill -9 $$", "5m", "renew: kubeadm v1.34.4: renew all: kubeadm gave no reason"},
	} {
		t.Run(name, func(t *testing.T) {
			m := local(t, fresh.Copy(t))
			replaceKubeadm(t, m, "#!/bin/sh\nreal=%s\n[ \"$1\" != version ] || exec $real \"$@\"\n"+c.script+"\n")
			before := snapshot(t, m.tree)
			began := time.Now()
			code, _, stderr := m.run(t, append([]string{"run", "renew"}, overlay(t, "- {id: renew, timeout: "+c.timeout+"}\n")...)...)
			require.Equal(t, 1, code)
			require.Contains(t, stderr, c.want)
			require.Less(t, time.Since(began), time.Minute)
			requireRolledBack(t, m, before, "renew", "backup_pki", "backup_kubernetes")
			copies, err := filepath.Glob(m.tree.Path("/run/certbook/*/renew"))
			require.NoError(t, err)
			require.Empty(t, copies, "they hold private keys")
		})
	}
}

// TestTrapClusterUnreachable has an admin.conf that is good and an API that does
// not answer: kubeadm would renew with its defaults, RSA and a year.
func TestTrapClusterUnreachable(t *testing.T) {
	t.Parallel()
	const validity = 2160 * time.Hour
	for _, v := range []string{"1.34.4", "1.37.2"} {
		t.Run(v, func(t *testing.T) {
			tree := kubeadm.Layout(t, kubeadm.Options{Version: v, ECDSA: true, Validity: validity})
			names := renewable(tree)
			end := time.Now().Add(10 * 24 * time.Hour)
			kubeadm.Reissue(t, tree, names, end.Add(-validity), end)
			m := local(t, tree)
			old, before := certificates(t, tree), snapshot(t, tree)
			code, _, stderr := m.run(t, "run", "renew")
			require.Equal(t, 0, code, stderr)
			require.Contains(t, stderr, "the cluster's configuration could not be read; kubeadm was given one made from the certificates on disk")
			requireRenewed(t, tree, old, before)
			for name, c := range certificates(t, tree) {
				require.IsType(t, &ecdsa.PublicKey{}, c.PublicKey, name)
				require.InDelta(t, validity.Hours(), time.Until(c.NotAfter).Hours(), 1, name)
			}
		})
	}
}

// TestTrapKeysThatStay proves that no shipped playbook touches the key that
// signs service accounts' tokens, its public half, or a CA, even by force.
func TestTrapKeysThatStay(t *testing.T) {
	t.Parallel()
	fresh := due(t, "1.34.4")
	ended := fresh.Copy(t)
	kubeadm.Reissue(t, ended, renewable(ended), time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour))
	for name, c := range map[string]struct {
		tree kubeadm.Tree
		args []string
	}{
		"renew":   {fresh, []string{"renew", "--set", "force=true"}},
		"seed":    {fresh, []string{"seed"}},
		"recover": {ended, append([]string{"recover"}, overlay(t, "- {id: kubelet, off: nothing runs here}\n- {id: etcd, off: likewise}\n- {id: restart, off: likewise}\n- {id: healthy, off: likewise}\n- {id: verify, off: likewise}\n")...)},
	} {
		t.Run(name, func(t *testing.T) {
			m := local(t, c.tree.Copy(t))
			old, stays := serials(t, m.tree), whatStays(t, m.tree)
			require.Len(t, stays, 8)
			var code int
			var stderr string
			if c.args[0] == "recover" {
				code, _, stderr = certbook(t, append(append([]string{"run"}, c.args...), append(m.flags, "--yes", "--run-dir", m.dir)...)...)
			} else {
				code, _, stderr = m.run(t, append([]string{"run"}, c.args...)...)
			}
			require.Equal(t, 0, code, stderr)
			requireOnly(t, m.tree, old, renewable(m.tree)...)
			require.Equal(t, stays, whatStays(t, m.tree))
		})
	}
}

// whatStays returns hash, inode and modification time of the files that no
// renewal may write.
func whatStays(t *testing.T, tree kubeadm.Tree) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range []string{"sa.key", "sa.pub", "ca.crt", "ca.key", "etcd/ca.crt", "etcd/ca.key", "front-proxy-ca.crt", "front-proxy-ca.key"} {
		file := tree.Path(tree.PKI + "/" + name)
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		info, err := os.Stat(file)
		require.NoError(t, err)
		out[name] = fmt.Sprintf("%x %d %s", sha256.Sum256(data), info.Sys().(*syscall.Stat_t).Ino, info.ModTime())
	}
	return out
}
