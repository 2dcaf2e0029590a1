//go:build e2e

package e2e_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/lab/cluster"
)

// printSteps prints what each step of the first master took.
func printSteps(t *testing.T, r result) {
	t.Helper()
	for _, h := range r.Hosts {
		var sum int64
		var line strings.Builder
		for _, s := range h.Steps {
			sum += s.Millis
			if s.Millis >= 100 {
				fmt.Fprintf(&line, ", %s %.1f", s.ID, float64(s.Millis)/1000)
			}
		}
		figures(t, "%s: %.1f s in steps%s", h.Name, float64(sum)/1000, line.String())
	}
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
