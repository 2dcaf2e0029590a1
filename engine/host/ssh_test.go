package host_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"certbook/engine"
	"certbook/engine/host"
	"certbook/engine/host/hosttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dialled connects and hangs up at the end of the test.
func dialled(t *testing.T, opt host.SSHOptions) *host.Host {
	t.Helper()
	h, err := host.Dial(t.Context(), opt)
	require.NoError(t, err)
	t.Cleanup(func() { h.Close() })
	return h
}

func TestSSHRoot(t *testing.T) {
	s := hosttest.SSHD(t, hosttest.SSHDOptions{})
	hosttest.Run(t, func(t *testing.T) (engine.Host, string) {
		opt := s.Options()
		opt.Sudo = host.SudoAuto
		return dialled(t, opt), scratch(t)
	})
}

func TestSSHNoForwarding(t *testing.T) {
	s := hosttest.SSHD(t, hosttest.SSHDOptions{Config: []string{"AllowTcpForwarding no"}})
	hosttest.Run(t, func(t *testing.T) (engine.Host, string) {
		return dialled(t, s.Options()), scratch(t)
	})
}

func TestSSHSudo(t *testing.T) {
	user := hosttest.SudoUser(t, "")
	s := hosttest.SSHD(t, hosttest.SSHDOptions{Users: []string{user}})
	hosttest.Run(t, func(t *testing.T) (engine.Host, string) {
		opt := s.Options()
		opt.User, opt.Sudo = user, host.SudoAuto
		return dialled(t, opt), scratch(t)
	})
}

func TestSSHSudoPassword(t *testing.T) {
	user := hosttest.SudoUser(t, "pass 'word\"$x")
	s := hosttest.SSHD(t, hosttest.SSHDOptions{Users: []string{user}})
	opt := s.Options()
	opt.User, opt.Sudo = user, host.SudoAuto

	_, err := host.Dial(t.Context(), opt)
	require.ErrorIs(t, err, host.ErrSudo)
	require.EqualError(t, err, "m1: user "+user+" may not use sudo without a password; give --ask-sudo-pass or NOPASSWD")

	opt.SudoPassword = func(context.Context, string) (string, error) { return "wrong", nil }
	_, err = host.Dial(t.Context(), opt)
	require.ErrorIs(t, err, host.ErrSudo)
	require.ErrorContains(t, err, "does not accept the password")

	opt.SudoPassword = func(_ context.Context, name string) (string, error) {
		require.Equal(t, "m1", name)
		return "pass 'word\"$x", nil
	}
	hosttest.Run(t, func(t *testing.T) (engine.Host, string) {
		return dialled(t, opt), scratch(t)
	})
}
