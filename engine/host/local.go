package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// LocalOptions describe the machine that Certbook runs on.
type LocalOptions struct {
	// Root is the directory that stands for "/", also as a relative path.
	// "" and "/" are the machine itself. With another root, every path of the
	// Host lies below it, commands run in it, with ROOT/usr/local/bin,
	// ROOT/usr/bin, ROOT/bin and their sbin first in PATH and with
	// CERTBOOK_ROOT=ROOT in their environment.
	Root string

	// Sudo says whether commands and files go through sudo. The zero value is
	// SudoNever: a local run has the rights of its user.
	Sudo SudoMode

	// SudoPassword is asked when sudo wants a password. May be nil.
	SudoPassword func(ctx context.Context, host string) (string, error)

	// CommandTimeout ends a command that runs longer; 0 does not.
	CommandTimeout time.Duration
}

// Local returns the machine that Certbook runs on.
func Local(ctx context.Context, opt LocalOptions) (*Host, error) {
	h := &Host{name: "localhost", timeout: opt.CommandTimeout}
	t := &local{path: os.Getenv("PATH") + ":" + extraPath}
	if opt.Root != "" && opt.Root != "/" {
		root, err := realDir(opt.Root)
		if err != nil {
			return nil, fmt.Errorf("root directory: %v", err)
		}
		if root != "/" {
			h.root, t.dir = root, root
			t.path = rootPath(root) + ":" + os.Getenv("PATH")
			h.env = []string{"CERTBOOK_ROOT=" + root}
		}
	}
	h.t = t
	h.env = append(h.env, "LC_ALL=C", "LANG=C", "PATH="+t.path)
	if opt.Sudo == SudoNever || opt.Sudo == SudoAuto && os.Geteuid() == 0 {
		h.direct = true
		return h, nil
	}
	s, err := probeSudo(ctx, h, opt.SudoPassword)
	if err != nil {
		return nil, err
	}
	h.sudo = s
	return h, nil
}

func realDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", err
	}
	fi, err := os.Stat(real)
	if err != nil {
		return "", err
	}
	if !fi.IsDir() {
		return "", fmt.Errorf("%s is not a directory", real)
	}
	return real, nil
}

func rootPath(root string) string {
	var dirs []string
	for _, d := range []string{"/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"} {
		dirs = append(dirs, root+d)
	}
	return strings.Join(dirs, ":")
}

// local starts programs of this machine.
type local struct {
	dir  string // where programs run; "" is here
	path string // where they are looked up
}

func (l *local) run(ctx context.Context, p process) (int, error) {
	name, err := l.look(p.argv[0])
	if err != nil {
		fmt.Fprintf(p.stderr, "%v\n", err)
		return 127, nil
	}
	cmd := exec.CommandContext(ctx, name, p.argv[1:]...)
	cmd.Args[0] = p.argv[0]
	cmd.Dir = l.dir
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = grace
	if p.feed == nil {
		return ended(ctx, cmd, cmd.Run())
	}
	w, err := cmd.StdinPipe()
	if err != nil {
		return -1, err
	}
	if err := cmd.Start(); err != nil {
		return ended(ctx, cmd, err)
	}
	done, fed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(fed)
		_ = p.feed(w, done) // a program need not read its input
		if p.hold {
			select {
			case <-ctx.Done():
			case <-done:
			}
		}
		w.Close()
	}()
	err = cmd.Wait() // closes w
	close(done)
	<-fed
	return ended(ctx, cmd, err)
}

// ended turns the result of a command into its exit status.
func ended(ctx context.Context, cmd *exec.Cmd, err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case ctx.Err() != nil:
		if cmd.Process != nil {
			// What is left of the group has ignored the first signal.
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
		return -1, context.Cause(ctx)
	case errors.As(err, &exit):
		st, ok := exit.Sys().(syscall.WaitStatus)
		if ok && st.Signaled() {
			return 128 + int(st.Signal()), nil
		}
		return exit.ExitCode(), nil
	case errors.Is(err, exec.ErrWaitDelay):
		return cmd.ProcessState.ExitCode(), nil // a child kept the output open
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(cmd.Stderr, "%s: command not found\n", cmd.Args[0])
		return 127, nil
	case errors.Is(err, fs.ErrPermission):
		fmt.Fprintf(cmd.Stderr, "%s: permission denied\n", cmd.Args[0])
		return 126, nil
	}
	return -1, err
}

// look finds a program in the machine's own PATH.
func (l *local) look(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(l.path) {
		if dir == "" {
			continue // the current directory is no place for programs
		}
		file := filepath.Join(dir, name)
		if fi, err := os.Stat(file); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s: command not found in PATH=%s", name, l.path)
}

func (l *local) dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

func (l *local) close() error { return nil }
