package actions

import (
	"context"
	"fmt"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
)

// survey reads what kubeadm and kubelet have laid out on a host: one round
// trip, a second one only when flags have put certificates elsewhere.
func survey(ctx context.Context, p engine.Probe) (kube.Layout, error) {
	patterns := kube.Patterns()
	files, err := p.ReadFiles(ctx, patterns...)
	if err != nil {
		return kube.Layout{}, fmt.Errorf("survey: %w", err)
	}
	layout := kube.Survey(kubeFiles(files))
	if more := layout.MorePatterns(); len(more) > 0 {
		files, err = p.ReadFiles(ctx, append(patterns, more...)...)
		if err != nil {
			return kube.Layout{}, fmt.Errorf("survey: %w", err)
		}
		layout = kube.Survey(kubeFiles(files))
	}
	return layout, nil
}

// surveyNow surveys a host and asks for its time.
func surveyNow(ctx context.Context, p engine.Probe) (layout kube.Layout, now time.Time, err error) {
	err = together(
		func() (err error) { layout, err = survey(ctx, p); return err },
		func() (err error) { now, err = p.Now(ctx); return err },
	)
	return layout, now, err
}

func kubeFiles(files []engine.File) []kube.File {
	out := make([]kube.File, len(files))
	for i, f := range files {
		out[i] = kube.File(f)
	}
	return out
}

// certificate describes a certificate as evidence for the audit log.
func certificate(f kube.Found) map[string]string {
	leaf := f.Leaf()
	if leaf == nil {
		return map[string]string{"state": f.Reason}
	}
	return map[string]string{
		"serial":     kube.Serial(leaf),
		"sha256":     kube.Fingerprint(leaf),
		"subject":    kube.Subject(leaf),
		"not_after":  leaf.NotAfter.UTC().Format(time.RFC3339),
		"public_key": kube.SPKIHash(leaf),
	}
}

// daysLeft returns the whole days from now until t, rounded down.
func daysLeft(now, t time.Time) int {
	d := t.Sub(now)
	days := int(d / (24 * time.Hour))
	if d < 0 && d%(24*time.Hour) != 0 {
		days--
	}
	return days
}

// poll calls try every interval until it returns true, fails for good, or ctx
// ends; the error then says what try last found missing.
func poll(ctx context.Context, every time.Duration, try func(context.Context) (done bool, missing string, err error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	missing := ""
	for {
		done, m, err := try(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if done {
			return nil
		}
		if m != "" && (missing == "" || ctx.Err() == nil) { // not that the time is up
			missing = m
		}
		select {
		case <-ctx.Done():
			if missing == "" {
				return ctx.Err()
			}
			return fmt.Errorf("%w: %s", ctx.Err(), missing)
		case <-ticker.C:
		}
	}
}
