package kube

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestQuorum(t *testing.T) {
	three := `# TYPE etcd_network_active_peers gauge
etcd_network_active_peers{Local="a",Remote="b"} 1
etcd_network_active_peers{Local="a",Remote="c"} 1
etcd_network_known_peers{Local="a",Remote="a"} 1
etcd_network_known_peers{Local="a",Remote="b"} 1
etcd_network_known_peers{Local="a",Remote="c"} 1
etcd_server_has_leader 1
etcd_server_is_leader 0
`
	q := ParseQuorum([]byte(three))
	require.Equal(t, Quorum{Members: 3, Connected: 2, HasLeader: true}, q)
	for _, c := range []struct {
		q      Quorum
		needed int
		spare  bool
	}{
		{q, 2, true},
		{Quorum{3, 1, true}, 2, false},
		{Quorum{3, 0, false}, 2, true}, // there is no quorum to lose
		{Quorum{1, 0, true}, 0, true},
		{Quorum{2, 1, true}, 1, true},
		{Quorum{2, 0, true}, 1, false},
		{Quorum{5, 3, true}, 3, true},
		{Quorum{5, 2, true}, 3, false},
		{Quorum{}, -1, true}, // nothing is known
	} {
		require.Equal(t, c.needed, c.q.Needed(), "%+v", c.q)
		require.Equal(t, c.spare, c.q.Spare(), "%+v", c.q)
	}
}
