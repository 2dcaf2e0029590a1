package actions

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
)

// Use is how one process uses one certificate.
type Use struct {
	Component string `expr:"component" doc:"the container's name" json:"component"`
	Path      string `expr:"path" doc:"the file on disk" json:"path"`
	State     string `expr:"state" doc:"current; stale: the process still holds the one before; refused: and that one is not accepted any more; not-proven" json:"state"`
	Reason    string `expr:"reason" doc:"why it is not current" json:"reason,omitempty"`
	Address   string `expr:"address" doc:"where it is served, host:port; empty for a client certificate" json:"address,omitempty"`
	Serial    string `expr:"serial" doc:"serial number that is served, hexadecimal" json:"serial,omitempty"`
	Since     string `expr:"since" doc:"when the process that holds it was started, RFC 3339" json:"since,omitempty"`
}

// served compares the certificate that a port serves with the one on disk.
func served(ctx context.Context, p engine.Probe, layout kube.Layout, component string, e kube.Endpoint, now time.Time) Use {
	use := Use{Component: component, Path: e.Path, Address: e.Address, State: string(kube.NotProven)}
	f, _ := layout.File(e.Path)
	chain, err := kube.ParseChain(f.Data)
	if err != nil {
		use.Reason = fmt.Sprintf("%s: %v", e.Path, err)
		return use
	}
	raw, err := p.Handshake(ctx, e.Address)
	if err != nil {
		use.Reason = fmt.Sprintf("%s: %v", e.Address, err)
		return use
	}
	if len(raw) == 0 {
		use.Reason = e.Address + " served no certificate"
		return use
	}
	leaf, err := x509.ParseCertificate(raw[0])
	if err != nil {
		use.Reason = fmt.Sprintf("%s serves what is no certificate: %v", e.Address, err)
		return use
	}
	use.Serial = kube.Serial(leaf)
	got, want := kube.Fingerprint(leaf), kube.Fingerprint(chain[0])
	switch {
	case got == want:
		use.State = string(kube.Current)
		return use
	case now.After(leaf.NotAfter):
		use.State = string(kube.Refused)
	default:
		use.State = string(kube.Stale)
	}
	use.Reason = fmt.Sprintf("%s serves another certificate (sha256 %s..., ends %s) than %s (sha256 %s...)",
		e.Address, got[:16], leaf.NotAfter.UTC().Format(time.RFC3339), e.Path, want[:16])
	return use
}

// held tells of the files that a component's process reads only at its start
// whether it was started after they were written.
func held(ctx context.Context, p engine.Probe, running []kube.Container, layout kube.Layout, m kube.Manifest, now time.Time) ([]Use, error) {
	if len(running) == 0 {
		return []Use{{Component: m.Component, State: string(kube.NotProven), Reason: "it is not running"}}, nil
	}
	since := running[0].CreatedAt
	seen := map[string]bool{}
	var list []Use
	for _, r := range m.Reads() {
		f, ok := layout.File(r.Path)
		if !ok || r.Live || seen[r.Path] {
			continue
		}
		seen[r.Path] = true
		use := Use{Component: m.Component, Path: r.Path, State: string(kube.Current), Since: since.Format(time.RFC3339)}
		if f.ModTime.After(since) {
			use.State = string(kube.Stale)
			use.Reason = fmt.Sprintf("it runs since %s, but %s was written at %s: it still holds the old one",
				since.Format(time.RFC3339), r.Path, f.ModTime.UTC().Format(time.RFC3339))
			refused, err := turnedAway(ctx, p, m.Component, now)
			if err != nil {
				return nil, err
			}
			if refused {
				use.State = string(kube.Refused)
				use.Reason += ", which the API server refuses"
			}
		}
		list = append(list, use)
	}
	return list, nil
}

// lately is how old a component's complaint may be: those that are turned away
// say so every few seconds.
const lately = time.Minute

// lastLines prints the end of what a static pod's container has logged.
const lastLines = `for f in "$1"/kube-system_"$2"-*/"$2"/*.log; do if [ -f "$f" ]; then tail -n 20 "$f"; fi; done`

// turnedAway says whether a component's log has it that the API server refuses
// its certificate.
func turnedAway(ctx context.Context, p engine.Probe, component string, now time.Time) (bool, error) {
	out, err := p.Query(ctx, engine.Command{Argv: []string{"sh", "-c", lastLines, "sh", p.Path("/var/log/pods"), component}})
	return kube.Turned(out.Stdout, now.Add(-lately)), err
}
