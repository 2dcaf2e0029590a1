package actions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"certbook/actions/kube"
	"certbook/engine"
)

// leaseName is the cluster's lock among the leases of kube-system.
const leaseName = "certbook"

// lease is a Lease of coordination.k8s.io/v1. With a resource version it replaces
// just that version, without one it is new: so the API server lets one of several
// writers win.
type lease struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"`
	Metadata   leaseMetadata `json:"metadata"`
	Spec       leaseSpec     `json:"spec"`
}

type leaseMetadata struct {
	Name            string `json:"name"`
	Namespace       string `json:"namespace"`
	ResourceVersion string `json:"resourceVersion,omitempty"`
}

// leaseSpec has the times as the API writes them, with microseconds.
type leaseSpec struct {
	HolderIdentity       string `json:"holderIdentity,omitempty"` // OWNER RUN; "" when nobody has it
	LeaseDurationSeconds int    `json:"leaseDurationSeconds,omitempty"`
	AcquireTime          string `json:"acquireTime,omitempty"`
	RenewTime            string `json:"renewTime,omitempty"`
	LeaseTransitions     int    `json:"leaseTransitions,omitempty"`
}

func microTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

func (s leaseSpec) acquired() time.Time { return parseMicro(s.AcquireTime) }
func (s leaseSpec) renewed() time.Time  { return parseMicro(s.RenewTime) }

// parseMicro returns the zero time for what is none.
func parseMicro(s string) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, s)
	return t
}

// ends returns when the lease is no longer held unless it is renewed. One
// without a duration or of an absurd one ends with its last renewal.
func (l lease) ends() time.Time {
	lasts := time.Duration(l.Spec.LeaseDurationSeconds) * time.Second
	if l.Spec.LeaseDurationSeconds < 0 || lasts > 24*time.Hour {
		lasts = 0
	}
	return l.Spec.renewed().Add(lasts)
}

// holder returns who has the lease; the run is "" when nobody has.
func (l lease) holder() (owner, run string) {
	text := l.Spec.HolderIdentity
	if i := strings.LastIndexByte(text, ' '); i > 0 {
		return text[:i], text[i+1:]
	}
	return "unknown", text
}

// taken is the lease with another holder.
func (l lease) taken(owner, run string, now time.Time) lease {
	if _, before := l.holder(); before != "" && before != run {
		l.Spec.LeaseTransitions++
	}
	l.Spec.HolderIdentity = owner + " " + run
	l.Spec.LeaseDurationSeconds = int(leaseLasts / time.Second)
	l.Spec.AcquireTime, l.Spec.RenewTime = microTime(now), microTime(now)
	return l
}

// free is the lease without a holder. It stays, as its version is what makes
// taking it atomic.
func (l lease) free() lease {
	l.Spec = leaseSpec{LeaseTransitions: l.Spec.LeaseTransitions}
	return l
}

// readLease returns the lease as it is; one that is not there has no version.
func readLease(ctx context.Context, p engine.Probe, kubeconfig string) (lease, error) {
	l := lease{APIVersion: "coordination.k8s.io/v1", Kind: "Lease", Metadata: leaseMetadata{Name: leaseName, Namespace: "kube-system"}}
	out, err := p.Query(ctx, kubectl(p, kubeconfig, "", "get", kube.LeasesPath+"/"+leaseName, nil))
	var exit *engine.ExitError
	if errors.As(err, &exit) && strings.Contains(exit.Stderr, "(NotFound)") {
		return l, nil
	}
	if err != nil {
		return l, err
	}
	return parseLease(out.Stdout)
}

// writeLease creates the lease, or replaces the version that it has, and returns
// it with its new version.
func writeLease(ctx context.Context, h engine.Host, kubeconfig string, l lease) (lease, error) {
	body, err := json.Marshal(l)
	if err != nil {
		return l, err
	}
	verb, url := "replace", kube.LeasesPath+"/"+leaseName
	if l.Metadata.ResourceVersion == "" {
		verb, url = "create", kube.LeasesPath
	}
	out, err := h.Exec(ctx, kubectl(h, kubeconfig, "", verb, url, body))
	if err != nil {
		return l, err
	}
	return parseLease(out.Stdout)
}

// parseLease reads an answer of the API server.
func parseLease(data []byte) (lease, error) {
	var l lease
	if err := json.Unmarshal(data, &l); err != nil || l.Kind != "Lease" || l.Metadata.Name != leaseName || l.Metadata.ResourceVersion == "" {
		return lease{}, fmt.Errorf("the API answers with something else than the lease %s: %s", leaseName, firstWords(data[:min(len(data), 300)]))
	}
	l.Spec.HolderIdentity = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, l.Spec.HolderIdentity[:min(len(l.Spec.HolderIdentity), 200)])
	l.Metadata.Namespace = "kube-system"
	return l, nil
}
