package kube

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTurned(t *testing.T) {
	now := time.Date(2026, 11, 24, 18, 0, 30, 0, time.UTC)
	for name, c := range map[string]struct {
		log  string
		want bool
	}{
		"empty":               {"", false},
		"cri":                 {"2026-11-24T18:00:12.345678901Z stderr F E1124 18:00:12.345678       1 leaderelection.go:448] \"error retrieving resource lock\" err=\"Unauthorized\"\n", true},
		"cri, with an offset": {"2026-11-24T19:00:12.345678901+01:00 stderr F Unauthorized\n", true},
		"long ago":            {"2026-11-24T17:00:12Z stderr F Unauthorized\n2026-11-24T18:00:12Z stderr F all is well\n", false},
		"docker":              {`{"log":"error retrieving resource lock kube-system/kube-scheduler: Unauthorized\n","stream":"stderr","time":"2026-11-24T18:00:12.3Z"}` + "\n", true},
		"docker, long ago":    {`{"log":"Unauthorized\n","stream":"stderr","time":"2026-11-24T17:00:12.3Z"}` + "\n", false},
		"expired":             {"2026-11-24T18:00:12Z stderr F tls: failed to verify certificate: x509: certificate has expired or is not yet valid\n", true},
		"no time":             {"Unauthorized\n{broken Unauthorized\n", false},
		"another line":        {"2026-11-24T18:00:12Z stderr F authorized\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, Turned([]byte(c.log), now.Add(-time.Minute)))
		})
	}
}
