package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"certbook/engine/host/hosttest"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal for a program's standard input.
type terminal struct {
	keyboard *os.File // what is written here is typed
	tty      *os.File
}

func openTerminal(t *testing.T) *terminal {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { keyboard.Close() })
	number, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0))
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { tty.Close() })
	return &terminal{keyboard, tty}
}

func (c *terminal) types(t *testing.T, text string) {
	t.Helper()
	_, err := io.WriteString(c.keyboard, text)
	require.NoError(t, err)
}

// echoes reports whether what is typed is shown.
func (c *terminal) echoes(t *testing.T) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(c.tty.Fd()), unix.TCGETS)
	require.NoError(t, err)
	return state.Lflag&unix.ECHO != 0
}

// interactive starts the playbook as a user at a terminal, with -K and without
// --yes.
func (c *site) interactive(t *testing.T) (*running, *terminal) {
	t.Helper()
	inventory := c.inventory(t)
	console := openTerminal(t)
	r := prepare(t, "run", filepath.Join(c.dir, "p.yaml"), "-i", inventory, "-K",
		"--run-dir", filepath.Join(c.dir, "runs"), "--ssh-config", "none")
	r.Stdin = console.tty
	r.starts(t)
	return r, console
}

func TestAskSudoPassword(t *testing.T) {
	const password = "correct horse"
	user := hosttest.SudoUser(t, password)
	s := hosttest.SSHD(t, hosttest.SSHDOptions{Users: []string{user}})

	t.Run("once for the plan and the run", func(t *testing.T) {
		c := newSite(t, s, user)
		r, console := c.interactive(t)
		r.stderr.waits(t, "sudo password: ")
		require.Eventually(t, func() bool { return !console.echoes(t) }, patience, tick)
		console.types(t, password+"\n")
		r.stderr.waits(t, "Carry this out? [yes/no] ")
		require.Contains(t, r.stderr.String(), "~ touch "+c.made)
		require.True(t, console.echoes(t))
		require.NoFileExists(t, c.made)
		console.types(t, "yes\n")
		require.Zero(t, r.ends(t))
		require.FileExists(t, c.made)
		require.Equal(t, 1, strings.Count(r.stderr.String(), "sudo password: "))
		require.NotContains(t, r.stderr.String()+r.stdout.String()+tree(t, filepath.Join(c.dir, "runs")), password)
	})

	t.Run("interrupted", func(t *testing.T) {
		c := newSite(t, s, user)
		r, console := c.interactive(t)
		r.stderr.waits(t, "sudo password: ")
		require.Eventually(t, func() bool { return !console.echoes(t) }, patience, tick)
		r.interrupts(t, syscall.SIGINT)
		r.stderr.waits(t, "once more stops at once")
		r.interrupts(t, syscall.SIGINT)
		require.Equal(t, 130, r.ends(t))
		require.True(t, console.echoes(t), "the terminal is as it was")
		require.NoFileExists(t, c.made)
	})
}

func TestColour(t *testing.T) {
	dir := t.TempDir()
	playbook := filepath.Join(dir, "p.yaml")
	require.NoError(t, os.WriteFile(playbook, []byte(`version: 1
name: p
plays:
- {name: one, hosts: all, steps: [{id: make, action: run-command, with: {argv: [touch, f], creates: /f}}]}
`), 0o600))
	for name, c := range map[string]struct {
		env     string
		colours bool
	}{
		"on a terminal": {"TERM=xterm", true},
		"NO_COLOR":      {"NO_COLOR=1", false},
		"empty":         {"NO_COLOR=", true}, // as no-color.org has it
		"dumb":          {"TERM=dumb", false},
	} {
		t.Run(name, func(t *testing.T) {
			console := openTerminal(t)
			r := prepare(t, "plan", playbook, "--root", dir)
			r.Env = append(os.Environ(), "TERM=xterm", "NO_COLOR=", c.env)
			r.Stdout = console.tty
			r.starts(t)
			require.Zero(t, r.ends(t))
			shown := make([]byte, 4096)
			n, err := console.keyboard.Read(shown)
			require.NoError(t, err)
			require.Contains(t, string(shown[:n]), "run-command")
			require.Equal(t, c.colours, strings.Contains(string(shown[:n]), "\x1b["), "%q", shown[:n])
		})
	}
}
