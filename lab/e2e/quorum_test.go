//go:build e2e

package e2e_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/lab/cluster"
)

// members watches how many of etcd's members are healthy.
type members struct {
	stop    context.CancelFunc
	done    sync.WaitGroup
	samples int
	least   int
}

// watchQuorum asks every member for its health every 200 ms, which is true
// only with a quorum.
func watchQuorum(t *testing.T) *members {
	t.Helper()
	n := lab.Nodes[0]
	pair, err := tls.X509KeyPair([]byte(shell(t, n, "cat "+pki+"etcd/healthcheck-client.crt")), []byte(shell(t, n, "cat "+pki+"etcd/healthcheck-client.key")))
	require.NoError(t, err)
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true, // health is asked, not trust
	}}}
	ctx, stop := context.WithCancel(context.Background())
	m := &members{stop: stop, least: len(lab.Nodes)}
	m.done.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			good := healthy(client, lab.Nodes)
			m.samples++
			m.least = min(m.least, good)
		}
	})
	t.Cleanup(m.end)
	return m
}

func (m *members) end() {
	m.stop()
	m.done.Wait()
}

func healthy(client *http.Client, nodes []cluster.Node) int {
	good := make([]bool, len(nodes))
	var group sync.WaitGroup
	for i, n := range nodes {
		group.Go(func() {
			resp, err := client.Get("https://" + n.Address + ":2379/health?serializable=true")
			if err == nil {
				resp.Body.Close()
				good[i] = resp.StatusCode == http.StatusOK
			}
		})
	}
	group.Wait()
	sum := 0
	for _, g := range good {
		if g {
			sum++
		}
	}
	return sum
}
