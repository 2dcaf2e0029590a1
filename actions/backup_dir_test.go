package actions

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"certbook/engine"

	"github.com/stretchr/testify/require"
)

func backup() *BackupDir {
	return &BackupDir{Src: "/etc/kubernetes", Dest: "/var/backups/certbook", Run: "20260102T030405Z-aa", Keep: 10}
}

const backedUp = "/var/backups/certbook/20260102T030405Z-aa/etc@kubernetes"

// kubernetes lays out a small directory with what copies tend to lose.
func kubernetes(t *testing.T, at func(string) string) {
	t.Helper()
	put(t, at("/etc/kubernetes/admin.conf"), "admin", 0o640)
	put(t, at("/etc/kubernetes/pki/ca.key"), "key", 0o600)
	put(t, at("/etc/kubernetes/pki/a name with 'all' \"kinds\" $(of) *"), "odd", 0o644)
	put(t, at("/etc/kubernetes/.hidden"), "", 0o400)
	require.NoError(t, os.Symlink("ca.key", at("/etc/kubernetes/pki/link")))
	require.NoError(t, os.Symlink("/nowhere", at("/etc/kubernetes/dangling")))
	require.NoError(t, os.Chmod(at("/etc/kubernetes/pki"), 0o750))
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(at("/etc/kubernetes/admin.conf"), 1234, 2345))
	}
}

func TestBackupDir(t *testing.T) {
	h, at := rooted(t)
	kubernetes(t, at)
	old := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	require.NoError(t, os.Chtimes(at("/etc/kubernetes/admin.conf"), old, old))
	xattr := syscall.Setxattr(at("/etc/kubernetes/admin.conf"), "user.certbook", []byte("x"), 0) == nil

	res := carryOut(t, backup(), h)
	require.Equal(t, Backup{Path: backedUp, Files: 4}, res.Outputs)
	require.Len(t, res.Done, 1)
	requireClean(t, backup(), h)

	for _, p := range []string{"admin.conf", "pki/ca.key", "pki/a name with 'all' \"kinds\" $(of) *", ".hidden", "pki", "pki/link", "dangling"} {
		want, err := os.Lstat(at("/etc/kubernetes/" + p))
		require.NoError(t, err)
		have, err := os.Lstat(at(backedUp + "/" + p))
		require.NoError(t, err)
		require.Equal(t, want.Mode(), have.Mode(), p)
		require.Equal(t, want.ModTime(), have.ModTime(), p)
		require.Equal(t, want.Sys().(*syscall.Stat_t).Uid, have.Sys().(*syscall.Stat_t).Uid, p)
		require.Equal(t, want.Sys().(*syscall.Stat_t).Gid, have.Sys().(*syscall.Stat_t).Gid, p)
	}
	target, err := os.Readlink(at(backedUp + "/dangling"))
	require.NoError(t, err)
	require.Equal(t, "/nowhere", target)
	if xattr {
		value := make([]byte, 8)
		n, err := syscall.Getxattr(at(backedUp+"/admin.conf"), "user.certbook", value)
		require.NoError(t, err)
		require.Equal(t, "x", string(value[:n]))
	}
	info, err := os.Stat(at(filepath.Dir(backedUp)))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	left, err := filepath.Glob(at(filepath.Dir(backedUp) + "/.*.partial"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestBackupDirReverts(t *testing.T) {
	h, at := rooted(t)
	kubernetes(t, at)
	a := backup()
	carryOut(t, a, h)
	put(t, at("/etc/kubernetes/admin.conf"), "changed", 0o666)
	require.NoError(t, os.Remove(at("/etc/kubernetes/pki/ca.key")))
	require.NoError(t, os.Remove(at("/etc/kubernetes/dangling")))
	require.NoError(t, os.Chmod(at("/etc/kubernetes/pki"), 0o777))
	require.NoError(t, a.Revert(t.Context(), h))
	require.NoError(t, same(t.Context(), h, a.Src, a.target()))
	require.Equal(t, "admin", text(t, at("/etc/kubernetes/admin.conf")))
}

// TestBackupDirPartial is a copy that a crash has cut off: it does not count.
func TestBackupDirPartial(t *testing.T) {
	h, at := rooted(t)
	kubernetes(t, at)
	put(t, at(filepath.Dir(backedUp)+"/.etc@kubernetes.partial/stale"), "x", 0o600)
	carryOut(t, backup(), h)
	require.NoFileExists(t, at(backedUp+"/stale"))

	half := backup()
	put(t, at(half.partial()+"/half"), "x", 0o600)
	require.NoError(t, half.Revert(t.Context(), h), "of an Apply that failed")
	require.NoDirExists(t, at(half.partial()))
	require.FileExists(t, at(backedUp+"/admin.conf"), "what was complete stays")
}

func TestBackupDirKeeps(t *testing.T) {
	h, at := rooted(t)
	kubernetes(t, at)
	for _, d := range []string{"20250101T000000Z-aa", "20250102T000000Z-aa", "20250103T000000Z-aa"} {
		put(t, at("/var/backups/certbook/"+d+"/"+marker), "", 0o600)
	}
	put(t, at("/var/backups/certbook/20240101T000000Z-aa/precious"), "", 0o600)
	a := backup()
	a.Keep = 2
	carryOut(t, a, h)
	entries, err := os.ReadDir(at("/var/backups/certbook"))
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	require.Equal(t, []string{"20240101T000000Z-aa", "20250103T000000Z-aa", "20260102T030405Z-aa"}, names,
		"the newest two, and what has no marker")
}

func TestBackupDirRefuses(t *testing.T) {
	for want, a := range map[string]BackupDir{
		`src: "etc" is not the absolute path`: {Src: "etc", Dest: "/b", Run: "r"},
		`src: "/" is not`:                     {Src: "/", Dest: "/b", Run: "r"},
		`dest: "b" is not an absolute path`:   {Src: "/etc", Dest: "b", Run: "r"},
		`lies inside src "/etc/kubernetes"`:   {Src: "/etc/kubernetes", Dest: "/etc/kubernetes/../kubernetes/backup", Run: "r"},
		`kubelet would run what is copied`:    {Src: "/srv", Dest: "/etc/kubernetes/manifests/", Run: "r"},
		`run: "" is not a plain name`:         {Src: "/etc", Dest: "/b"},
		`run: "../x" is not a plain name`:     {Src: "/etc", Dest: "/b", Run: "../x"},
		`run: "a*" is not a plain name`:       {Src: "/etc", Dest: "/b", Run: "a*"},
		`keep: want 0 or more`:                {Src: "/etc", Dest: "/b", Run: "r", Keep: -1},
	} {
		require.ErrorContains(t, a.Validate(), want)
	}
	require.NoError(t, backup().Validate())
	require.NoError(t, (&BackupDir{Src: "/etc/kube", Dest: "/etc/kubernetes", Run: "r"}).Validate())

	h, _ := rooted(t)
	_, err := backup().Check(t.Context(), h)
	require.EqualError(t, err, "src: no directory /etc/kubernetes on this host")
}

func TestRestoreDir(t *testing.T) {
	h, at := rooted(t)
	kubernetes(t, at)
	carryOut(t, backup(), h)
	put(t, at("/etc/kubernetes/admin.conf"), "changed", 0o666)
	put(t, at("/etc/kubernetes/new.conf"), "new", 0o600)
	require.NoError(t, os.RemoveAll(at("/etc/kubernetes/pki")))
	began := time.Now().Add(-time.Second)

	restore := func() *RestoreDir {
		return &RestoreDir{Src: backedUp, Dest: "/etc/kubernetes", Save: "/var/lib/certbook/r/restore"}
	}
	a := restore()
	carryOut(t, a, h)
	requireClean(t, restore(), h)
	left, err := restorable(t.Context(), h, backedUp, "/etc/kubernetes")
	require.NoError(t, err)
	require.Empty(t, left)
	require.Equal(t, "new", text(t, at("/etc/kubernetes/new.conf")), "what the backup does not have stays")
	info, err := os.Stat(at("/etc/kubernetes/admin.conf"))
	require.NoError(t, err)
	require.True(t, info.ModTime().After(began), "a restored file is newer than the processes")

	require.NoError(t, a.Revert(t.Context(), h))
	require.Equal(t, "changed", text(t, at("/etc/kubernetes/admin.conf")))
	info, err = os.Stat(at("/etc/kubernetes/admin.conf"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o666), info.Mode(), "the mode comes back too")

	_, err = (&RestoreDir{Src: "/nowhere", Dest: "/etc/kubernetes"}).Check(t.Context(), h)
	require.EqualError(t, err, "src: no backup /nowhere on this host")
	require.ErrorContains(t, (&RestoreDir{Src: "x", Dest: "/etc"}).Validate(), `src: "x" is not`)
	require.ErrorContains(t, (&RestoreDir{Src: "/x", Dest: "/"}).Validate(), `dest: "/" is not`)
}

// TestPruneOddNames has names beside the backups that read like several ones.
func TestPruneOddNames(t *testing.T) {
	h, at := rooted(t)
	ids := []string{"20260101T000000Z-aa", "20260102T000000Z-aa", "20260103T000000Z-aa"}
	odd := []string{ids[0] + " " + ids[1], ids[0] + "\n" + ids[2], "-n", "'*'", "*"}
	for _, name := range append(append([]string{}, ids...), odd...) {
		require.NoError(t, os.MkdirAll(at("/b/"+name), 0o700))
	}
	for _, id := range ids {
		put(t, at("/b/"+id+"/"+marker), "", 0o600)
	}
	prune := func(keep string) {
		_, err := h.Exec(t.Context(), engine.Command{Argv: []string{"sh", "-c", pruneScript, "sh", h.Path("/b/" + ids[2]), keep}})
		require.NoError(t, err)
	}
	prune("3")
	entries, err := os.ReadDir(at("/b"))
	require.NoError(t, err)
	require.Len(t, entries, len(ids)+len(odd), "three are kept, and what is no backup")
	prune("1")
	require.NoDirExists(t, at("/b/"+ids[0]))
	require.NoDirExists(t, at("/b/"+ids[1]))
	require.DirExists(t, at("/b/"+ids[2]))
	for _, name := range odd {
		require.DirExists(t, at("/b/"+name))
	}
}

// TestScratch makes the directory in which kubeadm works, where something else
// is in the way: it is new, for root alone, and what was there is not followed.
func TestScratch(t *testing.T) {
	h, at := rooted(t)
	put(t, at("/etc/kubernetes/pki/a 'b'\n$(c).key"), "key", 0o600)
	put(t, at("/etc/shadow"), "secret", 0o640)
	require.NoError(t, os.MkdirAll(at("/run/certbook"), 0o700))
	require.NoError(t, os.Symlink("../../etc", at("/run/certbook/renew")))
	name := "etc/kubernetes/pki/a 'b'\n$(c).key"
	put(t, at("/data/ca.crt"), "ca", 0o640)
	_, err := h.Exec(t.Context(), engine.Command{Argv: copyArgv(h.Path("/"), h.Path("/run/certbook/renew"), [][2]string{
		{name, name}, {"data/ca.crt", "etc/kubernetes/pki/ca.crt"}, {"data/ca.crt", "etc/kubernetes/ca.crt"}, {"etc/shadow", "etc/shadow"},
	})})
	require.NoError(t, err)
	require.Equal(t, "secret", text(t, at("/etc/shadow")))
	info, err := os.Lstat(at("/run/certbook/renew"))
	require.NoError(t, err)
	require.Equal(t, os.ModeDir|0o700, info.Mode())
	require.Equal(t, "key", text(t, at("/run/certbook/renew/"+name)))
	require.Equal(t, "ca", text(t, at("/run/certbook/renew/etc/kubernetes/ca.crt")))
	for file, mode := range map[string]os.FileMode{name: 0o600, "etc/kubernetes/pki/ca.crt": 0o640, "etc/shadow": 0o640} {
		info, err := os.Lstat(at("/run/certbook/renew/" + file))
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode(), file)
	}
	_, err = h.Exec(t.Context(), engine.Command{Argv: copyArgv(h.Path("/"), h.Path("/run/certbook/renew"), [][2]string{{"etc/none", "etc/none"}})})
	require.ErrorContains(t, err, "etc/none")
}
