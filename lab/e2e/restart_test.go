//go:build e2e

package e2e_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestHowToRestart measures what clients see of each way to restart an API
// server, behind the load balancer and directly. It asserts no figure: it is
// where the defaults come from.
func TestHowToRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("figures only: make e2e-all")
	}
	for name, args := range map[string]string{
		"container, grace 30s": "method: container, grace: 30s",
		"container, grace 5s":  "method: container, grace: 5s",
		"container, grace 2s":  "method: container, grace: 2s",
		"container, grace 0s":  "method: container, grace: 0s",
		"manifest":             "method: manifest",
	} {
		t.Run(name, func(t *testing.T) {
			reset(t)
			book := filepath.Join(t.TempDir(), "book.yaml")
			require.NoError(t, os.WriteFile(book, []byte(`version: 1
name: book
plays:
  - name: restart
    hosts: m2
    steps:
      - id: restart
        action: restart-container
        with: {components: [kube-apiserver], force: true, `+args+`}
        timeout: 5m
      - {id: healthy, action: wait-ready, with: {within: 5m}}
`), 0o644))
			conf := credentials(t, lab.Path("admin.conf"))
			balanced := probe(t, "balanced", lab.Balancer(), conf, time.Second/rate, false)
			kept := probe(t, "kept", lab.Balancer(), conf, time.Second/rate, true)
			direct := probe(t, "direct", lab.Nodes[1].Address+":6443", conf, time.Second/rate, false)
			balanced.more(t, 3*rate) // before it
			r := succeeds(t, book)
			balanced.more(t, 5*rate) // and after it
			for _, p := range []*prober{balanced, kept, direct} {
				p.end()
			}
			_, down := longest(direct.outages())
			steps := r.steps("m2")
			figures(t, "%s; restart %.1f s, until all is ready %.1f s; through the load balancer %s; %s by kept connections; directly down %.1f s",
				name, float64(steps["restart"].Millis)/1000, r.took.Seconds(), balanced, kept, down.Seconds())
		})
	}
}
