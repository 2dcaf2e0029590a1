package host_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"certbook/engine"
	"certbook/engine/host"
	"certbook/engine/host/hosttest"
)

func fingerprint(t *testing.T, pubFile string) string {
	t.Helper()
	data, err := os.ReadFile(pubFile)
	require.NoError(t, err)
	key, _, _, _, err := ssh.ParseAuthorizedKey(data)
	require.NoError(t, err)
	return ssh.FingerprintSHA256(key)
}

// hostLine returns a known_hosts line for a key of the server.
func hostLine(t *testing.T, s *hosttest.Server, pubFile, marker string) string {
	t.Helper()
	pub, err := os.ReadFile(pubFile)
	require.NoError(t, err)
	return strings.TrimSpace(fmt.Sprintf("%s [127.0.0.1]:%d %s", marker, s.Port, pub)) + "\n"
}

func TestHostKeys(t *testing.T) {
	s := hosttest.SSHD(t, hosttest.SSHDOptions{})
	file := filepath.Join(t.TempDir(), "dir", "known_hosts")
	opt := s.Options()
	opt.KnownHosts = []string{file}
	try := func(t *testing.T, lines string) error {
		t.Helper()
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
		require.NoError(t, os.WriteFile(file, []byte(lines), 0o600))
		h, err := host.Dial(t.Context(), opt)
		if err == nil {
			h.Close()
		}
		return err
	}
	hosttest.Keygen(t, s.Dir+"/other", "ed25519", "")
	other := hostLine(t, s, s.Dir+"/other.pub", "")

	t.Run("unknown", func(t *testing.T) {
		err := try(t, "# nothing\n")
		require.ErrorIs(t, err, host.ErrHostKeyUnknown)
		require.ErrorContains(t, err, "m1: the host key is not known")
		require.ErrorContains(t, err, "--accept-new")
		require.ErrorContains(t, err, file)
		require.Regexp(t, `SHA256:[A-Za-z0-9+/]{43}`, err.Error())
	})
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		t.Run("known by its "+kind+" key alone", func(t *testing.T) {
			require.NoError(t, try(t, hostLine(t, s, s.Dir+"/host_"+kind+".pub", "")))
		})
	}
	t.Run("hashed", func(t *testing.T) {
		require.NoError(t, os.WriteFile(file, []byte(hostLine(t, s, s.Dir+"/host_rsa.pub", "")), 0o600))
		out, err := exec.Command("ssh-keygen", "-H", "-f", file).CombinedOutput()
		require.NoError(t, err, "%s", out)
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NotContains(t, string(data), "127.0.0.1")
		require.NoError(t, try(t, string(data)))
	})
	t.Run("changed", func(t *testing.T) {
		err := try(t, "# comment\n"+other)
		require.ErrorIs(t, err, host.ErrHostKeyChanged)
		for _, text := range []string{"HAS CHANGED", fingerprint(t, s.Dir+"/host_ed25519.pub"), fingerprint(t, s.Dir+"/other.pub"), file + ":2", "ssh-keygen -R"} {
			require.ErrorContains(t, err, text)
		}
	})
	t.Run("changed is not accepted as new", func(t *testing.T) {
		opt.AcceptNew = true
		defer func() { opt.AcceptNew = false }()
		require.ErrorIs(t, try(t, other), host.ErrHostKeyChanged)
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, other, string(data))
	})
	t.Run("revoked", func(t *testing.T) {
		good := hostLine(t, s, s.Dir+"/host_ed25519.pub", "")
		err := try(t, good+hostLine(t, s, s.Dir+"/host_ed25519.pub", "@revoked"))
		require.ErrorIs(t, err, host.ErrHostKeyRevoked)
		require.ErrorContains(t, err, fingerprint(t, s.Dir+"/host_ed25519.pub"))
		require.ErrorContains(t, err, file+":2")
	})
	t.Run("unreadable line", func(t *testing.T) {
		require.ErrorContains(t, try(t, "127.0.0.1 ssh-rsa !!!\n"), file+":1")
	})
}

func TestOtherKeyType(t *testing.T) {
	s := hosttest.SSHD(t, hosttest.SSHDOptions{HostKeys: []string{"rsa"}})
	hosttest.Keygen(t, s.Dir+"/other", "ed25519", "")
	require.NoError(t, os.WriteFile(s.KnownHosts, []byte(hostLine(t, s, s.Dir+"/other.pub", "")), 0o600))
	_, err := host.Dial(t.Context(), s.Options())
	require.ErrorIs(t, err, host.ErrHostKeyChanged)
	require.ErrorContains(t, err, fingerprint(t, s.Dir+"/other.pub"))
}

func TestAcceptNew(t *testing.T) {
	s := hosttest.SSHD(t, hosttest.SSHDOptions{Config: []string{"MaxStartups 200"}})
	opt := s.Options()
	file := filepath.Join(t.TempDir(), "new dir", "known_hosts")
	opt.KnownHosts, opt.AcceptNew = []string{file}, true
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			h, err := host.Dial(t.Context(), opt)
			if err != nil {
				t.Error(err)
				return
			}
			h.Close()
		})
	}
	all.Wait()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(data), "\n"), "recorded once: %s", data)
	require.True(t, strings.HasPrefix(string(data), fmt.Sprintf("[127.0.0.1]:%d ", s.Port)))
	fi, err := os.Stat(file)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, fi.Mode().Perm())

	opt.AcceptNew = false
	h, err := host.Dial(t.Context(), opt)
	require.NoError(t, err, "what was recorded is known")
	h.Close()

	require.NoError(t, os.WriteFile(file, []byte("# no newline at the end"), 0o600))
	opt.AcceptNew = true
	h, err = host.Dial(t.Context(), opt)
	require.NoError(t, err)
	h.Close()
	data, err = os.ReadFile(file)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(data), "# no newline at the end\n["), "%s", data)
}

// config writes an ssh configuration.
func config(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func TestConfigAndJump(t *testing.T) {
	far := hosttest.SSHD(t, hosttest.SSHDOptions{Config: []string{"SetEnv CERTBOOK_HOP=far"}})
	b1 := hosttest.SSHD(t, hosttest.SSHDOptions{})
	b2 := hosttest.SSHD(t, hosttest.SSHDOptions{})
	known := filepath.Join(t.TempDir(), "known hosts")
	var lines []byte
	for _, s := range []*hosttest.Server{far, b1, b2} {
		data, err := os.ReadFile(s.KnownHosts)
		require.NoError(t, err)
		lines = append(lines, data...)
		pub, err := os.ReadFile(far.Identity + ".pub")
		require.NoError(t, err)
		s.Authorize(t, string(pub))
	}
	require.NoError(t, os.WriteFile(known, lines, 0o600))
	home := t.TempDir()
	t.Setenv("HOME", home)
	require.NoError(t, os.Mkdir(home+"/.ssh", 0o700))
	key, err := os.ReadFile(far.Identity)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(home+"/.ssh/key_root", key, 0o600))
	text := fmt.Sprintf(`
Host far
  HostName 127.0.0.1
  Port %d
  ProxyJump b1,root@b2:%d
Host b1
  HostName 127.0.0.1
  Port %d
Host b2
  HostName 127.0.0.1
Host near
  HostName 127.0.0.1
  Port %d
Host *
  User root
  IdentityFile %%d/.ssh/key_%%r
  IdentitiesOnly yes
`, far.Port, b2.Port, b1.Port, far.Port)
	opt := host.SSHOptions{Name: "far", NoAgent: true, KnownHosts: []string{known}, ConfigFile: config(t, text)}
	hop := func(h engine.Host) string {
		out, err := h.Exec(t.Context(), engine.Command{Argv: []string{"sh", "-c", "echo $CERTBOOK_HOP"}})
		require.NoError(t, err)
		return strings.TrimSpace(string(out.Stdout))
	}
	require.Equal(t, "far", hop(dialled(t, opt)))
	log, err := os.ReadFile(b1.Log)
	require.NoError(t, err)
	require.Contains(t, string(log), "Accepted publickey for root", "by way of the first jump host")
	log, err = os.ReadFile(b2.Log)
	require.NoError(t, err)
	require.Contains(t, string(log), "Accepted publickey for root", "by way of the second jump host")

	near := opt
	near.Address, near.Name = "near", "m7"
	near.Jump = []string{fmt.Sprintf("root@b2:%d", b2.Port)}
	require.Equal(t, "far", hop(dialled(t, near)), "options win over the file")

	// Each hop is verified.
	good, err := os.ReadFile(b2.KnownHosts)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(known, []byte(strings.ReplaceAll(string(lines), string(good), "")), 0o600))
	_, err = host.Dial(t.Context(), opt)
	require.ErrorIs(t, err, host.ErrHostKeyUnknown)
	require.ErrorContains(t, err, fmt.Sprintf("far: jump host 127.0.0.1:%d: the host key is not known", b2.Port))
}

func TestConfigRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"match exec":    {"Match exec true\n  User x\n", "Match Exec is not supported"},
		"proxy command": {"Host m1\n  ProxyCommand nc %h %p\n", "m1 has a ProxyCommand, which is not run; use ProxyJump"},
		"port":          {"Host m1\n  Port x\n", `"x" is not a port`},
		"jump":          {"Host m1\n  ProxyJump a@\n", `jump host "a@" is not`},
		"circle":        {"Host m1\n  ProxyJump m1\n", "go round in circles"},
		"missing key":   {"", "there is no key to log in with"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "missing key" {
				s := hosttest.SSHD(t, hosttest.SSHDOptions{})
				t.Setenv("HOME", t.TempDir())
				opt := s.Options()
				opt.Identity = nil
				_, err := host.Dial(t.Context(), opt)
				require.ErrorIs(t, err, host.ErrAuth)
				require.ErrorContains(t, err, c.want)
				return
			}
			_, err := host.Dial(t.Context(), host.SSHOptions{Name: "m1", ConfigFile: config(t, c.text)})
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "m1: ")
		})
	}
	_, err := host.Dial(t.Context(), host.SSHOptions{Name: "m1", ConfigFile: "/nonexistent/config"})
	require.ErrorContains(t, err, "m1: ssh configuration: open /nonexistent/config")
}
