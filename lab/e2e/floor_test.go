//go:build e2e

package e2e_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine"
	"certbook/engine/audit"
	"certbook/lab/cluster"
)

// costs is what a run took, in seconds.
type costs struct {
	all      float64
	kubeadm  float64 // kubeadm, where a renewal waits for it
	restarts float64 // steps that restart something and wait for it to be healthy
}

func (c costs) String() string {
	rest := c.all - c.kubeadm - c.restarts
	return fmt.Sprintf("%.1f s = kubeadm %.1f + restarts %.1f + everything else %.1f (%.1f %%)", c.all, c.kubeadm, c.restarts, rest, 100*rest/c.all)
}

// printSteps prints what each step took on each master, and what of a master's
// steps and of the whole run was neither kubeadm nor a component coming back.
func printSteps(t *testing.T, r result) {
	t.Helper()
	kubeadm := kubeadmSeconds(t, r)
	whole := costs{all: r.took.Seconds()}
	for _, h := range r.Hosts {
		own := costs{kubeadm: kubeadm[h.Name]}
		var line strings.Builder
		for _, s := range h.Steps {
			seconds := float64(s.Millis) / 1000
			own.all += seconds
			if s.Action == "restart-container" || s.Action == "restart-service" && s.Status == "changed" {
				own.restarts += seconds
			}
			if seconds >= 0.1 {
				fmt.Fprintf(&line, ", %s %.1f", s.ID, seconds)
			}
		}
		figures(t, "%s: %s; steps%s", h.Name, own, strings.TrimPrefix(line.String(), ","))
		whole.kubeadm += own.kubeadm
		whole.restarts += own.restarts
	}
	figures(t, "the run: %s", whole)
}

// kubeadmSeconds returns what kubeadm took in the renewals of each host, by the
// log: to tell its version, and to renew.
func kubeadmSeconds(t *testing.T, r result) map[string]float64 {
	t.Helper()
	took := map[string]float64{}
	err := audit.Read(filepath.Join(dir, "runs", r.Run, "audit.jsonl"), func(rec audit.Record) error {
		if e := rec.Event; e.Kind == engine.CommandRun && e.Step == "renew" && strings.HasPrefix(e.Argv, "kubeadm ") {
			took[e.Host] += float64(e.Millis) / 1000
		}
		return nil
	})
	require.NoError(t, err)
	return took
}

// healthURLs are where a master's components tell that they are ready.
var healthURLs = map[string]string{
	"etcd":                    "http://127.0.0.1:2381/health",
	"kube-apiserver":          "https://127.0.0.1:6443/readyz",
	"kube-controller-manager": "https://127.0.0.1:10257/healthz",
	"kube-scheduler":          "https://127.0.0.1:10259/readyz",
}

// byHandScript restarts one component as a runtime does, SIGTERM and after a
// grace SIGKILL, and prints the seconds until another one is healthy.
const byHandScript = `
began=$(date +%s.%N)
pid=$(pgrep -of "^$1 ")
kill "$pid"
tries=$(($3 * 20))
while kill -0 "$pid" 2>/dev/null; do
	tries=$((tries - 1))
	[ "$tries" != 0 ] || { kill -9 "$pid"; break; }
	sleep 0.05
done
until now=$(pgrep -of "^$1 ") && [ "$now" != "$pid" ] && curl -sfk -m 2 -o /dev/null "$2"; do sleep 0.05; done
echo "$began $(date +%s.%N)" | awk '{ printf "%.2f", $2 - $1 }'
`

// byHand returns what the restart of a component takes by hand.
func byHand(t *testing.T, n cluster.Node, component string) time.Duration {
	t.Helper()
	grace := "5"
	if component == "etcd" {
		grace = "30"
	}
	out, err := lab.Run(t.Context(), n, "sh", "-ec", byHandScript, "sh", component, healthURLs[component], grace)
	require.NoError(t, err)
	seconds, err := strconv.ParseFloat(out, 64)
	require.NoError(t, err)
	return time.Duration(seconds * float64(time.Second))
}

// floor measures what a renewal of one master takes at least: kubeadm's own
// time and that of the restarts, one after the other.
func floor(t *testing.T, n cluster.Node, components ...string) time.Duration {
	t.Helper()
	began := time.Now()
	shell(t, n, "kubeadm certs renew all")
	sum := time.Since(began)
	line := fmt.Sprintf("kubeadm %.1f", sum.Seconds())
	for _, c := range components { // one that has lost its lease comes back ever later
		eventually(t, 5*time.Minute, func() error { return lab.Healthy(t.Context()) })
		d := byHand(t, n, c)
		sum += d
		line += fmt.Sprintf(", %s %.1f", strings.TrimPrefix(c, "kube-"), d.Seconds())
	}
	figures(t, "%s by hand: %.1f s; %s", n.Host, sum.Seconds(), line)
	return sum
}

// TestCosts measures, without any load, what a renewal costs beside kubeadm and
// the restarts: the default, and with everything restarted.
func TestCosts(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes six minutes: make e2e-all")
	}
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart_all=%v", all), func(t *testing.T) {
			reset(t)
			leading(t)
			atRest(t)
			printSteps(t, succeeds(t, "--set", "force=true", "--set", fmt.Sprintf("restart_all=%v", all)))
			restarted := []string{"kube-controller-manager", "kube-scheduler"}
			if all {
				restarted = append([]string{"etcd", "kube-apiserver"}, restarted...)
			}
			reset(t) // what has been restarted often comes back late
			leading(t)
			atRest(t)
			floor(t, lab.Nodes[1], restarted...)
		})
	}
}
