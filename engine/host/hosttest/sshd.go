package hosttest

import (
	"bytes"
	"fmt"
	"maps"
	"net"
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

	"certbook/engine/host"
)

// SSHDOptions say what a test server is like. The zero value is a server with
// an ed25519, an ECDSA and an RSA host key into which root may log in.
type SSHDOptions struct {
	// Binds gives the server directories of its own: path on the "remote
	// machine" -> directory of this one. They are mounted in a mount namespace
	// that only the server and its sessions see. In it /root/.bashrc is empty.
	Binds map[string]string

	// Users who may log in beside root; see SudoUser.
	Users []string

	// HostKeys are the types of its keys: ed25519, ecdsa, rsa.
	HostKeys []string

	// Config holds further lines for sshd_config; they come first and win.
	Config []string
}

// Server is an OpenSSH server on 127.0.0.1 that ends with its test.
type Server struct {
	Port       int
	Dir        string // holds its files; readable for everybody
	Identity   string // a private key file that may log in
	KnownHosts string // a known_hosts file with its keys
	Log        string // what it logs
	binds      map[string]string
	pid        int
}

// SSHD starts an OpenSSH server. It needs root and openssh-server; without
// them the test is skipped, or fails when CI is set in the environment.
func SSHD(t *testing.T, opt SSHDOptions) *Server {
	t.Helper()
	Needs(t, "root", "sshd", "ssh-keygen", "unshare", "mount")
	dir, err := os.MkdirTemp("", "certbook-sshd-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.MkdirAll("/run/sshd", 0o755))
	s := &Server{Dir: dir, Identity: dir + "/id_ed25519", KnownHosts: dir + "/known_hosts", Log: dir + "/log", binds: opt.Binds}
	Keygen(t, s.Identity, "ed25519", "")
	pub, err := os.ReadFile(s.Identity + ".pub")
	require.NoError(t, err)
	s.Authorize(t, string(pub))
	if len(opt.HostKeys) == 0 {
		opt.HostKeys = []string{"ed25519", "ecdsa", "rsa"}
	}
	for _, kind := range opt.HostKeys {
		Keygen(t, dir+"/host_"+kind, kind, "")
	}
	for try := 1; ; try++ {
		s.Port = freePort(t)
		if s.start(t, opt) {
			break
		}
		log, _ := os.ReadFile(s.Log)
		require.Less(t, try, 5, "sshd does not start: %s", log)
	}
	s.record(t, opt.HostKeys)
	return s
}

// Needs skips a test, or fails it in CI, when something is missing: "root" or
// the name of a program.
func Needs(t *testing.T, what ...string) {
	t.Helper()
	for _, w := range what {
		text := ""
		if w == "root" {
			if os.Geteuid() != 0 {
				text = "this test needs to be run by root"
			}
		} else if _, err := exec.LookPath(w); err != nil {
			if _, err := exec.LookPath("/usr/sbin/" + w); err != nil {
				text = "this test needs the program " + w
			}
		}
		if text != "" {
			Lacks(t, text)
		}
	}
}

// Lacks skips a test, or fails it in CI, since the machine lacks something.
func Lacks(t *testing.T, text string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(text)
	}
	t.Skip(text)
}

// Keygen makes a key pair of OpenSSH: file and file.pub. Kind is what
// ssh-keygen -t takes.
func Keygen(t *testing.T, file, kind, passphrase string) {
	t.Helper()
	argv := []string{"-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", file}
	if kind == "rsa" {
		argv = append(argv, "-b", "2048")
	}
	run(t, "ssh-keygen", argv...)
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %q: %s", name, args, out)
}

// Authorize lets a public key log in, in addition.
func (s *Server) Authorize(t *testing.T, line string) {
	t.Helper()
	f, err := os.OpenFile(s.Dir+"/authorized_keys", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	defer f.Close()
	_, err = fmt.Fprintln(f, strings.TrimSpace(line))
	require.NoError(t, err)
}

// Options are enough for host.Dial as root.
func (s *Server) Options() host.SSHOptions {
	return host.SSHOptions{
		Name: "m1", Address: "127.0.0.1", Port: s.Port, User: "root",
		Identity: []string{s.Identity}, NoAgent: true, KnownHosts: []string{s.KnownHosts}, ConfigFile: "none",
	}
}

// record writes the known_hosts file.
func (s *Server) record(t *testing.T, kinds []string) {
	t.Helper()
	var b bytes.Buffer
	for _, kind := range kinds {
		pub, err := os.ReadFile(s.Dir + "/host_" + kind + ".pub")
		require.NoError(t, err)
		fmt.Fprintf(&b, "[127.0.0.1]:%d %s", s.Port, pub)
	}
	require.NoError(t, os.WriteFile(s.KnownHosts, b.Bytes(), 0o600))
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// start starts the server and waits until it answers. It is false when the
// server has ended instead, as when its port was taken in the meantime.
func (s *Server) start(t *testing.T, opt SSHDOptions) bool {
	t.Helper()
	conf := append([]string{}, opt.Config...)
	conf = append(conf, "Port "+strconv.Itoa(s.Port), "ListenAddress 127.0.0.1", "PidFile none", "UsePAM no",
		"StrictModes no", "PasswordAuthentication no", "PermitRootLogin prohibit-password", "PrintMotd no",
		"AuthorizedKeysFile "+s.Dir+"/authorized_keys", "AllowUsers "+strings.Join(append([]string{"root"}, opt.Users...), " "),
		"MaxStartups 200", "LogLevel VERBOSE")
	for _, kind := range opt.HostKeys {
		conf = append(conf, "HostKey "+s.Dir+"/host_"+kind)
	}
	require.NoError(t, os.WriteFile(s.Dir+"/sshd_config", []byte(strings.Join(conf, "\n")+"\n"), 0o600))
	log, err := os.Create(s.Log)
	require.NoError(t, err)
	defer log.Close()
	cmd := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-c", sshdScript, "sh", s.Dir+"/sshd_config")
	makeMountPoints(t, slices.Sorted(maps.Keys(opt.Binds)))
	for at, dir := range opt.Binds {
		cmd.Args = append(cmd.Args, dir, at)
	}
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	s.pid = cmd.Process.Pid
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		signalTree(s.pid, syscall.SIGKILL)
		<-ended
	})
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return false
		case <-deadline:
			t.Fatalf("sshd does not answer on port %d", s.Port)
		case <-tick.C:
		}
		if answers(s.Port) {
			return true
		}
	}
}

const sshdScript = `
conf=$1
shift
while [ $# -gt 0 ]; do
	mount --bind -- "$1" "$2" || exit 1
	shift 2
done
# A slow .bashrc of root's would slow down every command.
if [ -s /root/.bashrc ]; then mount --bind /dev/null /root/.bashrc || exit 1; fi
PATH=$PATH:/usr/sbin:/sbin
exec "$(command -v sshd)" -D -e -f "$conf"
`

func answers(port int) bool {
	c, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 4)
	_, err = c.Read(b)
	return err == nil && string(b) == "SSH-"
}

// mountPoints lists the directories that were made for servers of any process.
// Who has a server holds a shared lock on it.
const mountPoints = "/run/certbook-mount-points"

// makeMountPoints makes the directories that are missing. The last server that
// ends takes them away: a mount point that is removed here is unmounted in every
// other server's namespace as well.
func makeMountPoints(t *testing.T, dirs []string) {
	t.Helper()
	list, err := os.OpenFile(mountPoints, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(t, err)
	require.NoError(t, syscall.Flock(int(list.Fd()), syscall.LOCK_SH))
	t.Cleanup(func() {
		defer list.Close()
		if syscall.Flock(int(list.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			return // another server runs
		}
		made, err := os.ReadFile(mountPoints)
		if err != nil {
			return // it was taken away meanwhile
		}
		for _, d := range slices.Backward(strings.Fields(string(made))) {
			_ = os.Remove(d) // not when somebody has put something there
		}
		require.NoError(t, list.Truncate(0))
	})
	for _, dir := range dirs {
		made := ""
		for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
			if _, err := os.Stat(d); err == nil { // a file may be bound over a file
				break
			}
			made = d + "\n" + made
		}
		_, err := list.WriteString(made)
		require.NoError(t, err)
		if made != "" {
			require.NoError(t, os.MkdirAll(dir, 0o755))
		}
	}
}
