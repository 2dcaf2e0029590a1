package host_test

import (
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
