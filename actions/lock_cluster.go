package actions

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"certbook/engine"
)

const (
	leaseLasts = 5 * time.Minute  // outlives the restart of an API server
	leaseRenew = 30 * time.Second // between two renewals
	leaseTries = 3                // when others change the lease at the same moment
)

// LockCluster keeps two runs from working on one cluster at once, also where
// they have no host in common.
type LockCluster struct {
	Kubeconfig string `yaml:"kubeconfig" default:"/etc/kubernetes/admin.conf" doc:"the kubeconfig on the host by which the API is asked"`
	Run        string `yaml:"run" default:"${run.id}" doc:"the run that the lock belongs to"`

	by   engine.Locking
	seen *seenLease // by Check
	has  lease      // as it was written last
	lost bool       // it is another's now
}

// seenLease is a lease and what is to be said of it.
type seenLease struct {
	lease lease
	res   engine.Result
}

// ClusterLock is what LockCluster finds.
type ClusterLock struct {
	Held   bool   `expr:"held" doc:"the run has the lock; in a plan: it could take it" json:"held"`
	Reason string `expr:"reason" doc:"why it does not, as when the API does not answer" json:"reason,omitempty"`
}

func lockClusterSpec(c Context) engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &LockCluster{by: c.Lock} },
		Outputs: ClusterLock{},
		Summary: "keep other runs off the cluster for as long as this one lasts",
		Doc: `Takes the Lease certbook in kube-system (coordination.k8s.io/v1) by way of kubectl
on the host, renews it every 30 seconds and gives it back when the run ends. It
names the owner and the run. Refuses when another run has it, and says whose it
is. One that was not renewed for 5 minutes has been left: it is taken over with a
warning. resume and rollback take over that of their run at once. When another
run has taken it all the same, no further step is begun.

Where the API does not answer, or the host has no kubectl (1.16 or later), this is
a warning: the hosts' own locks still keep two runs off the same host.`,
		Example: `- id: cluster_lock
  action: lock-cluster`,
	}
}

var (
	_ engine.Keeper    = (*LockCluster)(nil)
	_ engine.Validator = (*LockCluster)(nil)
)

// Validate implements engine.Validator.
func (a *LockCluster) Validate() error { return validRun(a.Run) }

// Check implements engine.Action.
func (a *LockCluster) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	l, res, err := a.look(ctx, p)
	a.seen = nil
	if err == nil {
		a.seen = &seenLease{l, res}
	}
	return res, err
}

// look reads the lease and judges it. Without Held in the outputs there is
// nothing to take.
func (a *LockCluster) look(ctx context.Context, p engine.Probe) (lease, engine.Result, error) {
	now, err := p.Now(ctx)
	if err != nil {
		return lease{}, engine.Result{}, fmt.Errorf("clock: %w", err)
	}
	l, err := readLease(ctx, p, a.Kubeconfig)
	if err != nil {
		res, err := unlocked(ctx, err)
		return l, res, err
	}
	res := engine.Result{Outputs: ClusterLock{Held: true}}
	owner, run := l.holder()
	switch {
	case run == "", run == a.Run, a.by.Own != nil && a.by.Own(run):
		return l, res, nil
	case now.Before(l.ends()):
		return l, engine.Result{Outputs: ClusterLock{}}, fmt.Errorf("the cluster is locked by %s; wait for it or stop it there; if it is gone, its lock ends at %s UTC",
			engine.Lock{Holder: engine.Holder{Owner: owner, Run: run, Since: l.Spec.acquired()}, Now: now}, l.ends().UTC().Format("15:04:05"))
	}
	res.Warnings = append(res.Warnings, fmt.Sprintf("the cluster's lock is taken over from run %s of %s, whose last sign of life was %s ago", run, owner, engine.Ago(now.Sub(l.Spec.renewed()))))
	return l, res, nil
}

// unlocked is the result where there is no lock to be had. That the context has
// ended is an error.
func unlocked(ctx context.Context, err error) (engine.Result, error) {
	if ctx.Err() != nil {
		return engine.Result{}, err
	}
	reason := err.Error()
	var exit *engine.ExitError
	if errors.As(err, &exit) {
		reason = exit.Stderr
		if exit.Code == 127 {
			reason = "the host has no kubectl"
		}
	}
	reason = firstWords([]byte(reason))
	return engine.Result{
		Outputs:  ClusterLock{Reason: reason},
		Warnings: []string{"the cluster is not locked from here, only the hosts of this run are: " + reason},
	}, nil
}

// Take implements engine.Keeper. It begins with what Check has found: when the
// lease has changed since, it cannot be written, and is looked at again.
func (a *LockCluster) Take(ctx context.Context, h engine.Host) (engine.Result, time.Duration, error) {
	for try := 1; ; try++ {
		if a.seen == nil {
			if res, err := a.Check(ctx, h); err != nil {
				return res, 0, err
			}
		}
		l, res := a.seen.lease, a.seen.res
		a.seen = nil
		if out, ok := res.Outputs.(ClusterLock); !ok || !out.Held {
			return res, 0, nil
		}
		now, err := h.Now(ctx)
		if err != nil {
			return res, 0, fmt.Errorf("clock: %w", err)
		}
		a.has, err = writeLease(ctx, h, a.Kubeconfig, l.taken(a.by.Owner, a.Run, now))
		switch {
		case err == nil:
			return res, leaseRenew, nil
		case !isConflict(err):
			res, err = unlocked(ctx, err)
			return res, 0, err
		case try == leaseTries:
			return res, 0, fmt.Errorf("others take the cluster's lock at the same moment: %w", err)
		}
	}
}

// Renew implements engine.Keeper. That the API does not answer is no loss: the
// lease lasts longer than an API server takes to restart.
func (a *LockCluster) Renew(ctx context.Context, h engine.Host) error {
	now, err := h.Now(ctx)
	if err != nil {
		return nil
	}
	next := a.has
	next.Spec.RenewTime = microTime(now)
	wrote, err := writeLease(ctx, h, a.Kubeconfig, next)
	if err == nil {
		a.has = wrote
		return nil
	}
	if !isConflict(err) {
		return nil
	}
	return a.again(ctx, h)
}

// again reads the lease that was changed by somebody, or by a renewal whose
// answer was lost.
func (a *LockCluster) again(ctx context.Context, h engine.Host) error {
	l, err := readLease(ctx, h, a.Kubeconfig)
	if err != nil {
		return nil
	}
	if owner, run := l.holder(); run != a.Run {
		a.lost = true
		if run == "" {
			return errors.New("the cluster's lock was removed by somebody else")
		}
		return fmt.Errorf("the cluster's lock was taken over by run %s of %s", run, owner)
	}
	a.has = l
	return nil
}

// Release implements engine.Keeper.
func (a *LockCluster) Release(ctx context.Context, h engine.Host) error {
	var last error
	for range leaseTries {
		if a.lost {
			return nil
		}
		if _, last = writeLease(ctx, h, a.Kubeconfig, a.has.free()); last == nil {
			return nil
		}
		if isConflict(last) {
			_ = a.again(ctx, h) // tells by lost
		}
	}
	return fmt.Errorf("the cluster's lock could not be given back, it ends at %s UTC: %w", a.has.ends().UTC().Format("15:04:05"), last)
}

func isConflict(err error) bool {
	var exit *engine.ExitError
	return errors.As(err, &exit) && (strings.Contains(exit.Stderr, "(Conflict)") || strings.Contains(exit.Stderr, "(AlreadyExists)") || strings.Contains(exit.Stderr, "(NotFound)"))
}
