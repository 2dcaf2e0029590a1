package kube

import (
	"bufio"
	"bytes"
	"net/url"
	"strings"
)

// Quorum is what one etcd member knows of the others, from its metrics.
type Quorum struct {
	Members   int  // of the cluster, this one included
	Connected int  // other members that it has connections with
	HasLeader bool // there is a quorum now
}

// ParseQuorum reads the metrics of an etcd member. They have a line for each
// member known, itself included, and for each other member that it talks to.
func ParseQuorum(metrics []byte) Quorum {
	var q Quorum
	lines := bufio.NewScanner(bytes.NewReader(metrics))
	lines.Buffer(nil, MaxFile)
	for lines.Scan() {
		line := lines.Text()
		value := line[strings.LastIndexByte(line, ' ')+1:]
		if value != "1" {
			continue
		}
		switch {
		case strings.HasPrefix(line, "etcd_network_known_peers{"):
			q.Members++
		case strings.HasPrefix(line, "etcd_network_active_peers{"):
			q.Connected++
		case strings.HasPrefix(line, "etcd_server_has_leader "):
			q.HasLeader = true
		}
	}
	return q
}

// Needed returns how many other members must be connected for this one to stop
// without harm: a quorum, or all where there are too few for one.
func (q Quorum) Needed() int { return min(q.Members/2+1, q.Members-1) }

// Spare reports whether this member may stop without ending a quorum that is
// there.
func (q Quorum) Spare() bool { return !q.HasLeader || q.Connected >= q.Needed() }

// MetricsURL returns where etcd serves its metrics without asking for a client
// certificate, "" when it does not.
func (m Manifest) MetricsURL() string {
	raw := m.metricsURL()
	u, err := url.Parse(raw)
	if raw == "" || err != nil {
		return ""
	}
	u.Path = "/metrics"
	return u.String()
}
