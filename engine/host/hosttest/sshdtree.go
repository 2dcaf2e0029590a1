package hosttest

import (
	"bytes"
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

	"github.com/stretchr/testify/require"
)

// Pid returns the process that the server and its sessions descend from.
func (s *Server) Pid() int { return s.pid }

// Stop ends the server and all its sessions, as a machine that loses its power.
func (s *Server) Stop() { signalTree(s.pid, syscall.SIGKILL) }

// Freeze stops or continues the server and all its sessions: connections stay
// open, and nothing answers.
func (s *Server) Freeze(t *testing.T, frozen bool) {
	t.Helper()
	if frozen {
		signalTree(s.pid, syscall.SIGSTOP)
		return
	}
	signalTree(s.pid, syscall.SIGCONT)
}

// signalTree sends a signal to a process and its descendants.
func signalTree(pid int, sig syscall.Signal) {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		id, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		rest := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		if len(rest) > 1 {
			parent, _ := strconv.Atoi(rest[1])
			children[parent] = append(children[parent], id)
		}
	}
	todo := []int{pid}
	for i := 0; i < len(todo); i++ {
		todo = append(todo, children[todo[i]]...)
	}
	slices.Reverse(todo)
	for _, id := range todo {
		_ = syscall.Kill(id, sig)
	}
}

// SudoUser makes a user who may use sudo, with a password if there is one, and
// removes it after the test. It needs root, useradd and sudo.
func SudoUser(t *testing.T, password string) (name string) {
	t.Helper()
	Needs(t, "root", "useradd", "userdel", "sudo", "openssl")
	name = fmt.Sprintf("certbook-test-%x", time.Now().UnixNano()&0xffffff)
	secret, rule := "*", " ALL=(ALL:ALL) NOPASSWD: ALL\n"
	if password != "" {
		cmd := exec.Command("openssl", "passwd", "-6", "-stdin")
		cmd.Stdin = strings.NewReader(password)
		out, err := cmd.Output()
		require.NoError(t, err)
		secret, rule = strings.TrimSpace(string(out)), " ALL=(ALL:ALL) ALL\n"
	}
	// Another test may hold the lock of the password file.
	require.Eventually(t, func() bool {
		return exec.Command("useradd", "-M", "-d", "/", "-s", "/bin/sh", "-p", secret, name).Run() == nil
	}, 20*time.Second, 100*time.Millisecond, "useradd fails")
	t.Cleanup(func() {
		os.Remove("/etc/sudoers.d/" + name)
		require.Eventually(t, func() bool { return exec.Command("userdel", "-f", name).Run() == nil },
			20*time.Second, 100*time.Millisecond, "userdel fails")
	})
	require.NoError(t, os.WriteFile("/etc/sudoers.d/"+name, []byte(name+rule), 0o440))
	return name
}
