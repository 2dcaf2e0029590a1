package kubeadm

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Tree is the root directory of a control-plane node on which nothing runs.
// Paths in it are those of the node; Path tells where they lie on this machine.
type Tree struct {
	Root    string // the directory, absolute
	Version string // of the kubeadm that made it, "1.34.4"
	Binary  string // that kubeadm, on this machine
	Config  string // its configuration file, a path of the node
	PKI     string // certificatesDir, a path of the node
	Node    string // node name
	Address string // advertise address
}

// Path returns where a path of the node lies on this machine. A symbolic link
// is not followed.
func (t Tree) Path(path string) string { return filepath.Join(t.Root, path) }

// Copy returns a copy of the tree in a new temporary directory, with the same
// modes and modification times. It takes milliseconds where Layout takes
// seconds.
func (t Tree) Copy(tb testing.TB) Tree {
	tb.Helper()
	root := tb.TempDir()
	err := filepath.WalkDir(t.Root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == t.Root {
			return err
		}
		return copyEntry(path, filepath.Join(root, path[len(t.Root):]))
	})
	if err != nil {
		tb.Fatalf("copy tree: %v", err)
	}
	t.Root = root
	return t
}

// copyEntry copies a directory without its entries, a symbolic link or a file.
func copyEntry(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	switch {
	case info.IsDir():
		return os.Mkdir(to, info.Mode())
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, data, info.Mode()); err != nil {
		return err
	}
	return os.Chtimes(to, time.Time{}, info.ModTime())
}

// Output is what a program printed and its exit status.
type Output struct {
	Stdout, Stderr string
	Code           int
}

// Run runs the tree's kubeadm inside the tree: with --rootfs, so that it sees
// nothing else of this machine's files, and without this machine's
// environment. Another exit status than 0 is for the caller to judge; the test
// fails when kubeadm cannot be started or takes longer than a minute.
func (t Tree) Run(tb testing.TB, args ...string) Output {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, t.Binary, append([]string{"--rootfs", t.Root}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"} // of the tree: there is no program
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if ctx.Err() != nil || err != nil && !errors.As(err, &exit) {
		tb.Fatalf("kubeadm %s %v: %v (%v)\n%s", t.Version, args, err, ctx.Err(), stderr.String())
	}
	return Output{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// Certs runs `kubeadm certs` with args, which is `kubeadm alpha certs` before
// 1.20. It behaves as Run.
func (t Tree) Certs(tb testing.TB, args ...string) Output {
	tb.Helper()
	args = append([]string{"certs"}, args...)
	if minor(t.Version) < 20 {
		args = append([]string{"alpha"}, args...)
	}
	return t.Run(tb, args...)
}

// Files returns what the tree holds now: the content of every file, the target
// of every symbolic link, by path of the node. It is meant for comparing a
// tree before and after.
func (t Tree) Files(tb testing.TB) map[string]string {
	tb.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(t.Root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := path[len(t.Root):]
		if d.Type()&fs.ModeSymlink != 0 {
			files[name], err = os.Readlink(path)
			return err
		}
		data, err := os.ReadFile(path)
		files[name] = string(data)
		return err
	})
	if err != nil {
		tb.Fatalf("read tree: %v", err)
	}
	return files
}
