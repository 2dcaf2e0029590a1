//go:build e2e

// Package e2e runs Certbook on the lab: real masters, real kubeadm, real etcd,
// over SSH as a user with sudo. Each scenario starts from the same state of the
// lab that it asks for.
//
//	make e2e                            all of them
//	make e2e RUN=TestEverythingExpired  one
package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/lab/cluster"
)

var (
	lab      *cluster.Lab
	certbook string // the program
	dir      string // of this run: the program, run directories; it goes with the lab
	artifact string // the figures; they stay
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	root, err := filepath.Abs("../..")
	if err == nil {
		dir = filepath.Join(root, ".lab", "e2e")
		certbook = filepath.Join(dir, "certbook")
		artifact = filepath.Join(root, ".e2e", "figures.txt")
		err = errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(filepath.Dir(artifact), 0o755))
	}
	if err == nil {
		build := exec.Command("go", "build", "-o", certbook, "./cmd/certbook")
		build.Dir, build.Stdout, build.Stderr = root, os.Stderr, os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return m.Run()
}

// reset brings the default lab to its first state.
func reset(t *testing.T) {
	t.Helper()
	on(t, cluster.Options{})
}

// on brings a lab to its first state, and shows what it was like when the test
// fails. There is one lab at a time: tests that want the same follow each
// other.
func on(t *testing.T, opt cluster.Options) {
	t.Helper()
	var err error
	lab, err = cluster.Open(filepath.Dir(dir), opt, os.Stderr)
	require.NoError(t, err)
	require.NoError(t, lab.Fresh(t.Context()))
	t.Cleanup(func() {
		if t.Failed() {
			out, err := lab.Kubectl(context.Background(), "get", "nodes,pods", "-A", "-o", "wide", "--request-timeout=5s")
			t.Logf("the cluster in the end: %v\n%s", err, out)
		}
	})
}

// result is what certbook run -o json prints.
type result struct {
	Run     string `json:"run"`
	Outcome string `json:"outcome"`
	Error   string `json:"error"`
	Hosts   []struct {
		Name    string `json:"name"`
		Outcome string `json:"outcome"`
		Steps   []step `json:"steps"`
	} `json:"hosts"`

	code   int
	stderr string
	took   time.Duration
}

type step struct {
	ID       string   `json:"id"`
	Action   string   `json:"action"`
	Status   string   `json:"status"`
	Warnings []string `json:"warnings"`
	Millis   int64    `json:"ms"`
	Changes  []change `json:"changes"`
	Done     []change `json:"done"`
}

type change struct {
	Subject string `json:"subject"`
	From    string `json:"from"`
	To      string `json:"to"`
}

// steps returns a host's steps by their ids.
func (r result) steps(host string) map[string]step {
	steps := map[string]step{}
	for _, h := range r.Hosts {
		for _, s := range h.Steps {
			if h.Name == host {
				steps[s.ID] = s
			}
		}
	}
	return steps
}

// seconds returns what the steps on a host took.
func (r result) seconds(host string) float64 {
	sum := int64(0)
	for _, s := range r.steps(host) {
		sum += s.Millis
	}
	return float64(sum) / 1000
}

// play runs a playbook on the lab and returns how it went.
func play(t *testing.T, args ...string) result {
	t.Helper()
	runs := filepath.Join(dir, "runs")
	args = append([]string{"run"}, args...)
	args = append(args, "-i", lab.Path("inventory.yaml"), "--yes", "-o", "json", "--run-dir", runs)
	code, stdout, stderr, took := call(t, args...)
	var r result
	require.NoError(t, json.Unmarshal([]byte(stdout), &r), "%s\n%s", stdout, stderr)
	r.code, r.stderr, r.took = code, stderr, took
	t.Logf("certbook %s: exit code %d in %.1f s", strings.Join(args[:min(2, len(args))], " "), code, took.Seconds())
	verified, out, problem, _ := call(t, "audit", "verify", "--run-dir", runs)
	require.Zero(t, verified, "%s%s", out, problem)
	return r
}

// succeeds is play of what must go well.
func succeeds(t *testing.T, args ...string) result {
	t.Helper()
	r := play(t, args...)
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, "ok", r.Outcome, r.stderr)
	return r
}

// call runs certbook.
func call(t *testing.T, args ...string) (code int, stdout, stderr string, took time.Duration) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), certbook, args...)
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK=")
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	began := time.Now()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), problem.String(), time.Since(began)
}

// figures keeps lines of figures as an artifact and prints them.
func figures(t *testing.T, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	t.Log(line)
	f, err := os.OpenFile(artifact, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	_, err = fmt.Fprintf(f, "%s %s: %s\n", time.Now().UTC().Format(time.RFC3339), t.Name(), line)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// eventually tries until there is no error.
func eventually(t *testing.T, limit time.Duration, try func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %v", limit, err)
		}
		time.Sleep(250 * time.Millisecond)
	}
}

// shell runs a script on a master.
func shell(t *testing.T, n cluster.Node, script string) string {
	t.Helper()
	out, err := lab.Shell(t.Context(), n, script)
	require.NoError(t, err, n.Host)
	return out
}

// containers returns the running control-plane containers of all masters: by
// host and component, the process's id and start time.
func containers(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, n := range lab.Nodes {
		out := shell(t, n, `for c in etcd kube-apiserver kube-controller-manager kube-scheduler; do
	for p in $(pgrep -f "^$c "); do echo "$c $p $(cut -d" " -f22 /proc/$p/stat)"; done
done`)
		for line := range strings.Lines(out) {
			f := strings.Fields(line)
			all[n.Host+"/"+f[0]] += strings.Join(f[1:], "@")
		}
	}
	require.Len(t, all, 4*len(lab.Nodes))
	return all
}
