package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"certbook/lab/binaries"
)

// engine is the container engine: the one that answers already, or one that
// the lab starts, with its data in the cache.
type engine struct {
	dir  string // of the lab's own
	host string // DOCKER_HOST; "" is the default
}

func newEngine() (engine, error) {
	cache, err := binaries.Cache()
	return engine{dir: filepath.Join(cache, "docker")}, err
}

func (e engine) socket() string { return "unix://" + filepath.Join(e.dir, "docker.sock") }

// packages are what the engine and the building of images need.
var packages = map[string]string{
	"dockerd": "docker.io", "containerd": "containerd", "iptables": "iptables", "ip": "iproute2",
	"debootstrap": "debootstrap", "ssh-keygen": "openssh-client",
}

// start makes sure that an engine answers: one that does already, or the lab's
// own, which it installs and starts.
func (e *engine) start(ctx context.Context, progress io.Writer) error {
	if os.Getuid() != 0 {
		return fmt.Errorf("the lab needs root")
	}
	if err := install(ctx, progress); err != nil {
		return err
	}
	if e.answers(ctx) {
		return nil
	}
	if err := os.MkdirAll(e.dir, 0o711); err != nil {
		return err
	}
	if err := e.remember(ctx); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(e.dir, "dockerd.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("dockerd", "--data-root", filepath.Join(e.dir, "data"), "--exec-root", filepath.Join(e.dir, "exec"),
		"-H", e.socket(), "--pidfile", filepath.Join(e.dir, "pid"),
		"--bridge", "none") // the nodes have a network of their own
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives this process
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	deadline := time.After(time.Minute)
	for !e.answers(ctx) {
		select {
		case err := <-ended:
			return fmt.Errorf("dockerd ended: %v; see %s", err, log.Name())
		case <-deadline:
			return fmt.Errorf("dockerd does not answer; see %s", log.Name())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// install gets what is missing from Debian's packages.
func install(ctx context.Context, progress io.Writer) error {
	var missing []string
	for program, name := range packages {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	fmt.Fprintln(progress, "installing", strings.Join(missing, " "))
	script := "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends " + strings.Join(missing, " ")
	if out, err := exec.CommandContext(ctx, "sh", "-c", script).CombinedOutput(); err != nil {
		return fmt.Errorf("install %s: %w\n%s", strings.Join(missing, " "), err, out)
	}
	return nil
}

// answers finds the engine that is running.
func (e *engine) answers(ctx context.Context) bool {
	for _, host := range []string{"", e.socket()} {
		e.host = host
		if _, err := e.run(ctx, nil, "info", "--format", "{{.ServerVersion}}"); err == nil {
			return true
		}
	}
	return false
}

// stop ends the lab's own engine, if it runs and nobody else has a container
// in it.
func (e *engine) stop(ctx context.Context) error {
	text, err := os.ReadFile(filepath.Join(e.dir, "pid"))
	if err != nil {
		return nil // it does not run
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || strings.TrimSpace(string(name)) != "dockerd" {
		return nil // it is gone, and another process may have its number
	}
	own := engine{dir: e.dir, host: e.socket()} // whatever DOCKER_HOST says
	if others, err := own.run(ctx, nil, "ps", "-q"); err == nil && len(fields(others)) > 0 {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return nil // it is gone
	}
	for syscall.Kill(pid, 0) == nil {
		select {
		case <-ctx.Done():
			return fmt.Errorf("dockerd, process %d, does not end: %w", pid, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
	other := engine{host: "unix:///var/run/docker.sock"}
	if _, err := other.run(ctx, nil, "info"); err == nil {
		return nil // it works with the same chains
	}
	return e.restore(ctx)
}

// before is the file that says what this machine's forwarding was before the
// lab started its own engine. Without it the chains are somebody else's too.
func (e *engine) before() string { return filepath.Join(e.dir, "before") }

// remember writes down what dockerd changes for the whole machine and leaves
// behind: the policy of FORWARD, net.ipv4.ip_forward and its chains.
func (e *engine) remember(ctx context.Context) error {
	const script = `set -e
iptables -w -S DOCKER-USER >/dev/null 2>&1 && exit # not for the first time
iptables -w -S FORWARD | awk '$1 == "-P" { print $3 }'
cat /proc/sys/net/ipv4/ip_forward`
	out, err := exec.CommandContext(ctx, "sh", "-c", script).Output()
	if err != nil {
		return fmt.Errorf("this machine's forwarding: %w", err)
	}
	if len(fields(out)) != 2 {
		return nil
	}
	return os.WriteFile(e.before(), out, 0o600)
}

// restore undoes what the lab's own engine has changed and left behind.
func (e *engine) restore(ctx context.Context) error {
	text, err := os.ReadFile(e.before())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	const script = `set -e
for t in filter nat; do
	iptables -w -t $t -S | sed -n 's/^-A \(.* -j DOCKER.*\)$/-D \1/p' | while read -r rule; do iptables -w -t $t $rule; done
	chains=$(iptables -w -t $t -S | sed -n 's/^-N \(DOCKER.*\)$/\1/p')
	for c in $chains; do iptables -w -t $t -F $c; done
	for c in $chains; do iptables -w -t $t -X $c; done
done
iptables -w -P FORWARD "$1"
echo "$2" >/proc/sys/net/ipv4/ip_forward`
	argv := append([]string{"-c", script, "sh"}, fields(text)...)
	if out, err := exec.CommandContext(ctx, "sh", argv...).CombinedOutput(); err != nil {
		return fmt.Errorf("this machine's forwarding: %w: %s", err, out)
	}
	return os.Remove(e.before())
}

// run calls the engine's command line.
func (e *engine) run(ctx context.Context, stdin io.Reader, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = os.Environ()
	if e.host != "" {
		cmd.Env = append(cmd.Env, "DOCKER_HOST="+e.host)
	}
	cmd.Stdin = stdin
	cmd.WaitDelay = 5 * time.Second
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("docker %s: %w: %s", strings.Join(args[:min(4, len(args))], " "), err, strings.TrimSpace(problem.String()+tail(out.String())))
	}
	return out.Bytes(), nil
}

// tail returns the last lines of a text.
func tail(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

func fields(b []byte) []string { return strings.Fields(string(b)) }
