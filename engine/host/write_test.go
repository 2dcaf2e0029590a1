package host_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"certbook/engine"
	"certbook/engine/host"
	"certbook/engine/host/hosttest"
)

// tampered returns a host with a root in which one program does something else.
func tampered(t *testing.T, program, script string) (*host.Host, string) {
	t.Helper()
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(root+"/usr/local/bin", 0o755))
	require.NoError(t, os.WriteFile(root+"/usr/local/bin/"+program, []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	h, err := host.Local(t.Context(), host.LocalOptions{Root: root})
	require.NoError(t, err)
	return h, root
}

func TestWriteFailures(t *testing.T) {
	for program, script := range map[string]string{
		"mktemp": "echo mktemp: no >&2; exit 1",
		"cat":    "echo x; echo cat: No space left on device >&2; exit 1",
		"chmod":  "echo chmod: no >&2; exit 1",
		"mv":     "echo mv: no >&2; exit 1",
		"stat":   "exec /usr/bin/stat -c 7 /", // the content seems to be cut off
	} {
		t.Run(program, func(t *testing.T) {
			h, root := tampered(t, program, script)
			name := root + "/f"
			require.NoError(t, os.WriteFile(name, []byte("old"), 0o640))
			err := h.WriteFile(t.Context(), "/f", []byte("new content"), engine.FileOptions{Mode: 0o600})
			require.ErrorContains(t, err, "write /f: ")
			data, rerr := os.ReadFile(name)
			require.NoError(t, rerr)
			require.Equal(t, "old", string(data), "%v", err)
			left, rerr := filepath.Glob(root + "/.certbook*")
			require.NoError(t, rerr)
			require.Empty(t, left)
		})
	}
}

// TestInstallMany installs files of several directories, some through links and
// some from sources of another name, and then again.
func TestInstallMany(t *testing.T) {
	h, root := tampered(t, "unused", "exit 1")
	tree := func(dir string, files map[string]string) {
		for name, data := range files {
			name = filepath.Join(root, dir, name)
			require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
			require.NoError(t, os.WriteFile(name, []byte(data), 0o640))
		}
	}
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		return string(data)
	}
	tree("pki", map[string]string{"a.key": "old a.key", "a.crt": "old a.crt", "etcd/b c.key": "old b.key", "etcd/b c.crt": "old b.crt", "shared": "old shared"})
	require.NoError(t, os.Symlink("etcd/b c.crt", root+"/pki/link.crt"))
	require.NoError(t, os.Symlink("shared", root+"/pki/one"))
	require.NoError(t, os.Symlink("shared", root+"/pki/two"))
	for _, round := range []string{"first", "second"} {
		tree("new", map[string]string{"a.key": round + " a.key", "a.crt": round + " a.crt", "link": round + " link", "x": round + " x", "one": round + " one", "two": round + " two"})
		require.NoError(t, h.InstallAll(t.Context(), []engine.Copy{
			{Src: "/new/a.key", Dst: "/pki/a.key"}, {Src: "/new/a.crt", Dst: "/pki/a.crt"},
			{Src: "/new/x", Dst: "/pki/etcd/b c.key"}, {Src: "/new/link", Dst: "/pki/link.crt"},
			{Src: "/new/one", Dst: "/pki/one"}, {Src: "/new/two", Dst: "/pki/two"}, {Src: "/new/x", Dst: "/pki/etcd/x"},
		}, engine.FileOptions{Save: "/saved"}))
		for name, want := range map[string]string{
			"a.key": " a.key", "a.crt": " a.crt", "etcd/b c.key": " x", "etcd/b c.crt": " link", "shared": " two", "etcd/x": " x",
		} {
			require.Equal(t, round+want, read("pki/"+name), name)
			info, err := os.Lstat(filepath.Join(root, "pki", name))
			require.NoError(t, err)
			mode := os.FileMode(0o640)
			if name == "etcd/x" {
				mode = 0o600
			}
			require.Equal(t, mode, info.Mode(), name)
		}
		for name, want := range map[string]string{
			"a.key": "old a.key", "a.crt": "old a.crt", "etcd/b c.key": "old b.key", "link.crt": "old b.crt", "one": "old shared", "two": "old shared",
		} {
			require.Equal(t, want, read("saved/pki/"+name), "the first one that is saved stays: %s", name)
		}
		require.NoError(t, filepath.Walk(root, func(p string, _ os.FileInfo, err error) error {
			require.NotRegexp(t, `/\.certbook\.`, p, "left behind")
			return err
		}))
	}
	list := engine.ParseReplaced([]byte(read("saved/" + engine.ReplacedList)))
	require.Len(t, list, 14)
	sum := func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
	require.Equal(t, []string{"/pki/link.crt", sum("old b.crt"), sum("first link")}, []string{list[3].Path, list[3].Old, list[3].New})
	require.Equal(t, []string{"/pki/etcd/x", "-", sum("first x")}, []string{list[6].Path, list[6].Old, list[6].New})
	require.Equal(t, []string{"/pki/etcd/x", sum("first x"), sum("second x")}, []string{list[13].Path, list[13].Old, list[13].New})
}

// One of many that cannot be renamed is named.
func TestInstallManyFailure(t *testing.T) {
	h, root := tampered(t, "mv", `for last; do :; done
/bin/mv "$@"
case $last in */b) cp "${last%/.*}/b" "$last"; echo "mv: cannot move '$last' to 'b': Operation not permitted" >&2; exit 1 ;; esac`)
	for _, name := range []string{"a", "b", "new.a", "new.b"} {
		require.NoError(t, os.WriteFile(root+"/"+name, []byte(name), 0o600))
	}
	err := h.InstallAll(t.Context(), []engine.Copy{{Src: "/new.a", Dst: "/a"}, {Src: "/new.b", Dst: "/b"}}, engine.FileOptions{})
	require.EqualError(t, err, "install: /b: cannot be replaced: Operation not permitted")
	left, rerr := filepath.Glob(root + "/.certbook*")
	require.NoError(t, rerr)
	require.Empty(t, left)
}

// What a script complains about becomes part of an error: not all of it.
func TestLongComplaint(t *testing.T) {
	h, _ := tampered(t, "mktemp", "head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1")
	err := h.WriteFile(t.Context(), "/f", []byte("x"), engine.FileOptions{})
	require.ErrorContains(t, err, "write /f: xxx")
	require.Less(t, len(err.Error()), 3000)
	_, err = h.Exec(t.Context(), engine.Command{Argv: []string{"mktemp"}})
	require.ErrorContains(t, err, "mktemp: exit status 1: xxx")
	require.Less(t, len(err.Error()), 3000)
}

func TestWriteKeepsAttributes(t *testing.T) {
	hosttest.Needs(t, "setfattr", "setfacl")
	h, err := host.Local(t.Context(), host.LocalOptions{})
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(name, []byte("old"), 0o640))
	if out, err := exec.Command("setfattr", "-n", "user.certbook", "-v", "kept", name).CombinedOutput(); err != nil {
		hosttest.Lacks(t, "this test needs a file system with extended attributes: "+string(out))
	}
	acl := exec.Command("setfacl", "-m", "u:4321:r", name).Run() == nil
	require.NoError(t, h.WriteFile(t.Context(), name, []byte("new"), engine.FileOptions{}))
	value := make([]byte, 16)
	n, err := syscall.Getxattr(name, "user.certbook", value)
	require.NoError(t, err)
	require.Equal(t, "kept", string(value[:n]))
	if acl {
		out, err := exec.Command("getfacl", "-cn", name).Output()
		require.NoError(t, err)
		require.Contains(t, string(out), "user:4321:r--")
	}
}

// TestWriteKeepsLabel looks at what is asked of chcon, as most machines have no
// SELinux: that the new file gets the old one's label before it is in its place.
func TestWriteKeepsLabel(t *testing.T) {
	h, root := tampered(t, "chcon", `for last; do :; done; [ "$(cat -- "$last")" = new ] && echo "$1" >>"$CERTBOOK_ROOT/seen"`)
	require.NoError(t, os.MkdirAll(root+"/proc", 0o755))
	require.NoError(t, os.WriteFile(root+"/proc/filesystems", []byte("nodev\tsysfs\nnodev\tselinuxfs\n\text4\n"), 0o644))
	require.NoError(t, os.WriteFile(root+"/f", []byte("old"), 0o640))
	require.NoError(t, h.WriteFile(t.Context(), "/f", []byte("new"), engine.FileOptions{}))
	seen, err := os.ReadFile(root + "/seen")
	require.NoError(t, err)
	require.Equal(t, "--reference="+root+"/f\n", string(seen))
}

func TestRelativeRoot(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	require.NoError(t, os.Mkdir("sub", 0o700))
	h, err := host.Local(t.Context(), host.LocalOptions{Root: "sub"})
	require.NoError(t, err)
	real, err := filepath.EvalSymlinks(dir)
	require.NoError(t, err)
	require.Equal(t, real+"/sub/etc/x", h.Path("/etc/x"))
	require.Equal(t, real+"/sub/x", h.Path("/../x"), "no way out")
	out, err := h.Exec(t.Context(), engine.Command{Argv: []string{"sh", "-c", "pwd; echo $CERTBOOK_ROOT; echo $PATH"}})
	require.NoError(t, err)
	require.Regexp(t, "^"+real+"/sub\n"+real+"/sub\n"+real+"/sub/usr/local/bin:"+real+"/sub/usr/bin:", string(out.Stdout))
	_, err = host.Local(t.Context(), host.LocalOptions{Root: "missing"})
	require.ErrorContains(t, err, "root directory: ")
}

func TestProgramsOfTheRoot(t *testing.T) {
	h, root := tampered(t, "kubeadm", `echo "mine $*"`)
	out, err := h.Exec(t.Context(), engine.Command{Argv: []string{"kubeadm", "version"}})
	require.NoError(t, err)
	require.Equal(t, "mine version\n", string(out.Stdout))
	require.NoError(t, os.WriteFile(root+"/usr/local/bin/date", []byte("#!/bin/sh\necho 1700000000.5\n"), 0o755))
	now, err := h.Now(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1700000000, now.Unix(), "the clock is what the root's date says")
}
